"""Read what the ledger knows of documents: those of a number, the versions of one, what was taken back."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from meshctl.clock import instant
from meshctl.mesh.states import State

_NUMBERED = """
WITH RECURSIVE wanted (key) AS (VALUES {}), found (message_id) AS (
    SELECT message_id FROM wanted JOIN messages
    ON substr(number_key, 1, 8) = substr(key, 1, 8) AND number_key = key WHERE document_id IS NOT NULL
    UNION SELECT message_id FROM wanted JOIN messages
    ON substr(replaced_key, 1, 8) = substr(key, 1, 8) AND replaced_key = key WHERE document_id IS NOT NULL
    UNION SELECT later.message_id FROM found JOIN messages AS later ON later.replaces = found.message_id
)
SELECT message_id, state, document_id, patient_key, content_key, coalesce(answered_by, to_mailbox),
    to_mailbox, written_at, replaces, result_key, is_edit, number_key,
    state = 'failed' AND coalesce(reason_event, '') = 'WITHDRAW'
FROM found JOIN messages USING (message_id) WHERE state != 'rejected' ORDER BY number DESC
"""
# Of longer chains the rest is not known: nobody must make the ledger slow by a chain of thousands.
_MOST_LINKED = 100
# Also by messages that were rejected, or have failed. A correction of a result replaces its own number.
_REPLACING = """
SELECT DISTINCT number_key FROM messages
WHERE substr(replaced_key, 1, 8) = substr(?1, 1, 8) AND replaced_key = ?1 AND number_key != ?1
"""
_REPLACED_BY = """
SELECT DISTINCT replaced_key FROM messages
WHERE substr(number_key, 1, 8) = substr(?1, 1, 8) AND number_key = ?1 AND replaced_key != ?1
"""
_TAKEN_BACK = """
SELECT message_id, written_at FROM messages
WHERE substr(number_key, 1, 8) = substr(?1, 1, 8) AND number_key = ?1 AND state = 'rejected'
    AND replaced_key IS NULL AND (result_key IS NULL OR ?3 IS NULL OR result_key = ?3)
    AND (patient_key IS NULL OR patient_key = ?2)
ORDER BY number DESC LIMIT 1
"""
_UNDER_WAY = """
SELECT 1 FROM messages
WHERE number IN (SELECT number FROM message_references WHERE reference_key = substr(?, 1, 8))
    AND state NOT IN ('rejected', 'failed') LIMIT 1
"""
# A later version of a document went the same way, about the same patient. Of one number each replaces the one
# before; not a result, nor an addendum, of which only an edit does, and of the same result alone.
_VERSIONS = """
SELECT first.message_id, first.number, first.document_id, first.is_edit,
    first.content_key, first.content_key IS NOT later.content_key,
    later.message_id, later.number, later.resend_of, later.result_key
FROM messages AS first JOIN messages AS later ON later.number > first.number
WHERE {} AND later.patient_key IS first.patient_key
AND upper(coalesce(later.to_mailbox, '')) = upper(coalesce(first.to_mailbox, ''))
AND ((substr(later.number_key, 1, 8) = substr(first.number_key, 1, 8)
        AND later.number_key = first.number_key
        AND (later.result_key IS NULL OR (later.is_edit AND later.result_key = first.result_key)))
    OR (substr(later.replaced_key, 1, 8) = substr(first.number_key, 1, 8)
        AND later.replaced_key = first.number_key AND later.result_key IS NULL){})
"""
_LATER = _VERSIONS.format("first.message_id = ?1", " OR later.replaces = ?1")
_EARLIER = _VERSIONS.format("later.message_id = ?1", "")
_IS_SHARED = """
SELECT 1 FROM messages AS own JOIN messages AS other
    ON substr(other.number_key, 1, 8) = substr(own.number_key, 1, 8) AND other.number_key = own.number_key
WHERE own.message_id = ? AND NOT own.is_edit AND other.patient_key IS NOT own.patient_key
    AND other.state != 'rejected' LIMIT 1
"""
_REPLACED = "SELECT replaces FROM messages WHERE message_id = ? AND replaces IS NOT NULL"
_SENT_AGAIN = """
WITH RECURSIVE chain (message_id) AS (VALUES (?)
    UNION SELECT resend_of FROM chain JOIN messages USING (message_id) WHERE resend_of IS NOT NULL)
SELECT message_id FROM chain
"""
# One that failed may have been sent again, with the same ids in its payload.
_IS_THERE = """
SELECT 1 FROM messages AS own WHERE own.message_id = ?1 AND state NOT IN ('rejected', 'failed')
UNION ALL SELECT 1 FROM messages AS own JOIN message_references AS its ON its.number = own.number
    JOIN message_references AS same ON same.reference_key = its.reference_key
    JOIN messages AS other ON other.number = same.number
    WHERE own.message_id = ?1 AND other.state NOT IN ('rejected', 'failed')
LIMIT 1
"""
_NEWEST_WITH_NUMBER = """
SELECT message_id FROM messages
WHERE substr(number_key, 1, 8) = substr(?1, 1, 8) AND number_key = ?1 AND state NOT IN ('rejected', 'failed')
ORDER BY number DESC LIMIT 1
"""
_NEWEST_WITH_REFERENCE = """
SELECT message_id FROM messages
WHERE number IN (SELECT number FROM message_references WHERE reference_key = substr(?, 1, 8))
    AND state != 'rejected' ORDER BY number DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class WrappedMessage:
    """A message that was made around a document: its Bundle's identifier, and the document's version."""

    document_id: str
    document_version: int
    is_of_patient: bool
    is_rejected: bool


def wrapped_message(
    connection: sqlite3.Connection, message_id: str, patient_key: bytes | None
) -> WrappedMessage | None:
    """Return a message around a document, by its id; None for any other. Raises sqlite3.Error."""
    row = connection.execute(
        "SELECT document_id, document_version, patient_key, state FROM messages"
        " WHERE message_id = ? AND document_id IS NOT NULL",
        (message_id,),
    ).fetchone()
    if row is None:
        return None
    return WrappedMessage(
        row["document_id"],
        row["document_version"],
        is_of_patient=row["patient_key"] == patient_key,
        is_rejected=row["state"] == State.REJECTED,
    )


@dataclass(frozen=True, slots=True)
class NumberedMessage:
    """A message around a document that came in an HL7 v2 message, or replaced one; keys are keyed hashes."""

    message_id: str
    state: State
    document_id: str
    patient_key: bytes | None
    content_key: bytes | None
    mailbox: str | None
    """The one that acknowledged it, or that it was addressed to; None where it is not known."""
    to_mailbox: str | None
    """The one that it was addressed to, if not by endpoint lookup."""
    written_at: str | None
    replaces: str | None
    result_key: bytes | None
    is_edit: int
    """True if its message said that it is a later version of a document."""
    number_key: bytes | None
    """None where it only replaces one with a number."""
    is_withdrawn: int
    """True if it was taken back out of OUT."""


def numbered_messages(
    connection: sqlite3.Connection, number_keys: Collection[bytes]
) -> list[NumberedMessage]:
    """Return the messages around a document with one of these numbers, and those that replaced them.

    Newest first. None that was rejected is among them; but those are that one that was rejected links with
    them.
    """
    wanted = numbers_after(connection, number_keys)
    query = _NUMBERED.format(", ".join(["(?)"] * len(wanted)))
    rows = connection.execute(query, tuple(wanted)) if wanted else ()
    return [NumberedMessage(message_id, State(state), *rest) for message_id, state, *rest in rows]


def numbers_after(connection: sqlite3.Connection, number_keys: Collection[bytes]) -> set[bytes]:
    """Return some numbers, and those of the documents that were to replace them, and these in their turn.

    Some of their messages may have been rejected, or have failed.
    """
    return _linked(connection, number_keys, _REPLACING)


def numbers_before(connection: sqlite3.Connection, number_keys: Collection[bytes]) -> set[bytes]:
    """Return some numbers, and those of the documents that they were to replace, and these in their turn."""
    return _linked(connection, number_keys, _REPLACED_BY)


def _linked(connection: sqlite3.Connection, number_keys: Collection[bytes], query: str) -> set[bytes]:
    found, to_do = set(number_keys), list(number_keys)
    # The nearest first.
    for key in to_do:
        if len(found) >= _MOST_LINKED:
            break
        new = {row[0] for row in connection.execute(query, (key,))} - found
        found |= new
        to_do += new
    return found


def taken_back(
    connection: sqlite3.Connection, number_key: bytes, patient_key: bytes | None, result_key: bytes | None
) -> tuple[str, datetime | None] | None:
    """Return the newest message that takes a document back, and when its sender wrote it; None without one.

    The document has this number and is of this patient and result, as far as the message says so.
    """
    row = connection.execute(_TAKEN_BACK, (number_key, patient_key, result_key)).fetchone()
    return None if row is None else (str(row[0]), row[1] and instant(row[1]))


def is_under_way(connection: sqlite3.Connection, reference_key: bytes) -> bool:
    """True if a message with this id in its payload was sent, and has not failed: itself, or sent again."""
    return connection.execute(_UNDER_WAY, (reference_key,)).fetchone() is not None


def newest_with_number(connection: sqlite3.Connection, number_key: bytes) -> str | None:
    """Return the id of the newest message with a document of this number that was sent; None without one."""
    row = connection.execute(_NEWEST_WITH_NUMBER, (number_key,)).fetchone()
    return None if row is None else str(row[0])


def newest_with_reference(connection: sqlite3.Connection, reference_key: bytes) -> str | None:
    """Return the id of the newest message with this id in its payload; None without one that was sent."""
    row = connection.execute(_NEWEST_WITH_REFERENCE, (reference_key,)).fetchone()
    return None if row is None else str(row[0])


def later_version(
    connection: sqlite3.Connection, message_id: str, waiting: Collection[str] = ()
) -> str | None:
    """Return the newest message that was sent with a later version of a message's document; else None.

    `waiting` are messages that are about to be sent again. What a message sends again has its versions.
    """
    own = _sent_again(connection, message_id)
    found: dict[str, int] = {}
    to_do = list(own)
    while to_do:
        for *_, later, number, resend_of, _result in connection.execute(_LATER, (to_do.pop(),)):
            if later not in found and later not in own and resend_of not in own:
                found[later] = number
                to_do.append(later)
    there = _Waiting(connection, waiting)
    return next((one for one in sorted(found, key=found.__getitem__, reverse=True) if there.has(one)), None)


@dataclass(frozen=True, slots=True)
class EarlierVersion:
    """An earlier version of a document: its message, and the identifier of its Bundle."""

    message_id: str
    document_id: str


def unlinked_version(
    connection: sqlite3.Connection, message_id: str, waiting: Collection[str] = ()
) -> EarlierVersion | None:
    """Return the newest earlier version of a message's document that was sent, if it does not replace that.

    None where it replaces that or a newer one, and where it is not certain of which result a report is an
    edit. So it is where the earlier one had failed, and was sent again since. `waiting` is as in
    `later_version`.
    """
    own = _sent_again(connection, message_id)
    found: dict[str, tuple[int, EarlierVersion | None]] = {}
    originals: set[bytes | None] = set()
    to_do = list(own)
    while to_do:
        for row in connection.execute(_EARLIER, (to_do.pop(),)):
            one, number, document_id, is_edit, content_key, is_other, *_, result_key = row
            if one in found or one in own:
                continue
            to_do.append(one)
            is_version = document_id is not None and is_other
            found[one] = number, EarlierVersion(one, document_id) if is_version else None
            if result_key is not None and not is_edit:
                originals.add(content_key)
    replaced = [row[0] for one in own for row in connection.execute(_REPLACED, (one,))]
    if len(originals) > 1 or not found.keys() >= set(replaced):
        # Of several results it is not known which one is meant; or a sidecar said what is replaced.
        return None
    if any(connection.execute(_IS_SHARED, (one,)).fetchone() for one in own):
        # The number is no document's own.
        return None
    after = max((found[one][0] for one in replaced), default=0)
    there = _Waiting(connection, waiting)
    for number, version in sorted(found.values(), key=lambda each: each[0], reverse=True):
        if number > after and version is not None and there.has(version.message_id):
            return version
    return None


def _sent_again(connection: sqlite3.Connection, message_id: str) -> tuple[str, ...]:
    """Return a message and those that it sends again."""
    return tuple(row[0] for row in connection.execute(_SENT_AGAIN, (message_id,)))


class _Waiting:
    """Tells which messages are at their practice, or will be: some are about to be sent again."""

    def __init__(self, connection: sqlite3.Connection, waiting: Collection[str]) -> None:
        self._connection = connection
        self._waiting = {one for each in waiting for one in _sent_again(connection, each)}

    def has(self, message_id: str) -> bool:
        if message_id in self._waiting:
            return True
        return self._connection.execute(_IS_THERE, (message_id,)).fetchone() is not None


def came_by_hl7(connection: sqlite3.Connection) -> bool:
    """True if a document that came in an HL7 v2 message was ever sent."""
    return (
        connection.execute("SELECT 1 FROM messages WHERE content_key IS NOT NULL LIMIT 1").fetchone()
        is not None
    )
