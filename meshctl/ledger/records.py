"""The shapes in which messages enter and leave the ledger."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from meshctl.clock import iso
from meshctl.mesh.states import WITHDRAWN, Acknowledgement, Deadline, Standing, State, is_unsure

FOLDERS_READ_FACT = "folders_read_at"
"""When what the folders prove was entered into the ledger; a ledger without this fact is new."""

ARCHIVE_FROM_FACT = "archive_to_read_from"
"""The day, as `YYYY-MM-DD`, from which on the archive must be read again; empty for none."""

ARCHIVED_FACT = "archived"
"""How far the archive was written, as JSON: its last day, and how many control files that day has."""

MAILBOX_FACT = "mailbox_id"
"""The mailbox that the ledger belongs to."""

CLOCK_JUMPS_FACT = "clock_jumps_seconds"
"""The sum of the clock's jumps."""

LOST_PAIRS_FACT = "lost_pairs"
"""The messages whose pairs went with an OUT that was replaced, as JSON: an array of their ids."""

FORGOTTEN_FACT = "forgotten_up_to"
"""The fact that keeps the stamp of the newest message that was removed: the ledger knew all up to it."""

SET_ASIDE_FACT = "set_aside"
"""The dropped files that cannot be handled for now, as JSON: an array of `SetAside`."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A dropped file that is passed over until its fault is cleared; it keeps no other waiting.

    `file` is masked; `folder` is the use case whose sub-folder it is in, None for the outbox itself.
    """

    file: str
    folder: str | None
    reason: str
    advice: str
    since: datetime


class Outcome(StrEnum):
    """What became of a file in one of the client's folders, as the ledger remembers it over restarts."""

    READ = "read"
    """In SENT: it gives no MESH id."""
    ELSEWHERE = "elsewhere"
    """For another mailbox or application."""
    DATA = "data"
    """A data message, left to others."""
    UNMATCHED = "unmatched"
    UNMATCHED_WITH_MESH_ID = "unmatched:mesh_id"
    """It may find its message yet, when SENT gives the MESH id."""
    ACKNOWLEDGEMENT_UNMATCHED = "answer_unmatched"
    LOGGED = "told"
    """In OUT: one part of a pair, alone."""
    UNREADABLE = "unreadable"
    """A control file that cannot be read."""
    ACKNOWLEDGEMENT_UNREADABLE = "answer_unreadable"
    """An acknowledgement whose payload cannot be read."""
    UNUSABLE = "unusable"
    """A pair that cannot be accessed, or one that is to be delivered and has no payload."""
    IMMOVABLE = "immovable"
    """Recorded and announced, but it cannot be moved out of IN."""


SET_ASIDE: Final = frozenset(
    {Outcome.UNREADABLE, Outcome.ACKNOWLEDGEMENT_UNREADABLE, Outcome.UNUSABLE, Outcome.IMMOVABLE}
)
"""The outcomes of files that cannot be handled: left where they are, logged once, tried again."""


def levels_of(text: str) -> tuple[Acknowledgement, ...]:
    """Return the acknowledgements that a column of the ledger lists."""
    return tuple(Acknowledgement(level) for level in text.split(",") if level)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a message was rejected or failed; no patient data."""

    code: str | None
    event: str | None
    text: str | None
    advice: str | None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message as it enters the ledger, claimed or rejected. `file_name` is already masked.

    `size_bytes` is the dropped file's; `wrapped_bytes` is that of the message made around it, if any.
    `number_key`, `replaced_key`, `content_key`, `result_key`, `is_edit` and `written_at` are about the
    document of an HL7 v2 message: its number at its sender, that of the one it replaces, its content, which
    result of its order it is about, whether it is an edit, and when its sender wrote the message.
    `replaces` is the message id of the message whose document this one's replaces.
    """

    message_id: str
    file_name: str
    size_bytes: int
    sha256: bytes | None
    created_at: datetime
    use_case: str | None = None
    workflow_id: str | None = None
    asked: tuple[Acknowledgement, ...] = ()
    local_id_key: bytes | None = None
    patient_key: bytes | None = None
    reference_keys: tuple[bytes, ...] = ()
    repeat_of: str | None = None
    resend_of: str | None = None
    reason: Reason | None = None
    wrapped_bytes: int | None = None
    document_id: str | None = None
    document_version: int | None = None
    to_mailbox: str | None = None
    number_key: bytes | None = None
    replaced_key: bytes | None = None
    content_key: bytes | None = None
    result_key: bytes | None = None
    is_edit: bool = False
    written_at: datetime | None = None
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step in the life of a message."""

    at: datetime
    event: str
    state: str
    code: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is in the ledger."""

    message_id: str
    file_name: str
    use_case: str | None
    workflow_id: str | None
    state: State
    overdue: Deadline | None
    assumed: bool
    asked: tuple[Acknowledgement, ...]
    awaiting: tuple[Acknowledgement, ...]
    mesh_id: str | None
    repeat_of: str | None
    resend_of: str | None
    created_at: datetime
    updated_at: datetime
    size_bytes: int
    sha256: str | None
    reason: Reason | None
    wrapped_bytes: int | None = None
    to_mailbox: str | None = None
    answered_by: str | None = None
    replaces: str | None = None
    history: tuple[HistoryEntry, ...] = field(default=())

    @property
    def standing(self) -> Standing:
        """Return what evidence works on."""
        reason = self.reason
        unsure = self.state is State.FAILED and reason is not None and is_unsure(reason.event, reason.code)
        return Standing(self.state, self.asked, self.awaiting, self.assumed, unsure, self.is_withdrawn)

    @property
    def is_withdrawn(self) -> bool:
        """True if it was taken back out of OUT, and nothing shows that the client had it all the same."""
        return self.state is State.FAILED and self.reason is not None and self.reason.event == WITHDRAWN

    def as_json(self) -> dict[str, Any]:
        """Return the message as the commands print it."""
        return {
            "message_id": self.message_id,
            "file_name": self.file_name,
            "use_case": self.use_case,
            "workflow_id": self.workflow_id,
            "state": self.state.value,
            "overdue": self.overdue is not None,
            "assumed": self.assumed,
            "mesh_id": self.mesh_id,
            "repeat_of": self.repeat_of,
            "resend_of": self.resend_of,
            "replaces": self.replaces,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
            "size": self.size_bytes,
            "wrapped": self.wrapped_bytes is not None,
            "wrapped_size": self.wrapped_bytes,
            "sha256": self.sha256,
            "reason": None if self.reason is None else asdict(self.reason),
            "awaiting": [] if self.state is State.FAILED else [level.value for level in self.awaiting],
            "to_mailbox": self.to_mailbox,
            "answered_by": self.answered_by,
            "history": [{**asdict(entry), "at": iso(entry.at)} for entry in self.history],
        }
