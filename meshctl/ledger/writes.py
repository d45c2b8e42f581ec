"""Writing the ledger: each method is one transaction, durable when it returns.

Only the daemon writes, and it does so from one thread. No patient data comes in here: names are masked and
ids are keyed hashes before they reach this module.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from meshctl.clock import instant, iso
from meshctl.files.reading import identity_of, is_in_place
from meshctl.ledger import reads
from meshctl.ledger.database import atomic, open_for_writing
from meshctl.ledger.records import FORGOTTEN_FACT, NewMessage, levels_of
from meshctl.mesh.message_id import new_message_id, stamp_of
from meshctl.mesh.states import (
    WITHDRAWN,
    Acknowledgement,
    Deadline,
    Evidence,
    Standing,
    State,
    advance,
    is_unsure,
)

_INSERT = """
INSERT INTO messages (number, message_id, file_name, use_case, workflow_id, state, asked, awaiting,
    local_id_key, patient_key, repeat_of, resend_of, size_bytes, sha256, reason_code, reason_event,
    reason_text, reason_advice, created_at, updated_at, wrapped_bytes, document_id, document_version,
    to_mailbox, number_key, replaced_key, content_key, result_key, is_edit, written_at, replaces)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_HISTORY = """
INSERT INTO history (number, step, at, event, state, code, text) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_QUEUED = """
INSERT INTO history (number, step, at, event, state)
SELECT number, 2, ?, 'HANDOFF', 'queued' FROM messages WHERE message_id = ?
"""
_INSERT_REDROP = """
INSERT INTO history (number, step, at, event, state, text)
SELECT number, 1 + (SELECT coalesce(max(step), 0) FROM history WHERE history.number = messages.number),
    ?, 'REDROP', state, 'Its file was put back into the outbox, to be sent as a new message.' FROM messages
WHERE message_id = ? AND NOT EXISTS
    (SELECT 1 FROM history WHERE history.number = messages.number AND event = 'REDROP')
"""
# Somebody may have removed messages by hand, and their histories not: no number is given twice.
_NEXT_NUMBER = """
SELECT 1 + coalesce(max(number), 0) FROM
    (SELECT max(number) AS number FROM messages UNION ALL SELECT max(number) FROM history)
"""
_NEWEST_WITH_CONTENT = """
SELECT max(message_id) FROM messages
WHERE substr(sha256, 1, 8) = substr(?1, 1, 8) AND sha256 = ?1 AND state != 'rejected'
"""
_KNOWN_CONTENT = (
    "SELECT 1 FROM messages WHERE substr(sha256, 1, 8) = substr(?1, 1, 8) AND sha256 = ?1 LIMIT 1"
)
_UNANNOUNCED_FACT = "untold"


@dataclass(frozen=True, slots=True)
class Change:
    """What one piece of evidence did to one message."""

    message_id: str
    before: Standing
    after: Standing
    overdue_before: str | None
    overdue_after: str | None
    is_new: bool

    @property
    def moved(self) -> bool:
        """True if the message came into another state."""
        return self.before.state is not self.after.state

    @property
    def failed(self) -> bool:
        """True if this is what made the message fail, or fail for certain."""
        is_certain_now = self.before.is_unsure and not self.after.is_unsure
        was_taken = self.before.is_withdrawn and not self.after.is_withdrawn
        return (self.moved or is_certain_now or was_taken) and self.after.state is State.FAILED

    @property
    def is_news(self) -> bool:
        """True if a person has to be alerted to a failure; one who withdraws a message knows of it."""
        return self.failed and not self.after.is_withdrawn

    @property
    def has_arrived_after_all(self) -> bool:
        """True if the message had counted as failed, and its recipient has it."""
        return self.before.state is State.FAILED and self.moved

    @property
    def cleared(self) -> bool:
        """True if what an overdue message was waiting for has come; an assumption clears nothing."""
        if self.has_arrived_after_all:
            return True
        has_come = self.overdue_before is not None and self.overdue_after is None
        return has_come and not self.failed and not (self.after.assumed and not self.before.assumed)


class Ledger:
    """The ledger of one mailbox, open for writing; a `suspect` one is read through to its end first."""

    def __init__(self, path: Path, *, suspect: bool = False) -> None:
        self._path = path
        self.connection = open_for_writing(path, suspect=suspect)
        try:
            self._identity = identity_of(path)
        except OSError:
            # Removed at this very moment: nobody else could close it.
            self.connection.close()
            raise

    def is_in_place(self) -> bool:
        """True if the file is still where it was opened: neither removed nor replaced by another."""
        return is_in_place(self._path, self._identity)

    def close(self) -> None:
        """Close the file, folding the write-ahead log into it."""
        self.connection.close()

    def enter(self, claimed: Sequence[NewMessage], rejected: Sequence[NewMessage] = ()) -> None:
        """Enter new messages: those that will be handed over, and those that were rejected."""
        with atomic(self.connection):
            self._insert(claimed, State.CLAIMED, "CLAIM")
            self._insert(rejected, State.REJECTED, "CHECK")

    def mark_queued(self, message_ids: Sequence[str], at: datetime, clock: float) -> None:
        """Record that the pairs of these messages are in OUT."""
        stamp = iso(at)
        with atomic(self.connection):
            self.connection.executemany(
                "UPDATE messages SET state = 'queued', updated_at = ?, queued_clock = ? "
                "WHERE message_id = ? AND state = 'claimed'",
                [(stamp, clock, message_id) for message_id in message_ids],
            )
            self.connection.executemany(_INSERT_QUEUED, [(stamp, message_id) for message_id in message_ids])

    def withdraw(self, message_ids: Sequence[str]) -> None:
        """Take back claims of which the client has seen nothing; their files are judged again."""
        with atomic(self.connection):
            self.connection.executemany(
                "DELETE FROM messages WHERE message_id = ? AND state = 'claimed'",
                [(message_id,) for message_id in message_ids],
            )

    def note_redropped(self, message_id: str, at: datetime) -> None:
        """Note in the history of a message that its file was put back into the outbox; once."""
        with atomic(self.connection):
            self.connection.execute(_INSERT_REDROP, (iso(at), message_id))

    def record(
        self, pieces: Iterable[tuple[str, Evidence]], at: datetime, clock: float
    ) -> list[Change | None]:
        """Apply evidence to messages, in one transaction; None for a message that is not in the ledger.

        `clock` is the steady clock's reading in seconds. Evidence already in the history changes nothing.
        Messages that failed stay unannounced until `announced` is called.
        """
        with atomic(self.connection):
            changes = [self._apply(message_id, evidence, at, clock) for message_id, evidence in pieces]
            failed = [change.message_id for change in changes if change and change.is_news]
            self._note_unannounced(failed)
        return changes

    def mark_overdue(self, message_ids: Sequence[str], deadline: Deadline, at: datetime, text: str) -> None:
        """Flag messages that missed a deadline; they stay unannounced until `announced` is called."""
        with atomic(self.connection):
            self._note_unannounced(message_ids)
            for message_id in message_ids:
                self.connection.execute(
                    "UPDATE messages SET overdue = ?, updated_at = ? WHERE message_id = ?",
                    (deadline, iso(at), message_id),
                )
                self.connection.execute(_INSERT_DEADLINE, (iso(at), deadline, text, message_id))

    def unannounced(self) -> list[str]:
        """Return the messages whose failure or missed deadline may not have been logged and alerted yet."""
        return (self.fact(_UNANNOUNCED_FACT) or "").split()

    def announced(self) -> None:
        """Note that every failure and missed deadline so far has been logged and alerted."""
        with atomic(self.connection):
            self.connection.execute("DELETE FROM facts WHERE name = ?", (_UNANNOUNCED_FACT,))

    def remember_files(self, folder: str, outcomes: Iterable[tuple[bytes, str]]) -> None:
        """Remember files of a client's folder, by keyed hash of their names, as dealt with."""
        with atomic(self.connection):
            self.connection.executemany(
                "INSERT OR REPLACE INTO seen_files (folder, name_key, outcome) VALUES (?, ?, ?)",
                [(folder, key, outcome) for key, outcome in outcomes],
            )

    def forget_files(self, folder: str, name_keys: Iterable[bytes]) -> None:
        """Forget files that are no longer in the folder."""
        with atomic(self.connection):
            self.connection.executemany(
                "DELETE FROM seen_files WHERE folder = ? AND name_key = ?",
                [(folder, key) for key in name_keys],
            )

    def set_fact(self, name: str, value: str) -> None:
        """Keep a small named value."""
        with atomic(self.connection):
            self.connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))

    def fact(self, name: str) -> str | None:
        """Return a small named value, or None."""
        return reads.fact(self.connection, name)

    def claimed_ids(self) -> list[str]:
        """Return the ids of messages in state `claimed`, oldest first."""
        query = "SELECT message_id FROM messages WHERE state = 'claimed' ORDER BY number"
        return [row["message_id"] for row in self.connection.execute(query)]

    def state_of(self, message_id: str) -> State | None:
        """Return the state of a message, None if it is not in the ledger."""
        state = self._value("SELECT state FROM messages WHERE message_id = ?", message_id)
        return None if state is None else State(str(state))

    def knows(self, message_id: str) -> bool:
        """True if the message is in the ledger."""
        return self.state_of(message_id) is not None

    def newest_entered(self) -> datetime | None:
        """Return when the message was made that was entered last; None where there is none."""
        found = self._value("SELECT created_at FROM messages ORDER BY number DESC LIMIT 1")
        return None if found is None else instant(str(found))

    def earlier_with_content(self, sha256s: Sequence[bytes]) -> dict[bytes, str]:
        """Return, by content, the newest message that was handed over with it."""
        # One transaction for all: each costs several locks on the file.
        with atomic(self.connection, "BEGIN"):
            found = {sha256: self._value(_NEWEST_WITH_CONTENT, sha256) for sha256 in sha256s}
        return {sha256: str(message_id) for sha256, message_id in found.items() if message_id is not None}

    def known_contents(self, sha256s: Sequence[bytes]) -> set[bytes]:
        """Return which contents came before, whether they were sent or rejected."""
        with atomic(self.connection, "BEGIN"):
            return {sha256 for sha256 in sha256s if self._value(_KNOWN_CONTENT, sha256) is not None}

    def remove_final(self, before: datetime, limit: int, at: datetime) -> int:
        """Remove up to `limit` final messages last changed before the instant `before`; return how many.

        What is removed at `at` is remembered as forgotten: its traces in the folders do not bring it back.
        """
        with atomic(self.connection):
            found = self.connection.execute(
                "SELECT number, message_id FROM messages WHERE state IN ('rejected', 'completed', 'failed')"
                " AND updated_at < ? LIMIT ?",
                (iso(before), limit),
            ).fetchall()
            self.connection.executemany(
                "DELETE FROM messages WHERE number = ?", [(row["number"],) for row in found]
            )
            if found:
                newest = max(stamp_of(row["message_id"]) for row in found)
                # A clock that was wrong dates ids in the future: what is sent until then is not forgotten.
                newest = min(newest, stamp_of(new_message_id(at)))
                forgotten = max(newest, reads.fact(self.connection, FORGOTTEN_FACT) or "")
                self.connection.execute(
                    "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (FORGOTTEN_FACT, forgotten)
                )
            return len(found)

    def _insert(self, messages: Sequence[NewMessage], state: State, event: str) -> None:
        rows, history = [], []
        references: list[tuple[bytes, int]] = []
        (next_number,) = self.connection.execute(_NEXT_NUMBER).fetchone()
        for number, message in enumerate(messages, next_number):
            reason = message.reason
            asked, entered_at = ",".join(message.asked), iso(message.created_at)
            rows.append(
                (number, message.message_id, message.file_name, message.use_case,
                 message.workflow_id, state.value, asked, asked, message.local_id_key, message.patient_key,
                 message.repeat_of, message.resend_of, message.size_bytes, message.sha256,
                 reason and reason.code, reason and reason.event, reason and reason.text,
                 reason and reason.advice, entered_at, entered_at, message.wrapped_bytes,
                 message.document_id, message.document_version, message.to_mailbox, message.number_key,
                 message.replaced_key, message.content_key, message.result_key, message.is_edit,
                 message.written_at and iso(message.written_at), message.replaces)
            )  # fmt: skip
            history.append(
                (number, 1, entered_at, event, state.value,
                 reason and reason.code, reason and reason.text)
            )  # fmt: skip
            references.extend((key, number) for key in set(message.reference_keys))
        self.connection.executemany(_INSERT, rows)
        self.connection.executemany(_INSERT_HISTORY, history)
        self.connection.executemany(
            "INSERT INTO message_references (reference_key, number) VALUES (substr(?, 1, 8), ?)", references
        )

    def _apply(self, message_id: str, evidence: Evidence, at: datetime, clock: float) -> Change | None:
        row = self.connection.execute(
            "SELECT number, state, asked, awaiting, assumed, overdue, mesh_id, reason_event, reason_code "
            "FROM messages WHERE message_id = ?",
            (message_id,),
        ).fetchone()
        if row is None:
            return None
        number, overdue = row["number"], row["overdue"]
        state = State(row["state"])
        before = Standing(
            state,
            levels_of(row["asked"]),
            levels_of(row["awaiting"]),
            bool(row["assumed"]),
            state is State.FAILED and is_unsure(row["reason_event"], row["reason_code"]),
            state is State.FAILED and row["reason_event"] == WITHDRAWN,
        )
        after = advance(before, evidence)
        new_mesh_id = evidence.mesh_id if evidence.mesh_id and row["mesh_id"] is None else None
        is_repeated, step = self._history(number, evidence)
        if is_repeated and after == before and new_mesh_id is None:
            return Change(message_id, before, after, overdue, overdue, is_new=False)
        still_overdue = self._still_overdue(number, overdue, after)
        failed_now = after.state is State.FAILED and (
            before.state is not State.FAILED
            or (before.is_unsure, before.is_withdrawn) != (after.is_unsure, after.is_withdrawn)
        )
        parameters = {
            "number": number, "state": after.state.value, "awaiting": ",".join(after.awaiting),
            "assumed": after.assumed, "mesh_id": new_mesh_id, "at": iso(at), "clock": clock,
            "overdue": still_overdue, "failed_now": failed_now, "mailbox": evidence.mailbox,
            "has_arrived": before.state is State.FAILED and after.state is not State.FAILED,
            "code": evidence.code, "event": evidence.event, "text": evidence.text, "advice": evidence.advice,
        }  # fmt: skip
        self.connection.execute(_UPDATE, parameters)
        self.connection.execute(
            _INSERT_HISTORY,
            (number, step, iso(at), evidence.event, after.state.value, evidence.code, evidence.text),
        )
        return Change(message_id, before, after, overdue, still_overdue, is_new=True)

    def _still_overdue(self, number: int, overdue: str | None, after: Standing) -> str | None:
        """Return the deadline that the flag names after this standing: the last one missed that still is."""
        if overdue is None or _is_missed(Deadline(overdue), after):
            return overdue
        earlier = self.connection.execute(
            "SELECT code FROM history WHERE number = ? AND event = 'DEADLINE' AND code IS NOT NULL "
            "ORDER BY step DESC",
            (number,),
        )
        return next((row["code"] for row in earlier if _is_missed(Deadline(row["code"]), after)), None)

    def _note_unannounced(self, message_ids: Sequence[str]) -> None:
        # A message id holds no blank.
        if message_ids:
            self.connection.execute(
                "INSERT INTO facts (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value || ' ' || excluded.value",
                (_UNANNOUNCED_FACT, " ".join(message_ids)),
            )

    def _history(self, number: int, evidence: Evidence) -> tuple[bool, int]:
        """True if the evidence is in the message's history, and which step comes next."""
        row = self.connection.execute(
            "SELECT coalesce(max(event = ? AND code IS ?), 0), coalesce(max(step), 0) + 1 "
            "FROM history WHERE number = ?",
            (evidence.event, evidence.code, number),
        ).fetchone()
        return bool(row[0]), row[1]

    def _value(self, query: str, *parameters: object) -> object:
        row = self.connection.execute(query, parameters).fetchone()
        return None if row is None else row[0]


_UPDATE = """
UPDATE messages SET
    state = :state, awaiting = :awaiting, assumed = :assumed, overdue = :overdue, updated_at = :at,
    mesh_id = coalesce(:mesh_id, mesh_id),
    sent_clock = CASE WHEN sent_clock IS NULL AND :state IN ('sent', 'received', 'completed')
        THEN :clock ELSE sent_clock END,
    received_clock = CASE WHEN received_clock IS NULL AND :state IN ('received', 'completed')
        THEN :clock ELSE received_clock END,
    queued_clock = coalesce(queued_clock, :clock),
    answered_by = coalesce(answered_by, :mailbox),
    reason_code = CASE WHEN :failed_now THEN :code WHEN :has_arrived THEN NULL ELSE reason_code END,
    reason_event = CASE WHEN :failed_now THEN :event WHEN :has_arrived THEN NULL ELSE reason_event END,
    reason_text = CASE WHEN :failed_now THEN :text WHEN :has_arrived THEN NULL ELSE reason_text END,
    reason_advice = CASE WHEN :failed_now THEN :advice WHEN :has_arrived THEN NULL ELSE reason_advice END
WHERE number = :number
"""
_INSERT_DEADLINE = """
INSERT INTO history (number, step, at, event, state, code, text)
SELECT number, 1 + coalesce((SELECT max(step) FROM history WHERE history.number = messages.number), 0),
    ?, 'DEADLINE', state, ?, ? FROM messages WHERE message_id = ?
"""


def _is_missed(deadline: Deadline, after: Standing) -> bool:
    """True if what a deadline was set for is still missing in this standing."""
    if after.state in (State.COMPLETED, State.FAILED):
        return False
    missing = {
        Deadline.COLLECTED: after.state is State.QUEUED,
        Deadline.SENT: after.state in (State.QUEUED, State.COLLECTED),
        Deadline.INFRASTRUCTURE_ACK: Acknowledgement.INFRASTRUCTURE in after.awaiting,
        Deadline.BUSINESS_ACK: Acknowledgement.BUSINESS in after.awaiting,
    }
    return missing[deadline]
