"""Watch the MESH Client: it is stalled when pairs wait in OUT and nothing shows that it works.

Only what a client does is a sign of life: control files that come into SENT, FAILED and IN, files that it
writes in TEMP, its log; of the bridge, that MESH has answered it. A folder's own time is none, as whoever
makes or tidies a folder changes that. A pair that leaves OUT is none where the client leaves a trace of
each pair that it takes: a person may have removed it.

What was seen last is kept in the ledger, so that a restart neither forgets a stalled client nor announces it
twice.
"""

import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Final

from meshctl.clock import iso
from meshctl.files.client_folders import SERVER_NAMES
from meshctl.ledger import reads
from meshctl.ledger.services import Services
from meshctl.settings.model import Settings
from meshctl.settings.types import format_duration

CLIENT_FACT: Final = "client"
"""The ledger's fact about the client; `client_view` reads it."""

_KEPT_EVERY_SECONDS: Final = 60.0
_LOOK_EVERY_SECONDS: Final = 5.0
_NANOSECONDS: Final = 1_000_000_000
_MOST_EXAMINED: Final = 1_000
_ADVICE: Final = (
    "Check that the MESH Client (or meshctl bridge) runs, its log, its disk, and the network connection"
    " to MESH."
)
_LEFT_ADVICE: Final = (
    "Nothing shows that the client took them: look in SENT and in its log whether they went out."
)


class ClientState(StrEnum):
    """How the client is doing."""

    ACTIVE = "active"
    """It showed a sign of life within `client_silent_after`."""
    IDLE = "idle"
    """It was silent for longer, but nothing has waited for it that long."""
    STALLED = "stalled"
    UNKNOWN = "unknown"
    """It has never shown a sign of life."""


@dataclass(frozen=True, slots=True)
class ClientView:
    """The client's state, and when it last showed a sign of life, None if it never did."""

    state: ClientState
    last_seen: datetime | None
    last_seen_clock: float | None = None
    stalled_clock: float | None = None
    """When the steady clock showed that it is stalled; None if it is not."""


def client_view(fact: str | None) -> ClientView:
    """Return the client's state from the ledger's fact about it."""
    try:
        kept = json.loads(fact or "{}")
        last_seen = kept["last_seen"]
        return ClientView(
            ClientState(kept["state"]),
            None if last_seen is None else datetime.fromisoformat(last_seen),
            kept["last_seen_clock"],
            kept.get("stalled_clock"),
        )
    except (ValueError, KeyError, TypeError):
        return ClientView(ClientState.UNKNOWN, None)


def view_at(view: ClientView, now: datetime, silent_after: timedelta) -> ClientView:
    """Return a view that the daemon kept as it is now: it may have kept it days ago, and stopped."""
    is_old = view.last_seen is not None and now - view.last_seen >= silent_after
    return replace(view, state=ClientState.IDLE) if view.state is ClientState.ACTIVE and is_old else view


def signs_of(settings: Settings) -> Iterator[datetime]:
    """Yield when the client wrote its log and the files in TEMP, or when MESH last answered the bridge."""
    paths: list[Path] = []
    if settings.bridge.environment is not None:
        paths.append(settings.answered_file)
    client = settings.mailbox.client
    if client is not None and client.log_path is not None:
        paths += _files_at(Path(client.log_path))
    paths += (path for path in _files_at(settings.mailbox.temp_folder) if path.name not in SERVER_NAMES)
    for path in paths:
        if (written_at := _written_at(path)) is not None:
            yield written_at


def newest_report(folders: Iterable[Path], most: int) -> datetime | None:
    """Return when the newest control file in these folders was written; at most so many are looked at."""
    found = (
        _written_at(path) for folder in folders for path in _files_at(folder, most) if _is_control(path.name)
    )
    return max((one for one in found if one is not None), default=None)


def _is_control(name: str) -> bool:
    return name.lower().endswith(".ctl") and name[0] != "."


def _files_at(path: Path, most: int = _MOST_EXAMINED) -> list[Path]:
    """Return what lies in a folder, or the path itself where it is none; nothing if it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return [path / entry.name for entry in islice(entries, most)]
    except OSError:
        # Not every system has an error of its own for what is no folder.
        return [path] if path.is_file() else []


def _written_at(path: Path) -> datetime | None:
    """Return when an ordinary file was last written; None if there is none, or it may not be looked at."""
    try:
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            return datetime.fromtimestamp(status.st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        # Also a time that no date can hold, in a damaged file system.
        return None
    return None


class ClientHealth:
    """Watches the client of one mailbox."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._settings = settings
        self._silent_after = settings.deadlines.client_silent_after
        self._services = services
        self._view = self._kept = client_view(services.ledger.fact(CLIENT_FACT))
        self._takes_without_trace = _takes_without_trace(settings)
        self._next_look = self._next_keep = float("-inf")

    def work(self, *, came: int, left: int, written_ns: int | None) -> None:
        """Note signs of life, or the lack of them. Raises LedgerError, sqlite3.Error.

        `came` is how many control files have come into the client's folders, and `left` how many pairs have
        left OUT, since the last call; `written_ns` when the newest was written of those that were read.
        """
        now = self._services.clock.monotonic()
        if came or (left and self._takes_without_trace):
            self._note_sign(self._services.clock.now())
        elif written_ns is not None:
            self._note_sign(datetime.fromtimestamp(written_ns / _NANOSECONDS, UTC))
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_SECONDS
        for sign in signs_of(self._settings):
            self._note_sign(sign)
        self._judge()
        if self._view.state is not self._kept.state or (self._view != self._kept and now >= self._next_keep):
            kept = {
                "state": self._view.state,
                "last_seen": _iso_or_none(self._view.last_seen),
                "last_seen_clock": self._view.last_seen_clock,
                "stalled_clock": self._view.stalled_clock,
            }
            self._services.ledger.set_fact(CLIENT_FACT, json.dumps(kept))
            self._kept = self._view
            self._next_keep = now + _KEPT_EVERY_SECONDS

    def _note_sign(self, at: datetime) -> None:
        clock = self._services.clock
        # A time in the future is that of another clock: somebody has written now, at the latest.
        at = min(at, clock.now())
        reading = min(at.timestamp() - clock.jumps_seconds, clock.steady())
        if self._view.last_seen_clock is None or reading > self._view.last_seen_clock:
            self._view = replace(self._view, last_seen=at, last_seen_clock=reading)

    def _judge(self) -> None:
        connection, steady = self._services.ledger.connection, self._services.clock.steady()
        silent_after = self._silent_after.total_seconds()
        seen, stalled_clock = self._view.last_seen_clock, self._view.stalled_clock
        is_silent = seen is None or steady - seen >= silent_after
        oldest = reads.oldest_queued_clock(connection)
        waits = oldest is not None and steady - oldest >= silent_after
        # A pair that waited then still does: that older ones were removed by hand is no sign of life.
        waits_still = oldest is not None and stalled_clock is not None and oldest <= stalled_clock
        if is_silent and (waits or waits_still):
            state, since = ClientState.STALLED, steady if stalled_clock is None else stalled_clock
        elif seen is None:
            state, since = ClientState.UNKNOWN, None
        else:
            state, since = ClientState.IDLE if is_silent else ClientState.ACTIVE, None
        self._view = replace(self._view, state=state, stalled_clock=since)
        if stalled_clock is None and since is not None and oldest is not None:
            self._announce_stall(reads.count_queued(connection), steady - oldest)
        elif stalled_clock is not None and since is None:
            self._announce_recovery(has_sign=not is_silent)

    def _announce_stall(self, pairs: int, oldest_seconds: float) -> None:
        text = (
            f"Pairs wait in OUT, and the MESH Client has shown no sign of life for"
            f" {format_duration(self._silent_after)}."
        )
        last_seen = self._view.last_seen
        self._services.journal.tell(
            "client.stalled",
            {"pairs": pairs, "last_seen": _iso_or_none(last_seen)},
            pairs=pairs,
            oldest_s=round(oldest_seconds),
            last_seen=last_seen,
            text=text,
            advice=_ADVICE,
        )

    def _announce_recovery(self, *, has_sign: bool) -> None:
        text = (
            "The MESH Client shows signs of life again."
            if has_sign
            else "The pairs that the MESH Client had left in OUT are no longer there."
        )
        advice = "Nothing to do." if has_sign else _LEFT_ADVICE
        self._services.journal.tell(
            "client.recovered", {"text": text, "advice": advice}, text=text, last_seen=self._view.last_seen
        )


def _takes_without_trace(settings: Settings) -> bool:
    """True if the client is known to leave nothing behind of a pair that it takes from OUT."""
    client = settings.client
    return client is not None and client.save_sent is False and client.collect_report is not True


def _iso_or_none(at: datetime | None) -> str | None:
    return None if at is None else iso(at)
