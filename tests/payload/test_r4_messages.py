"""FHIR R4 messages: the event in its other places, and the patient where there is no document."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from meshctl.payload.facts import SEVERAL_PATIENTS
from tests.payload.reading import facts as read
from tests.payloads import MadePatient, as_xml, make_bundle_xml, referral_bundle, response_bundle

Json = dict[str, Any]
Write = Callable[[Json], bytes]
CODING = {
    "eventCoding": {
        "system": "https://fhir.nhs.uk/CodeSystem/message-events-bars",
        "code": "servicerequest-request",
    }
}
URI = {"eventUri": "https://example.org/events#admit"}
MOTHER = MadePatient()
CHILD = MadePatient(
    nhs_number="9990000190",
    surname="Jones",
    date_of_birth="2026-01-02",
    resource_id="7d1a9a4e-0000-4000-8000-000000000001",
    full_url="urn:uuid:7d1a9a4e-0000-4000-8000-000000000001",
)


def _json(bundle: Json) -> bytes:
    return json.dumps(bundle).encode()


both_formats = pytest.mark.parametrize("write", [as_xml, _json], ids=["xml", "json"])


@both_formats
@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (CODING, "servicerequest-request"),
        (URI, "https://example.org/events#admit"),
        (CODING | URI, "servicerequest-request"),
        ({"eventCoding": {"system": "https://example.org"}, **URI}, "https://example.org/events#admit"),
        ({}, None),
    ],
)
def test_the_event_is_the_coding_s_code_or_the_uri(write: Write, event: Json, expected: str | None) -> None:
    facts = read(write(referral_bundle(event=event)))

    assert facts.event == expected


@both_formats
@pytest.mark.parametrize("filler_bytes", [0, 2_000_000], ids=["small", "streamed"])
def test_patient_references_and_sender_are_read_as_in_stu3(write: Write, filler_bytes: int) -> None:
    """Ids, patient and sender come out; nothing says which acknowledgements are wanted."""
    facts = read(write(referral_bundle(event=CODING, filler_bytes=filler_bytes)))

    assert facts.references == (
        "referral-identifier",
        "79120f41-a431-4f08-bcc5-1e67006fcae0",
        "1cbdfb97-5859-48a4-8301-d54eab818d68",
    )
    assert facts.patient is not None
    assert (facts.patient.nhs_number, facts.patient.surname) == (MOTHER.nhs_number, "Smith")
    assert (facts.ods_code, facts.practice_name, facts.acknowledgements) == ("RXX", "A trust", None)


@both_formats
@pytest.mark.parametrize("focus", ["ServiceRequest", "Task", "DiagnosticReport", "MedicationRequest"])
@pytest.mark.parametrize(("about", "surname"), [(0, "Smith"), (1, "Jones")])
def test_the_focus_tells_several_patients_apart(write: Write, focus: str, about: int, surname: str) -> None:
    """Of a mother and a child the one counts whom the request in the message's focus is about."""
    facts = read(write(referral_bundle(event=CODING, patients=(MOTHER, CHILD), focus=focus, about=about)))

    assert facts.patient is not None
    assert facts.patient.surname == surname


@both_formats
def test_several_patients_are_not_guessed_at(write: Write) -> None:
    """Where nothing tells them apart there is no patient, and the reason is given."""
    facts = read(write(referral_bundle(event=CODING, patients=(MOTHER, CHILD), about=None)))

    assert (facts.patient, facts.patient_problem) == (None, SEVERAL_PATIENTS)


def test_a_document_s_subject_goes_before_other_requests() -> None:
    """In a message with a document the Composition's subject counts, as in STU3."""
    request = {"resourceType": "ServiceRequest", "id": "request", "subject": {"reference": CHILD.full_url}}

    facts = read(make_bundle_xml(patients=(MOTHER, CHILD), others=(request,)))

    assert facts.patient is not None
    assert facts.patient.surname == "Smith"


@both_formats
def test_a_response_is_read_as_in_stu3(write: Write) -> None:
    """What an R4 response answers, and with which codes, is where it is in STU3."""
    bundle = response_bundle(request_id="referral-identifier", codes=("20013", "30001"))
    header = bundle["entry"][0]["resource"]
    header["eventCoding"] = header.pop("event")
    del header["extension"]

    facts = read(write(bundle))

    assert facts.event == "ITK008M"
    assert facts.response is not None
    assert (facts.response.identifier, facts.response.codes) == ("referral-identifier", ("20013", "30001"))
