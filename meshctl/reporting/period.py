"""The period of a report, and the columns that its messages are counted in. Pure.

Columns end at full hours or at midnight of the time zone that the person lives in, so that a day reads as a
day, also the two in the year that have 23 and 25 hours.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_MOST_COLUMNS: Final = 100
_HOURS: Final = 3600
_HOURLY: Final = (1, 3)
_DAILY: Final = (1, 7, 28)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start_at` on, up to and without `end_at`; both with the zone that times are shown in."""

    start_at: datetime
    end_at: datetime

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return (self.end_at - self.start_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a period: their borders, and what one of them stands for ("hour", "7 days")."""

    borders: tuple[datetime, ...]
    unit: str

    def __len__(self) -> int:
        return len(self.borders) - 1

    @property
    def is_daily(self) -> bool:
        """True if a column is a day or more."""
        return self.unit.endswith(("day", "days"))

    def index(self, at: datetime) -> int:
        """Return the column that an instant of the period falls in."""
        return min(max(bisect_right(self.borders, at) - 1, 0), len(self) - 1)


def whole_day(day: date, now: datetime) -> Period:
    """Return a calendar day of the local zone, as far as it has gone at `now`."""
    start_at = _midnight(day)
    return Period(start_at, min(_midnight(day + timedelta(days=1)), now.astimezone()))


def since(start_at: datetime, now: datetime) -> Period:
    """Return the time from `start_at` until now, in the local zone."""
    return Period(start_at.astimezone(), now.astimezone())


def columns_of(period: Period) -> Columns:
    """Return as fine columns as a chart can show: by the hour, the day, or more."""
    for hours in _HOURLY:
        if period.seconds <= _MOST_COLUMNS * hours * _HOURS:
            return Columns(tuple(_by_hours(period, hours)), "hour" if hours == 1 else f"{hours} hours")
    days = next((days for days in _DAILY if period.seconds <= _MOST_COLUMNS * days * 24 * _HOURS), _DAILY[-1])
    return Columns(tuple(_by_days(period, days)), "day" if days == 1 else f"{days} days")


def _by_hours(period: Period, hours: int) -> Iterator[datetime]:
    # In UTC, where an hour is an hour; zones that are off by half an hour keep their own full hours.
    at = period.start_at.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    while True:
        yield at.astimezone()
        if at >= period.end_at:
            return
        at += timedelta(hours=hours)


def _by_days(period: Period, days: int) -> Iterator[datetime]:
    day = period.start_at.date()
    while True:
        yield (at := _midnight(day))
        if at >= period.end_at:
            return
        day += timedelta(days=days)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min).astimezone()
