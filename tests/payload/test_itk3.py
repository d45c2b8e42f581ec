"""The message around a document: what guide and example want of it, and that it can be read back."""

import base64
import io
import os
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from meshctl.mesh.address import Patient
from meshctl.mesh.codes import explain_response
from meshctl.mesh.use_cases import DocumentGuide
from meshctl.payload.facts import MessageFacts
from meshctl.payload.itk3 import (
    REPORT_OF_ENCOUNTER,
    Attachment,
    Document,
    MessageIds,
    Organisation,
    ResponseIds,
    make_envelope,
    write_response,
)
from meshctl.payload.itk3_again import as_replacement, has_replaced
from meshctl.payload.reader import read_payload
from meshctl.payload.sidecar import SidecarAuthor, SidecarCareSetting, SidecarDocument, SidecarPatient

FHIR = "{http://hl7.org/fhir}"
AT = datetime(2026, 11, 22, 9, 15, 2, tzinfo=UTC)
REPORT = Document(
    guide=DocumentGuide.MESSAGING_1,
    mailbox_id="X26ABC1",
    patient=Patient("9990000042", date(2001, 2, 14), "Smith"),
    patient_details=SidecarPatient(given="Brian John", prefix="Mr", gender="male", verified=True),
    details=SidecarDocument(
        author=SidecarAuthor(name="Dr Gary Pritchard", sds_user_id="033345750518", phone="0113 496 0001")
    ),
    organisation=Organisation("Y99901", "Larkfield Care Hub", "0113 496 0000", "letters@example.nhs.uk"),
    type_code=REPORT_OF_ENCOUNTER[0],
    type_display=REPORT_OF_ENCOUNTER[1],
    title="Consultation report",
    written="2026-11-20",
    made_at=AT,
    version=1,
    sender_reference="encounter-1",
    attachments=(Attachment("application/pdf", "Consultation report"),),
    subject="Consultation report for Mr Brian Smith",
)
LETTER = replace(
    REPORT,
    guide=DocumentGuide.SEND_DOCUMENT_2,
    details=SidecarDocument(),
    title="Clinic letter",
    type_code="823681000000100",
)
# In the order of the published example of GP Connect Messaging 1.3.
ENTRIES = ["Composition", "Binary", "Practitioner", "Organization", "Patient"]


def message_around(document: Document, ids: MessageIds | None = None) -> bytes:
    """Return the whole message of a document, each of whose attachments is the beginning of a PDF."""
    many = len(document.attachments)
    envelope = make_envelope(document, ids or MessageIds.new(many))
    return b"".join(envelope.around([io.BytesIO(b"%PDF-1.7") for _ in range(many)]))


def _root(document: Document) -> etree._Element:
    return etree.fromstring(message_around(document))


def _resources(bundle: etree._Element) -> list[etree._Element]:
    return [entry[1][0] for entry in bundle.findall(f"{FHIR}entry")]


def _inner(document: Document) -> dict[str, etree._Element]:
    return {one.tag.removeprefix(FHIR): one for one in _resources(_resources(_root(document))[2])}


def _value(element: etree._Element, path: str) -> str | None:
    found = element.find("/".join(FHIR + part for part in path.split("/")))
    return None if found is None else found.get("value")


def _read(tmp_path: Path, data: bytes) -> MessageFacts:
    path = tmp_path / "message"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        facts = read_payload(descriptor, len(data)).facts
    finally:
        os.close(descriptor)
    assert facts is not None
    return facts


@pytest.mark.parametrize("document", [REPORT, LETTER], ids=["1.x", "2.x"])
def test_it_is_read_back_as_what_it_was_made_of(tmp_path: Path, document: Document) -> None:
    """Our own reader finds patient, event, acknowledgements, title and the ids that answers refer to."""
    ids = MessageIds.new(1)

    facts = _read(tmp_path, message_around(document, ids=ids))

    assert (facts.event, facts.endpoint, facts.title) == ("ITK007C", "X26ABC1", document.title)
    assert facts.acknowledgements == ("infrastructure", "business")
    assert facts.references == (str(ids.identifier), str(ids.bundle), str(ids.header))
    assert (facts.practice_name, facts.ods_code) == ("Larkfield Care Hub", "Y99901")
    assert facts.patient is not None
    assert facts.patient.nhs_number == "9990000042"
    assert (facts.patient.surname, facts.patient.date_of_birth) == ("Smith", "2001-02-14")
    assert facts.patient.display_name == "Mr Brian John Smith"


def test_its_entries_are_those_of_the_example() -> None:
    """Header, sender and document; in the document the entries of the example, in its order."""
    outer = _resources(_root(REPORT))

    assert [one.tag.removeprefix(FHIR) for one in outer] == ["MessageHeader", "Organization", "Bundle"]
    assert [one.tag.removeprefix(FHIR) for one in _resources(outer[2])] == ENTRIES
    assert _value(outer[2], "type") == "document"
    for bundle in (_root(REPORT), outer[2]):
        for entry in bundle.findall(f"{FHIR}entry"):
            assert _value(entry, "fullUrl") == f"urn:uuid:{_value(entry[1][0], 'id')}"


def test_its_header_says_what_the_guide_wants() -> None:
    """GPCM-SD-039 to -049."""
    header = _resources(_root(REPORT))[0]
    extension = header.find(f"{FHIR}extension")
    assert extension is not None
    handling = {one.get("url"): one[0] for one in extension}

    assert [handling[name].get("value") for name in ("BusAckRequested", "InfAckRequested")] == [
        "true",
        "true",
    ]
    assert _value(handling["RecipientType"], "code") == "FA"
    definition = _value(handling["MessageDefinition"], "reference") or ""
    assert definition.endswith("MessageDefinition/ITK-GPConnectSendDocument-MessageDefinition-1")
    assert handling["SenderReference"].get("value") == "encounter-1"
    assert handling["LocalExtension"].get("value") == "SendDocument-ConsultationReport"
    assert (_value(header, "event/code"), _value(header, "source/endpoint")) == ("ITK007C", "X26ABC1")
    assert _value(header, "timestamp") == "2026-11-22T09:15:02+00:00"
    assert header.find(f"{FHIR}destination") is None
    assert header.find(f"{FHIR}receiver") is None


def test_its_document_says_what_the_guide_wants() -> None:
    """GPCM-SD-029 to -037 and -114 to -124."""
    inner = _inner(REPORT)
    composition, patient = inner["Composition"], inner["Patient"]

    assert (_value(composition, "status"), _value(composition, "confidentiality")) == ("final", "N")
    assert _value(composition, "type/coding/code") == "371531000"
    assert _value(composition, "date") == "2026-11-22T09:15:02+00:00"
    assert [_value(composition, f"event/period/{part}") for part in ("start", "end")] == ["2026-11-20"] * 2
    assert _value(composition, "meta/versionId") == "1"
    assert composition.findtext(f"{FHIR}text/{{http://www.w3.org/1999/xhtml}}div/{{*}}p") == REPORT.subject
    for element, kind in (("subject", "Patient"), ("author", "Practitioner"), ("custodian", "Organization")):
        assert _value(composition, f"{element}/reference") == f"urn:uuid:{_value(inner[kind], 'id')}"
    assert _value(composition, "section/entry/reference") == f"urn:uuid:{_value(inner['Binary'], 'id')}"
    assert _value(inner["Practitioner"], "identifier/value") == "033345750518"
    name = inner["Practitioner"].find(f"{FHIR}name")
    assert name is not None
    assert [(one.tag.removeprefix(FHIR), one.get("value")) for one in name] == [
        ("use", "official"),
        ("text", "Dr Gary Pritchard"),
    ]
    assert _value(inner["Organization"], "telecom/value") == "0113 496 0000"
    assert _value(patient, "identifier/extension/valueCodeableConcept/coding/code") == "01"
    assert (_value(patient, "birthDate"), _value(patient, "gender")) == ("2001-02-14", "male")
    assert _value(inner["Binary"], "contentType") == "application/pdf"


def test_a_document_without_an_author_names_the_organisation() -> None:
    """Since 2.0 a practitioner is optional; FHIR wants an author all the same."""
    inner = _inner(LETTER)

    assert "Practitioner" not in inner
    assert _value(inner["Composition"], "author/display") == "Larkfield Care Hub"


def test_what_is_not_given_is_not_made_up() -> None:
    """No name of a code, no date of the document, no part of a name; UNK as Send Document 2.0.2 shows it."""
    details = SidecarDocument(author=SidecarAuthor(name="Anna van der Waals MBBS FRCP"))
    inner = _inner(replace(LETTER, details=details, type_display=None, written=None))
    composition, practitioner = inner["Composition"], inner["Practitioner"]

    assert _value(composition, "type/coding/code") == "823681000000100"
    assert composition.find(f"{FHIR}type/{FHIR}coding/{FHIR}display") is None
    assert composition.find(f"{FHIR}event") is None
    assert composition.find(f"{FHIR}extension") is None
    assert _value(practitioner, "name/text") == "Anna van der Waals MBBS FRCP"
    assert _value(practitioner, "identifier/value") == "UNK"


def test_a_care_setting_is_an_extension() -> None:
    """As Send Document 2 shows it."""
    details = SidecarDocument(care_setting=SidecarCareSetting(code="789718008", display="Cardiology service"))
    [extension] = _inner(replace(LETTER, details=details))["Composition"].findall(f"{FHIR}extension")

    assert extension.get("url") == (
        "https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-CareSettingType-1"
    )
    coding = [
        _value(extension, f"valueCodeableConcept/coding/{part}") for part in ("system", "code", "display")
    ]
    assert coding == ["http://snomed.info/sct", "789718008", "Cardiology service"]


def test_a_later_version_names_the_one_that_it_replaces() -> None:
    """The relatesTo has the identifier of the earlier message (GPCM-SD-123), and the Bundle its version."""
    earlier = uuid.uuid4()
    document = replace(LETTER, version=2, replaces=earlier, details=SidecarDocument(confidential=True))
    bundle = _resources(_root(document))[2]
    composition = _inner(document)["Composition"]

    assert _value(bundle, "meta/versionId") == "2"
    assert _value(composition, "meta/versionId") == "2"
    assert _value(composition, "relatesTo/code") == "replaces"
    assert _value(composition, "relatesTo/targetIdentifier/value") == str(earlier)
    assert _value(composition, "confidentiality") == "R"


@pytest.mark.parametrize("before", [{}, {"replaces": uuid.uuid4()}], ids=["of none", "of another"])
@pytest.mark.parametrize("document", [REPORT, LETTER], ids=["report", "letter"])
def test_a_message_can_be_made_a_replacement(document: Document, before: dict[str, Any]) -> None:
    """It is then what would have been made at once, byte for byte; any other file is left alone."""
    ids, earlier = MessageIds.new(1), uuid.uuid4()
    title = "</custodian><relatesTo> &'\""

    def made(**fields: Any) -> bytes:
        envelope = make_envelope(replace(document, title=title, version=2, **fields), ids)
        return b"".join(envelope.around([io.BytesIO(b"</custodian><Bundle>")]))

    changed = as_replacement(made(**before), earlier)

    assert changed == made(replaces=earlier)
    assert [has_replaced(one) for one in (made(), changed)] == [False, True]
    assert as_replacement(b"%PDF-1.4", earlier) is None


@given(st.binary(max_size=4000), st.text("<>&\"'] é😀", max_size=40))
def test_any_content_comes_out_as_it_went_in(content: bytes, subject: str) -> None:
    """The attachment decodes to the same bytes, and the size is known before it is made."""
    envelope = make_envelope(replace(LETTER, subject=subject, title=f"T{subject}"), MessageIds.new(1))

    message = b"".join(envelope.around([io.BytesIO(content)]))

    assert len(message) == envelope.size_bytes([len(content)])
    encoded = message.partition(b'<content value="')[2].partition(b'"')[0]
    assert base64.b64decode(encoded, validate=True) == content
    assert etree.fromstring(message) is not None


def test_two_messages_have_no_id_in_common() -> None:
    one, other = MessageIds.new(1), MessageIds.new(1)

    assert len({getattr(ids, name) for ids in (one, other) for name in one.__slots__}) == 20


def test_a_response_names_its_sender() -> None:
    """GPCM-SD-053, where the settings know the ODS code; its ids are the same with and without."""
    ids, meaning = ResponseIds.of("answer"), explain_response("20013")
    known, unknown = (
        etree.fromstring(
            write_response(ids, meaning, identifier="1", endpoint="X26ABC1", ods_code=ods_code, at=AT)
        )
        for ods_code in ("Y99901", None)
    )

    [sender] = known.findall("{*}entry/{*}resource/{*}Organization")
    assert _value(sender, "identifier/value") == "Y99901"
    assert [one.get("value") for one in known.findall(".//{*}sender/{*}reference")] == [
        f"urn:uuid:{_value(sender, 'id')}"
    ]
    assert [one.tag.removeprefix(FHIR) for one in _resources(unknown)] == [
        "MessageHeader",
        "OperationOutcome",
    ]
    assert unknown.findall(".//{*}sender") == []
    assert [_value(one, "id") for one in _resources(unknown)] == [ids.header, ids.outcome]


def test_every_attachment_has_a_section_of_its_own() -> None:
    """In their order, each with its own kind."""
    attachments = (*LETTER.attachments, Attachment("image/tiff", "scan"), Attachment("text/plain", "note"))
    envelope = make_envelope(replace(LETTER, attachments=attachments), MessageIds.new(3))
    contents = [b"%PDF", b"II*\0", b"Dear doctor"]

    message = b"".join(envelope.around([io.BytesIO(content) for content in contents]))

    assert len(message) == envelope.size_bytes(map(len, contents))
    inner = _resources(_resources(etree.fromstring(message))[2])
    binaries = [one for one in inner if one.tag == f"{FHIR}Binary"]
    sections = inner[0].findall(f"{FHIR}section")
    assert [_value(one, "contentType") for one in binaries] == ["application/pdf", "image/tiff", "text/plain"]
    assert [_value(one, "title") for one in sections] == ["Consultation report", "scan", "note"]
    assert [base64.b64decode(_value(one, "content") or "") for one in binaries] == contents
    references = [_value(one, "entry/reference") for one in sections]
    assert references == [f"urn:uuid:{_value(one, 'id')}" for one in binaries]
