"""What an HL7 v2 message says of its document: whether it is sent, patient, type, title, date, author."""

import json
import sys
from typing import Any

import pytest

from meshctl.errors import Rejection
from meshctl.payload.hl7_file import read_hl7
from meshctl.payload.hl7_letter import Hl7Letter, read_letter
from meshctl.payload.hl7_state import Hl7Rules, WithdrawnRejection
from tests.hl7_messages import LETTER, NHS_NUMBER, OBR, PID, Fields, ed, mdm, message, oru, segment
from tests.payloads import pdf, synthetic_nhs_number

OTHER = synthetic_nhs_number(30)
# Ten digits that fail the check digit.
WRONG = f"{NHS_NUMBER[:-1]}{(int(NHS_NUMBER[-1]) + 1) % 10}"
FULL = {
    "patient.nhs_number": NHS_NUMBER,
    "patient.date_of_birth": "2001-02-14",
    "patient.surname": "SMITH",
    "patient.given": "BRIAN",
    "patient.prefix": "MR",
    "patient.gender": "male",
    "patient.verified": True,
    "document.type.code": "823681000000100",
    "document.type.display": "Outpatient letter",
    "document.title": "Outpatient letter",
    "document.date": "2026-11-19",
    "document.author.name": "Dr Gary Pritchard",
    "document.sender_reference": "M1",
}


def _letter(data: bytes, **rules: Any) -> Hl7Letter:
    found = read_hl7(data, 0)
    if isinstance(found.message, Rejection):
        raise found.message
    return read_letter(found.message, found.document, Hl7Rules(**rules))


def _code(data: bytes, **rules: Any) -> str:
    with pytest.raises(Rejection) as caught:
        _letter(data, **rules)
    return caught.value.code


def _values(data: bytes, *keys: str, **rules: Any) -> tuple[object, ...]:
    return tuple(_letter(data, **rules).values.get(key) for key in keys)


def _patient(pid: Fields, *keys: str) -> tuple[object, ...]:
    return _values(mdm(pid=pid), *(f"patient.{key}" for key in keys))


def test_a_message_says_all_that_a_sidecar_would() -> None:
    """The plain case."""
    letter = _letter(mdm())

    assert letter.values == FULL
    assert (letter.kind, letter.sender, letter.missing, letter.doubts) == ("MDM^T02", "RXX", {}, ())


def test_a_result_says_it_in_obr() -> None:
    """Its type, dates and number."""
    letter = _letter(oru(obx=[{3: "PDF^Report^L"}]))

    assert letter.kind == "ORU^R01"
    keys = ("document.title", "document.date", "document.type.code")
    title, written, code = (letter.values.get(key) for key in keys)
    assert (title, str(written)[:16], code) == ("Report", "2026-11-20T08:15", None)
    assert not letter.replaces_same
    assert letter.number != _letter(oru(obr={3: "F78^LAB"})).number


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (mdm(msh={9: "ADT^A01"}), "hl7_event"),
        (mdm(msh={9: "MDM"}, event=""), "hl7_event"),
        (mdm(msh={9: "MDM^T12"}), "hl7_event"),
        (mdm(msh={9: "ORU^R30"}), "hl7_event"),
        (mdm(msh={11: "T"}), "hl7_training"),
        (mdm(msh={11: "D^T"}), "hl7_training"),
        *((mdm(msh={11: word}), "hl7_training") for word in ("TEST", "Training", "DEBUG")),
        (mdm("T11", obx=[]), "hl7_cancel"),
        *((mdm(event, obx=[]), "hl7_no_content") for event in ("T01", "T03", "T05", "T07", "T09")),
        (mdm(txa={17: "IP", 19: "UN"}), "hl7_not_final"),
        *((mdm(txa={17: code}), "hl7_not_final") for code in ("DI", "IN", "IP", "PA", "PR", "DO", "??")),
        (mdm(txa={17: "CA"}), "hl7_withdrawn"),
        (mdm(txa={19: "UN"}), "hl7_not_final"),
        *((mdm(txa={19: code}), "hl7_withdrawn") for code in ("OB", "CA")),
        *((mdm(obx=[{11: code}]), "hl7_not_final") for code in "PRSIOU"),
        *((mdm(obx=[{11: code}]), "hl7_withdrawn") for code in "DWXN"),
        (mdm(txa={17: "IP"}, obx=[{11: "D"}]), "hl7_withdrawn"),
        (oru(obx=[*[{2: "NM", 5: "7"}] * 3, {11: "P"}]), "hl7_not_final"),
        *((oru(obr={25: code}), "hl7_not_final") for code in "OISAPR"),
        (oru(obr={25: "X"}), "hl7_withdrawn"),
        (mdm() + message(segment("TXA", {1: "2"})), "hl7_several_documents"),
        (mdm() + message(segment("PID", PID)), "hl7_several_patients"),
        (mdm(obx=[{2: "RP", 5: "letter.pdf"}]), "hl7_pointer"),
    ],
)
def test_what_is_not_to_be_sent_is_refused(data: bytes, code: str) -> None:
    """Cancelled, withdrawn, without content, not final, for training, or no document at all."""
    assert _code(data) == code


@pytest.mark.parametrize(
    "data",
    [
        *(mdm(event) for event in ("T02", "T04", "T06", "T08", "T10")),
        mdm(msh={9: "MDM"}),
        mdm(msh={9: "mdm^t02"}),
        oru(msh={9: "ORU"}),
        *(mdm(txa={17: code}) for code in ("AU", "LA", "F", "")),
        mdm(txa={19: ""}),
        *(mdm(obx=[{11: code}]) for code in ("F", "C", "A", "B", "V", "")),
        *(oru(obr={25: code}) for code in ("F", "C", "")),
        oru(obx=[*[{2: "NM", 5: "7", 11: "P"}] * 3, {}]),
        mdm(msh={11: ""}),
    ],
)
def test_what_is_final_is_sent(data: bytes) -> None:
    """Of the document alone the state counts."""
    assert _letter(data).document.data is None
    assert _letter(data).document.size_bytes == len(LETTER)


def test_a_site_may_take_more() -> None:
    """Documents that are not signed, and training messages."""
    assert _letter(mdm(txa={17: "DO"}), unsigned_is_final=True)
    assert _letter(mdm(msh={11: "T"}), training=True)


@pytest.mark.parametrize(
    "pid",
    [
        {3: f"{NHS_NUMBER}^^^NHS^NH~633^^^R0A^MR"},
        {3: f"633^^^R0A^MR~{NHS_NUMBER}^^^^NH"},
        {3: f"{NHS_NUMBER}^^^^NHS"},
        {3: f"{NHS_NUMBER}^^^^NHSNMBR"},
        {3: f"{NHS_NUMBER}^^^^NH{{status:01}}"},
        {3: f"{NHS_NUMBER}^01^^^NI"},
        {3: f"{NHS_NUMBER}^^^^2.16.840.1.113883.2.1.4.1"},
        {3: f"{NHS_NUMBER}^^^2.16.840.1.113883.2.1.3.2.4.18.23"},
        {3: f"{NHS_NUMBER}^^^NHS&2.16.840.1.113883.2.1.4.1&ISO"},
        {3: f"{NHS_NUMBER}^^^X&urn:oid:2.16.840.1.113883.2.1.4.1"},
        {3: "999 000-0042^^^^NH"},
        {3: "T5^^^^PI", 2: f"{NHS_NUMBER}^^^^NH"},
        {3: "", 4: f"{NHS_NUMBER}^^^NHS"},
        {3: "", 19: f"{NHS_NUMBER}^^^^NH"},
        {2: f"{NHS_NUMBER}^^^^NH"},
        {3: f"{NHS_NUMBER}^^^^NH~{WRONG}^^^^NH"},
    ],
)
def test_the_nhs_number_is_found_by_its_label(pid: Fields) -> None:
    """Wherever systems write it."""
    letter = _letter(mdm(pid={3: "", **pid}))

    assert letter.values["patient.nhs_number"] == NHS_NUMBER
    assert letter.missing == {}


@pytest.mark.parametrize(
    ("pid", "words"),
    [
        ({3: f"{NHS_NUMBER}^^^^MR"}, "of type MR"),
        ({3: f"{NHS_NUMBER}^^^NHS^MR"}, "of type MR"),
        ({3: f"{NHS_NUMBER}^^^2.16.840.1.113883.2.1.3.2.4.18.24"}, ""),
        ({3: NHS_NUMBER}, ""),
        ({3: "", 19: NHS_NUMBER}, ""),
        ({3: "^03^^^NI~T555^^^^PI"}, "of type PI"),
        ({3: f"{NHS_NUMBER}^^^NHSCT^CHI~7^^^^HSNI"}, "of type CHI, HSNI"),
        ({3: f"{NHS_NUMBER}^^^HSNI^NH"}, "of type HSNI"),
        ({3: f"{NHS_NUMBER}^^^X&chi^NH"}, "of type CHI"),
        ({3: f"{NHS_NUMBER}^^^NHS^CHI"}, "of type CHI"),
        ({3: "X^^^^ZQVANE"}, "of type another"),
        ({3: f"{NHS_NUMBER}^^^^{NHS_NUMBER}"}, "of type another"),
        ({3: f"{NHS_NUMBER}^^^^SMITH"}, "of type another"),
        ({3: ""}, ""),
    ],
)
def test_without_an_nhs_number_the_types_are_named(pid: Fields, words: str) -> None:
    """Never a value; a sidecar may give it."""
    missing = _letter(mdm(pid={**pid, 32: ""})).missing["patient.nhs_number"]

    assert missing.code == "hl7_no_nhs_number"
    assert words in missing.text
    assert ("identifiers" in missing.text) == bool(words)
    assert NHS_NUMBER not in str(missing)


def test_pid_19_counts_unlabelled_where_a_site_says_so() -> None:
    """Old systems have it there."""
    data = mdm(pid={3: "T5^^^^PI", 19: "999 000 0042"})

    assert _values(data, "patient.nhs_number", pid_19=True) == (NHS_NUMBER,)
    assert "patient.nhs_number" in _letter(mdm(pid={3: "", 19: WRONG}), pid_19=True).missing


@pytest.mark.parametrize(
    "pid",
    [
        {3: f"{NHS_NUMBER}^^^^NH~{OTHER}^^^NHS^NH"},
        {2: f"{OTHER}^^^^NH", 3: f"{NHS_NUMBER}^^^^NH"},
        {3: f"{WRONG}^^^^NH", 2: "12345^^^^NH"},
    ],
)
def test_two_nhs_numbers_are_refused(pid: Fields) -> None:
    """Nobody could say whose letter it is."""
    assert _code(mdm(pid=pid)) == "hl7_two_nhs_numbers"


def test_a_wrong_nhs_number_beside_a_right_one_is_told() -> None:
    """It may be the one that was meant."""
    [(text, _, _)] = _letter(mdm(pid={3: f"{WRONG}^^^NHS^NH~{NHS_NUMBER}^^^NHS^NH"})).doubts

    assert "another number" in text


def test_a_number_whose_time_is_over_is_told() -> None:
    """PDS may have given the patient another since."""
    [(text, _, _)] = _letter(mdm(pid={3: f"{NHS_NUMBER}^^^NHS^NH^^19990101^20100101"})).doubts

    assert "no longer in use" in text
    assert _letter(mdm(pid={3: f"{NHS_NUMBER}^^^NHS^NH^^19990101^20991231"})).doubts == ()


def test_a_wrong_nhs_number_is_left_to_be_checked() -> None:
    """As that of a sidecar, by the site's settings."""
    assert _patient({3: f"{WRONG}^^^^NH"}, "nhs_number") == (WRONG,)


@pytest.mark.parametrize(
    ("pid", "verified", "doubts"),
    [
        ({32: "NSTS01"}, True, 0),
        ({32: "01"}, True, 0),
        ({32: ""}, None, 0),
        ({32: "NSTS02"}, None, 0),
        ({32: "NSTS04"}, None, 1),
        ({32: "05~UD"}, None, 2),
        ({32: "NSTS01~AL"}, True, 1),
        ({32: "NSTS01~NSTS05"}, None, 1),
        ({32: "", 3: f"{NHS_NUMBER}^01^^^NI"}, True, 0),
        ({32: "", 3: f"{NHS_NUMBER}^02^^^NI"}, None, 0),
        ({32: "NSTS02", 3: f"{NHS_NUMBER}^01^^^NI"}, None, 0),
        ({32: "", 3: f"{NHS_NUMBER}^^^^NH{{status:01}}"}, True, 0),
        ({32: "", 3: f"{NHS_NUMBER}^01^^NHS^NH"}, None, 0),
    ],
)
def test_a_number_is_verified_only_where_the_message_says_so(
    pid: Fields, verified: bool, doubts: int
) -> None:
    """By the trace status; what is doubtful is told."""
    letter = _letter(mdm(pid=pid))

    assert letter.values.get("patient.verified") == verified
    assert len(letter.doubts) == doubts


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ('BROOK^JUNE^""^^MRS.', ("BROOK", "JUNE", "MRS")),
        ("LAKE\\T\\HILL^ANN", ("LAKE&HILL", "ANN", None)),
        ("van der Berg&van der&Berg^Ann^Marie Lou^^Dr", ("van der Berg", "Ann Marie Lou", "Dr")),
        (" WEST ^ IDA ^ ^^ Ms. ", ("WEST", "IDA", "Ms")),
        ("ALIAS^A^^^^^A~OLD^B^^^^^M~WEST^IDA^^^^^U", ("WEST", "IDA", None)),
        ("WEST^IDA~LEGAL^I^^^^^L", ("LEGAL", "I", None)),
        ("OLD^IDA^^^^^L^^^^^20100101^20200101~WEST^IDA^^^^^L", ("WEST", "IDA", None)),
        ("OLD^IDA^^^^^L^^^20100101&20200101~WEST^IDA", ("WEST", "IDA", None)),
        ("O'Hara^Zo\u00eb", ("O'Hara", "Zo\u00eb", None)),
        ("O&apos;Hara^Zo&#235;", ("O'Hara", "Zo\u00eb", None)),
        ("O&#x27;Hara&van^Ann&amp;Mary", ("O'Hara", "Ann&Mary", None)),
        ("LAKE&amp;HILL^ANN", ("LAKE&HILL", "ANN", None)),
        ("LAKE & HILL^ANN", ("LAKE & HILL", "ANN", None)),
        ("LAKE&#94;HILL^ANN&#7;", ("LAKE^HILL", "ANN", None)),
        ("M&uuml;ller^Jos&eacute;&nbsp;Luis", ("M\u00fcller", "Jos\u00e9 Luis", None)),
        ("O\\T\\#39;Hara^Ann\\T\\amp;Mary", ("O'Hara", "Ann&Mary", None)),
        ("SMITH&#160;JONES^ANN&AMP;MARY", ("SMITH JONES", "ANN&MARY", None)),
        ("LAKE&HILL;^ANN", ("LAKE", "ANN", None)),
    ],
)
def test_the_name_in_use_is_taken(name: str, read: tuple[str, str, str | None]) -> None:
    """The legal one, else the first that is neither an alias nor a former one."""
    assert _patient({5: name}, "surname", "given", "prefix") == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("20080920", "2008-09-20"),
        ("19700101000000", "1970-01-01"),
        ("19590303+^D", "1959-03-03"),
        ("2008-09-20", "2008-09-20"),
        ("20080230", "2008-02-30"),
    ],
)
def test_the_date_of_birth_is_the_first_eight_digits(written: str, read: str) -> None:
    """Whether it is a date is checked as that of a sidecar."""
    assert _patient({7: written}, "date_of_birth") == (read,)


@pytest.mark.parametrize(
    ("written", "is_told"),
    [
        ("20010613230000+0000", True),
        ("2001-06-13T23:00:00Z", True),
        ("200106132300", True),
        ("20010613230000+0100", False),
        ("20010613224500", False),
        ("20010113230000", False),
        ("20010614", False),
    ],
)
def test_a_day_of_birth_that_was_converted_to_utc_is_told(written: str, is_told: bool) -> None:
    """It is the day before, and the practice is not found by it."""
    doubts = [text for text, _, _ in _letter(mdm(pid={7: written})).doubts]

    assert any("PID-7" in text for text in doubts) == is_told


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (mdm(msh={11: "X"}), "MSH-11"),
        (mdm(msh={11: ""}), ""),
        (mdm("T10", txa={13: "A^RXX~B^RXX"}), "TXA-13"),
        (mdm("T10", txa={13: "A^RXX"}), ""),
        (mdm(obx=[{11: ""}]).rstrip(), ""),
        (mdm().rstrip().rpartition(b"|F")[0].rstrip(b"|"), "OBX-11"),
        (mdm().rstrip(), ""),
        (mdm(msh={11: "Production"}), ""),
        (mdm(pid={5: "ZO\ufffd^ANN"}), "U+FFFD"),
        (mdm(obx=[{2: "TX", 5: "100 \ufffdg daily"}]), "U+FFFD"),
    ],
)
def test_what_a_system_says_in_no_code_or_has_lost_is_told(data: bytes, word: str) -> None:
    """Of MSH-11, and of characters that another program could not read."""
    doubts = [text for text, _, _ in _letter(data).doubts]

    assert [word in text for text in doubts] == ([True] if word else [])


@pytest.mark.parametrize(
    ("data", "is_told"),
    [
        (mdm(pid={5: "O&apos;HARA^ANN"}), True),
        (mdm(obx=[{2: "TX", 5: "Temperature &gt; 38"}]), True),
        (mdm(pid={5: "LAKE&amp^ANN;"}), False),
        (mdm(obx=[{2: "TX", 5: "Johnson & Johnson; twice"}]), False),
    ],
)
def test_characters_that_are_written_as_in_xml_are_told(data: bytes, is_told: bool) -> None:
    doubts = [text for text, _, _ in _letter(data).doubts]

    assert any("as in XML" in text for text in doubts) == is_told


@pytest.mark.parametrize(
    "pid",
    [
        {7: "1900"},
        {7: "190001"},
        {7: "19000101"},
        {7: "00010101000000"},
        {7: ""},
        {5: ""},
        {5: "^ANN"},
        {5: "X^Y^^^^^A"},
    ],
)
def test_a_patient_without_surname_or_whole_date_of_birth_needs_a_sidecar(pid: Fields) -> None:
    """MESH finds the practice by them."""
    [missing] = _letter(mdm(pid=pid)).missing.values()

    assert missing.code == "hl7_patient_incomplete"


@pytest.mark.parametrize(
    ("code", "gender"),
    [
        ("M", "male"),
        ("f", "female"),
        ("1", "male"),
        ("2", "female"),
        ("O", "other"),
        ("U", "unknown"),
        ("?", None),
    ],
)
def test_an_unknown_gender_is_left_out(code: str, gender: str | None) -> None:
    """The others are those of FHIR."""
    assert _patient({8: code}, "gender") == (gender,)


@pytest.mark.parametrize(
    ("written", "lines", "postcode"),
    [
        ("1 High Street^^Leeds^^LS1 4AP", ("1 High Street", "Leeds"), "LS1 4AP"),
        ("Flat 2&High Street^Hyde Park^Leeds^^LS1 4AP^GBR^H", ("Flat 2, High Street", "Hyde Park", "Leeds"),
         "LS1 4AP"),
        ("Office^^Leeds^^X^^B~1 High Street^^Leeds^^LS1 4AP^^H", ("1 High Street", "Leeds"), "LS1 4AP"),
        ("Office^^Leeds^^X^^B", None, None),
        ("", None, None),
        ("1 High Street&High Street&1^^Leeds^LS1 4AP", ("1 High Street", "Leeds"), "LS1 4AP"),
        ("&High Street&1^^Leeds^W Yorks^LS1 4AP", ("1 High Street", "Leeds", "W Yorks"), "LS1 4AP"),
        ("Old^^York^^YO1 1AA^^H^^^^^^20190101^20260630~New^^Leeds^^LS1 4AP^^H", ("New", "Leeds"), "LS1 4AP"),
        ("Old^^York^^YO1 1AA^^H^^^^^20190101&20260630~New^^Leeds^^LS1 4AP^^H", ("New", "Leeds"), "LS1 4AP"),
        ("Old^^York^^YO1 1AA^^H^^^^^^20190101^20260630", None, None),
        ("Now^^York^^YO1 1AA^^H^^^^^^20190101^20991231", ("Now", "York"), "YO1 1AA"),
    ],
)  # fmt: skip
def test_the_address_is_that_of_the_home(
    written: str, lines: tuple[str, ...] | None, postcode: str | None
) -> None:
    """For a practice that has to match a number that is not verified."""
    assert _patient({11: written}, "address.lines", "address.postcode") == (lines, postcode)


@pytest.mark.parametrize(
    ("txa", "obx", "read"),
    [
        ({}, {}, ("823681000000100", "Outpatient letter")),
        ({2: "826501000000100^Miscellaneous^SCT"}, {}, ("826501000000100", "Miscellaneous")),
        ({2: "OP^Letter^L^826501000000100^Other^SNOMED-CT"}, {}, ("826501000000100", "Other")),
        ({}, {3: "DS^Discharge^L"}, (None, None)),
        ({2: "OP"}, {3: "DS^Discharge^L"}, ("373942005", None)),
        ({2: "CN"}, {3: "DS^Discharge^L"}, (None, None)),
        ({2: "12^Letter^SCT"}, {3: ""}, (None, None)),
        ({2: "373942006^Letter^SCT"}, {3: ""}, (None, None)),
    ],
)
def test_the_type_is_a_snomed_code_or_that_of_the_site(
    txa: Fields, obx: Fields, read: tuple[str | None, str | None]
) -> None:
    """TXA-2 before OBX-3; a local code counts only where the settings map it."""
    data = mdm(txa=txa, obx=[obx])

    assert _values(data, "document.type.code", "document.type.display", types={"OP": "373942005"}) == read


def test_the_site_has_a_type_for_all_others() -> None:
    """A SNOMED code of the message counts more."""
    data = mdm(obx=[{3: "DS^Discharge^L"}])

    assert _values(data, "document.type.code", default_type="373942005") == ("373942005",)
    assert _values(mdm(), "document.type.code", default_type="373942005") == ("823681000000100",)


@pytest.mark.parametrize(
    ("txa", "obx", "title"),
    [
        ({25: "Eye.pdf"}, {}, "Eye"),
        ({25: "Clinic letter"}, {}, "Clinic letter"),
        ({25: "A&E attendance"}, {}, "A&E attendance"),
        ({2: "AE^A&E letter^L"}, {3: "X"}, "A&E letter"),
        ({16: "A&E letter.pdf"}, {3: "X"}, "A&E letter"),
        ({}, {3: "X^ENT &amp; audiology"}, "ENT & audiology"),
        ({25: "\\\\srv\\x\\Eye clinic.TIF"}, {}, "Eye clinic"),
        ({25: "Version 1.2"}, {}, "Version 1.2"),
        ({2: "OP^Letter^L"}, {3: "X"}, "Letter"),
        ({16: "letters/eye.docx"}, {3: "X"}, "eye"),
        ({}, {3: "X^Letter_to_GP.pdf^L"}, "Letter_to_GP"),
        ({2: "OP"}, {3: ""}, None),
    ],
)
def test_the_title_is_the_best_that_there_is(txa: Fields, obx: Fields, title: str | None) -> None:
    """Never a file name's ending."""
    assert _values(mdm(txa=txa, obx=[obx]), "document.title") == (title,)


@pytest.mark.parametrize(
    ("txa", "obx", "written"),
    [
        ({4: "20261119"}, {}, "2026-11-19"),
        ({4: "202607201430"}, {}, "2026-07-20T14:30+01:00"),
        ({4: "20261119143000.12+0000"}, {}, "2026-11-19T14:30+00:00"),
        ({4: "20260720000000"}, {}, "2026-07-20"),
        ({4: "2026-07-20 14:30:05"}, {}, "2026-07-20T14:30+01:00"),
        ({4: "", 6: "20261118"}, {}, "2026-11-18"),
        ({4: "2026", 6: "20261399", 7: "20261117"}, {}, "2026-11-17"),
        ({4: ""}, {14: "20261116"}, "2026-11-16"),
        ({4: "", 8: "20261115"}, {}, "2026-11-20T10:30+00:00"),
    ],
)
def test_the_date_is_that_of_the_letter(txa: Fields, obx: Fields, written: str) -> None:
    """Without an offset in the time of the United Kingdom; a day stays a day."""
    [read] = _values(mdm(txa=txa, obx=[obx]), "document.date")

    # Windows has no zones: there a time is local.
    assert read == written or (sys.platform == "win32" and written.startswith(str(read)))


@pytest.mark.parametrize(
    ("txa", "words"),
    [
        ({4: "20261331"}, "is none"),
        ({4: "20261331", 6: "20261118"}, "is none"),
        ({4: "00010101000000"}, "is none"),
        ({4: "19000101"}, "is none"),
        ({4: "20271119"}, "dated later"),
        ({4: "19991119"}, "than the patient's birth"),
        ({4: "20261121"}, ""),
        ({4: "", 6: "20261118"}, ""),
        ({4: ""}, ""),
    ],
)
def test_a_date_that_cannot_be_right_is_told(txa: Fields, words: str) -> None:
    """One that is later than its message, or no day: the practice files by it."""
    doubts = [text for text, _, _ in _letter(mdm(txa=txa)).doubts]

    assert [words in text for text in doubts] == ([True] if words else [])


@pytest.mark.parametrize(
    ("data", "text", "advice"),
    [
        (mdm(txa={17: "DO"}), "(TXA-17 DO)", "unsigned_is_final"),
        (mdm(txa={17: "IP", 19: "UN"}), "(TXA-17 IP, TXA-19 UN)", "once it is final"),
        (mdm(txa={17: "DO", 19: "UN"}), "(TXA-17 DO, TXA-19 UN)", "once it is final"),
        (mdm(obx=[{11: "P"}]), "(OBX-11 P)", "once it is final"),
        (mdm(obx=[{11: "U"}]), "(OBX-11 U)", "an earlier version is final now"),
        (oru(obr={25: "P"}), "(OBR-25 P)", "once it is final"),
        (mdm(txa={17: "SMITH"}), "(TXA-17: no code of HL7)", "TXA-17 AU or LA"),
    ],
)
def test_what_to_do_depends_on_why_it_is_not_final(data: bytes, text: str, advice: str) -> None:
    """A setting helps with one of the reasons alone; a value of no table is not shown."""
    with pytest.raises(Rejection) as caught:
        _letter(data)

    assert caught.value.code == "hl7_not_final"
    assert text in caught.value.text
    assert advice in caught.value.advice
    assert ("unsigned_is_final" in caught.value.advice) == (advice == "unsigned_is_final")


@pytest.mark.parametrize(
    ("txa", "name", "identity"),
    [
        ({9: "C3456789^Darwin^Samuel^^^Dr^^^GMC"}, "Dr Samuel Darwin", None),
        ({9: "033345750518^Darwin^Samuel^J^^Dr^^^SDSID"}, "Dr Samuel J Darwin", "033345750518"),
        ({9: "033345750518^Darwin^Samuel"}, "Samuel Darwin", None),
        ({9: "12^Darwin^^^^^^^SDSID"}, "Darwin", None),
        ({9: "033345750518^Darwin^^^^^^^SDS ROLE PROFILE"}, "Darwin", None),
        ({9: "Dr. Samuel O'Hara-West"}, "Dr. Samuel O'Hara-West", None),
        ({9: "DARWIN", 5: "C2^Wallace^Ann"}, "Ann Wallace", None),
        ({9: "Ward 7", 5: "C2^Wallace^Ann"}, "Ann Wallace", None),
        ({9: "C1", 5: "C2^Wallace^Ann"}, "Ann Wallace", None),
        ({9: "", 22: "C2^Wallace^Ann^^^^^^^^^^^^20261119"}, "Ann Wallace", None),
        ({9: ""}, None, None),
    ],
)
def test_the_author_is_the_first_with_a_name(txa: Fields, name: str | None, identity: str | None) -> None:
    """An id counts only where it is said to be of SDS."""
    read = _values(mdm(txa=txa), "document.author.name", "document.author.sds_user_id")

    assert read == (name, identity)


def test_the_author_of_a_result_is_its_interpreter() -> None:
    """In sub-components, or as components."""
    for written in ("C1&Darwin&Samuel&&&Dr", "C1^Darwin^Samuel^^^Dr"):
        data = oru(obr={**OBR, 32: written})
        assert _values(data, "document.author.name") == ("Dr Samuel Darwin",)


@pytest.mark.parametrize(
    ("code", "confidential", "doubts"),
    [
        *(
            ("R", True, 0),
            ("V", True, 1),
            ("VR", True, 1),
            ("Restricted", True, 0),
            ("s^Sensitive", True, 0),
            ("U~V", True, 1),
        ),
        *(("U", None, 0), ("", None, 0), ("N", None, 0), ("3", None, 1)),
    ],
)
def test_a_restricted_document_is_confidential(code: str, confidential: bool, doubts: int) -> None:
    """Some systems mark all documents so."""
    letter = _letter(mdm(txa={18: code}))

    assert letter.values.get("document.confidential") == confidential
    assert len(letter.doubts) == doubts


@pytest.mark.parametrize(
    ("stamp", "written_at"),
    [
        ("20261120103000", "2026-11-20T10:30:00+00:00"),
        ("202611201030", "2026-11-20T10:30:00+00:00"),
        ("20260720103000.1234", "2026-07-20T10:30:00.123400+01:00"),
        ("20260720103000.5+0100", "2026-07-20T10:30:00.500000+01:00"),
        ("20260720103000+0000", "2026-07-20T10:30:00+00:00"),
        ("2026-11-20 10:30:05", "2026-11-20T10:30:05+00:00"),
        ("2026-11-20T10:30:05.5Z", "2026-11-20T10:30:05.500000+00:00"),
        ("2026-11-20T10:30:05+01:00", "2026-11-20T10:30:05+01:00"),
        # A day alone, an hour that comes twice, one that there is not.
        *((stamp, None) for stamp in ("20261120", "20261025013000", "20261120253000", "", "N/A")),
    ],
)
def test_when_a_message_was_written(stamp: str, written_at: str | None) -> None:
    """By the sender's clock; None where it says too little to tell which of two came first."""
    found = _letter(mdm(msh={7: stamp})).written_at

    assert (found and found.isoformat()) == written_at


@pytest.mark.parametrize(
    ("stamp", "is_told"),
    [("20261120103000", False), ("20261120", False), ("", False), ("30/11/2026 11:30", True), ("NOW", True)],
)
def test_a_time_that_cannot_be_read_is_told(stamp: str, is_told: bool) -> None:
    """It orders the versions of a document."""
    doubts = [text for text, _, _ in _letter(mdm(msh={7: stamp})).doubts]

    assert any("MSH-7" in text for text in doubts) == is_told


def test_a_document_is_known_by_its_number_and_its_sender() -> None:
    """However systems write the number."""
    number = _letter(mdm(txa={12: "DOC1"})).number

    assert number == _letter(mdm("T04", txa={12: "^^DOC1"}, obx=[{5: ed(pdf("other"))}])).number
    assert number != _letter(mdm(txa={12: "DOC1^RXX"})).number
    assert number != _letter(mdm(txa={12: "DOC1"}, msh={4: "RYY"})).number
    assert _letter(mdm(txa={12: ""})).number is None


def test_a_replacement_names_the_number_that_it_replaces() -> None:
    """T10, or a correction; an addendum replaces nothing."""
    txa = {12: "DOC2^RXX", 13: "DOC1^RXX"}
    first = _letter(mdm()).number

    assert _letter(mdm("T10", txa=txa)).replaced_number == first
    assert _letter(mdm("T02", txa=txa, obx=[{11: "C"}])).replaced_number == first
    assert _letter(mdm("T06", txa=txa)).replaced_number is None
    assert (_letter(oru()).replaces_same, _letter(oru(obx=[{11: "C"}])).replaces_same) == (False, True)


def test_a_cancellation_names_its_number() -> None:
    """Often that is all that it has."""
    data = message(
        segment("MSH", {2: "^~\\&", 4: "RXX", 9: "MDM^T11^MDM_T01"}), segment("TXA", {12: "DOC1^RXX"})
    )
    with pytest.raises(WithdrawnRejection) as caught:
        _letter(data)

    assert caught.value.number == _letter(mdm()).number


def test_the_shape_of_an_eye_department() -> None:
    """OBX-2, OBX-11 and TXA-17 empty, the file name in TXA-25."""
    txa = {1: "", 2: "", 3: "", 4: "20260528", 9: "", 12: "Doc9", 17: "", 19: "", 25: "Eye.pdf"}
    letter = _letter(mdm(txa=txa, obx=[{1: "", 2: "", 3: "General^L^1", 5: ed(head="^^^Base64"), 11: ""}]))

    assert letter.values["document.title"] == "Eye"
    assert letter.values["document.date"] == "2026-05-28"
    assert "document.type.code" not in letter.values


def test_nothing_of_a_letter_is_in_its_repr() -> None:
    """Nor in that of what it is made of."""
    letter = _letter(mdm())

    assert "SMITH" not in repr(letter) + repr(letter.document) + json.dumps(repr(letter.missing))
