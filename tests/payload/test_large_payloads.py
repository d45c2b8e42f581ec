"""Files over a megabyte: the same facts in little memory, attachments left out, opaque ones barely read."""

import hashlib
import json
import os
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest

from meshctl.errors import Refusal
from meshctl.payload.facts import MessageFacts, Reading
from meshctl.payload.reader import OPAQUE_BYTES_WORTH_HASHING, SMALL_BYTES, read_payload
from tests.payload.reading import Make, facts, in_both_formats, outcome, read, refusal
from tests.payloads import MadePatient, base64_filler, make_bundle_json, make_bundle_xml, synthetic_nhs_number

MEGABYTE = 1_000_000


def _attached(make: Make, written: str) -> bytes:
    """Return a message whose attached document is `written`, already escaped for the format."""
    data = make(filler_bytes=8).decode()
    document = json.loads(make_bundle_json(filler_bytes=8))["entry"][2]["resource"]
    placeholder = f'"{document["entry"][1]["resource"]["content"]}"'
    assert data.count(placeholder) == 1
    return data.replace(placeholder, f'"{written}"').encode()


def _same(one: MessageFacts, other: MessageFacts) -> bool:
    names = [name for name in MessageFacts.__slots__ if name != "patient"]
    assert one.patient is not None
    return one.patient == other.patient and all(getattr(one, name) == getattr(other, name) for name in names)


@in_both_formats
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_large_message_gives_the_facts_of_a_small_one(make: Make, first: bool) -> None:
    """The size of the attachment changes nothing, whether it stands before the Patient or after."""
    large = make(filler_bytes=3 * MEGABYTE, filler_first=first)

    reading = read(large)

    assert reading.facts is not None
    assert _same(reading.facts, facts(make()))
    assert reading.sha256 == hashlib.sha256(large).hexdigest()
    assert reading.size_bytes == len(large)


@in_both_formats
def test_75_megabytes_take_little_time_and_memory(make: Make) -> None:
    """A message with a scanned document of 75 MB is read in a moment, in a few megabytes of memory."""
    with tempfile.TemporaryFile() as file:
        size_bytes = file.write(make(filler_bytes=75 * MEGABYTE))
        file.flush()
        tracemalloc.start()
        try:
            started = time.monotonic()
            found = read_payload(file.fileno(), size_bytes)
            took_seconds = time.monotonic() - started
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert found.facts is not None
    assert peak_bytes < 5 * MEGABYTE
    assert took_seconds < 3


DOCUMENT = base64_filler(14 * MEGABYTE)
LINES = "\r\n".join(DOCUMENT[at : at + 76] for at in range(0, len(DOCUMENT), 76))


@pytest.mark.parametrize(
    ("make", "written"),
    [
        (make_bundle_xml, LINES),
        (make_bundle_xml, LINES.replace("\r\n", "&#xD;&#xA;")),
        (make_bundle_xml, LINES.replace("\r\n", "&#13;&#10;")),
        (make_bundle_xml, LINES.replace("\r\n", "&#xA;")),
        (make_bundle_json, LINES.replace("\r\n", "\\r\\n")),
        (make_bundle_json, LINES.replace("\r\n", "\\n")),
        (make_bundle_json, DOCUMENT.replace("/", "\\/")),
        (make_bundle_json, DOCUMENT.replace("+", "\\u002B").replace("=", "\\u003D")),
    ],
    ids=["crlf", "hex references", "references", "lf", "json crlf", "json lf", "json slash", "json unicode"],
)
def test_base64_is_left_out_however_it_is_written(make: Make, written: str) -> None:
    """Line ends and escapes as XML and JSON libraries write them do not bring the document into the parser.

    libxml2 refuses a value of over 10 MB, so this would be refused if the document were not left out.
    """
    data = _attached(make, written)
    tracemalloc.start()
    try:
        found = facts(data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert _same(found, facts(make()))
    assert peak_bytes < 5 * MEGABYTE


@pytest.mark.parametrize(
    ("make", "written"),
    [
        (make_bundle_xml, "AA&#13;&#10;" * 1_700_000),
        (make_bundle_json, "\\/" * 10_000_000),
        (make_bundle_json, "A" + "\\/" * 10_000_000),
    ],
    ids=["xml", "json", "json, one further"],
)
def test_escapes_cut_by_the_end_of_a_piece_are_known(make: Make, written: str) -> None:
    """An escape that begins in one piece and ends in the next does not bring either into the parser.

    Neither 10 MB of a value in XML nor 16 MiB of JSON would be read.
    """
    assert _same(facts(_attached(make, written)), facts(make()))


@pytest.mark.parametrize("around", [-1, 0, 1])
@in_both_formats
def test_the_limit_between_small_and_large_is_no_seam(make: Make, around: int) -> None:
    """At the very size where reading changes the facts stay the same."""
    spare = SMALL_BYTES + around - len(_attached(make, ""))
    data = _attached(make, "A" * spare)

    assert len(data) == SMALL_BYTES + around
    assert _same(facts(data), facts(make()))


@in_both_formats
@pytest.mark.parametrize("where", range(0, 64, 7))
def test_no_position_in_a_piece_matters(make: Make, where: int) -> None:
    """The facts are the same wherever the attachment begins and ends within the pieces that are read."""
    padding = "x" * (where * 4096 + where)
    data = make(filler_bytes=1_200_000 + where * 1021, title=padding[:900], endpoint="E" * where or None)

    assert facts(data).patient is not None
    assert facts(data).title == (padding[:900] or None)
    assert facts(data).practice_name == "Synthetic Medical Centre"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<x a="1" ', ' b="2"/>'),
        ("<x ", "/>"),
        ("<x", "/>"),
        ("</Patient", ">"),
        ("<x a=", "'1'/>"),
        ("&", ";"),
        ("&#", ";"),
        ("&#x", ";"),
        ('<x a="&', ';"/>'),
        ('<x a="&#', ';"/>'),
        ("<x a='1", "/>"),
        ("<![CDATA[", "]>"),
        ("<!--", "--"),
        ("<?", "?>"),
    ],
)
@pytest.mark.parametrize("filler", ["A", "0", "1 ", "\r\n+/=A"])
def test_leaving_out_never_makes_xml_well_formed(before: str, after: str, filler: str) -> None:
    """Where base64 is not allowed it is still an error when its middle is left out."""
    run = filler * (1_500_000 // len(filler))
    data = make_bundle_xml().replace(b"<Patient>", f"<Patient>{before}{run}{after}".encode(), 1)

    assert refusal(data).code in {"payload_xml_broken", "payload_too_complex"}


def _hidden(filler: str, middle: str) -> str:
    """Return `middle` with so much around it that it is in the part of a piece that is left out."""
    return filler * 700_000 + middle + filler * 700_000


@pytest.mark.parametrize(
    ("before", "run", "after"),
    [
        ("<x a='1' ", _hidden(" ", "A"), " b='2'/>"),
        ("<x a=", _hidden("\n", "A"), "'1'/>"),
        ("</Patient", _hidden(" ", "A"), "><Patient>"),
        ("<x a='&#", _hidden("0", "9"), "65;'/>"),
        ("&#x", _hidden("0", "9"), "41;"),
        ("<x a='1'", _hidden(" ", "/"), "/>"),
    ],
)
def test_a_fault_that_is_left_out_is_still_a_fault(before: str, run: str, after: str) -> None:
    """XML whose only fault stands where base64 is left out is refused, and without the fault it is read."""
    data = make_bundle_xml().replace(b"<Patient>", f"<Patient>{before}{run}{after}".encode(), 1)
    sound = make_bundle_xml().replace(b"<Patient>", f"<Patient>{before}{run[0] * 9}{after}".encode(), 1)

    assert refusal(data).code == "payload_xml_broken"
    assert facts(sound).event == "ITK007C"


def test_a_fault_that_is_left_out_of_json_is_still_a_fault() -> None:
    """A number with a letter in it is none, however deep the letter is in its digits."""
    data = make_bundle_json().replace(b'"active": true', f'"active": 1.{_hidden("0", "A")}0'.encode(), 1)

    assert refusal(data).code == "payload_json_broken"


@in_both_formats
def test_large_values_come_back_to_the_letter(make: Make) -> None:
    """Ampersands, references and quotes read in pieces are what they are in a small message."""
    title = "R&D <notes> \"quoted\" 'single' &amp; &#38; \N{GRINNING FACE} Ärztin"

    assert facts(make(title=title, filler_bytes=2 * MEGABYTE)).title == title


@pytest.mark.parametrize("before", ["<x a='", "<x><![CDATA[", "<!--", "<?x ", "<x>"])
def test_base64_is_left_out_where_it_may_be(before: str) -> None:
    """Values, CDATA, comments, instructions and text may hold megabytes of base64."""
    after = {"<x a='": "'/>", "<x><![CDATA[": "]]></x>", "<!--": "-->", "<?x ": "?>", "<x>": "</x>"}[before]
    data = make_bundle_xml().replace(
        b"<Patient>", f"<Patient>{before}{'A/+=' * 3_000_000}{after}".encode(), 1
    )

    assert _same(facts(data), facts(make_bundle_xml()))


@pytest.mark.parametrize("filler", ["A", "1", "0", "e", "+", "true"])
@pytest.mark.parametrize("before", ['"x": ', '"x": 1', '"x": "y" ', '"x": "y", '])
def test_leaving_out_never_makes_json_sound(before: str, filler: str) -> None:
    """Outside a string base64 is an error, or a number beyond reason, also without its middle."""
    run = filler * (1_500_000 // len(filler))
    data = make_bundle_json().replace(b'"active": true', f'"active": true, {before}{run}'.encode(), 1)

    assert refusal(data).code == "payload_json_broken"


def test_a_line_end_within_a_json_string_stays_an_error() -> None:
    """JSON allows no raw line end in a string, however long the string is."""
    data = _attached(make_bundle_json, "A" * 1_000_000 + "\n" + "A" * 1_000_000)

    assert refusal(data).code == "payload_json_broken"


@in_both_formats
def test_a_value_is_never_shortened_into_another(make: Make) -> None:
    """A surname that hides megabytes in its middle is no surname, rather than its beginning and end."""
    hidden = "Smith" + " " * 300_000 + "A" * 1_000_000 + " " * 300_000
    made = MadePatient(surname=hidden, nhs_number=synthetic_nhs_number(9) + "0" * 1_000_000)

    found = facts(make(patients=(made,))).patient

    assert found is not None
    assert (found.surname, found.nhs_number) == (None, None)


@in_both_formats
def test_a_large_message_cut_short_is_refused(make: Make) -> None:
    """A message whose end is missing is broken, also if what is missing is the attachment's end."""
    data = make(filler_bytes=3 * MEGABYTE)

    assert {outcome(data[:-9]), outcome(data[:2_000_000])} <= {"payload_xml_broken", "payload_json_broken"}


def test_a_large_dtd_is_refused_before_it_is_parsed() -> None:
    """A DOCTYPE that comes after a megabyte of comments, in pieces of any cut, is found."""
    for length in range(1024 * 1024 - 12, 1024 * 1024 + 3):
        data = b"<!--" + b"x" * length + b"--><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"

        assert refusal(data).code == "payload_dtd"


def test_megabytes_of_comments_before_anything_are_refused() -> None:
    """Nobody writes five megabytes before the first element."""
    comments = b"<!-- x -->" * 500_000

    assert refusal(comments + make_bundle_xml().split(b"\n", 1)[1]).code == "payload_too_complex"


def test_structure_nobody_asked_for_passes_by() -> None:
    """Memory stays small while megabytes of other resources go by."""
    observation = "<entry><resource><Observation><status value='final'/></Observation></resource></entry>"
    data = make_bundle_xml().decode()
    data = data.replace("</Bundle>", observation * 30_000 + "</Bundle>", 1)
    encoded = data.encode()
    tracemalloc.start()
    try:
        found = facts(encoded)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert _same(found, facts(make_bundle_xml()))
    assert peak_bytes < 5 * MEGABYTE


@pytest.mark.parametrize(
    "flood",
    [
        "<entry><resource><Patient/></resource></entry>" * 40_000,
        "<entry><resource><Patient><name>"
        + "<given value='x'/>" * 80_000
        + "</name></Patient></resource></entry>",
        "<x a='" + "*" * 12_000_000 + "'/>",
        "<x>" + "*" * 12_000_000 + "</x>",
        " " * 12_000_000,
    ],
    ids=["patients", "names", "attribute", "text", "blanks"],
)
def test_floods_are_refused(flood: str) -> None:
    """Tens of thousands of patients, or values of over 10 MB that are no documents, are not read."""
    data = make_bundle_xml().decode()

    assert refusal(data.replace("</Bundle>", flood + "</Bundle>", 1).encode()).code == "payload_too_complex"


@pytest.mark.slow
def test_millions_of_elements_are_refused() -> None:
    """What nobody asked for may be much, but not without end."""
    flood = "<entry><resource><Basic>" + "<a/>" * 5_000_000 + "</Basic></resource></entry>"
    data = make_bundle_xml().decode().replace("</Bundle>", flood + "</Bundle>", 1)

    assert refusal(data.encode()).code == "payload_too_complex"


def test_much_json_beside_the_attachments_is_refused() -> None:
    """JSON is held in memory, so there is a limit to it."""
    flood = b', {"x": "%s"}' % (b"*" * 900) * 20_000

    assert refusal(make_bundle_json().removesuffix(b"]}") + flood + b"]}").code == "payload_too_complex"


@pytest.mark.parametrize(
    "beginning",
    [
        b"%PDF-1.7\n",
        b"PK\x03\x04",
        b"nhs,name\r\n",
        b"{not json",
        b'{"rows": [',
        b"<root><a>",
        b"<html><br>",
        b"<!DOCTYPE html><p>",
        b'<Bundle xmlns="http://hl7.org/fhir"><type value="collection"/><entry><fullUrl value="x"/></entry>',
        b'{"resourceType": "Bundle", "type": "collection", "entry": [',
    ],
)
def test_large_opaque_files_are_judged_by_their_beginning(tmp_path: Path, beginning: bytes) -> None:
    """An opaque file has its digest up to 64 MiB; a larger one is neither read on nor hashed."""
    hashed = beginning + b"\n" * 2_000_000
    assert read(hashed) == Reading(None, hashlib.sha256(hashed).hexdigest(), len(hashed))

    sparse = tmp_path / "large"
    sparse.write_bytes(beginning + b"\n" * 2_000_000)
    size_bytes = 200 * OPAQUE_BYTES_WORTH_HASHING
    os.truncate(sparse, size_bytes)
    with sparse.open("rb") as file:
        started = time.monotonic()
        reading = read_payload(file.fileno(), size_bytes)

    assert reading == Reading(None, None, size_bytes)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("size_bytes", [10, 3_000_000])
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_that_changes_under_the_reader_is_refused(
    tmp_path: Path, size_bytes: int, difference: int
) -> None:
    """A size that is no longer what it was means that somebody is still writing."""
    path = tmp_path / "letter.txt"
    path.write_bytes(b"a" * size_bytes)

    with path.open("rb") as file, pytest.raises(Refusal) as caught:
        read_payload(file.fileno(), size_bytes + difference)

    assert caught.value.code == "payload_changed"


def test_reading_starts_at_the_beginning_and_leaves_the_position(tmp_path: Path) -> None:
    """The descriptor's position neither matters nor moves."""
    path = tmp_path / "letter.xml"
    path.write_bytes(make_bundle_xml())

    with path.open("rb", buffering=0) as file:
        file.seek(100)
        reading = read_payload(file.fileno(), path.stat().st_size)
        position = file.tell()

    assert reading.facts is not None
    assert position == 100
