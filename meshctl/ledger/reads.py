"""Read the ledger: counts, lists and single messages for commands; batches for matching and deadlines.

Commands read in a snapshot, while the daemon writes: a message and its history always belong together. No
ledger is made where there is none. What the daemon asks does not grow with what the ledger holds, unless a
docstring says so.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from meshctl.clock import instant, iso
from meshctl.files.owner import ForeignFolderError
from meshctl.ledger.database import LEDGER_NAME, LedgerError, open_for_reading
from meshctl.ledger.records import (
    CLOCK_JUMPS_FACT,
    LOST_PAIRS_FACT,
    MAILBOX_FACT,
    SET_ASIDE,
    SET_ASIDE_FACT,
    HistoryEntry,
    Message,
    Reason,
    SetAside,
    levels_of,
)
from meshctl.mesh.states import Acknowledgement, Deadline, State

EVERY: Final = -1
"""The limit that is none."""

_MESSAGES = "SELECT * FROM messages "
_SELECTED = """
WHERE (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
    AND (NOT :overdue OR overdue IS NOT NULL)
    AND (:use_case IS NULL OR use_case = :use_case)
    AND (:since IS NULL OR created_at >= :since)
    AND (:until IS NULL OR created_at < :until)
ORDER BY created_at DESC, message_id DESC LIMIT :limit
"""
_ABOUT_PATIENT = """
WHERE substr(patient_key, 1, 8) = substr(?1, 1, 8) AND patient_key = ?1
ORDER BY created_at DESC, message_id DESC
"""
_HISTORIES = """
SELECT number, at, event, state, code, text FROM history
WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number, step
"""
_HISTORY_BATCH = 500
# Sorts after every character that an id can hold.
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages to list: all of these hold."""

    states: tuple[State, ...] = ()
    overdue: bool = False
    use_case: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = EVERY


@contextmanager
def snapshot(state_folder: Path, mailbox_id: str | None = None) -> Iterator[sqlite3.Connection]:
    """Open the ledger in a state folder for queries that see one moment of it.

    Raises LedgerError when it is missing, damaged, of another format, or cannot be read; ForeignFolderError
    when it is not that of the mailbox, if one is named.
    """
    connection = open_for_reading(state_folder / LEDGER_NAME)
    try:
        connection.execute("BEGIN")
        owner = None if mailbox_id is None else fact(connection, MAILBOX_FACT)
        if mailbox_id is not None and owner not in (None, mailbox_id):
            raise ForeignFolderError(f"The ledger in {state_folder}", str(owner), mailbox_id)
        yield connection
    except sqlite3.DatabaseError as error:
        # SQLite's own texts name tables and pages, never values.
        raise LedgerError(f"The ledger in {state_folder} cannot be read: {error}.") from None
    finally:
        connection.close()


def exists(state_folder: Path) -> bool:
    """True if there is a ledger yet; one that the daemon is about to make is empty for a moment."""
    path = state_folder / LEDGER_NAME
    return path.exists() and path.stat().st_size > 0


def counts_by_state(connection: sqlite3.Connection) -> dict[State, int]:
    """Return how many messages are in each state, zeros included."""
    found = dict(map(tuple, connection.execute("SELECT state, count(*) FROM messages GROUP BY state")))
    return {state: found.get(state.value, 0) for state in State}


def count_overdue(connection: sqlite3.Connection) -> int:
    """Return how many messages have missed a deadline that is still open."""
    return _count(connection, "SELECT count(*) FROM messages WHERE overdue IS NOT NULL")


def oldest_queued_seconds(connection: sqlite3.Connection, now_seconds: float) -> float | None:
    """Return for how long the oldest pair has waited in OUT, None when none does.

    `now_seconds` is the wall clock's, since 1970; jumps of it that the daemon saw are left out.
    """
    oldest = oldest_queued_clock(connection)
    if oldest is None:
        return None
    return max(0.0, now_seconds - float(fact(connection, CLOCK_JUMPS_FACT) or 0.0) - oldest)


def queued_ages(connection: sqlite3.Connection, now_seconds: float) -> dict[str, float]:
    """Return for how many seconds each pair has waited in OUT, as `oldest_queued_seconds` does."""
    steady = now_seconds - float(fact(connection, CLOCK_JUMPS_FACT) or 0.0)
    query = (
        "SELECT message_id, queued_clock FROM messages WHERE state = 'queued' AND queued_clock IS NOT NULL"
    )
    return {row[0]: max(0.0, steady - float(row[1])) for row in connection.execute(query)}


def fact(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a small named value that the daemon keeps, or None."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def set_aside(connection: sqlite3.Connection) -> tuple[SetAside, ...]:
    """Return the dropped files that the daemon has set aside; none where its fact cannot be read as such."""
    try:
        return tuple(
            SetAside(
                str(entry["file"]),
                None if entry["folder"] is None else str(entry["folder"]),
                str(entry["reason"]),
                str(entry["advice"]),
                instant(str(entry["since"])),
            )
            for entry in json.loads(fact(connection, SET_ASIDE_FACT) or "[]")
        )
    except (ValueError, KeyError, TypeError):
        return ()


def select(connection: sqlite3.Connection, selection: Selection) -> list[Message]:
    """Return the messages of a selection with their histories, newest first."""
    parameters = {
        "states": json.dumps(selection.states) if selection.states else None,
        "overdue": selection.overdue,
        "use_case": selection.use_case,
        "since": None if selection.since is None else iso(selection.since),
        "until": None if selection.until is None else iso(selection.until),
        "limit": selection.limit,
    }
    return _messages(connection, _SELECTED, parameters)


def about_patient(connection: sqlite3.Connection, patient_key: bytes) -> list[Message]:
    """Return the messages about the patient with this keyed hash, newest first."""
    return _messages(connection, _ABOUT_PATIENT, [patient_key])


def message(connection: sqlite3.Connection, message_id: str) -> Message | None:
    """Return one message, or None."""
    found = _messages(connection, "WHERE message_id = ?", [message_id])
    return found[0] if found else None


def beginning(connection: sqlite3.Connection, text: str, limit: int) -> list[Message]:
    """Return up to `limit` messages whose ids begin so, oldest first."""
    condition = "WHERE message_id >= ? AND message_id < ? ORDER BY message_id LIMIT ?"
    return _messages(connection, condition, (text, text + _LAST, limit))


def with_mesh_id(connection: sqlite3.Connection, mesh_id: str) -> list[Message]:
    """Return the messages with this MESH id."""
    return _messages(connection, "WHERE mesh_id = ?", (mesh_id,))


def entered_since(connection: sqlite3.Connection, message_id: str) -> list[Message]:
    """Return the messages whose ids sort at or after this one, oldest first."""
    return _messages(connection, "WHERE message_id >= ? ORDER BY message_id", (message_id,))


def resent_as(connection: sqlite3.Connection, message_id: str) -> list[str]:
    """Return the ids of the messages that send this one again, oldest first."""
    rows = connection.execute(
        "SELECT message_id FROM messages WHERE resend_of = ? ORDER BY message_id", (message_id,)
    )
    return [row[0] for row in rows]


def _messages(
    connection: sqlite3.Connection, condition: str, parameters: Sequence[object] | Mapping[str, object]
) -> list[Message]:
    rows = connection.execute(_MESSAGES + condition, parameters).fetchall()
    histories: dict[int, list[HistoryEntry]] = {row["number"]: [] for row in rows}
    numbers = list(histories)
    for start in range(0, len(numbers), _HISTORY_BATCH):
        some = json.dumps(numbers[start : start + _HISTORY_BATCH])
        for number, at, *entry in connection.execute(_HISTORIES, (some,)):
            histories[number].append(HistoryEntry(instant(at), *entry))
    return [_message(row, tuple(histories[row["number"]])) for row in rows]


def _message(row: sqlite3.Row, history: tuple[HistoryEntry, ...]) -> Message:
    reason = Reason(row["reason_code"], row["reason_event"], row["reason_text"], row["reason_advice"])
    return Message(
        message_id=row["message_id"],
        file_name=row["file_name"],
        use_case=row["use_case"],
        workflow_id=row["workflow_id"],
        state=State(row["state"]),
        overdue=None if row["overdue"] is None else Deadline(row["overdue"]),
        assumed=bool(row["assumed"]),
        asked=levels_of(row["asked"]),
        awaiting=levels_of(row["awaiting"]),
        mesh_id=row["mesh_id"],
        repeat_of=row["repeat_of"],
        resend_of=row["resend_of"],
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
        size_bytes=row["size_bytes"],
        wrapped_bytes=row["wrapped_bytes"],
        to_mailbox=row["to_mailbox"],
        answered_by=row["answered_by"],
        replaces=row["replaces"],
        sha256=None if row["sha256"] is None else row["sha256"].hex(),
        reason=None if reason == Reason(None, None, None, None) else reason,
        history=history,
    )


# In the order of the fields of `Candidate`.
_CANDIDATES = """
SELECT message_id, state, mesh_id, local_id_key, workflow_id, use_case, reason_event, to_mailbox,
    answered_by, resend_of, repeat_of FROM messages
"""
_BY_MESSAGE_ID = "WHERE message_id IN (SELECT value FROM json_each(?)) AND state != 'rejected'"
_BY_MESH_ID = "WHERE mesh_id IN (SELECT value FROM json_each(?)) AND state != 'rejected'"
_BY_LOCAL_ID = """
WHERE substr(local_id_key, 1, 8) = substr(?1, 1, 8) AND local_id_key = ?1 AND state != 'rejected' LIMIT ?2
"""
_BY_REFERENCE = """
WHERE number IN (SELECT number FROM message_references WHERE reference_key IN (substr(?, 1, 8),
    substr(?, 1, 8), substr(?, 1, 8), substr(?, 1, 8), substr(?, 1, 8), substr(?, 1, 8)))
AND state != 'rejected' LIMIT ?
"""
_MOST_SPELLINGS = 6
_UNACKNOWLEDGED = """
WHERE state IN ('collected', 'sent') AND workflow_id IN (SELECT value FROM json_each(?))
    AND asked = awaiting AND (to_mailbox IS NULL OR to_mailbox = ? COLLATE NOCASE) LIMIT ?
"""
_DESCRIBED = """
SELECT message_id, state, overdue, file_name, use_case, workflow_id, mesh_id, queued_clock,
    reason_code, reason_event, reason_text, reason_advice
FROM messages WHERE message_id IN (SELECT value FROM json_each(?))
"""
# A pair is handed over before MESH has it, so the index on queued_clock may cut off first.
_MISSED = """
SELECT message_id FROM messages
WHERE state IN (SELECT value FROM json_each(:states))
    AND queued_clock > :queued_since AND queued_clock <= :until
    AND coalesce(sent_clock, queued_clock) > :since AND coalesce(sent_clock, queued_clock) <= :until
    AND (:level IS NULL OR instr(awaiting, :level) > 0)
    AND NOT EXISTS (SELECT 1 FROM history WHERE history.number = messages.number
        AND history.event = 'DEADLINE' AND history.code = :deadline)
"""
_ACCEPTED = """
SELECT 1 FROM messages WHERE workflow_id = ? AND created_at >= ? AND (state IN ('received', 'completed')
    OR state = 'failed' AND (reason_code = '14' OR reason_event IN ('ITK3', 'ITK2'))) LIMIT 1
"""
_STILL_MISSED = """
SELECT message_id FROM messages
WHERE message_id IN (SELECT value FROM json_each(:message_ids))
    AND state IN (SELECT value FROM json_each(:states))
    AND (:level IS NULL OR instr(awaiting, :level) > 0)
"""
_UNASKED = """
SELECT message_id FROM messages
WHERE state IN (SELECT value FROM json_each(:states)) AND asked = ''
    AND queued_clock <= :until AND coalesce(sent_clock, queued_clock) <= :until LIMIT :limit
"""


WRONG_DEMOGRAPHICS: Final = "EPL-154"
"""MESH found no patient with this NHS number, date of birth and surname."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message that a report or an acknowledgement may be about; never a rejected one."""

    message_id: str
    state: State
    mesh_id: str | None
    local_id_key: bytes | None
    workflow_id: str | None
    use_case: str | None
    failed_by: str | None
    """The event that made the message fail."""
    to_mailbox: str | None = None
    answered_by: str | None = None
    resend_of: str | None = None
    repeat_of: str | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What log lines and alerts say about a message."""

    message_id: str
    state: State
    overdue: Deadline | None
    file_name: str
    use_case: str | None
    workflow_id: str | None
    mesh_id: str | None
    queued_clock: float | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages that something is still expected of: in these states, awaiting `level` if it is not None."""

    states: tuple[State, ...]
    level: Acknowledgement | None = None


def by_message_id(connection: sqlite3.Connection, message_ids: Collection[str]) -> dict[str, Candidate]:
    """Return the messages with these ids."""
    found = _candidates(connection, _BY_MESSAGE_ID, json.dumps(list(message_ids)))
    return {one.message_id: one for one in found}


def by_mesh_id(connection: sqlite3.Connection, mesh_ids: Collection[str]) -> dict[str, list[Candidate]]:
    """Return the messages with these MESH ids, by MESH id."""
    found: dict[str, list[Candidate]] = {}
    for one in _candidates(connection, _BY_MESH_ID, json.dumps(list(mesh_ids))):
        found.setdefault(one.mesh_id or "", []).append(one)
    return found


def by_local_id(connection: sqlite3.Connection, local_id_key: bytes, limit: int) -> list[Candidate]:
    """Return up to `limit` messages that went out with this LocalId, given as its keyed hash."""
    return _candidates(connection, _BY_LOCAL_ID, local_id_key, limit)


def by_reference(
    connection: sqlite3.Connection, reference_keys: Sequence[bytes], limit: int
) -> list[Candidate]:
    """Return up to `limit` messages whose payload bears an id, given as the keyed hashes of its spellings.

    Raises ValueError for more than six spellings.
    """
    spare = _MOST_SPELLINGS - len(reference_keys)
    if spare < 0:
        raise ValueError(f"at most {_MOST_SPELLINGS} spellings of an id can be looked up")
    return _candidates(connection, _BY_REFERENCE, *reference_keys, *[None] * spare, limit)


def unacknowledged(
    connection: sqlite3.Connection, workflow_ids: Collection[str], mailbox: str, limit: int
) -> list[Candidate]:
    """Return up to `limit` messages under these workflow ids that a mailbox may have got, unacknowledged."""
    return _candidates(connection, _UNACKNOWLEDGED, json.dumps(list(workflow_ids)), mailbox, limit)


def descriptions(connection: sqlite3.Connection, message_ids: Collection[str]) -> dict[str, Description]:
    """Return what there is to say of these messages, by id."""
    found = {}
    for row in connection.execute(_DESCRIBED, (json.dumps(list(message_ids)),)):
        message_id, state, overdue, file, use_case, workflow_id, mesh_id, clock, *reason = row
        deadline = None if overdue is None else Deadline(overdue)
        found[message_id] = Description(
            message_id, State(state), deadline, file, use_case, workflow_id, mesh_id, clock, Reason(*reason)
        )
    return found


def count_wrong_demographics(connection: sqlite3.Connection, workflow_id: str, since: datetime) -> int:
    """Return how many messages of a workflow id, entered since an instant, failed with EPL-154."""
    return _count(
        connection,
        "SELECT count(*) FROM messages WHERE state = 'failed' AND reason_code = ? AND workflow_id = ?"
        " AND created_at >= ?",
        (WRONG_DEMOGRAPHICS, workflow_id, iso(since)),
    )


def was_accepted(connection: sqlite3.Connection, workflow_id: str, since: datetime) -> bool:
    """True if MESH found the recipient of any message of a workflow id, entered since an instant.

    It did for what arrived, and for what failed only after that: code 14, or the recipient's own response.
    """
    return connection.execute(_ACCEPTED, (workflow_id, iso(since))).fetchone() is not None


def queued_ids(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the ids of all messages that are queued; as many as there are."""
    for row in connection.execute("SELECT message_id FROM messages WHERE state = 'queued'"):
        yield row[0]


def lost_pairs(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of the queued messages whose pairs went with an OUT that was replaced, oldest first."""
    try:
        ids = set(json.loads(fact(connection, LOST_PAIRS_FACT) or "[]"))
    except (ValueError, TypeError):
        return []
    return sorted(ids.intersection(queued_ids(connection))) if ids else []


def oldest_queued_clock(connection: sqlite3.Connection) -> float | None:
    """Return the steady clock's reading when the longest-waiting pair came into OUT; None: none waits."""
    row = connection.execute("SELECT min(queued_clock) FROM messages WHERE state = 'queued'").fetchone()
    return None if row[0] is None else float(row[0])


def count_queued(connection: sqlite3.Connection) -> int:
    """Return how many pairs wait in OUT."""
    return _count(connection, "SELECT count(*) FROM messages WHERE state = 'queued'")


def seen_files(connection: sqlite3.Connection, folder: str) -> dict[bytes, str]:
    """Return the outcomes of files dealt with in a client's folder, by the keyed hash of their names."""
    rows = connection.execute("SELECT name_key, outcome FROM seen_files WHERE folder = ?", (folder,))
    return {row["name_key"]: row["outcome"] for row in rows}


def count_set_aside(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many files are set aside in each of the client's folders, those without any left out."""
    rows = connection.execute(
        "SELECT folder, count(*) FROM seen_files"
        " WHERE outcome IN (SELECT value FROM json_each(?)) GROUP BY folder",
        (json.dumps(sorted(SET_ASIDE)),),
    )
    return {str(row[0]): int(row[1]) for row in rows}


def missed(
    connection: sqlite3.Connection, waiting: Waiting, deadline: str, since: float, until: float
) -> list[str]:
    """Return the messages that missed a deadline and were not flagged for it before; as many as there are.

    Their time began to run after `since` and not after `until`, readings of the steady clock: when MESH had
    them, or with the hand-off where the ledger lacks that.
    """
    before_mesh_has_it = State.SENT not in waiting.states
    parameters = {
        "states": json.dumps(waiting.states),
        "level": waiting.level,
        "deadline": deadline,
        "since": since,
        "queued_since": since if before_mesh_has_it else float("-inf"),
        "until": until,
    }
    return [row[0] for row in connection.execute(_MISSED, parameters)]


def still_missed(connection: sqlite3.Connection, waiting: Waiting, message_ids: Collection[str]) -> list[str]:
    """Return those of the messages of which the same is still expected."""
    parameters = {
        "message_ids": json.dumps(list(message_ids)),
        "states": json.dumps(waiting.states),
        "level": waiting.level,
    }
    return [row[0] for row in connection.execute(_STILL_MISSED, parameters)]


def unasked(connection: sqlite3.Connection, states: tuple[State, ...], until: float, limit: int) -> list[str]:
    """Return up to `limit` messages without an acknowledgement asked whose time began to run by `until`."""
    parameters = {"states": json.dumps(states), "until": until, "limit": limit}
    return [row[0] for row in connection.execute(_UNASKED, parameters)]


def _candidates(connection: sqlite3.Connection, condition: str, *parameters: object) -> list[Candidate]:
    rows = connection.execute(_CANDIDATES + condition, parameters)
    return [Candidate(message_id, State(state), *rest) for message_id, state, *rest in rows]


def _count(connection: sqlite3.Connection, query: str, parameters: Sequence[object] = ()) -> int:
    return int(connection.execute(query, parameters).fetchone()[0])
