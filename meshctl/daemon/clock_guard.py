"""Lets nothing out while the clock is more than a day behind the ledger's newest message.

Message ids, the dates in letters' control files and all deadlines come from the clock. One that lost its time
while the machine was off would send letters dated years ago. So at the start the clock is compared with the
newest message on the steady clock, which knows of every jump that was seen; and later, after each jump back,
with the newest message's date. If it is behind, that is an obstacle like any other, until the clock is right
or a person says that it is, and the message wrong. A jump back that only undoes one forward, both seen by one
daemon, is none: the clock is again what it was when that daemon began.

Meanwhile the steady clock goes on from the newest message, so that what is recorded now is neither overdue
for ever nor, once the clock is right, at once. The fact in the ledger says since which message:

    CLOCK_BEHIND_FACT, is_right false   the clock is behind; nothing leaves
    the same, is_right true             a person has said that it is right
    none, or empty                      it is not behind

A start that finds the fact, and the clock no longer behind, goes back to the jumps that were known before.
"""

import json
import sqlite3
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from meshctl.clock import instant
from meshctl.errors import MeshctlError
from meshctl.ledger.services import Services, keep_clock
from meshctl.platform import shell

CLOCK_BEHIND_FACT: Final = "clock_behind"
CLOCK_ADVICE: Final = (
    f"Set the clock right: {shell.KEEP_TIME} The letters then go out by themselves. If the clock is right,"
    " and was wrong when that message was made, stop the daemon, say so as its user, and start it:"
    f" {shell.SAY_CLOCK_IS_RIGHT}"
)
MOST_BEHIND: Final = timedelta(days=1)
# The newest is the last that was entered, whatever its id says: ids are dated by the clock.
_NEWEST: Final = (
    "SELECT queued_clock, created_at FROM messages WHERE queued_clock IS NOT NULL"
    " ORDER BY number DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Behind:
    """A clock that is behind: when the newest message was made, and the sum of the jumps known then."""

    newest_at: str
    jumps_seconds: float
    is_right: bool = False

    def lasts_at(self, now: datetime) -> bool:
        """True if the clock is still more than a day behind that message."""
        return now < instant(self.newest_at) - MOST_BEHIND

    @property
    def text(self) -> str:
        """Return what is wrong, for a person."""
        return (
            "The clock is more than a day behind the ledger's newest message, of"
            f" {instant(self.newest_at):%Y-%m-%d %H:%M} UTC, so nothing is sent."
        )


def behind_of(fact: str | None) -> Behind | None:
    """Return what the ledger's fact says; None if the clock was not behind."""
    try:
        return Behind(**json.loads(fact or ""))
    except (ValueError, TypeError):
        return None


class ClockGuard:
    """Compares the clock at a start, and then says before each turn whether anything may leave."""

    def __init__(self, services: Services, *, clock_is_right: bool) -> None:
        self._services = services
        self._behind = self._at_start()
        # The sums of the clock's jumps under which this daemon has sent, the latest last.
        self._sums = [services.clock.jumps_seconds]
        if self._behind is not None and clock_is_right:
            self._keep(replace(self._behind, is_right=True))

    def check(self) -> None:
        """Raise MeshctlError while the clock is behind and nobody has said that it is right."""
        now = self._services.clock.now()
        self._notice_jump_back(now)
        behind = self._behind
        if behind is None:
            return
        if not behind.lasts_at(now):
            if not behind.is_right:
                self._services.clock.correct(behind.jumps_seconds)
                self._sums = [behind.jumps_seconds]
            # Otherwise the steady clock has left out the jump, if there was one, and simply goes on.
            self._keep(None)
        elif not behind.is_right:
            raise MeshctlError(f"{behind.text} {CLOCK_ADVICE}")

    def _notice_jump_back(self, now: datetime) -> None:
        """Begin to keep the letters in if the clock was set back since the last look, behind the newest."""
        total = self._services.clock.jumps_seconds
        before = self._sums[-1]
        if total == before or (self._behind is not None and not self._behind.is_right):
            return
        is_return = any(abs(total - one) < MOST_BEHIND.total_seconds() for one in self._sums[:-1])
        newest = _newest(self._services.ledger.connection) if total < before and not is_return else None
        if newest is not None:
            found = Behind(newest[1], before)
            is_said_right = self._behind is not None and self._behind.newest_at == found.newest_at
            if found.lasts_at(now) and not is_said_right:
                self._keep(found)
                return
        self._sums.append(total)

    def _at_start(self) -> Behind | None:
        clock, ledger = self._services.clock, self._services.ledger
        behind = behind_of(ledger.fact(CLOCK_BEHIND_FACT))
        newest = _newest(ledger.connection)
        if newest is None:
            return None
        queued_clock, created_at = newest
        if behind is not None and not behind.lasts_at(clock.now()):
            # If it was right all along, the time has come by itself, and letters went out meanwhile.
            is_old = created_at == behind.newest_at or behind.lasts_at(instant(created_at))
            if is_old or not behind.is_right:
                clock.jumps_seconds = behind.jumps_seconds
            self._keep(None)
            return None
        if clock.steady() < queued_clock - MOST_BEHIND.total_seconds():
            if behind is None:
                behind = Behind(created_at, clock.jumps_seconds)
            # First the fact: without it the next start would take the clock for right.
            self._keep(behind)
            clock.jumps_seconds = clock.now().timestamp() - queued_clock
            keep_clock(self._services)
        return behind

    def _keep(self, behind: Behind | None) -> None:
        if behind is None:
            keep_clock(self._services)
        fact = "" if behind is None else json.dumps(asdict(behind))
        self._services.ledger.set_fact(CLOCK_BEHIND_FACT, fact)
        self._behind = behind


def _newest(connection: sqlite3.Connection) -> tuple[float, str] | None:
    row = connection.execute(_NEWEST).fetchone()
    return None if row is None else (float(row[0]), str(row[1]))
