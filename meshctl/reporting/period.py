"""The period of a report, its columns, and the messages of the period as the ledger has them.

Columns end at full hours or at midnight of the local time zone, so that a day reads as a day, including the
two in the year that have 23 and 25 hours. The ledger is read in one snapshot, read-only, a message at a time.
File names are not read: others chose them, and a page that is mailed around needs none.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from meshctl.clock import iso
from meshctl.ledger.records import Reason
from meshctl.mesh.states import State

_MOST_COLUMNS: Final = 100
_HOURS: Final = 3600
_HOURLY: Final = (1, 3)
_DAILY: Final = (1, 7, 28)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start_at` up to but not including `end_at`; both in the zone that times are shown in."""

    start_at: datetime
    end_at: datetime

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return (self.end_at - self.start_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a period: their borders, and how long one of them is ("hour", "7 days")."""

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
    """Return a calendar day of the local zone, up to `now` at most."""
    start_at = _midnight(day)
    return Period(start_at, min(_midnight(day + timedelta(days=1)), now.astimezone()))


def since(start_at: datetime, now: datetime) -> Period:
    """Return the time from `start_at` until now, in the local zone."""
    return Period(start_at.astimezone(), now.astimezone())


def columns_of(period: Period) -> Columns:
    """Return the narrowest columns that a chart can show: an hour, a day, or more."""
    for hours in _HOURLY:
        if period.seconds <= _MOST_COLUMNS * hours * _HOURS:
            return Columns(tuple(_by_hours(period, hours)), "hour" if hours == 1 else f"{hours} hours")
    days = next((days for days in _DAILY if period.seconds <= _MOST_COLUMNS * days * 24 * _HOURS), _DAILY[-1])
    return Columns(tuple(_by_days(period, days)), "day" if days == 1 else f"{days} days")


def _by_hours(period: Period, hours: int) -> Iterator[datetime]:
    # In UTC, where every hour is an hour; zones that are off by half an hour keep their own full hours.
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


_TAKEN: Final = """
SELECT message_id, use_case, state, assumed, created_at,
    reason_code, reason_event, reason_text, reason_advice
FROM messages WHERE created_at >= :start AND created_at < :end ORDER BY message_id
"""
_STEPS: Final = """
SELECT messages.message_id, history.at, history.state
FROM messages JOIN history USING (number)
WHERE messages.created_at >= :start AND messages.created_at < :end ORDER BY message_id, step
"""
_OVERDUE: Final = """
SELECT message_id, use_case, state, overdue, created_at FROM messages
WHERE overdue IS NOT NULL ORDER BY created_at, message_id
"""
# Steps that meshctl itself writes into histories are left out; every other came from the MESH Client.
_SIGNS: Final = """
SELECT DISTINCT substr(at, 1, 16) || ':00Z' FROM history
WHERE at >= :start AND at < :end AND event NOT IN ('CLAIM', 'CHECK', 'HANDOFF', 'DEADLINE') ORDER BY 1
"""
_SENT_AGAIN: Final = "SELECT DISTINCT resend_of FROM messages WHERE resend_of IS NOT NULL"
_WAITS: Final = """
SELECT min(CASE WHEN state = 'queued' THEN at END) AS queued_at,
    min(CASE WHEN state NOT IN ('claimed', 'queued') THEN at END) AS left_at
FROM history GROUP BY number
HAVING queued_at IS NOT NULL AND queued_at < :end AND (left_at IS NULL OR left_at >= :start)
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was taken from the outbox within the period; `reached` has each state's first time."""

    message_id: str
    use_case: str | None
    state: State
    assumed: bool
    sent_again: bool
    created_at: datetime
    reason: Reason
    reached: tuple[tuple[State, datetime], ...]


@dataclass(frozen=True, slots=True)
class Overdue:
    """A message that has missed a deadline, by the deadline's name in the settings."""

    message_id: str
    use_case: str | None
    state: State
    deadline: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a pair lay in OUT; `left_at` is None while it still does."""

    queued_at: datetime
    left_at: datetime | None


def taken(connection: sqlite3.Connection, period: Period) -> Iterator[Taken]:
    """Return the messages that entered the ledger within the period, oldest first."""
    limits = _limits(period)
    again = {row[0] for row in connection.execute(_SENT_AGAIN)}
    steps = connection.execute(_STEPS, limits)
    step = steps.fetchone()
    for row in connection.execute(_TAKEN, limits):
        reached: dict[State, datetime] = {}
        while step is not None and step["message_id"] == row["message_id"]:
            reached.setdefault(State(step["state"]), datetime.fromisoformat(step["at"]))
            step = steps.fetchone()
        yield Taken(
            message_id=row["message_id"],
            use_case=row["use_case"],
            state=State(row["state"]),
            assumed=bool(row["assumed"]),
            sent_again=row["message_id"] in again,
            created_at=datetime.fromisoformat(row["created_at"]),
            reason=Reason(row["reason_code"], row["reason_event"], row["reason_text"], row["reason_advice"]),
            reached=tuple(reached.items()),
        )


def overdue(connection: sqlite3.Connection) -> list[Overdue]:
    """Return every message that is overdue now, whenever it was taken, oldest first."""
    return [
        Overdue(
            row["message_id"],
            row["use_case"],
            State(row["state"]),
            row["overdue"],
            datetime.fromisoformat(row[4]),
        )
        for row in connection.execute(_OVERDUE)
    ]


def client_signs(connection: sqlite3.Connection, period: Period) -> list[datetime]:
    """Return the minutes of the period in which the ledger shows that the MESH Client was active."""
    return [datetime.fromisoformat(row[0]) for row in connection.execute(_SIGNS, _limits(period))]


def waits(connection: sqlite3.Connection, period: Period) -> list[Wait]:
    """Return when pairs lay in OUT within the period."""
    return [
        Wait(datetime.fromisoformat(row[0]), None if row[1] is None else datetime.fromisoformat(row[1]))
        for row in connection.execute(_WAITS, _limits(period))
    ]


def _limits(period: Period) -> dict[str, str]:
    return {"start": iso(period.start_at), "end": iso(period.end_at)}
