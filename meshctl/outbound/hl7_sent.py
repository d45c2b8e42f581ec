"""Documents that were sent, compared with one that comes in an HL7 v2 message. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from meshctl.errors import Rejection
from meshctl.outbound.document import Origin


class SentDocument(NamedTuple):
    """A document that was sent, as the ledger knows it, and how it compares with the one at hand."""

    message_id: str
    is_of_patient: bool
    is_same_content: bool
    is_queued: bool
    mailbox: str | None
    to_mailbox: str | None
    written_at: datetime | None
    replaces: str | None
    number: bytes
    """A keyed hash, the same for two documents with the same number."""
    has_other_number: bool
    """True if it only replaces one with a number that was asked for, and has another number itself."""
    is_withdrawn: bool
    """True if it was taken back out of OUT, so the practice does not have it."""
    has_failed: bool
    """True if it did not arrive, and was not sent again as it was."""
    content: bytes
    """A keyed hash, the same for two documents with the same content."""
    is_same_result: bool
    is_edit: bool
    """True if its message said that it is a later version of a document."""
    is_sent_again: bool
    """True if it had failed, and was sent again as it was, or linked with an earlier version."""

    @property
    def is_there(self) -> bool:
        """True if the practice has it, or will."""
        return not (self.is_withdrawn or self.has_failed)


class NewerSentRejection(Rejection):
    """The document was sent before, or a newer one, as the message `newer`."""

    def __init__(self, code: str, text: str, advice: str, newer: str) -> None:
        super().__init__(code, text, advice)
        self.newer = newer


class Earlier(Protocol):
    """Finds documents by their numbers."""

    def of_number(
        self, number: str, nhs_number: str | None = None, origin: Origin | None = None
    ) -> Sequence[SentDocument]:
        """Return those that were handed over, and those that replaced them, newest first.

        They are compared with the document of this patient and origin.
        """

    def replaced_by_number(self, nhs_number: str, origin: Origin) -> Sequence[SentDocument]:
        """Return the documents of all numbers that one of this patient and origin follows, newest first.

        And those that replaced them; also if what links them was rejected, or has failed.
        """

    def taken_back(
        self, number: str, nhs_number: str, result: str | None
    ) -> tuple[str, datetime | None] | None:
        """Return the message that took a patient's document back, and when it was written; else None."""


def newest_of_patient(documents: Iterable[SentDocument]) -> SentDocument | None:
    """Return the first of the patient, of documents that stand newest first; None without one."""
    return next((one for one in documents if one.is_of_patient), None)
