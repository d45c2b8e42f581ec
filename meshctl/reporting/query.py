"""Reading what a report needs out of the ledger: one snapshot, read-only, a message at a time.

File names stay in the ledger: others chose them, and a page that is mailed around needs none.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meshctl.clock import iso
from meshctl.ledger.records import Reason
from meshctl.mesh.states import State
from meshctl.reporting.period import Period

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
# What meshctl writes into histories of itself is left out; every other step the MESH Client brought.
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
    """A message that was taken from the outbox within the period; `reached` is when it first got how far."""

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
    """A message that has missed a deadline; `deadline` is the settings' name of it."""

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
            reached.setdefault(State(step["state"]), _instant(step["at"]))
            step = steps.fetchone()
        yield Taken(
            message_id=row["message_id"],
            use_case=row["use_case"],
            state=State(row["state"]),
            assumed=bool(row["assumed"]),
            sent_again=row["message_id"] in again,
            created_at=_instant(row["created_at"]),
            reason=Reason(row["reason_code"], row["reason_event"], row["reason_text"], row["reason_advice"]),
            reached=tuple(reached.items()),
        )


def overdue(connection: sqlite3.Connection) -> list[Overdue]:
    """Return every message that is overdue now, whenever it was taken, oldest first."""
    return [
        Overdue(row["message_id"], row["use_case"], State(row["state"]), row["overdue"], _instant(row[4]))
        for row in connection.execute(_OVERDUE)
    ]


def client_signs(connection: sqlite3.Connection, period: Period) -> list[datetime]:
    """Return the minutes of the period in which the ledger shows that the MESH Client was at work."""
    return [_instant(row[0]) for row in connection.execute(_SIGNS, _limits(period))]


def waits(connection: sqlite3.Connection, period: Period) -> list[Wait]:
    """Return when pairs lay in OUT within the period."""
    return [
        Wait(_instant(row[0]), None if row[1] is None else _instant(row[1]))
        for row in connection.execute(_WAITS, _limits(period))
    ]


def _limits(period: Period) -> dict[str, str]:
    return {"start": iso(period.start_at), "end": iso(period.end_at)}


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
