"""A test alert: told as any other, by the running daemon from inside its unit, or from here if none runs.

The request is a file in the state folder, which the daemon looks for at each turn; the answer is a note that
repeats what the request says. The daemon tells the test in a thread of its own, and goes on meanwhile.
"""

import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final

from meshctl.clock import iso, now
from meshctl.daemon.alerts import channels_of
from meshctl.daemon.digest import Channel, Digest, UndeliveredError
from meshctl.daemon.lock import seems_running
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
_TEXT: Final = "This is a test. Alerts of this mailbox reach you."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a test by one channel; `fault` is None if it was told."""

    channel: str
    target: str
    fault: str | None = None
    advice: str | None = None
    said: str | None = None


def tell_test(settings: Settings) -> list[Outcome]:
    """Tell a test by every channel of the settings, and return what came of it."""
    first = {
        "event": "daemon.alert_test",
        "at": iso(now()),
        "text": _TEXT,
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
    """The daemon's side: looks for requests."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def answer(self, settings: Settings) -> None:
        """Tell a test if somebody asks for one; returns at once. Never raises."""
        folder = settings.state.folder
        try:
            asked = read_regular(folder / REQUEST_NAME, _MOST_REQUEST_BYTES).decode(errors="replace")
            (folder / REQUEST_NAME).unlink()
        except OSError:
            return
        self._journal.tell("daemon.alert_test", None, text="Somebody asked for a test of the alerts.")
        with suppress(RuntimeError):
            Thread(target=self._work, args=(settings, asked), name="alert test", daemon=True).start()

    def _work(self, settings: Settings, asked: str) -> None:
        outcomes = tell_test(settings)
        with suppress(OSError, ValueError):
            write_note(
                settings.state.folder / ANSWER_NAME, {"asked": asked, "outcomes": list(map(asdict, outcomes))}
            )


def ask_for_test(settings: Settings) -> list[Outcome]:
    """Have the running daemon tell a test, and return what came of it.

    Raises MeshctlError if it cannot be asked from here, ends, or does not answer.
    """
    folder, asked = settings.state.folder, secrets.token_hex(8)
    wait_seconds = (
        settings.staging.rescan_seconds + 2 * settings.alerts.timeout.total_seconds() + _SPARE_SECONDS
    )
    try:
        replace_file(folder / REQUEST_NAME, asked.encode(), _MODE)
    except OSError as error:
        raise MeshctlError(
            f"The daemon cannot be asked from here: {folder} cannot be written ({error.strerror}). Run this"
            " as the daemon's user or as an administrator."
        ) from None
    try:
        return _await(folder, asked, wait_seconds)
    finally:
        with suppress(OSError):
            (folder / REQUEST_NAME).unlink(missing_ok=True)


def _await(folder: Path, asked: str, wait_seconds: float) -> list[Outcome]:
    give_up_clock = time.monotonic() + wait_seconds
    while (outcomes := _answered(folder, asked)) is None:
        if not seems_running(folder):
            raise MeshctlError("The daemon ended before it answered. See its log.")
        if time.monotonic() > give_up_clock:
            raise MeshctlError(
                f"The daemon was asked, and has not answered for {wait_seconds:g} s: it is in the middle of"
                " something long, or hangs. See meshctl status, and its log."
            )
        time.sleep(_LOOK_SECONDS)
    return outcomes


def _answered(folder: Path, asked: str) -> list[Outcome] | None:
    answer: Any = read_note(folder / ANSWER_NAME)
    if not isinstance(answer, dict) or answer.get("asked") != asked:
        return None
    try:
        return [Outcome(**one) for one in answer["outcomes"]]
    except (KeyError, TypeError):
        return None
