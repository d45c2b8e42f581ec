"""Reading the ledger for commands: counts, lists, one message, a patient's messages.

Reads only, so it works while the daemon writes, and never makes a ledger where there is none. Every answer
comes out of one snapshot: a message and its history always belong together.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshctl.ledger.database import LEDGER_NAME, LedgerError, open_for_reading
from meshctl.ledger.records import CLOCK_JUMPS_FACT, HistoryEntry, Message, Reason, levels_of
from meshctl.mesh.evidence import State

EVERY: Final = -1
"""The limit that is none."""

_SELECTED = """
SELECT * FROM messages
WHERE (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (NOT :overdue OR overdue IS NOT NULL)
    AND (:use_case IS NULL OR use_case = :use_case)
    AND (:since IS NULL OR created_at >= :since)
ORDER BY created_at DESC, message_id DESC LIMIT :limit
"""
_ABOUT_PATIENT = """
SELECT * FROM messages WHERE patient_key = ? ORDER BY created_at DESC, message_id DESC
"""
_HISTORIES = """
SELECT message_id, at, event, state, code, text FROM history
WHERE message_id IN (SELECT value FROM json_each(?)) ORDER BY message_id, step
"""
_HISTORY_BATCH = 500
# Sorts after every character that an id can hold.
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages to list: all of these hold. `since` is an instant as the ledger writes it."""

    states: tuple[State, ...] = ()
    overdue: bool = False
    use_case: str | None = None
    since: str | None = None
    limit: int = EVERY


@contextmanager
def snapshot(state_folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the ledger in a state folder for queries that see one moment of it.

    Raises LedgerError when it is missing, damaged, too new, or cannot be read.
    """
    connection = open_for_reading(state_folder / LEDGER_NAME)
    try:
        connection.execute("BEGIN")
        yield connection
    except sqlite3.DatabaseError as error:
        # SQLite's own texts name tables and pages, never values.
        raise LedgerError(f"The ledger in {state_folder} cannot be read: {error}.") from None
    finally:
        connection.close()


def exists(state_folder: Path) -> bool:
    """Tell whether there is a ledger yet; one that the daemon is about to make is empty for a moment."""
    path = state_folder / LEDGER_NAME
    return path.exists() and path.stat().st_size > 0


def counts_by_state(connection: sqlite3.Connection) -> dict[State, int]:
    """Return how many messages are in each state, zeros included."""
    found = dict(map(tuple, connection.execute("SELECT state, count(*) FROM messages GROUP BY state")))
    return {state: found.get(state.value, 0) for state in State}


def count_overdue(connection: sqlite3.Connection) -> int:
    """Return how many messages have missed a deadline that is still open."""
    row = connection.execute("SELECT count(*) FROM messages WHERE overdue IS NOT NULL").fetchone()
    return int(row[0])


def oldest_queued_seconds(connection: sqlite3.Connection, now_seconds: float) -> float | None:
    """Return for how long the oldest pair has waited in OUT, None when none does.

    `now_seconds` is the wall clock (`time.time()`); jumps of it that the daemon saw are left out.
    """
    row = connection.execute("SELECT min(queued_clock) FROM messages WHERE state = 'queued'").fetchone()
    if row[0] is None:
        return None
    steady = now_seconds - float(fact(connection, CLOCK_JUMPS_FACT) or 0.0)
    return max(0.0, steady - float(row[0]))


def fact(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a small named value that the daemon keeps, or None."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def select(connection: sqlite3.Connection, selection: Selection) -> list[Message]:
    """Return the messages of a selection with their histories, newest first."""
    parameters = {
        "states": json.dumps(selection.states) if selection.states else None,
        "overdue": selection.overdue,
        "use_case": selection.use_case,
        "since": selection.since,
        "limit": selection.limit,
    }
    return _messages(connection, _SELECTED, parameters)


def about_patient(connection: sqlite3.Connection, patient_key: bytes) -> list[Message]:
    """Return the messages about the patient with this keyed hash, newest first."""
    return _messages(connection, _ABOUT_PATIENT, [patient_key])


def message(connection: sqlite3.Connection, message_id: str) -> Message | None:
    """Return one message, or None."""
    found = _messages(connection, "SELECT * FROM messages WHERE message_id = ?", [message_id])
    return found[0] if found else None


def beginning(connection: sqlite3.Connection, text: str, limit: int) -> list[Message]:
    """Return up to `limit` messages whose ids begin so, oldest first."""
    return _messages(
        connection,
        "SELECT * FROM messages WHERE message_id >= ? AND message_id < ? ORDER BY message_id LIMIT ?",
        (text, text + _LAST, limit),
    )


def with_mesh_id(connection: sqlite3.Connection, mesh_id: str) -> list[Message]:
    """Return the messages that MESH knows under this id."""
    return _messages(connection, "SELECT * FROM messages WHERE mesh_id = ?", (mesh_id,))


def entered_since(connection: sqlite3.Connection, message_id: str) -> list[Message]:
    """Return the messages whose ids sort at or after this one, oldest first."""
    return _messages(
        connection, "SELECT * FROM messages WHERE message_id >= ? ORDER BY message_id", (message_id,)
    )


def resent_as(connection: sqlite3.Connection, message_id: str) -> list[str]:
    """Return the ids of the messages that send this one again, oldest first."""
    rows = connection.execute(
        "SELECT message_id FROM messages WHERE resend_of = ? ORDER BY message_id", (message_id,)
    )
    return [row[0] for row in rows]


def _messages(
    connection: sqlite3.Connection, query: str, parameters: Sequence[object] | Mapping[str, object]
) -> list[Message]:
    rows = connection.execute(query, parameters).fetchall()
    histories: dict[str, list[HistoryEntry]] = {row["message_id"]: [] for row in rows}
    message_ids = list(histories)
    for start in range(0, len(message_ids), _HISTORY_BATCH):
        some = json.dumps(message_ids[start : start + _HISTORY_BATCH])
        for message_id, *entry in connection.execute(_HISTORIES, (some,)):
            histories[message_id].append(HistoryEntry(*entry))
    return [_message(row, tuple(histories[row["message_id"]])) for row in rows]


def _message(row: sqlite3.Row, history: tuple[HistoryEntry, ...]) -> Message:
    reason = Reason(row["reason_code"], row["reason_event"], row["reason_text"], row["reason_advice"])
    return Message(
        message_id=row["message_id"],
        file_name=row["file_name"],
        use_case=row["use_case"],
        workflow_id=row["workflow_id"],
        state=State(row["state"]),
        overdue=row["overdue"],
        assumed=bool(row["assumed"]),
        asked=levels_of(row["asked"]),
        awaiting=levels_of(row["awaiting"]),
        mesh_id=row["mesh_id"],
        repeat_of=row["repeat_of"],
        resend_of=row["resend_of"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        size_bytes=row["size_bytes"],
        sha256=None if row["sha256"] is None else row["sha256"].hex(),
        reason=None if reason == Reason(None, None, None, None) else reason,
        history=history,
    )
