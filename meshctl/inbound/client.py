"""Watch the MESH Client: it is stalled when pairs wait in OUT and nothing shows that it works.

Signs of life are files that come into SENT, FAILED and IN, pairs that leave OUT, reports of the client about
itself, and changes in TEMP. What was seen last is kept in the ledger, so that a restart neither forgets a
stalled client nor announces it twice.
"""

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from meshctl.clock import iso
from meshctl.ledger import reads
from meshctl.ledger.services import Services
from meshctl.settings.model import Settings
from meshctl.settings.types import format_duration

CLIENT_FACT: Final = "client"
"""The ledger's fact about the client; `client_view` reads it."""

_KEPT_EVERY_SECONDS: Final = 60.0
_LOOK_EVERY_SECONDS: Final = 5.0
_NANOSECONDS: Final = 1_000_000_000
_ADVICE: Final = (
    "Check that the MESH Client (or meshctl bridge) runs, its log, its disk, and the network connection"
    " to MESH."
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


def client_view(fact: str | None) -> ClientView:
    """Return the client's state from the ledger's fact about it."""
    try:
        kept = json.loads(fact or "{}")
        last_seen = kept["last_seen"]
        return ClientView(
            ClientState(kept["state"]),
            None if last_seen is None else datetime.fromisoformat(last_seen),
            kept["last_seen_clock"],
        )
    except (ValueError, KeyError, TypeError):
        return ClientView(ClientState.UNKNOWN, None)


class ClientHealth:
    """Watches the client of one mailbox."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._mailbox = settings.mailbox
        self._silent_after = settings.deadlines.client_silent_after
        self._services = services
        self._view = self._kept = client_view(services.ledger.fact(CLIENT_FACT))
        self._stamps_ns: dict[str, int] | None = None
        self._next_look = self._next_keep = float("-inf")

    def work(self, *, has_sign: bool) -> None:
        """Note a sign of life, or the lack of one. Raises LedgerError, sqlite3.Error."""
        now = self._services.clock.monotonic()
        if has_sign:
            self._note_sign(self._services.clock.now())
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_SECONDS
        self._look_at_folders()
        self._judge()
        if self._view.state is not self._kept.state or (self._view != self._kept and now >= self._next_keep):
            kept = {
                "state": self._view.state,
                "last_seen": _iso_or_none(self._view.last_seen),
                "last_seen_clock": self._view.last_seen_clock,
            }
            self._services.ledger.set_fact(CLIENT_FACT, json.dumps(kept))
            self._kept = self._view
            self._next_keep = now + _KEPT_EVERY_SECONDS

    def _note_sign(self, at: datetime) -> None:
        clock = self._services.clock
        reading = min(at.timestamp() - clock.jumps_seconds, clock.steady())
        if self._view.last_seen_clock is None or reading > self._view.last_seen_clock:
            self._view = replace(self._view, last_seen=at, last_seen_clock=reading)

    def _look_at_folders(self) -> None:
        """Take changes of TEMP for signs; at the start those of the other folders, too.

        Later these would show our own work as well, so there only what comes counts.
        """
        mailbox = self._mailbox
        folders = [mailbox.temp_folder]
        if self._stamps_ns is None:
            folders += [mailbox.sent_folder, mailbox.failed_folder, mailbox.in_folder]
        stamps = {}
        for folder in folders:
            try:
                stamps[str(folder)] = os.stat(folder).st_mtime_ns
            except OSError:
                continue
        before = self._stamps_ns or {}
        for folder_name, stamp_ns in stamps.items():
            if before.get(folder_name) != stamp_ns:
                self._note_sign(datetime.fromtimestamp(stamp_ns / _NANOSECONDS, UTC))
        self._stamps_ns = stamps

    def _judge(self) -> None:
        connection, steady = self._services.ledger.connection, self._services.clock.steady()
        silent_after = self._silent_after.total_seconds()
        seen = self._view.last_seen_clock
        is_silent = seen is None or steady - seen >= silent_after
        oldest = reads.oldest_queued_clock(connection)
        waits = oldest is not None and steady - oldest >= silent_after
        was_stalled = self._view.state is ClientState.STALLED
        if is_silent and (waits or (was_stalled and oldest is not None)):
            state = ClientState.STALLED
        elif seen is None:
            state = ClientState.UNKNOWN
        else:
            state = ClientState.IDLE if is_silent else ClientState.ACTIVE
        self._view = replace(self._view, state=state)
        if state is ClientState.STALLED and not was_stalled and oldest is not None:
            self._announce_stall(reads.count_queued(connection), steady - oldest)
        elif was_stalled and state is not ClientState.STALLED:
            self._announce_recovery()

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

    def _announce_recovery(self) -> None:
        self._services.journal.tell(
            "client.recovered",
            {"text": "The MESH Client shows signs of life again.", "advice": "Nothing to do."},
            last_seen=self._view.last_seen,
        )


def _iso_or_none(at: datetime | None) -> str | None:
    return None if at is None else iso(at)
