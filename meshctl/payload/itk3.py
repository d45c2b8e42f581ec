"""The ITK3 message that carries a document into a patient's record: GP Connect Send Document. Pure.

A practice's system files an ITK3 message (FHIR STU3) whose document Bundle holds Composition, attachment,
author, custodian and patient; it cannot file a bare PDF. Numbers in comments are those of GP Connect
Messaging 1.3.1 (GPCM-SD-n); Send Document 2.0.2 keeps most of them. Entries stand in the order of the
published example, elements in the order of FHIR, which the example breaks in places: a validator rejects it
there.

A message is made in pieces, with places for the base64 of the attachments, so that a large document is never
held in memory.
"""

import base64
import hashlib
import html
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Final, NamedTuple, Protocol
from uuid import UUID, uuid4

from lxml import etree

from meshctl.mesh.address import Patient
from meshctl.mesh.codes import SUCCESS, CodeMeaning
from meshctl.mesh.use_cases import DocumentGuide
from meshctl.payload.sidecar import SidecarAddress, SidecarAuthor, SidecarDocument, SidecarPatient

REPORT_OF_ENCOUNTER: Final = ("371531000", "Report of clinical encounter")
"""The SNOMED code and name of a document whose sidecar gives no type (GPCM-SD-115)."""

ITK3_EVENT: Final = "ITK007C"
"""The MessageHeader event of GP Connect Send Document (GPCM-SD-047)."""

RFC4122: Final = "https://tools.ietf.org/html/rfc4122"
"""The system of identifiers that are UUIDs."""

_FHIR: Final = "http://hl7.org/fhir"
_XHTML: Final = "http://www.w3.org/1999/xhtml"
_ITK: Final = "https://fhir.nhs.uk/STU3/StructureDefinition/"
_CARE_CONNECT: Final = "https://fhir.hl7.org.uk/STU3/StructureDefinition/"
_ITK_CODES: Final = "https://fhir.nhs.uk/STU3/CodeSystem/"
_MESSAGE_DEFINITION: Final = (
    "https://fhir.nhs.uk/STU3/MessageDefinition/ITK-GPConnectSendDocument-MessageDefinition-1"
)
_ODS_CODE: Final = "https://fhir.nhs.uk/Id/ods-organization-code"
_NHS_NUMBER: Final = "https://fhir.nhs.uk/Id/nhs-number"
_SDS_USER_ID: Final = "https://fhir.nhs.uk/Id/sds-user-id"
_VERIFICATION: Final = "CareConnect-NHSNumberVerificationStatus-1"
_SNOMED: Final = "http://snomed.info/sct"
# What Send Document 2.0.2 shows where an author has no SDS user id; the identifier itself is mandatory.
_NO_SDS_USER_ID: Final = "UNK"
# A multiple of three, so that the base64 of the pieces is the base64 of the whole.
_CHUNK_BYTES: Final = 3 << 18


@dataclass(frozen=True, slots=True, repr=False)
class Organisation:
    """The organisation that sends the document and is its custodian."""

    ods_code: str
    name: str
    phone: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Attachment:
    """A file in a document, without its content, which is streamed."""

    content_type: str
    title: str


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """The content of a message. `subject` is the control file's; `version` counts from 1.

    `written` says when the document was written, as FHIR writes a day or an instant; None where nothing does.

    `patient` is checked. What needs no check is taken from `patient_details` and `details`, which are
    `patient` and `document` of the sidecar. `replaces` names the message whose document this one replaces, by
    the identifier of its Bundle.
    """

    guide: DocumentGuide
    mailbox_id: str
    organisation: Organisation
    patient: Patient
    patient_details: SidecarPatient
    details: SidecarDocument
    type_code: str
    type_display: str | None
    title: str
    written: str | None
    made_at: datetime
    version: int
    sender_reference: str
    attachments: tuple[Attachment, ...]
    subject: str = ""
    replaces: UUID | None = None

    @property
    def author(self) -> SidecarAuthor | None:
        """Return who wrote it, if the sidecar names somebody."""
        author = self.details.author
        return author if author is not None and author.name is not None else None

    @property
    def patient_name(self) -> str:
        """Return the patient's name as people write it: Mr Richard Smith."""
        names = (self.patient_details.prefix, self.patient_details.given, self.patient.surname)
        return " ".join(name for name in names if name)


@dataclass(frozen=True, slots=True)
class MessageIds:
    """The ids of one message, each new. A response refers to one of the first three."""

    identifier: UUID
    bundle: UUID
    header: UUID
    sender: UUID
    document: UUID
    composition: UUID
    author: UUID
    custodian: UUID
    patient: UUID
    attachments: tuple[UUID, ...]

    @classmethod
    def new(cls, attachments: int) -> "MessageIds":
        """Return new ids for a message with so many attachments."""
        names = (one.name for one in fields(cls) if one.name != "attachments")
        ids = {name: uuid4() for name in names}
        return cls(**ids, attachments=tuple(uuid4() for _ in range(attachments)))


class Readable(Protocol):
    """An open file, or anything else that bytes can be read from."""

    def read(self, most_bytes: int, /) -> bytes:
        """Return the next bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Envelope:
    """A message without the base64 of its attachments: the bytes before, between and after them."""

    pieces: tuple[bytes, ...]

    def size_bytes(self, attachments: Iterable[int]) -> int:
        """Return how large the message is around attachments of so many bytes."""
        return sum(map(len, self.pieces)) + sum((size + 2) // 3 * 4 for size in attachments)

    def around(self, attachments: Iterable[Readable]) -> Iterator[bytes]:
        """Yield the message around its attachments, each of which is read to its end."""
        yield self.pieces[0]
        for attachment, piece in zip(attachments, self.pieces[1:], strict=True):
            while chunk := attachment.read(_CHUNK_BYTES):
                yield base64.b64encode(chunk)
            yield piece


def make_envelope(document: Document, ids: MessageIds) -> Envelope:
    """Return the message of a document."""
    bundle = etree.fromstring(f'<Bundle xmlns="{_FHIR}"/>')
    _put(bundle, "id", ids.bundle)
    meta = _put(bundle, "meta")
    _put(meta, "lastUpdated", _instant(document.made_at))
    _put(meta, "profile", f"{_ITK}ITK-Message-Bundle-1")
    _identifier(bundle, RFC4122, ids.identifier)
    _put(bundle, "type", "message")
    _header(_entry(bundle, "MessageHeader", ids.header, f"{_ITK}ITK-MessageHeader-2"), document, ids)
    sender = _entry(bundle, "Organization", ids.sender, f"{_ITK}CareConnect-ITK-Header-Organization-1")
    _identifier(sender, _ODS_CODE, document.organisation.ods_code)
    _document(bundle, document, ids)
    rest: bytes = etree.tostring(bundle, encoding="UTF-8", xml_declaration=True)
    pieces = []
    for identity in ids.attachments:
        before, _, rest = rest.partition(_mark(identity).encode())
        pieces.append(before)
    return Envelope((*pieces, rest))


def _header(header: etree._Element, document: Document, ids: MessageIds) -> None:
    handling = _put(header, "extension", url=f"{_ITK}Extension-ITK-MessageHandling-2")
    for level in ("BusAckRequested", "InfAckRequested"):  # 040, 041
        _put(_put(handling, "extension", url=level), "valueBoolean", "true")
    recipient = _put(_put(handling, "extension", url="RecipientType"), "valueCoding")  # 039
    _coding(recipient, f"{_ITK_CODES}ITK-RecipientType-1", "FA", "For Action")
    definition = _put(handling, "extension", url="MessageDefinition")  # 043
    _put(_put(definition, "valueReference"), "reference", _MESSAGE_DEFINITION)
    reference = _put(handling, "extension", url="SenderReference")  # 042
    _put(reference, "valueString", document.sender_reference)
    local = _put(handling, "extension", url="LocalExtension")  # 044
    is_report = document.guide is DocumentGuide.MESSAGING_1
    _put(local, "valueString", "SendDocument-ConsultationReport" if is_report else "None")
    _coding(
        _put(header, "event"), f"{_ITK_CODES}ITK-MessageEvent-2", ITK3_EVENT, "ITK GP Connect Send Document"
    )  # 047
    _reference(header, "sender", ids.sender)  # 045
    _put(header, "timestamp", _instant(document.made_at))  # 048
    _put(_put(header, "source"), "endpoint", document.mailbox_id)  # 046
    _reference(header, "focus", ids.document)


def _document(bundle: etree._Element, document: Document, ids: MessageIds) -> None:
    inner = _entry(bundle, "Bundle", ids.document, None)
    meta = _put(inner, "meta")
    if document.version > 1:
        _put(meta, "versionId", document.version)
    _put(meta, "lastUpdated", _instant(document.made_at))
    _put(meta, "profile", f"{_ITK}ITK-Document-Bundle-1")
    _identifier(inner, RFC4122, ids.identifier)
    _put(inner, "type", "document")
    _composition(inner, document, ids)
    for attachment, identity in zip(document.attachments, ids.attachments, strict=True):
        binary = _entry(inner, "Binary", identity, f"{_ITK}ITK-Attachment-Binary-1")
        _put(binary, "contentType", attachment.content_type)
        _put(binary, "content", _mark(identity))
    if document.author is not None:
        _author(inner, document.author, ids)
    _custodian(inner, document.organisation, ids)
    _patient(inner, document, ids)


def _composition(inner: etree._Element, document: Document, ids: MessageIds) -> None:
    composition = _entry(
        inner,
        "Composition",
        ids.composition,
        f"{_CARE_CONNECT}CareConnect-Composition-1",
        version=document.version,  # Send Document 1.3.2 and 2
    )
    text = _put(composition, "text")  # 119
    _put(text, "status", "generated")
    division = etree.fromstring(f'<div xmlns="{_XHTML}"/>')
    etree.SubElement(division, f"{{{_XHTML}}}p").text = document.subject
    text.append(division)
    setting = document.details.care_setting
    if setting is not None:
        extension = _put(
            composition, "extension", url=f"{_CARE_CONNECT}Extension-CareConnect-CareSettingType-1"
        )
        concept = _put(extension, "valueCodeableConcept")
        _coding(_put(concept, "coding"), _SNOMED, setting.code, setting.display)
    _identifier(composition, RFC4122, ids.composition)
    _put(composition, "status", "final")  # 114
    _coding(
        _put(_put(composition, "type"), "coding"), _SNOMED, document.type_code, document.type_display
    )  # 115
    _reference(composition, "subject", ids.patient)  # 120
    # Not when the document was written: both guides say that the date is when the message was made.
    _put(composition, "date", _instant(document.made_at))  # 116
    if document.author is None:
        # FHIR wants an author; without a person it is the organisation, by its name alone.
        _put(_put(composition, "author"), "display", document.organisation.name)
    else:
        _reference(composition, "author", ids.author)  # 121
    _put(composition, "title", document.title)  # 118
    _put(composition, "confidentiality", "R" if document.details.confidential else "N")  # 117
    _reference(composition, "custodian", ids.custodian)  # 122
    if document.replaces is not None:
        relation = _put(composition, "relatesTo")  # 123
        _put(relation, "code", "replaces")
        _identifier(relation, RFC4122, document.replaces, "targetIdentifier")
    if document.written is not None:
        # Where Send Document 2 has the document's own date (1.3.2 allows it, 1.3.1 does not speak of it).
        # With an end, as a period without one is still going on.
        period = _put(_put(composition, "event"), "period")
        _put(period, "start", document.written)
        _put(period, "end", document.written)
    for attachment, identity in zip(document.attachments, ids.attachments, strict=True):
        section = _put(composition, "section")  # 124
        _put(section, "title", attachment.title)
        _reference(section, "entry", identity)


def _author(inner: etree._Element, author: SidecarAuthor, ids: MessageIds) -> None:
    practitioner = _entry(inner, "Practitioner", ids.author, f"{_CARE_CONNECT}CareConnect-Practitioner-1")
    _identifier(practitioner, _SDS_USER_ID, author.sds_user_id or _NO_SDS_USER_ID)  # 032
    # As one text: which words of "Dr Anna van der Waals MBBS FRCP" are the family name is not known.
    name = _put(practitioner, "name")  # 033
    _put(name, "use", "official")
    _put(name, "text", author.name)
    if author.phone:
        _telecom(practitioner, "phone", author.phone)  # 034


def _custodian(inner: etree._Element, organisation: Organisation, ids: MessageIds) -> None:
    custodian = _entry(inner, "Organization", ids.custodian, f"{_CARE_CONNECT}CareConnect-Organization-1")
    _identifier(custodian, _ODS_CODE, organisation.ods_code)  # 029
    _put(custodian, "name", organisation.name)  # 030
    if organisation.phone:
        _telecom(custodian, "phone", organisation.phone)  # 031
    if organisation.email:
        _telecom(custodian, "email", organisation.email)


def _patient(inner: etree._Element, document: Document, ids: MessageIds) -> None:
    patient, details = document.patient, document.patient_details
    element = _entry(inner, "Patient", ids.patient, f"{_CARE_CONNECT}CareConnect-Patient-1")
    identifier = _put(element, "identifier")  # 035
    status = _put(identifier, "extension", url=f"{_CARE_CONNECT}Extension-{_VERIFICATION}")
    code, display = (
        ("01", "Number present and verified") if details.verified else ("02", "Number present but not traced")
    )
    system = f"https://fhir.hl7.org.uk/STU3/CodeSystem/{_VERIFICATION}"
    _coding(_put(_put(status, "valueCodeableConcept"), "coding"), system, code, display)
    _put(identifier, "system", _NHS_NUMBER)
    _put(identifier, "value", patient.nhs_number)
    _put(element, "active", "true")
    name = _put(element, "name")  # 036
    _put(name, "use", "official")
    _put(name, "family", patient.surname)
    for given in (details.given or "").split():
        _put(name, "given", given)
    if details.prefix:
        _put(name, "prefix", details.prefix)
    if details.gender:
        _put(element, "gender", details.gender)
    _put(element, "birthDate", patient.date_of_birth.isoformat())  # 037
    # FHIR-PDS-02 of the ITK3 guide wants the address with a number that is not verified. Otherwise Send
    # Document expects none, as the practice has it from PDS.
    if details.address is not None and not details.verified:
        _address(element, details.address)


def _address(patient: etree._Element, details: SidecarAddress) -> None:
    address = _put(patient, "address")
    _put(address, "use", "home")
    for line in details.lines or ():
        _put(address, "line", line)
    if details.postcode:
        _put(address, "postalCode", details.postcode)


def _entry(
    bundle: etree._Element, kind: str, identity: UUID, profile: str | None, version: int | None = None
) -> etree._Element:
    entry = _put(bundle, "entry")
    _put(entry, "fullUrl", f"urn:uuid:{identity}")
    resource = _put(_put(entry, "resource"), kind)
    _put(resource, "id", identity)
    if profile is not None:
        meta = _put(resource, "meta")
        if version is not None:
            _put(meta, "versionId", version)
        _put(meta, "profile", profile)
    return resource


def _identifier(
    parent: etree._Element, system: str, value: object, element: str = "identifier"
) -> etree._Element:
    identifier = _put(parent, element)
    _put(identifier, "system", system)
    _put(identifier, "value", value)
    return identifier


def _coding(parent: etree._Element, system: str, code: str, display: str | None) -> None:
    _put(parent, "system", system)
    _put(parent, "code", code)
    if display is not None:
        _put(parent, "display", display)


def _telecom(parent: etree._Element, system: str, value: str) -> None:
    telecom = _put(parent, "telecom")
    for element, text in (("system", system), ("value", value), ("use", "work")):
        _put(telecom, element, text)


def _reference(parent: etree._Element, element: str, identity: UUID) -> None:
    _put(_put(parent, element), "reference", f"urn:uuid:{identity}")


def _put(
    parent: etree._Element, element: str, value: object = None, *, url: str | None = None
) -> etree._Element:
    made = etree.SubElement(parent, f"{{{_FHIR}}}{element}")
    if url is not None:
        made.set("url", url)
    if value is not None:
        made.set("value", str(value))
    return made


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _mark(identity: UUID) -> str:
    # The author of a title cannot guess it, since the id is new.
    return f"content-of-{identity}"


class ResponseIds(NamedTuple):
    """The ids in a response, UUIDs."""

    bundle: str
    header: str
    outcome: str

    @classmethod
    def of(cls, seed: str) -> "ResponseIds":
        """Return the ids for a text: a response that is made again after a kill has the same."""
        digest = hashlib.sha384(seed.encode()).digest()
        return cls(*(str(uuid.UUID(bytes=digest[start : start + 16])) for start in (0, 16, 32)))


def write_response(
    ids: ResponseIds,
    meaning: CodeMeaning,
    *,
    identifier: str,
    endpoint: str,
    ods_code: str | None,
    at: datetime,
) -> bytes:
    """Return the response of `endpoint`, a mailbox, to the message with this identifier.

    `ods_code` is the sender's (GPCM-SD-053); without one the response names no sender.
    """
    is_positive = meaning.status == SUCCESS
    text = _template().format(
        bundle_id=ids.bundle,
        header_id=ids.header,
        outcome_id=ids.outcome,
        # Made of the others, so that these are what they were before a response named its sender.
        sender_id=uuid.uuid5(UUID(ids.header), "sender"),
        ods_code=_quoted(ods_code or ""),
        at=at.isoformat(timespec="seconds"),
        endpoint=_quoted(endpoint),
        request_id=_quoted(identifier),
        response_code="ok" if is_positive else "fatal-error",
        severity="information" if is_positive else "fatal",
        issue_code="informational" if is_positive else "processing",
        code=meaning.code,
        meaning=_quoted(meaning.meaning),
    )
    if ods_code is not None:
        return text.encode()
    message = etree.fromstring(text.encode())
    etree.strip_elements(message, f"{{{_FHIR}}}sender")
    for entry in message.findall("{*}entry"):
        if entry.find("{*}resource/{*}Organization") is not None:
            message.remove(entry)
    return etree.tostring(message, encoding="UTF-8", xml_declaration=True)


def _quoted(text: str) -> str:
    return html.escape(text, quote=False).replace('"', "&quot;")


@cache
def _template() -> str:
    return resources.files(__package__).joinpath("itk3_response.xml").read_text(encoding="utf-8")
