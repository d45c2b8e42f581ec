"""What is read from a sound ITK3 message: handling, document, organisation, response; XML and JSON alike."""

import hashlib
import json

import pytest

from meshctl.payload.facts import MessageFacts
from tests.payload.reading import Make, facts, in_both_formats, read
from tests.payloads import (
    Json,
    MadeMessage,
    as_xml,
    entry,
    make_bundle_json,
    make_bundle_xml,
    make_response_json,
    make_response_xml,
    response_bundle,
)

OLD_HANDLING = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-ITK-MessageHandling-1"


@in_both_formats
def test_a_message_tells_all_that_routing_and_matching_need(make: Make) -> None:
    """A complete message gives event, sender, ids, requested acknowledgements, document and custodian."""
    found = facts(make())

    assert (found.event, found.endpoint) == ("ITK007C", "MESHGP0001")
    assert found.references == (
        "0bcb5098-ce5a-4a85-a547-2574f90310e4",
        "d12dc439-ca5c-4177-bb70-4fece88edab0",
        "ea7221b8-3cc0-4b11-bc95-585b056b5428",
    )
    assert found.acknowledgements == ("infrastructure", "business")
    assert (found.title, found.confidential, found.document_version) == ("Consultation report", False, None)
    assert (found.practice_name, found.ods_code) == ("Synthetic Medical Centre", "GP0001")
    assert found.response is None
    assert found.patient is not None
    assert found.patient.nhs_number == "9990000042"
    assert found.patient.date_of_birth == "2001-02-14"
    assert found.patient.surname == "Smith"
    assert found.patient.display_name == "Mr Brian Smith"


@in_both_formats
def test_the_reading_carries_size_and_digest_of_the_very_bytes(make: Make) -> None:
    """SHA-256 and size are those of the file as it was dropped."""
    data = make()

    reading = read(data)

    assert reading.sha256 == hashlib.sha256(data).hexdigest()
    assert reading.size_bytes == len(data)


@in_both_formats
@pytest.mark.parametrize(
    ("infrastructure", "business", "expected"),
    [
        (True, True, ("infrastructure", "business")),
        (True, False, ("infrastructure",)),
        (False, True, ("business",)),
        (False, False, ()),
        (None, True, ("business",)),
        (True, None, ("infrastructure",)),
        (None, None, None),
    ],
)
def test_only_requested_acknowledgements_are_named(
    make: Make, infrastructure: bool | None, business: bool | None, expected: tuple[str, ...] | None
) -> None:
    """A flag that is false is a no, and a message without either flag says nothing."""
    assert facts(make(infrastructure_ack=infrastructure, business_ack=business)).acknowledgements == expected


@in_both_formats
@pytest.mark.parametrize("url", [OLD_HANDLING, OLD_HANDLING[:-1] + "2", "Extension-ITK-MessageHandling-2"])
@pytest.mark.parametrize("prefix", ["", "https://fhir.nhs.uk/STU3/StructureDefinition/", OLD_HANDLING + "#"])
def test_handling_flags_are_found_under_every_url_in_use(make: Make, url: str, prefix: str) -> None:
    """Old and new handling extensions count, with short or absolute names of their parts."""
    found = facts(make(handling_url=url, handling_part_prefix=prefix, business_ack=False))

    assert found.acknowledgements == ("infrastructure",)


@in_both_formats
def test_another_extension_asks_for_nothing(make: Make) -> None:
    """Flags inside an extension that is not the handling extension are not requests."""
    assert facts(make(handling_url="https://example.org/NotExtension-ITK-Handling")).acknowledgements is None


@in_both_formats
@pytest.mark.parametrize(
    ("code", "confidential"),
    [("N", False), ("R", True), ("V", True), ("r", True), ("L", False), (None, False)],
)
def test_restricted_documents_are_confidential(make: Make, code: str | None, confidential: bool) -> None:
    """Composition.confidentiality R and V make a document confidential, N and L and nothing do not."""
    assert facts(make(confidentiality=code)).confidential is confidential


@in_both_formats
def test_the_custodian_names_the_practice_before_the_sender(make: Make) -> None:
    """Name and ODS code are the custodian's where the document has one, else both are the sender's."""
    made = {"sender_name": "Sending Trust", "sender_ods_code": "RAA00", "ods_code": "GP0002"}

    with_custodian, without = facts(make(**made)), facts(make(**made, custodian=False))

    assert (with_custodian.practice_name, with_custodian.ods_code) == ("Synthetic Medical Centre", "GP0002")
    assert (without.practice_name, without.ods_code) == ("Sending Trust", "RAA00")


@in_both_formats
def test_a_custodian_that_says_nothing_gives_way_to_the_sender(make: Make) -> None:
    """An Organization without name and ODS code is as good as none."""
    found = facts(make(practice_name=None, ods_code=None, sender_ods_code="RAA00"))

    assert (found.practice_name, found.ods_code) == (None, "RAA00")


@in_both_formats
def test_a_custodian_may_be_contained_in_the_composition(make: Make) -> None:
    """A reference that begins with # means a resource inside the referring one."""
    contained = {"resourceType": "Organization", "id": "org", "name": "Contained Surgery"}
    changes = {"contained": [contained], "custodian": {"reference": "#org"}}

    assert facts(make(composition_changes=changes)).practice_name == "Contained Surgery"


@in_both_formats
def test_the_version_comes_from_the_extension_made_for_it(make: Make) -> None:
    """FHIR's clinical-document version number is the document's version."""
    assert facts(make(version="3")).document_version == "3"


@in_both_formats
@pytest.mark.parametrize(
    ("in_meta", "extension", "version"),
    [
        ("2", None, "2"),
        ("2", "3", "3"),
        ("9990000042", None, None),
        ("a1", None, None),
        ("٢", None, None),
    ],
)
def test_the_version_may_stand_in_meta(
    make: Make, in_meta: str, extension: str | None, version: str | None
) -> None:
    """Where Send Document has it; FHIR's extension counts more, and only a short number is a version."""
    changes = {"meta": {"versionId": in_meta}}

    assert facts(make(version=extension, composition_changes=changes)).document_version == version


@in_both_formats
def test_missing_parts_are_none(make: Make) -> None:
    found = facts(
        make(
            event=None,
            endpoint=None,
            identifier=None,
            bundle_id=None,
            title=None,
            confidentiality=None,
            practice_name=None,
            ods_code=None,
            sender_ods_code=None,
            patients=(),
            filler_bytes=0,
        )
    )

    assert (found.event, found.endpoint, found.title) == (None, None, None)
    assert (found.practice_name, found.ods_code) == (None, None)
    assert (found.patient, found.patient_problem) == (None, None)
    assert found.references == ("ea7221b8-3cc0-4b11-bc95-585b056b5428",)


@in_both_formats
def test_blank_values_count_as_missing(make: Make) -> None:
    """A title or event of blanks is none."""
    found = facts(make(title="  ", event=""))

    assert (found.title, found.event) == (None, None)


@in_both_formats
def test_values_come_back_to_the_letter(make: Make) -> None:
    """Accents, ampersands, quotes and characters beyond the first plane survive either format."""
    title = "Ärztlicher Bericht & <notes> \"quoted\" 'single' \N{GRINNING FACE}"

    assert facts(make(title=title)).title == title


@in_both_formats
def test_the_title_is_the_documents_own(make: Make) -> None:
    """Of several Compositions the one in the header's focus counts, wherever it stands."""
    stray = {"resourceType": "Composition", "id": "stray", "title": "A stray one", "confidentiality": "R"}
    message = MadeMessage().bundle()
    message["entry"].insert(1, entry(stray))

    for data in (as_xml(message), make_bundle_json()):
        assert facts(data).title == "Consultation report"
    assert facts(make(others=(stray,))).title == "Consultation report"


def _plain_bundle(kind: str, *resources: Json) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": [entry(resource) for resource in resources]}


def test_a_document_without_a_header_is_opaque() -> None:
    """A Bundle that is not a message cannot address itself."""
    patient = {"resourceType": "Patient", "id": "p"}

    assert read(as_xml(_plain_bundle("document", patient))).facts is None
    assert read(as_xml(_plain_bundle("message", patient))).facts is None


def test_a_header_first_makes_a_message_of_any_bundle() -> None:
    """A sender that forgot the type, or put the header second, still means a message."""
    header = {"resourceType": "MessageHeader", "id": "h", "event": {"code": "ITK007C"}}
    patient = {"resourceType": "Patient", "id": "p"}

    assert facts(as_xml(_plain_bundle("collection", header, patient))).event == "ITK007C"
    assert facts(as_xml(_plain_bundle("message", patient, header))).event == "ITK007C"
    assert read(as_xml(_plain_bundle("collection", patient, header))).facts is None


def test_a_prefixed_namespace_is_the_same_namespace() -> None:
    """`f:Bundle` is a Bundle if f is FHIR, and a Bundle of another namespace is not."""
    data = make_bundle_xml()
    prefixed = data.replace(b"<", b"<f:").replace(b"<f:/", b"</f:").replace(b"<f:?", b"<?")
    prefixed = prefixed.replace(b"<f:Bundle xmlns=", b"<f:Bundle xmlns:f=")

    assert facts(prefixed).event == "ITK007C"
    assert read(data.replace(b"http://hl7.org/fhir", b"http://example.org/fhir")).facts is None


def test_a_byte_order_mark_is_accepted() -> None:
    mark = b"\xef\xbb\xbf"

    assert facts(mark + make_bundle_xml()).event == "ITK007C"
    assert facts(mark + make_bundle_json()).event == "ITK007C"


def test_latin_1_is_read_as_declared() -> None:
    data = make_bundle_xml(title="Rétablissement").decode().replace("UTF-8", "ISO-8859-1")

    assert facts(data.encode("latin-1")).title == "Rétablissement"


def test_comments_and_instructions_do_not_matter() -> None:
    data = make_bundle_xml().replace(b'<title value="C', b'<!-- no --><?x y?><title value="C')
    data = (
        data.replace(b"<Bundle ", b"<?xml-stylesheet href='x'?><!-- before --><Bundle ", 1)
        + b"<!-- after -->"
    )

    assert _comparable(facts(data)) == _comparable(facts(make_bundle_xml()))


def _comparable(found: MessageFacts) -> tuple[object, ...]:
    return tuple(getattr(found, name) for name in MessageFacts.__slots__)


@pytest.mark.parametrize("make", [make_response_xml, make_response_json], ids=["xml", "json"])
def test_a_response_says_what_it_answers_and_how(make: Make) -> None:
    """An ITK008M gives the request's id, the response code and the ITK3 codes in order."""
    found = facts(make(request_id="0bcb5098", response_code="fatal-error", codes=("20009", "30002")))

    assert found.event == "ITK008M"
    assert found.response is not None
    assert found.response.identifier == "0bcb5098"
    assert found.response.response_code == "fatal-error"
    assert found.response.codes == ("20009", "30002")
    assert (found.patient, found.patient_problem) == (None, None)


def test_a_response_may_leave_things_out() -> None:
    """Without identifier, code or outcome a response is a response, with nothing in it."""
    bundle = response_bundle(request_id="x")
    bundle["entry"] = bundle["entry"][:1]
    bundle["entry"][0]["resource"]["response"] = {"code": "ok"}

    response = facts(as_xml(bundle)).response

    assert response is not None
    assert (response.identifier, response.response_code, response.codes) == ("", "ok", ())


def test_other_codings_are_not_itk_codes() -> None:
    bundle = response_bundle(request_id="x", codes=("20013",))
    coding = {"system": "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1", "code": "INVALID"}
    bundle["entry"][1]["resource"]["issue"][0]["details"]["coding"].insert(0, coding)

    response = facts(as_xml(bundle)).response

    assert response is not None
    assert response.codes == ("20013",)


@in_both_formats
def test_facts_show_nothing_in_a_repr(make: Make) -> None:
    found = facts(make())

    response = facts(make_response_xml(request_id="request-seven")).response
    shown = f"{found!r} {found.patient!r} {read(make())!r} {response!r}"

    assert not [
        value
        for value in ("Smith", "9990000042", "2001-02-14", "Consultation", "request-seven")
        if value in shown
    ]


@pytest.mark.parametrize("where", ["patient", "reference", "receiver", "destination"])
def test_the_practice_that_a_message_is_for_is_read(where: str) -> None:
    """From the patient's generalPractitioner, the header's receiver (STU3) or its destination's (R4)."""
    identifier = {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "v81999"}
    practice = {"resourceType": "Organization", "id": "practice", "identifier": [identifier]}
    bundle = json.loads(make_bundle_json())
    header = next(
        one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "MessageHeader"
    )
    document = next(one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "Bundle")
    patients = [one["resource"] for one in (*bundle["entry"], *document["entry"])]
    patient = next(one for one in patients if one["resourceType"] == "Patient")
    reference = {"reference": "urn:uuid:0f0f0f0f-0000-4000-8000-000000000001"}
    for holder in (bundle, document):
        holder["entry"].append({"fullUrl": reference["reference"], "resource": practice})
    match where:
        case "patient":
            patient["generalPractitioner"] = [{"identifier": identifier}]
        case "reference":
            patient["generalPractitioner"] = [reference]
        case "receiver":
            header["receiver"] = reference
        case "destination":
            header["destination"] = [{"receiver": reference}]

    assert facts(as_xml(bundle)).practice_codes == {"V81999"}
    assert facts(json.dumps(bundle).encode()).practice_codes == {"V81999"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (make_bundle_xml(), []),
        (b"\xef\xbb\xbf" + make_bundle_xml(), ["byte order mark"]),
        (make_bundle_json(), ["JSON"]),
        (b"\xef\xbb\xbf" + make_bundle_json(), ["byte order mark", "JSON"]),
        (make_bundle_xml().replace(b'"UTF-8"', b'"windows-1252"', 1), ["UTF-8"]),
    ],
)
def test_what_some_recipients_reject_of_a_message_is_reported(data: bytes, words: list[str]) -> None:
    """XML is what ITK3 wants, and without a byte order mark."""
    oddities = read(data).oddities

    assert [word for word, (text, _) in zip(words, oddities, strict=True) if word in text] == words


@in_both_formats
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "final"}, []),
        ({"status": "amended"}, []),
        ({"status": "preliminary"}, ["preliminary"]),
        ({"status": "entered-in-error"}, ["entered in error"]),
        (
            {"subject": {"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}},
            ["refers to a patient"],
        ),
    ],
)
def test_what_may_be_wrong_with_the_document_is_told(make: Make, changes: Json, words: list[str]) -> None:
    """A message that another system made is sent, and a person may look."""
    doubts = facts(make(composition_changes=changes)).doubts

    assert [word for word, (text, _) in zip(words, doubts, strict=True) if word in text] == words
