"""A test alert: sent as any other, by the running daemon from inside its unit, or from here if none runs.

A bridge sends its alerts itself, from a unit of its own, so it is asked too. The request is a file in the
state folder, or in the work folder of the bridge, which is looked for at each turn; the answer is a note that
repeats what the request says. The test is sent in a thread of its own, and the work goes on meanwhile.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final

from meshctl.clock import iso, now
from meshctl.daemon.alerts import channels_of
from meshctl.daemon.digest import Channel, Digest, UndeliveredError
from meshctl.daemon.lock import seems_running
from meshctl.daemon.mailbox_lock import server_of
from meshctl.daemon.notes import read_note, write_note
from meshctl.errors import MeshctlError
from meshctl.files.durable import replace_file
from meshctl.files.reading import read_regular
from meshctl.journal.events import Journal
from meshctl.settings.model import Settings

REQUEST_NAME: Final = "alert-test"
ANSWER_NAME: Final = "alert-test.json"
_LOOK_SECONDS: Final = 0.05
# What a busy daemon may need on top of the waits that the settings name.
_SPARE_SECONDS: Final = 30.0
_MOST_REQUEST_BYTES: Final = 100
_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a test by one channel; `fault` is None if it was sent."""

    channel: str
    target: str
    fault: str | None = None
    advice: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Teller:
    """Who sends alerts: its name ("the daemon"), where it looks for requests, and whether it still runs."""

    name: str
    folder: Path
    runs: Callable[[], bool]


def daemon_of(settings: Settings) -> Teller:
    """Return the daemon as one who sends alerts."""
    return Teller("the daemon", settings.state.folder, lambda: seems_running(settings.state.folder))


def bridge_of(settings: Settings) -> Teller:
    """Return the bridge as one who sends alerts."""
    return Teller("the bridge", settings.bridge_work, lambda: server_of(settings.mailbox) is not None)


def tell_test(settings: Settings, teller: str = "meshctl") -> list[Outcome]:
    """Tell a test by every channel of the settings, and return what came of it."""
    first = {
        "event": "daemon.alert_test",
        "at": iso(now()),
        "text": f"This is a test by {teller}. Its alerts about this mailbox reach you.",
        "advice": "Nothing to do.",
        "mailbox": settings.mailbox.id,
    }
    return [_outcome(channel, Digest(first)) for channel in channels_of(settings)]


def _outcome(channel: Channel, digest: Digest) -> Outcome:
    try:
        remark = channel.deliver(digest)
    except UndeliveredError as error:
        exit_code, stderr = error.more.get("exit_code"), error.more.get("stderr")
        said = None if stderr is None else str(stderr)
        text = error.text if exit_code is None else f"{error.text} Its exit code was {exit_code}."
        return Outcome(channel.name, channel.target, text, error.advice, said)
    if remark is not None:
        return Outcome(channel.name, channel.target, remark, "Correct mail_to in [alerts].")
    return Outcome(channel.name, channel.target)


class AlertTests:
    """The side of daemon and bridge: looks for requests."""

    def __init__(self, teller: Teller, journal: Journal) -> None:
        self._teller = teller
        self._journal = journal

    def answer(self, settings: Settings) -> None:
        """Send a test alert if somebody asks for one; returns at once. Never raises."""
        request = self._teller.folder / REQUEST_NAME
        try:
            asked = read_regular(request, _MOST_REQUEST_BYTES).decode(errors="replace")
            request.unlink()
        except OSError:
            return
        self._journal.tell("daemon.alert_test", None, text="Somebody asked for a test of the alerts.")
        with suppress(RuntimeError):
            Thread(target=self._work, args=(settings, asked), name="alert test", daemon=True).start()

    def _work(self, settings: Settings, asked: str) -> None:
        outcomes = tell_test(settings, self._teller.name)
        answer = {"asked": asked, "outcomes": list(map(asdict, outcomes))}
        with suppress(OSError, ValueError):
            write_note(self._teller.folder / ANSWER_NAME, answer)


def ask_for_test(settings: Settings, teller: Teller) -> list[Outcome]:
    """Have the daemon or bridge that runs send a test, and return what came of it.

    Raises MeshctlError if it cannot be asked from here, ends, or does not answer.
    """
    folder, asked = teller.folder, secrets.token_hex(8)
    wait_seconds = (
        settings.staging.rescan_seconds + 2 * settings.alerts.timeout.total_seconds() + _SPARE_SECONDS
    )
    try:
        replace_file(folder / REQUEST_NAME, asked.encode(), _MODE)
    except OSError as error:
        raise MeshctlError(
            f"{_begun(teller.name)} cannot be asked from here: {folder} cannot be written ({error.strerror})."
            " Run this as its user."
        ) from None
    try:
        return _await(teller, asked, wait_seconds)
    finally:
        with suppress(OSError):
            (folder / REQUEST_NAME).unlink(missing_ok=True)


def _await(teller: Teller, asked: str, wait_seconds: float) -> list[Outcome]:
    give_up_clock = time.monotonic() + wait_seconds
    while (outcomes := _answered(teller.folder, asked)) is None:
        if not teller.runs():
            raise MeshctlError(f"{_begun(teller.name)} ended before it answered. See its log.")
        if time.monotonic() > give_up_clock:
            raise MeshctlError(
                f"{_begun(teller.name)} was asked, and has not answered for {wait_seconds:g} s: it is in the"
                " middle of something long, or hangs. See meshctl status, and its log."
            )
        time.sleep(_LOOK_SECONDS)
    return outcomes


def _begun(name: str) -> str:
    """Return a name as the beginning of a sentence."""
    return name[0].upper() + name[1:]


def _answered(folder: Path, asked: str) -> list[Outcome] | None:
    answer: Any = read_note(folder / ANSWER_NAME)
    if not isinstance(answer, dict) or answer.get("asked") != asked:
        return None
    try:
        return [Outcome(**one) for one in answer["outcomes"]]
    except (KeyError, TypeError):
        return None
