"""Whom a message is about: one patient for certain, or none and the reason why; XML and JSON alike."""

from typing import Any

import pytest

from meshctl.payload.facts import SEVERAL_NHS_NUMBERS, SEVERAL_PATIENTS
from tests.payload.reading import Make, facts, in_both_formats, patient
from tests.payloads import (
    NHS_NUMBER_SYSTEM,
    OLD_NHS_NUMBER_SYSTEM,
    Json,
    MadeMessage,
    MadePatient,
    as_xml,
    entry,
    person_name,
    synthetic_nhs_number,
)

MOTHER = MadePatient(
    nhs_number=synthetic_nhs_number(100),
    surname="Carter",
    given=("Mary",),
    prefix=("Mrs",),
    date_of_birth="1990-05-01",
    resource_id="mother-1",
    full_url="urn:uuid:6f1e0000-0000-4000-8000-00000000000A",
)
BABY = MadePatient(
    nhs_number=synthetic_nhs_number(200),
    surname="Baker",
    given=("Ann",),
    prefix=(),
    date_of_birth="2026-07-01",
    resource_id="baby-1",
    full_url="urn:uuid:6f1e0000-0000-4000-8000-00000000000B",
)


@in_both_formats
@pytest.mark.parametrize(
    "subject",
    [
        "urn:uuid:6f1e0000-0000-4000-8000-00000000000B",
        "urn:uuid:6f1e0000-0000-4000-8000-00000000000b",
        "URN:UUID:6F1E0000-0000-4000-8000-00000000000B",
        "6f1e0000-0000-4000-8000-00000000000B",
        "Patient/baby-1",
        "Patient/Baby-1",
        "patient/baby-1",
        "urn:uuid:baby-1",
        "baby-1",
        " baby-1 ",
        "Patient/baby-1/_history/2",
        "https://pas.example.nhs.uk/fhir/Patient/baby-1",
        "https://pas.example.nhs.uk/fhir/Patient/baby-1/_history/7",
    ],
)
def test_the_subject_decides_among_several_patients(make: Make, subject: str) -> None:
    """Composition.subject picks its Patient by any form of reference in use, and in either case."""
    assert patient(make(patients=(MOTHER, BABY), subject=subject)).surname == "Baker"


@in_both_formats
@pytest.mark.parametrize("subject", [None, "urn:uuid:nobody-here", "RelatedPerson/baby-1", "#baby-1"])
def test_several_patients_and_no_telling_subject_is_a_problem(make: Make, subject: str | None) -> None:
    """Without a subject that resolves to one of them, no patient is guessed."""
    found = facts(make(patients=(MOTHER, BABY), subject=subject))

    assert found.patient is None
    assert found.patient_problem == SEVERAL_PATIENTS


@in_both_formats
@pytest.mark.parametrize("subject", [None, "urn:uuid:nobody-here"])
def test_a_single_patient_needs_no_subject(make: Make, subject: str | None) -> None:
    assert patient(make(patients=(BABY,), subject=subject)).surname == "Baker"


@in_both_formats
def test_exact_spelling_goes_before_case(make: Make) -> None:
    """Two ids that differ in case alone are two patients."""
    first = MadePatient(surname="Lower", resource_id="p1", full_url=None)
    second = MadePatient(surname="Upper", resource_id="P1", full_url=None)

    assert patient(make(patients=(first, second), subject="Patient/P1")).surname == "Upper"
    assert patient(make(patients=(first, second), subject="Patient/p1")).surname == "Lower"


@in_both_formats
def test_a_full_url_goes_before_an_id(make: Make) -> None:
    """A reference that is one entry's fullUrl does not mean another's id."""
    decoy = MadePatient(
        surname="Decoy", resource_id="6f1e0000-0000-4000-8000-00000000000B", full_url="urn:uuid:x"
    )

    assert patient(make(patients=(decoy, BABY), subject=BABY.full_url)).surname == "Baker"


@in_both_formats
def test_two_patients_under_one_reference_is_a_problem(make: Make) -> None:
    """When nothing tells two Patients apart that a reference means, neither is taken."""
    twin = MadePatient(surname="Other", resource_id=BABY.resource_id, full_url=BABY.full_url)

    assert facts(make(patients=(BABY, twin), subject=BABY.full_url)).patient_problem == SEVERAL_PATIENTS


@in_both_formats
def test_the_same_patient_twice_is_one(make: Make) -> None:
    """A Patient repeated with the same details is no second patient."""
    copy = MadePatient(
        nhs_number=BABY.nhs_number,
        surname="Baker",
        given=("Ann",),
        prefix=(),
        date_of_birth="2026-07-01",
        resource_id="copy",
        full_url="urn:uuid:copy",
    )

    assert patient(make(patients=(BABY, copy), subject=None)).surname == "Baker"


@in_both_formats
def test_the_documents_own_patient_goes_before_one_elsewhere(make: Make) -> None:
    """An id that occurs in two Bundles means, in a document, the document's own."""
    outside = MadePatient(surname="Outside", resource_id="baby-1", full_url="urn:uuid:outside").resource()
    message = MadeMessage(patients=(BABY,), subject="Patient/baby-1").bundle()
    message["entry"].insert(1, {"fullUrl": "urn:uuid:outside", "resource": outside})

    assert patient(as_xml(message)).surname == "Baker"
    assert patient(make(patients=(BABY,), subject="Patient/baby-1")).surname == "Baker"


@in_both_formats
def test_a_patient_in_the_outer_bundle_is_found(make: Make) -> None:
    """A document may refer to a Patient that stands beside it, in the message."""
    message = MadeMessage(patients=(), subject="Patient/mother-1").bundle()
    message["entry"] += [entry(BABY.resource()), entry(MOTHER.resource())]

    assert patient(as_xml(message)).surname == "Carter"
    assert facts(make(patients=())).patient is None


def test_a_document_nested_deeper_is_found() -> None:
    """Bundles within Bundles within Bundles are all looked through."""
    message = MadeMessage(patients=(MOTHER, BABY), subject="Patient/baby-1").bundle()
    document = message["entry"][2]["resource"]
    inner = {"resourceType": "Bundle", "id": "wrapped", "type": "document", "entry": document["entry"]}
    document["entry"] = [entry(inner)]

    found = facts(as_xml(message))

    assert found.title == "Consultation report"
    assert found.patient is not None
    assert found.patient.surname == "Baker"


@in_both_formats
def test_a_contained_patient_is_found(make: Make) -> None:
    contained = MadePatient(surname="Contained", resource_id="inside").resource()
    changes: Json = {"contained": [contained], "subject": {"reference": "#inside"}}

    assert patient(make(patients=(MOTHER,), composition_changes=changes)).surname == "Contained"


@in_both_formats
def test_a_subject_may_be_named_by_its_nhs_number(make: Make) -> None:
    """A subject that gives an NHS number instead of a reference means the Patient who has it."""
    spaced = f"{BABY.nhs_number}"[:3] + " " + f"{BABY.nhs_number}"[3:]
    changes = {"subject": {"identifier": {"system": NHS_NUMBER_SYSTEM, "value": spaced}}}

    assert patient(make(patients=(MOTHER, BABY), composition_changes=changes)).surname == "Baker"


@in_both_formats
def test_a_subject_whose_nhs_number_nobody_has_is_a_problem(make: Make) -> None:
    """A Patient is not taken for a subject that is known by another number."""
    unknown = {"system": NHS_NUMBER_SYSTEM, "value": synthetic_nhs_number(300)}
    found = facts(make(patients=(BABY,), composition_changes={"subject": {"identifier": unknown}}))

    assert (found.patient, found.patient_problem) == (None, SEVERAL_PATIENTS)


@in_both_formats
@pytest.mark.parametrize("kind", ["RelatedPerson", "Practitioner", "Person"])
def test_only_a_patient_is_taken_for_a_patient(make: Make, kind: str) -> None:
    """Another person with name, birth date and NHS number is never the patient, not even as subject."""
    other = {**MOTHER.resource(), "resourceType": kind}

    alone = facts(make(patients=(), others=(other,), subject="mother-1"))
    beside = patient(make(patients=(BABY,), others=(other,), subject="baby-1"))

    assert (alone.patient, alone.patient_problem) == (None, None)
    assert beside.surname == "Baker"


@in_both_formats
@pytest.mark.parametrize(
    "system",
    [
        NHS_NUMBER_SYSTEM,
        OLD_NHS_NUMBER_SYSTEM,
        "https://fhir.nhs.uk/Id/NHS-Number",
        "urn:oid:2.16.840.1.113883.2.1.4.1",
    ],
)
def test_nhs_numbers_are_known_under_old_and_new_systems(make: Make, system: str) -> None:
    """Every system that means NHS number is read, and the number stays as written."""
    assert patient(
        make(patients=(MadePatient(nhs_number="999 000 0042", nhs_number_system=system),))
    ).nhs_number == ("999 000 0042")


@in_both_formats
def test_other_identifiers_are_no_nhs_number(make: Make) -> None:
    hospital = {"system": "https://example.org/hospital-number", "value": synthetic_nhs_number(5)}

    assert patient(make(patients=(MadePatient(identifiers=(hospital,)),))).nhs_number is None


def _number(index: int, **more: Any) -> Json:
    return {**more, "system": NHS_NUMBER_SYSTEM, "value": synthetic_nhs_number(index)}


@in_both_formats
@pytest.mark.parametrize(
    "former", [_number(7, use="old"), {**_number(7), "period": {"end": "2020-01-01"}}], ids=["old", "ended"]
)
def test_a_former_nhs_number_gives_way_to_the_present_one(make: Make, former: Json) -> None:
    """Of two NHS numbers the one that is old or ended does not count."""
    made = MadePatient(identifiers=(former, _number(8)))

    assert patient(make(patients=(made,))).nhs_number == synthetic_nhs_number(8)


@in_both_formats
def test_a_number_beside_the_reference_must_be_the_patients(make: Make) -> None:
    """Whose document it is would be a guess."""
    subject = {"reference": MadePatient().full_url, "identifier": _number(9)}
    differ = facts(make(composition_changes={"subject": subject}))
    same = facts(make(composition_changes={"subject": {**subject, "identifier": _number(4)}}))

    assert (differ.patient, differ.patient_problem) == (None, SEVERAL_PATIENTS)
    assert same.patient is not None


@in_both_formats
def test_two_present_nhs_numbers_are_a_problem(make: Make) -> None:
    """A Patient with two NHS numbers that differ cannot be routed; the same number written twice can."""
    same = {
        "system": OLD_NHS_NUMBER_SYSTEM,
        "value": f"{synthetic_nhs_number(7)[:3]} {synthetic_nhs_number(7)[3:]}",
    }
    differ = facts(make(patients=(MadePatient(identifiers=(_number(7), _number(8))),)))

    assert (differ.patient, differ.patient_problem) == (None, SEVERAL_NHS_NUMBERS)
    assert patient(
        make(patients=(MadePatient(identifiers=(_number(7), same)),))
    ).nhs_number == synthetic_nhs_number(7)


@in_both_formats
@pytest.mark.parametrize(
    ("names", "surname"),
    [
        ([person_name("Nick", use="nickname"), person_name("Right")], "Right"),
        ([person_name("Nick", use="nickname"), person_name("Right", use="usual")], "Right"),
        ([person_name("Anon", use="anonymous"), person_name("Right", use=None)], "Right"),
        ([person_name("Right", use="nickname"), person_name("Wrong", use="old")], "Right"),
        ([person_name("Right", use="usual"), person_name("Other", use="temp")], "Right"),
        ([person_name("Right", use=None), person_name("Other", use=None)], "Right"),
        ([person_name("Wrong", use="old"), person_name("Right", use="usual")], "Right"),
        ([person_name("Wrong", use="maiden"), person_name("Right", use=None)], "Right"),
        ([person_name("Wrong", ended="2015-03-01"), person_name("Right")], "Right"),
        ([person_name("Wrong", ended="2015"), person_name("Right", use="usual")], "Right"),
        ([person_name("Other", use="usual"), person_name("Right", ended="2999-01-01")], "Right"),
        ([person_name("Other", use="usual"), person_name("Right", ended="2999")], "Right"),
        ([person_name("Wrong", use="old"), person_name("Right", ended="2015-03-01")], "Right"),
        ([person_name("Right", use="old")], "Right"),
    ],
)
def test_the_name_in_use_is_taken(make: Make, names: list[Json], surname: str) -> None:
    """The official name counts, else the first in use; old and ended names only if there is no other."""
    assert patient(make(patients=(MadePatient(names=tuple(names)),))).surname == surname


@in_both_formats
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (person_name("Smith", given=("Richard", "John"), prefix=("Rev", "Dr")), "Rev Dr Richard John Smith"),
        (person_name("Smith", given=(), prefix=()), "Smith"),
        ({"use": "official", "text": "Dr R. Smith"}, "Dr R. Smith"),
        ({"use": "official", "given": ["Richard"]}, "Richard"),
        ({"use": "official"}, None),
    ],
)
def test_the_display_name_is_what_the_subject_shows(make: Make, name: Json, shown: str | None) -> None:
    """Prefix, given and family names in this order; the name's text where it has no family name."""
    assert patient(make(patients=(MadePatient(names=(name,)),))).display_name == shown


@in_both_formats
@pytest.mark.parametrize("date_of_birth", ["1980", "1980-02", "1980-02-30", "2999-01-01", "09/01/1957"])
def test_dates_of_birth_pass_as_written(make: Make, date_of_birth: str) -> None:
    """The reader does not judge a date; what is partial or impossible is rejected where it is used."""
    assert patient(make(patients=(MadePatient(date_of_birth=date_of_birth),))).date_of_birth == date_of_birth


@in_both_formats
@pytest.mark.parametrize(
    "surname", ["O'Brien-Smythe", "Smith_Jones", "Smi\nth", "van der Berg", "Ng`", "Ólafsdóttir"]
)
def test_surnames_pass_as_written(make: Make, surname: str) -> None:
    """Even what cannot be routed is passed on, so that its rejection can say what is wrong."""
    assert patient(make(patients=(MadePatient(surname=surname),))).surname == surname


@in_both_formats
def test_a_patient_without_parts_is_still_the_patient(make: Make) -> None:
    """Parts that a Patient lacks are None, so that a sidecar can add them."""
    bare = patient(make(patients=(MadePatient(nhs_number=None, date_of_birth=None, surname=None),)))

    assert (bare.nhs_number, bare.date_of_birth, bare.surname, bare.display_name) == (None, None, None, None)


@in_both_formats
def test_a_value_too_long_to_route_is_no_value(make: Make) -> None:
    """A surname of more than a thousand characters is left out rather than carried around."""
    assert patient(make(patients=(MadePatient(surname="S" * 1001),))).surname is None
    assert patient(make(patients=(MadePatient(surname="S" * 1000),))).surname == "S" * 1000
