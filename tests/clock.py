"""A clock that tests put forward."""

from datetime import datetime, timedelta

from meshctl.clock import Clock

_NANOSECONDS = 1_000_000_000


class FakeClock(Clock):
    """The machine's clock, put forward by `ahead_seconds`; with `is_stopped`, pauses pass by these alone."""

    def __init__(self, *, is_stopped: bool = False) -> None:
        super().__init__()
        self.ahead_seconds = 0.0
        self._is_stopped = is_stopped

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_seconds)

    def monotonic(self) -> float:
        return self.ahead_seconds + (0.0 if self._is_stopped else super().monotonic())

    def steady(self) -> float:
        return super().steady() + self.ahead_seconds

    def age_seconds(self, changed_ns: int) -> float | None:
        return super().age_seconds(changed_ns - round(self.ahead_seconds * _NANOSECONDS))


def stopped_clock() -> FakeClock:
    """Return a clock whose pauses pass when a test says so."""
    return FakeClock(is_stopped=True)
