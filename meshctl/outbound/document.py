"""Documents: whether a dropped one is whole, and what the message around it says. Pure.

Which files are wrapped in a message is the use case's property (`payload` in its row); the message itself is
written by `payload/itk3.py`. Control file and message are made of the same values, so that they
cannot disagree (GPCM-SD-038, -061, -091, -092, -117, -119).
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import PurePath
from typing import Final, NamedTuple

from meshctl.errors import Rejection
from meshctl.ledger.documents import WrappedMessage
from meshctl.mesh.address import Patient
from meshctl.mesh.use_cases import CutOffDocuments, DocumentGuide, UseCase
from meshctl.payload.document import JPEG, PDF, RTF, TIFF, named_type
from meshctl.payload.facts import Content, MessageFacts, PatientFacts
from meshctl.payload.itk3 import (
    ITK3_EVENT,
    REPORT_OF_ENCOUNTER,
    Attachment,
    Document,
    Envelope,
    MessageIds,
    Organisation,
    make_envelope,
)
from meshctl.payload.sidecar import (
    LAST_VERSION,
    Sidecar,
    SidecarAuthor,
    SidecarDocument,
    SidecarPatient,
    value_at,
)
from meshctl.settings.model import Settings
from meshctl.sizes import size_text

LARGE_BYTES: Final = 5_000_000
"""Above this a practice may answer 20015 (GP Connect Messaging)."""

_REPORT_TITLE: Final = "Consultation report"
# Of a document with no title whose type has no name.
_NAMELESS_TITLE: Final = "Clinical letter"
# Of an offset, in FHIR.
_MOST_OFFSET: Final = timedelta(hours=14)
_KINDS: Final = {PDF: "a PDF", TIFF: "a TIFF", JPEG: "a JPEG", RTF: "an RTF"}
# FHIR-PDS-02 of the ITK3 guide; surname and date of birth are always there.
_OF_UNVERIFIED: Final = (
    "patient.given",
    "patient.gender",
    "patient.address.lines",
    "patient.address.postcode",
)
_OPEN_IT: Final = "Open the document; if it is not as it should be, send it again."


class Caution(NamedTuple):
    """Why a message that is sent may yet fail; no text names a patient. One with a code is alerted, too."""

    text: str
    advice: str
    code: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Wrapping:
    """A document that is to be sent within a message, and the ids of that message."""

    document: Document
    ids: MessageIds

    def facts(self) -> MessageFacts:
        """Return what the message says of itself, as a reader of it would find."""
        document = self.document
        patient = document.patient
        return MessageFacts(
            event=ITK3_EVENT,
            endpoint=document.mailbox_id,
            references=(str(self.ids.identifier), str(self.ids.bundle), str(self.ids.header)),
            acknowledgements=("infrastructure", "business"),
            title=document.title,
            confidential=bool(document.details.confidential),
            practice_name=document.organisation.name,
            ods_code=document.organisation.ods_code,
            patient=PatientFacts(
                patient.nhs_number, patient.date_of_birth.isoformat(), patient.surname, document.patient_name
            ),
            patient_problem=None,
            document_version=str(document.version),
            response=None,
        )

    def envelope(self, subject: str) -> Envelope:
        """Return the message but for its attachment, with the Subject of the control file."""
        return make_envelope(replace(self.document, subject=subject), self.ids)


@dataclass(frozen=True, slots=True, repr=False)
class Attached:
    """A dropped document or one of its attachments: its name, and what kind of document it is."""

    name: str
    content: Content


class Origin(NamedTuple):
    """Which document of the sending system it is that came in an HL7 v2 message; no repr, as of all of them.

    `number` and `replaced_number` are no use to anybody but as keyed hashes; `written_at` is when that system
    wrote the message; `nhs_number` that of the patient whose document it takes back. `content` is a hash of
    the document and of what a practice finds its patient or files it by. `result` says which result of its
    order a report is about. An edit is what the message says to be a later version of a document.
    """

    number: str | None
    replaced_number: str | None
    content: str | None
    written_at: datetime | None
    nhs_number: str | None = None
    result: str | None = None
    is_edit: bool = False

    def __repr__(self) -> str:
        return "Origin()"


class Dropped(NamedTuple):
    """A dropped file as it was read: all that `compose` needs.

    `facts` are None for a file that is no message; `contents` then say what it is and what is attached to it,
    itself first. `use_case` is that of its sub-folder, `earlier` the message that it replaces by message id.
    `origin` is that of a document in an HL7 v2 message.
    """

    message_id: str
    facts: MessageFacts | None
    sidecar: Sidecar
    use_case: str | None
    contents: Sequence[Attached] = ()
    earlier: WrappedMessage | None = None
    origin: Origin | None = None


def wrapping_of(
    dropped: Dropped, patient: Patient, use_case: UseCase, settings: Settings, now: datetime
) -> Wrapping:
    """Return the document to be wrapped; `check_complete` has found nothing missing. Raises Rejection."""
    contents, sidecar = dropped.contents, dropped.sidecar
    kinds = [attached.content.content_type for attached in contents]
    if None in kinds:
        which = "The file" if kinds[0] is None else "An attachment"
        raise Rejection(
            "document_kind",
            f"{which} is no document that a practice can file: neither PDF, TIFF, JPEG, RTF nor plain text in"
            " UTF-8.",
            "Save it as PDF; or send it as it is to who can take it: see payload in [use_cases.NAME].",
        )
    details = sidecar.document or SidecarDocument()
    mailbox = settings.mailbox
    organisation = Organisation(
        mailbox.ods_code or "", mailbox.organisation or "", mailbox.phone, mailbox.email
    )
    replaced, version = _replaced(details, sidecar, dropped.earlier)
    is_report = use_case.document_guide is DocumentGuide.MESSAGING_1
    code, display = _type_of(details)
    if is_report:
        _check_report(code, contents[0].content)
    title = _REPORT_TITLE if is_report else sidecar.title or details.title or display or _NAMELESS_TITLE
    if details.confidential:
        _check_confidential((title, sidecar.subject or ""), organisation)
    document = Document(
        guide=use_case.document_guide,
        mailbox_id=mailbox.id,
        organisation=organisation,
        patient=patient,
        patient_details=sidecar.patient or SidecarPatient(),
        details=details,
        type_code=code,
        type_display=display,
        title=title,
        written=None if details.date is None else _written(details.date),
        made_at=now,
        version=version,
        sender_reference=details.sender_reference or dropped.message_id,
        attachments=tuple(
            # The first section has the title of the document; the others are named like their files.
            Attachment(attached.content.content_type or "", PurePath(attached.name).stem if number else title)
            for number, attached in enumerate(contents)
        ),
        replaces=replaced,
    )
    return Wrapping(document, MessageIds.new(len(contents)))


def check_complete(sidecar: Sidecar, use_case: UseCase, settings: Settings) -> None:
    """Raise Rejection, naming all that is missing, when the message around a document cannot be made."""
    keys = list(_missing_keys(sidecar, use_case))
    settings_keys = [
        f"{key} of [mailbox]" for key in use_case.sender_keys if getattr(settings.mailbox, key) is None
    ]
    places = (["the sidecar"] if keys else []) + (["[mailbox] in the settings"] if settings_keys else [])
    if places:
        raise Rejection(
            "document_incomplete",
            "These details are missing for the message around the document:"
            f" {', '.join([*keys, *settings_keys])}.",
            f"Add them to {' and '.join(places)}, then put it back with meshctl redrop.",
        )


def patient_cautions(sidecar: Sidecar) -> tuple[Caution, ...]:
    """Return a caution about an unverified NHS number without what the ITK3 guide wants beside it."""
    missing = [key for key in _OF_UNVERIFIED if value_at(sidecar, key) is None]
    if not missing or value_at(sidecar, "patient.verified"):
        return ()
    return (
        Caution(
            "The NHS number is not marked as verified, and the practice may need more to match the patient:"
            f" {', '.join(missing)} (FHIR-PDS-02 of the ITK3 guide).",
            "Set patient.verified where the number was traced on PDS; else add these keys to the sidecar.",
        ),
    )


def document_cautions(contents: Iterable[Content], size_bytes: int) -> Iterator[Caution]:
    """Yield what may keep a practice from filing a document; `size_bytes` is the whole message's."""
    for problem in dict.fromkeys(problem for content in contents for problem in content.problems):
        yield Caution(problem, _OPEN_IT)
    if size_bytes > LARGE_BYTES:
        yield Caution(
            f"The message around the document has {size_text(size_bytes)}; practices may reject more than"
            f" {size_text(LARGE_BYTES)} (20015).",
            "Make the document smaller, by fewer colours say; max_document_bytes rejects such messages.",
        )


def check_documents(
    contents: Sequence[Attached], use_case: UseCase, *, is_wrapped: bool
) -> tuple[Caution, ...]:
    """Return what is doubtful about a file, the first of `contents`, and the documents attached to it.

    Raises Rejection `document_kind` or `document_cut_off`, unless the use case sends such documents.
    """
    rejections = list(dict.fromkeys((each.code, each.text, each.advice) for each in _rejections(contents)))
    if rejections and use_case.cut_off_documents is CutOffDocuments.REJECT:
        raise Rejection(*rejections[0])
    cautions = [Caution(text, _OPEN_IT, code) for code, text, _advice in rejections]
    if contents and use_case.events and not is_wrapped and contents[0].content.content_type is None:
        cautions.append(
            Caution(
                "The file is neither a message nor a document, and its use case is one of messages: the"
                " recipient's system may reject it.",
                "Look at the file and at its use case; if one of them is wrong, send the right file.",
            )
        )
    return tuple(cautions)


def _rejections(contents: Sequence[Attached]) -> Iterator[Rejection]:
    for number, attached in enumerate(contents):
        which = "An attachment" if number else "The file"
        named, content = named_type(attached.name), attached.content
        if named is not None and named != content.content_type:
            yield Rejection(
                "document_kind",
                f"{which} is {_KINDS[named]} by its name, but not by its content.",
                "Save the document as what its name says, or name it as what it is, and drop it again;"
                ' cut_off_documents = "warn" sends it as it is.',
            )
        if content.cut_off is not None:
            yield Rejection(
                "document_cut_off",
                f"{which} was cut off: {content.cut_off}.",
                "Export or scan the document again, and drop it whole; if programs open it to its last page,"
                ' cut_off_documents = "warn" sends it as it is.',
            )


def check_document_size(size_bytes: int, settings: Settings) -> None:
    """Raise Rejection when the message around a document is larger than the settings allow."""
    most = settings.staging.max_document_bytes
    if most and size_bytes > most:
        raise Rejection(
            "document_too_large",
            f"The message around the document would have {size_text(size_bytes)}, more than the"
            f" {size_text(most)} that max_document_bytes allows.",
            "Make the document smaller, or raise max_document_bytes.",
        )


def _missing_keys(sidecar: Sidecar, use_case: UseCase) -> Iterator[str]:
    is_by_somebody = value_at(sidecar, "document.author") not in (None, SidecarAuthor())
    of_author = ("document.author.name",) if is_by_somebody else ()
    for key in dict.fromkeys((*use_case.sidecar_keys, *of_author)):
        if value_at(sidecar, key) is None:
            yield key


def _check_report(type_code: str, content: Content) -> None:
    """Raise Rejection where GP Connect Messaging 1.3.1 takes no such document for a consultation report."""
    if type_code != REPORT_OF_ENCOUNTER[0]:
        raise Rejection(
            "document_not_report",
            f"A consultation report has the type {REPORT_OF_ENCOUNTER[0]} (GPCM-SD-115), and the sidecar"
            " gives another.",
            "Leave document.type out, or send the document under send-document.",
        )
    if content.content_type != PDF:
        raise Rejection(
            "document_not_report",
            "A consultation report is a PDF (GPCM-SD-124), and the file is not.",
            "Save it as PDF, or send it under send-document; other files can be attached to it.",
        )


def _type_of(details: SidecarDocument) -> tuple[str, str | None]:
    """Return the SNOMED code of a document's type, and its name where it is known: a code is no name."""
    if details.type is None:
        return REPORT_OF_ENCOUNTER
    code, name = REPORT_OF_ENCOUNTER
    return details.type.code, details.type.display or (name if details.type.code == code else None)


def _written(text: str) -> str:
    """Return when the document was written as FHIR writes it; a time without an offset is local.

    A day stays a day: the instant of its midnight is another day elsewhere, in UTC the day before.
    """
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        local = at if at.tzinfo else at.astimezone()
    except (ValueError, OverflowError):
        raise _no_date() from None
    offset = local.utcoffset() or timedelta()
    if offset % timedelta(minutes=1) or abs(offset) > _MOST_OFFSET:
        raise _no_date()
    return local.isoformat(timespec="seconds")


def _no_date() -> Rejection:
    return Rejection(
        "document_date_invalid",
        "The date of the document is no date.",
        "Write document.date as YYYY-MM-DD, or YYYY-MM-DDThh:mm.",
    )


def replaced_message_id(sidecar: Sidecar | None) -> str | None:
    """Return the message id of the message that a document replaces; None without one, or for a UUID."""
    replaces = sidecar.document.replaces if sidecar and sidecar.document else None
    return None if replaces is None or _uuid(replaces) is not None else replaces


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text.removeprefix("urn:uuid:"))
    except ValueError:
        return None


def _replaced(
    details: SidecarDocument, sidecar: Sidecar, earlier: WrappedMessage | None
) -> tuple[uuid.UUID | None, int]:
    """Return the identifier of the message that is replaced, and the version of the new one."""
    if details.replaces is None:
        return None, _version(sidecar) or 1
    replaced = _uuid(details.replaces)
    if replaced is not None:
        return replaced, _version(sidecar) or 2
    if earlier is None:
        raise _not_replaceable("is no message that meshctl has made around a document")
    if not earlier.is_of_patient:
        raise _not_replaceable("is about another patient")
    if earlier.is_rejected:
        raise _not_replaceable("was never sent")
    return uuid.UUID(earlier.document_id), _version(sidecar) or earlier.document_version + 1


def _version(sidecar: Sidecar) -> int | None:
    if sidecar.version is None:
        return None
    try:
        version = int(sidecar.version)
    except ValueError:
        version = 0
    # It is kept in the ledger: nothing as long as an NHS number can be one.
    if not 1 <= version <= LAST_VERSION:
        raise Rejection(
            "document_version_invalid",
            f"The version of a document that is wrapped is a whole number from 1 to {LAST_VERSION:,}.",
            "Correct version in the sidecar, or leave it out.",
        )
    return version


def _not_replaceable(why: str) -> Rejection:
    return Rejection(
        "document_replaces_invalid",
        f"The message that the sidecar says to replace {why}.",
        "Give document.replaces a message id as 'meshctl find' shows it, or the UUID of the message.",
    )


def _check_confidential(texts: tuple[str, ...], organisation: Organisation) -> None:
    """Raise Rejection where a confidential document would show who sent it (GPCM-SD-061)."""
    folded = " ".join(texts).casefold()
    if any(name.casefold() in folded for name in (organisation.name, organisation.ods_code)):
        raise Rejection(
            "document_confidential",
            "The document is confidential, and its title or Subject names the organisation.",
            "Take the organisation's name and ODS code out of title and subject.",
        )
