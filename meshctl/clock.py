"""Time, and what to do when it jumps.

Three readings: `now` (the wall clock, for people), `monotonic` (for pauses) and `steady`, in seconds, for
deadlines. The steady clock is the wall clock minus every jump that was seen while running, and the sum of the
jumps is kept in the ledger: a clock set back a day or forward a year neither makes every message overdue nor
hides one that is, also after a restart.
"""

import time
from datetime import UTC, datetime

# A step smaller than this is how NTP keeps a clock right; larger is a jump.
_JUMP_SECONDS = 30.0
_NANOSECONDS = 1_000_000_000


def _elapsing() -> float:
    """Return seconds that also count while the machine sleeps, where the system has such a clock."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def iso(instant: datetime) -> str:
    """Return an instant as ledger, log and commands write it: ISO 8601 UTC, milliseconds."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03d}Z"


def instant(text: str) -> datetime:
    """Return the instant that `iso` wrote; 1970 for any other text, as in an edited file."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def now() -> datetime:
    """Return the wall clock's instant, UTC, for what has no `Clock` of its own."""
    return datetime.now(UTC)


class Clock:
    """The clocks of one run. `jumps_seconds` is the sum of earlier jumps, from the ledger."""

    def __init__(self, jumps_seconds: float = 0.0) -> None:
        self.jumps_seconds = jumps_seconds
        self._offset = time.time() - _elapsing()
        self._trusted_since = float("-inf")

    def now(self) -> datetime:
        """Return the wall clock's instant, UTC."""
        return now()

    def now_ns(self) -> int:
        """Return the wall clock in nanoseconds, as file systems stamp."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Return seconds that only go forward."""
        return _elapsing()

    def steady(self) -> float:
        """Return the seconds that deadlines are measured on, also before a jump was noticed."""
        step = self._step()
        return time.time() - self.jumps_seconds - (step if abs(step) >= _JUMP_SECONDS else 0.0)

    def age_seconds(self, changed_ns: int) -> float | None:
        """Return how long ago a file changed (`st_mtime_ns`), or None when its time is in the future.

        No file counts as older than the last jump, noticed or not: its stamp may be from before the jump.
        """
        age = time.time() - changed_ns / _NANOSECONDS
        if age < 0:
            return None
        if abs(self._step()) >= _JUMP_SECONDS:
            return 0.0
        return min(age, self.monotonic() - self._trusted_since)

    def notice_jump(self) -> float | None:
        """Return by how many seconds the wall clock has jumped since the last call, or None."""
        jump = self._step()
        self._offset += jump
        if abs(jump) < _JUMP_SECONDS:
            return None
        self.jumps_seconds += jump
        self._trusted_since = self.monotonic()
        return jump

    def correct(self, jumps_seconds: float) -> None:
        """Take the wall clock for right from now on: the sum of all jumps is this, whatever was seen."""
        self._offset += self._step()
        self.jumps_seconds = jumps_seconds
        self._trusted_since = self.monotonic()

    def _step(self) -> float:
        """Return by how many seconds the wall clock has deviated since the last call of `notice_jump`."""
        return time.time() - _elapsing() - self._offset
