"""Read what the ledger knows of documents: those of a number, the versions of one, what was taken back."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from meshctl.clock import instant
from meshctl.mesh.states import State

_NUMBERED = """
WITH RECURSIVE found (message_id) AS (
    SELECT message_id FROM messages
    WHERE substr(number_key, 1, 8) = substr(?1, 1, 8) AND number_key = ?1 AND document_id IS NOT NULL
    UNION SELECT message_id FROM messages
    WHERE substr(replaced_key, 1, 8) = substr(?1, 1, 8) AND replaced_key = ?1 AND document_id IS NOT NULL
    UNION SELECT later.message_id FROM found JOIN messages AS later ON later.replaces = found.message_id
)
SELECT message_id, state, document_id, patient_key, content_key, coalesce(answered_by, to_mailbox),
    to_mailbox, written_at, replaces, result_key, is_edit, coalesce(number_key, ?1) != ?1,
    state = 'failed' AND coalesce(reason_event, '') = 'WITHDRAW'
FROM found JOIN messages USING (message_id) WHERE state != 'rejected' ORDER BY number DESC
"""
_TAKEN_BACK = """
SELECT message_id, written_at FROM messages
WHERE substr(number_key, 1, 8) = substr(?1, 1, 8) AND number_key = ?1 AND state = 'rejected'
    AND (patient_key IS NULL OR patient_key = ?2)
ORDER BY number DESC LIMIT 1
"""
_UNDER_WAY = """
SELECT 1 FROM messages
WHERE number IN (SELECT number FROM message_references WHERE reference_key = substr(?, 1, 8))
    AND state NOT IN ('rejected', 'failed') LIMIT 1
"""
_LATER_VERSION = """
SELECT later.message_id FROM messages AS own JOIN messages AS later ON later.number > own.number
WHERE own.message_id = ? AND later.state NOT IN ('rejected', 'failed')
    AND later.patient_key IS own.patient_key AND (later.number_key = own.number_key
        OR later.replaced_key = own.number_key OR later.replaces = own.message_id)
    AND coalesce(later.resend_of, '') != own.message_id
ORDER BY later.number DESC LIMIT 1
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
    has_other_number: int
    """True if it only replaces one with the number that was asked for, and has another number itself."""
    is_withdrawn: int
    """True if it was taken back out of OUT."""


def numbered_messages(connection: sqlite3.Connection, number_key: bytes) -> list[NumberedMessage]:
    """Return the messages around a document with this number, and those that replaced them, newest first.

    None that was rejected is among them.
    """
    rows = connection.execute(_NUMBERED, (number_key,))
    return [NumberedMessage(message_id, State(state), *rest) for message_id, state, *rest in rows]


def taken_back(
    connection: sqlite3.Connection, number_key: bytes, patient_key: bytes | None
) -> tuple[str, datetime | None] | None:
    """Return the newest message that takes a document back, and when its sender wrote it; None without one.

    The document has this number and is of this patient, as far as the message says whose it is.
    """
    row = connection.execute(_TAKEN_BACK, (number_key, patient_key)).fetchone()
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


def later_version(connection: sqlite3.Connection, message_id: str) -> str | None:
    """Return the newest message that was sent with a later version of a message's document; else None."""
    row = connection.execute(_LATER_VERSION, (message_id,)).fetchone()
    return None if row is None else str(row[0])


def came_by_hl7(connection: sqlite3.Connection) -> bool:
    """True if a document that came in an HL7 v2 message was ever sent."""
    return (
        connection.execute("SELECT 1 FROM messages WHERE content_key IS NOT NULL LIMIT 1").fetchone()
        is not None
    )
