"""CDA in an ITK2 envelope: who the patient is, what is asked for, and what no receiver would take."""

import base64
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.errors import Rejection
from meshctl.payload import outline
from meshctl.payload.facts import (
    SEVERAL_NHS_NUMBERS,
    SEVERAL_PATIENTS,
    MessageFacts,
    MessageKind,
    PatientFacts,
    ResponseFacts,
)
from tests.itk2 import (
    DISCHARGE,
    LOCAL,
    TRACKING_ID,
    UNVERIFIED,
    VERIFIED,
    MadeCda,
    MadeEnvelope,
    in_soap,
    make_business_answer,
    make_encoded_envelope,
    make_envelope,
    make_infrastructure_answer,
)
from tests.payload.reading import facts, measured, outcome, patient, read, rejection
from tests.payload.test_any_payload import CODES

LARGE = "<nonXMLBody><text>" + base64.b64encode(bytes(range(256)) * 8_000).decode() + "</text></nonXMLBody>"
_SMALL_AND_LARGE = pytest.mark.parametrize("body", ["<structuredBody/>", LARGE], ids=["small", "large"])
_AS_WRITTEN = pytest.mark.parametrize("make", [make_envelope, make_encoded_envelope], ids=["plain", "base64"])


def _code(data: bytes) -> str | None:
    """Return the code of the reason why a receiver of ITK2 envelopes would not take a file."""
    found = facts(data)
    assert found.kind is MessageKind.ITK2
    return found.rejection.code if found.rejection else None


def _all(record: object) -> dict[str, Any]:
    assert isinstance(record, MessageFacts | PatientFacts | ResponseFacts)
    values = {name: getattr(record, name) for name in type(record).__slots__}
    is_record = (PatientFacts, ResponseFacts)
    return {name: _all(value) if isinstance(value, is_record) else value for name, value in values.items()}


@_SMALL_AND_LARGE
@_AS_WRITTEN
def test_an_envelope_says_all(make: Any, body: str) -> None:
    """Patient, type, tracking id, acknowledgements, title, custodian: in small files and large, in base64."""
    found = facts(make(MadeCda(body=body)))

    assert _all(found) == {
        "event": DISCHARGE,
        "endpoint": None,
        "references": (TRACKING_ID, TRACKING_ID.lower()),
        "acknowledgements": ("infrastructure", "business"),
        "title": "Discharge summary",
        "confidential": False,
        "practice_name": "Larkfield Hospital",
        "ods_code": "RXX",
        "patient": {
            "nhs_number": "9990000115",
            "date_of_birth": "1951-07-09",
            "surname": "Lowe",
            "display_name": "Mrs Ada May Lowe",
        },
        "patient_problem": None,
        "document_version": "1",
        "response": None,
        "practice_codes": frozenset({"A81001"}),
        "identity": "6e0d3b7c-1f52-4a61-8e0a-0c9d5b1e7a10",
        "kind": MessageKind.ITK2,
        "doubts": (),
        "rejection": None,
    }


def test_large_files_are_read_with_their_hash() -> None:
    reading = read(make_envelope(MadeCda(body=LARGE)))

    assert reading.sha256 is not None
    assert reading.content is None
    assert reading.size_bytes > 2_000_000


# The patient.

LEGAL_NAME = '<name use="L"><family>Lowe</family></name>'


def _ended(day: str) -> str:
    return f'<name use="L"><validTime><high value="{day}"/></validTime>'


@pytest.mark.parametrize(
    "ids",
    [
        ((VERIFIED, "9990000115"),),
        ((UNVERIFIED, "9990000115"),),
        ((LOCAL, "9990000069"), (UNVERIFIED, "9990000115")),
        ((LOCAL, "H77"), (LOCAL, "9990000069"), (VERIFIED, "9990000115"), (UNVERIFIED, "999 000 0115")),
        ((VERIFIED, None), (UNVERIFIED, "9990000115")),
    ],
)
def test_the_nhs_number_is_found_by_its_root(ids: tuple[tuple[str, str | None], ...]) -> None:
    """Verified or not, in any order; a local number is none, however it looks, nor is one without a value."""
    found = patient(make_envelope(MadeCda(ids=ids)))

    assert found.nhs_number == "9990000115"


@pytest.mark.parametrize("ids", [(), ((LOCAL, "9990000115"),), ((VERIFIED, None),)])
def test_without_an_nhs_number_there_is_none(ids: tuple[tuple[str, str | None], ...]) -> None:
    assert patient(make_envelope(MadeCda(ids=ids))).nhs_number is None


def test_two_nhs_numbers_are_no_patient() -> None:
    found = facts(make_envelope(MadeCda(ids=((VERIFIED, "9990000115"), (UNVERIFIED, "9990000123")))))

    assert (found.patient, found.patient_problem) == (None, SEVERAL_NHS_NUMBERS)


def test_two_patients_are_no_patient() -> None:
    """Unless both are the same."""
    other = MadeCda(family="Marsh").target()
    found = facts(make_envelope(MadeCda(further_targets=other)))
    assert (found.patient, found.patient_problem) == (None, SEVERAL_PATIENTS)

    assert patient(make_envelope(MadeCda(further_targets=MadeCda().target()))).surname == "Lowe"


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("19510709", "1951-07-09"),
        ("195107090830", "1951-07-09"),
        ("19510709083000.000+0100", "1951-07-09"),
        ("1951", "1951"),
        ("195107", "1951-07"),
        ("1951070", "1951070"),
        ("09/07/1951", "09/07/1951"),
        (None, None),
    ],
)
def test_a_birth_time_is_a_date(written: str | None, read_as: str | None) -> None:
    """The day as it is written; what is no date of HL7 stays as it is, and is rejected later."""
    assert patient(make_envelope(MadeCda(birth_time=written))).date_of_birth == read_as


@pytest.mark.parametrize(
    ("names", "surname", "display"),
    [
        (("<name><family>Lake&amp;Hill</family><given>Ann</given></name>",), "Lake&Hill", "Ann Lake&Hill"),
        (("<name><family>O&apos;Neill</family></name>",), "O'Neill", "O'Neill"),
        (("<name>  <family>\n van  der\tBerg </family></name>",), "van der Berg", "van der Berg"),
        (("<name><family>Smith</family><family>Jones</family></name>",), "Smith Jones", "Smith Jones"),
        (('<name><family qualifier="BR">Marsh</family><family>Lowe</family></name>',), "Lowe", "Lowe"),
        (('<name><family qualifier="BR">Marsh</family></name>',), "Marsh", "Marsh"),
        (("<name>Mrs Ada Lowe</name>",), None, "Mrs Ada Lowe"),
        (
            (
                '<name use="PREVIOUS-MAIDEN"><family>Marsh</family></name>',
                "<name><family>Lowe</family></name>",
            ),
            "Lowe",
            "Lowe",
        ),
        (
            ('<name use="A"><family>Alias</family></name>', '<name use="L"><family>Lowe</family></name>'),
            "Lowe",
            "Lowe",
        ),
        (('<name use="PREVIOUS"><family>Marsh</family></name>',), "Marsh", "Marsh"),
        ((f"{_ended('20100331')}<family>Marsh</family></name>", LEGAL_NAME), "Lowe", "Lowe"),
        (
            (f"{_ended('2010')}<family>Marsh</family></name>", "<name><family>Lowe</family></name>"),
            "Lowe",
            "Lowe",
        ),
        (
            (f"{_ended('29991231')}<family>Lowe</family></name>", "<name><family>X</family></name>"),
            "Lowe",
            "Lowe",
        ),
        ((f"{_ended('20100331')}<family>Lowe</family></name>",), "Lowe", "Lowe"),
        (("<name><family><![CDATA[Lo]]>we<!-- x --></family></name>",), "Lowe", "Lowe"),
        (("<name><family>" + "x" * 2_000 + "</family></name>",), None, None),
        (("<name><family>" + " " * 2_000 + "Lowe</family></name>",), None, None),
    ],
)
def test_names_are_read_as_people_wrote_them(
    names: tuple[str, ...], surname: str | None, display: str | None
) -> None:
    """The legal name, or one in use, not one that has ended; an escape is what it stands for.

    What is too long is no name.
    """
    found = patient(make_envelope(MadeCda(names=names)))

    assert (found.surname, found.display_name) == (surname, display)


# The envelope.


def test_namespaces_count_and_prefixes_do_not() -> None:
    """The same envelope in other prefixes says the same; in other namespaces it is no envelope."""
    plain = make_envelope()
    other = plain.replace(b"<itk:", b"<ns0:").replace(b"</itk:", b"</ns0:").replace(b":itk=", b":ns0=")
    other = other.replace(b"npfitlc", b"x")

    assert _all(facts(other)) == _all(facts(plain))
    assert read(plain.replace(b"urn:nhs-itk:ns:201005", b"urn:nhs-itk:ns:209905")).facts is None


@pytest.mark.parametrize(
    ("infrastructure", "business", "asked"),
    [
        ("true", "true", ("infrastructure", "business")),
        ("true", "false", ("infrastructure",)),
        (None, "1", ("business",)),
        ("false", None, ()),
        (None, None, None),
        ("maybe", None, None),
    ],
)
def test_the_acknowledgements_asked_for_are_read(
    infrastructure: str | None, business: str | None, asked: tuple[str, ...] | None
) -> None:
    found = facts(make_envelope(infrastructure=infrastructure, business=business))

    assert found.acknowledgements == asked


def test_an_envelope_without_a_tracking_id_has_no_references() -> None:
    assert facts(make_envelope(tracking_id=None)).references == ()


@pytest.mark.parametrize("written", ["Smith 9990000115", "POCD", "", "POCD_MT000026GB01x"])
def test_a_type_that_is_none_is_no_event(written: str) -> None:
    """It may stand in texts, so it can be nothing else."""
    assert facts(make_envelope(MadeCda(message_type=written))).event is None


def test_confidential_documents_are_told() -> None:
    for code, expected in (("R", True), ("V", True), ("v", True), ("N", False)):
        assert facts(make_envelope(MadeCda(confidentiality=code))).confidential is expected


def test_codes_of_no_practice_are_told() -> None:
    """Whether the practice has one, or a receiver."""
    for cda in (MadeCda(practice="V81999"), MadeCda(receiver="v81999")):
        assert "V81999" in facts(make_envelope(cda)).practice_codes


# What no receiver would take.

_CDA = MadeCda().written()
_REFUSED = {
    "bare": (_CDA, "cda_bare"),
    "soap": (in_soap(make_envelope()), "cda_in_soap"),
    "soap 1.2": (in_soap(make_envelope(), "http://www.w3.org/2003/05/soap-envelope"), "cda_in_soap"),
    "bare in soap": (in_soap(_CDA), "cda_in_soap"),
    "base64 in soap": (in_soap(make_encoded_envelope()), "cda_in_soap"),
    "encrypted": (make_envelope(flags=' encrypted="true"'), "cda_encrypted"),
    "compressed": (make_envelope(flags=' compressed="true" base64="true"'), "cda_compressed"),
    "encrypted without a flag": (
        MadeEnvelope(payloads=(b'<x:EncryptedData xmlns:x="http://www.w3.org/2001/04/xmlenc#"/>',)).written(),
        "cda_encrypted",
    ),
    "two payloads": (MadeEnvelope(payloads=(_CDA, _CDA)).written(), "cda_several_payloads"),
    "metadata": (MadeEnvelope(payloads=(_CDA, b"<metadata/>")).written(), "cda_several_payloads"),
    "two documents in one": (MadeEnvelope(payloads=(_CDA + _CDA,)).written(), "cda_missing"),
    "more in it": (MadeEnvelope(payloads=(_CDA + b"<other/>",)).written(), "cda_missing"),
    "no CDA": (MadeEnvelope(payloads=(b"<ADT_A01/>",)).written(), "cda_missing"),
    "a PDF": (MadeEnvelope(payloads=(b"JVBERi0=",)).written(), "cda_missing"),
    "nothing": (MadeEnvelope().written(), "cda_missing"),
    "base64 that is XML": (make_envelope(flags=' base64="true"'), "cda_unreadable"),
}


@pytest.mark.parametrize(("data", "code"), _REFUSED.values(), ids=_REFUSED)
def test_what_no_receiver_would_take_says_why(data: bytes, code: str) -> None:
    assert _code(data) == code


@pytest.mark.parametrize("data", [in_soap(make_envelope()), _CDA], ids=["soap", "bare"])
def test_of_a_bare_document_or_one_in_soap_the_patient_is_read_all_the_same(data: bytes) -> None:
    """For use cases that send it as it is."""
    assert patient(data).nhs_number == "9990000115"
    assert facts(data).event == DISCHARGE


def _encoded(data: bytes) -> bytes:
    return MadeEnvelope(payloads=(data,), flags=' base64="true"').written()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"  ",
        b"=",
        b"PA",
        b"PA=",
        b"P!A=",
        b"PGEvPg==PGEvPg==",
        base64.b64encode(b"no XML"),
        base64.b64encode(b"<a>"),
        base64.b64encode(b"<!DOCTYPE a><a/>"),
        base64.b64encode(_CDA.decode().encode("utf-16")),
        base64.b64encode(b'<?xml version="1.0" encoding="UTF-7"?><a/>'),
        base64.b64encode(b"<!-- never closed"),
        base64.b64encode(b"<html/>"),
        base64.b64encode(_CDA[:-20]),
        base64.b64encode(_CDA)[:-5],
        b"<a>" + base64.b64encode(_CDA) + b"</a>",
        b"<a/>" + base64.b64encode(_CDA),
        base64.b64encode(_CDA)[:400] + b"<a/>" + base64.b64encode(_CDA)[400:],
        _CDA + base64.b64encode(_CDA),
        "\u00e9".encode(),
    ],
)
def test_a_payload_that_is_no_xml_in_base64_cannot_be_read(payload: bytes) -> None:
    assert _code(_encoded(payload)) == "cda_unreadable"


@pytest.mark.parametrize("written", ["<text>{}</text>", "<!-- -->{}"])
@pytest.mark.parametrize("what", ["&#65;", "x&amp;", "<a/>"])
def test_more_pieces_than_any_document_has_are_refused(
    written: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes time, which nobody may have for himself."""
    monkeypatch.setattr(outline, "MOST_TEXTS", 1000)
    monkeypatch.setattr(outline, "MOST_ELEMENTS", 1000)
    data = MadeEnvelope(payloads=(written.format(what * 2000).encode(),), flags=' base64="true"').written()

    with pytest.raises(Rejection) as caught:
        read(data)
    assert caught.value.code == "payload_too_complex"


@pytest.mark.parametrize("line", [0, 64, 76, 1])
def test_base64_may_have_line_ends(line: int) -> None:
    assert patient(make_encoded_envelope(line=line)).surname == "Lowe"


def test_base64_of_something_else_is_no_document() -> None:
    assert _code(_encoded(base64.b64encode(b"<other/>"))) == "cda_missing"


def test_the_manifest_item_of_the_payload_counts() -> None:
    """By its id; where there is but one, whatever its id."""
    data = make_encoded_envelope().replace(b'<itk:manifestitem id="uuid_', b'<itk:manifestitem id="')

    assert _code(data) is None


def test_other_files_with_such_names_are_opaque() -> None:
    """Another SOAP message, an envelope of something else, a document in no namespace."""
    others = [
        b'<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><x/></soap:Body></soap:Envelope>',
        b"<Envelope/>",
        b"<ClinicalDocument/>",
        b'<DistributionEnvelope xmlns="urn:other"/>',
    ]
    for data in others:
        assert read(data).facts is None
        # Too large to be read whole.
        assert read(data.replace(b"<", b"<!-- " + b"x" * 1_100_000 + b" --><", 1)).facts is None


# Answers.


def test_an_infrastructure_answer_is_read() -> None:
    found = facts(make_infrastructure_answer(TRACKING_ID, "Failure", ("1000", "2100"), tracking_id="D1"))

    assert found.response is not None
    assert _all(found.response) == {
        "identifier": TRACKING_ID,
        "response_code": "Failure",
        "codes": ("1000", "2100"),
        "is_r4": False,
        "level": "infrastructure",
    }
    assert (found.references, found.acknowledgements, found.rejection) == (("D1", "d1"), None, None)


@pytest.mark.parametrize("payload_type", [None, "AE"])
def test_a_business_answer_is_read(payload_type: str | None) -> None:
    """With the codes that it gives for the message, or for its payload; it may ask for an answer itself."""
    data = make_business_answer(
        TRACKING_ID, "AE", ("410", "LOCAL1"), payload_type=payload_type, infrastructure="true"
    )
    found = facts(data)

    assert found.response is not None
    assert (found.response.identifier, found.response.response_code) == (TRACKING_ID, "AE")
    assert (found.response.codes, found.response.level) == (("410", "LOCAL1"), "business")
    assert found.acknowledgements == ("infrastructure",)


@pytest.mark.parametrize(
    ("message", "payload", "counts"),
    [("AA", "AE", "AE"), ("AA", "AA", "AA"), ("AE", "AA", "AE"), (None, "AE", ""), ("ca", "CR", "CR")],
)
def test_a_refused_payload_is_a_refused_message(message: str | None, payload: str, counts: str) -> None:
    """An envelope has but one; without a word on the message there is no answer."""
    response = facts(make_business_answer(TRACKING_ID, message, payload_type=payload)).response

    assert response is not None
    assert response.response_code == counts


def test_answers_that_leave_something_out_are_answers() -> None:
    for data in (make_infrastructure_answer("", ""), make_business_answer("", None)):
        response = facts(data).response
        assert response is not None
        assert (response.identifier, response.response_code, response.codes) == ("", "", ())


def test_an_answer_in_base64_is_an_answer() -> None:
    """And one of two payloads is none."""
    answer = make_business_answer(TRACKING_ID)
    inside = answer[answer.index(b"<hl7:Business") : answer.index(b"</itk:payload>")]
    response = facts(_encoded(base64.b64encode(inside))).response
    assert response is not None
    assert response.identifier == TRACKING_ID

    assert facts(MadeEnvelope(payloads=(inside, inside)).written()).response is None


# Hostile.

CANARY = "Zebedee"


def test_no_error_quotes_content() -> None:
    """Neither a rejection of the file, nor one that waits for its use case."""
    whole = make_envelope(MadeCda(family=CANARY, title=CANARY))
    for at in range(400, len(whole), 97):
        damaged = whole[:at] + b"\x00" + whole[at:]
        found = rejection(damaged)
        assert CANARY not in f"{found} {found.text} {found.advice}"
    for data, _ in _REFUSED.values():
        named = facts(data.replace(b"Lowe", CANARY.encode()))
        assert CANARY not in repr(named)
        assert CANARY not in str(named.rejection)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (make_envelope()[:-30], "payload_xml_broken"),
        (make_envelope().replace(b"<itk:header", b"<nsx:header"), "payload_xml_broken"),
        (make_envelope().replace(b"\n<itk", b"\n<!DOCTYPE a><itk", 1), "payload_dtd"),
        (make_envelope(MadeCda(body="<a>" * 300 + "</a>" * 300)), "payload_too_complex"),
        (make_envelope(MadeCda(body=f"<a b='{'x' * 11_000_000}'/>")), "payload_too_complex"),
        (make_envelope(MadeCda(body="<!--" + "x" * 11_000_000 + "-->")), "payload_too_complex"),
        (make_envelope(MadeCda(further_targets="<recordTarget/>" * 60_000)), "payload_too_complex"),
        (MadeEnvelope(payloads=(b"<a/>" * 60_000,)).written(), "payload_too_complex"),
    ],
    ids=["cut", "prefix", "dtd", "deep", "attribute", "comment", "targets", "children"],
)
def test_what_is_made_to_hurt_is_rejected(data: bytes, code: str) -> None:
    assert rejection(data).code == code


@pytest.mark.slow
def test_a_text_of_many_megabytes_is_no_more_than_that() -> None:
    """A document attached as base64, or nothing but blanks, is passed over."""
    for text in ("A" * 12_000_000, " " * 12_000_000, "\n" * 12_000_000):
        body = f"<nonXMLBody><text>{text}</text></nonXMLBody>"
        assert patient(make_envelope(MadeCda(body=body))).surname == "Lowe"


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_envelope, make_encoded_envelope], ids=["plain", "base64"])
def test_megabytes_take_little_memory(make: Any) -> None:
    """A document of 20 MB, or as much structure, is read in a few megabytes of Python's memory."""
    for inside in ("A" * 20_000_000, "<entry/>" * 400_000):
        data = make(MadeCda(body=f"<nonXMLBody><text>{inside}</text></nonXMLBody>"))
        reading, peak_bytes = measured(partial(read, data))
        assert reading.facts is not None
        assert reading.facts.patient is not None
        assert peak_bytes < 6_000_000


_SEEDS = [
    make_envelope(),
    make_encoded_envelope(),
    in_soap(make_envelope()),
    _CDA,
    make_business_answer("x", "AE", ("410",), payload_type="AE"),
    make_infrastructure_answer("x", "Failure", ("1000",)),
]
_ALLOWED = CODES | {"opaque", "message"}


@given(st.sampled_from(_SEEDS), st.integers(0, 4000), st.integers(0, 60), st.binary(max_size=12))
def test_a_damaged_envelope_is_read_or_rejected(seed: bytes, at: int, cut: int, put: bytes) -> None:
    assert outcome(seed[:at] + put + seed[at + cut :]) in _ALLOWED


@given(st.sampled_from(_SEEDS), st.integers(0, 4000), st.integers(0, 4000), st.integers(0, 400))
def test_an_envelope_with_parts_moved_about_is_read_or_rejected(
    seed: bytes, at: int, to: int, length: int
) -> None:
    assert outcome(seed[:to] + seed[at : at + length] + seed[to:]) in _ALLOWED


@given(st.text(alphabet="ABab+/= \n\u00e9", max_size=60), st.sampled_from(["true", "1", "false", "x"]))
def test_any_base64_is_read_or_says_why_not(text: str, flag: str) -> None:
    data = MadeEnvelope(payloads=(text.encode(),), flags=f' base64="{flag}"').written()

    assert _code(data) in {"cda_unreadable", "cda_missing"}


_word = st.text(
    st.characters(min_codepoint=33, exclude_categories=["Cs", "Cc", "Co", "Cn", "Zs", "Zl", "Zp"]),
    min_size=1,
    max_size=30,
)


@given(_word, _word, st.booleans(), st.booleans())
def test_whatever_a_patient_is_called_is_read_alike(
    family: str, title: str, encoded: bool, large: bool
) -> None:
    """Small and large, plain and in base64."""
    cda = MadeCda(
        family=family,
        title=title,
        body=LARGE[:18] + "A" * 1_100_000 + "</text></nonXMLBody>" if large else "",
    )
    found = facts((make_encoded_envelope if encoded else make_envelope)(cda))

    assert found.patient is not None
    assert (found.patient.surname, found.title) == (family, title)


def test_facts_of_any_part_left_out_are_none() -> None:
    empty = MadeCda(
        message_type=None,
        ids=(),
        names=("<name/>",),
        birth_time=None,
        title=None,
        version=None,
        custodian=None,
        practice=None,
    )
    found: MessageFacts = facts(make_envelope(empty))

    assert found.patient is not None
    assert set(_all(found.patient).values()) == {None}
    assert (found.event, found.title, found.ods_code, found.document_version) == (None, None, None, None)
    assert (
        facts(
            replace(MadeEnvelope(), payloads=(b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>',)).written()
        ).patient
        is None
    )
