"""Use cases: which workflow id, Subject and acknowledgements belong to which kind of message.

The table that ships is `use_cases.toml`, each row with its source; a site's settings change and add rows.
Two use cases may share an event; both are returned then.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from meshctl.mesh.address import DateOfBirthFormat, NhsNumberCheck

_TABLE = Path(__file__).with_name("use_cases.toml")
_OF_MAILBOX = "mailbox."


class Resolution(StrEnum):
    """The source for the claim that MESH finds the patient's registered practice for a workflow id."""

    LISTED = "listed"
    """NHS England's endpoint-lookup guide of July 2024 lists the workflow id."""
    CLAIMED = "claimed"
    """Only the use case's own guide says so, if any."""


class PayloadForm(StrEnum):
    """What is sent of a dropped file that is no FHIR message, and in which form CDA documents go."""

    ITK3_DOCUMENT = "itk3-document"
    """The ITK3 message around it that a practice can file."""
    ITK2_ENVELOPE = "itk2-envelope"
    """The file as it was dropped; of CDA documents, those in an ITK2 envelope alone."""
    AS_DROPPED = "as dropped"


class CutOffDocuments(StrEnum):
    """What happens to a document that was cut off, or that is not what its name says."""

    REJECT = "reject"
    WARN = "warn"
    """It is sent, with a warning in the log and an alert."""


class ConfidentialDocuments(StrEnum):
    """What happens to a document that is marked confidential."""

    REJECT = "reject"
    SEND = "send"


class DocumentGuide(StrEnum):
    """Which guide a message around a document follows."""

    MESSAGING_1 = "1.x"
    """GP Connect Messaging 1.3.1: a PDF with a fixed title and type; an author is required."""
    SEND_DOCUMENT_2 = "2.x"
    """Send Document 2.0: the document has a title of its own, and need not have an author."""


@dataclass(frozen=True, slots=True)
class UseCase:
    """One row of the table.

    `subject` and `local_id` are templates (`meshctl.mesh.subject`), `events` MessageHeader event codes,
    `version` the control file's. `other_ack_workflow_ids` are other spellings of `ack_workflow_id` that are
    in use. `acknowledgements` are to be awaited when neither payload nor sidecar says which: values of
    `meshctl.mesh.states.Acknowledgement`. `ack_from` are mailboxes whose acknowledgements count like those
    of the mailbox that a letter went to. `requires` are the keys of a sidecar, named with dots, and those of
    [mailbox], named "mailbox.KEY", without which no message is made around a document; the patient's are
    always required. `source` is the document that the row is from.
    """

    name: str
    title: str
    workflow_id: str
    ack_workflow_id: str | None = None
    other_ack_workflow_ids: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    subject: str = "{title}"
    local_id: str = "{message_id}"
    version: str = "1.0"
    compress: bool = True
    allow_chunking: bool = True
    acknowledgements: tuple[str, ...] = ()
    nhs_number_check: NhsNumberCheck = NhsNumberCheck.MOD11
    date_of_birth_format: DateOfBirthFormat = DateOfBirthFormat.DDMMYYYY
    resolved_by_mesh: Resolution = Resolution.CLAIMED
    payload: PayloadForm = PayloadForm.AS_DROPPED
    document_guide: DocumentGuide = DocumentGuide.SEND_DOCUMENT_2
    cut_off_documents: CutOffDocuments = CutOffDocuments.REJECT
    ack_from: tuple[str, ...] = ()
    confidential: ConfidentialDocuments = ConfidentialDocuments.SEND
    answer_responses: bool = False
    requires: tuple[str, ...] = ()
    source: str = "site settings"

    @property
    def sender_keys(self) -> tuple[str, ...]:
        """Return the keys of [mailbox] without which no message is made around a document."""
        own = (key.removeprefix(_OF_MAILBOX) for key in self.requires if key.startswith(_OF_MAILBOX))
        return ("organisation", "ods_code", *own)

    @property
    def sidecar_keys(self) -> tuple[str, ...]:
        """Return the keys of the sidecar without which no message is made around a document."""
        own = (key for key in self.requires if not key.startswith(_OF_MAILBOX))
        return ("patient.nhs_number", "patient.date_of_birth", "patient.surname", *own)

    @property
    def ack_workflow_ids(self) -> tuple[str, ...]:
        """Return the workflow ids under which acknowledgements come, in every spelling."""
        return (*((self.ack_workflow_id,) if self.ack_workflow_id else ()), *self.other_ack_workflow_ids)


def shipped_use_cases() -> dict[str, UseCase]:
    """Return the table that ships with meshctl, by name; the caller's own copy."""
    return dict(_shipped())


def use_case_for_event(event: str, use_cases: Mapping[str, UseCase]) -> tuple[str, ...]:
    """Return the names of the use cases that list a MessageHeader event code, in the table's order.

    More than one means that the event alone does not decide (ITK007C: Send Document 1.x and 2.x).
    """
    return tuple(name for name, use_case in use_cases.items() if event in use_case.events)


def resolution_of(workflow_id: str) -> Resolution:
    """Return whether MESH's own list has a workflow id, whatever use case it is sent under."""
    rows = _shipped().values()
    return next((row.resolved_by_mesh for row in rows if row.workflow_id == workflow_id), Resolution.CLAIMED)


@cache
def template_names() -> tuple[str, ...]:
    """Return what the templates of Subject and LocalId can name (`meshctl.mesh.subject`)."""
    return tuple(_table()["template_names"])


@cache
def _shipped() -> dict[str, UseCase]:
    return {name: _use_case(name, row) for name, row in _table().items() if isinstance(row, dict)}


@cache
def _table() -> dict[str, Any]:
    with _TABLE.open("rb") as file:
        return tomllib.load(file)


def _use_case(name: str, row: dict[str, Any]) -> UseCase:
    kinds: dict[str, Callable[[Any], Any]] = {
        "events": tuple,
        "other_ack_workflow_ids": tuple,
        "requires": tuple,
        "date_of_birth_format": DateOfBirthFormat,
        "resolved_by_mesh": Resolution,
        "payload": PayloadForm,
        "document_guide": DocumentGuide,
        "confidential": ConfidentialDocuments,
    }
    return UseCase(
        name=name, **{key: kinds[key](value) if key in kinds else value for key, value in row.items()}
    )
