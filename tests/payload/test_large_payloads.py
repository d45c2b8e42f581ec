"""Files over a megabyte: the same facts in little memory, floods rejected, opaque ones barely read."""

import hashlib
import os
import tempfile
from pathlib import Path

import pytest

from meshctl.errors import Rejection
from meshctl.payload.reader import OPAQUE_BYTES_WORTH_HASHING, SMALL_BYTES, read_payload
from tests.payload.reading import (
    Make,
    attached,
    facts,
    in_both_formats,
    measured,
    outcome,
    read,
    rejection,
    same_facts,
)
from tests.payloads import make_bundle_json, make_bundle_xml

MEGABYTE = 1_000_000


@in_both_formats
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_large_message_gives_the_facts_of_a_small_one(make: Make, first: bool) -> None:
    """The size of the attachment changes nothing, whether it stands before the Patient or after."""
    large = make(filler_bytes=3 * MEGABYTE, filler_first=first)

    reading = read(large)

    assert reading.facts is not None
    assert same_facts(reading.facts, facts(make()))
    assert reading.sha256 == hashlib.sha256(large).hexdigest()
    assert reading.size_bytes == len(large)


@pytest.mark.slow
@in_both_formats
def test_75_megabytes_take_little_memory(make: Make) -> None:
    """A message with a scanned document of 75 MB is read in a few megabytes of memory."""
    with tempfile.TemporaryFile() as file:
        size_bytes = file.write(make(filler_bytes=75 * MEGABYTE))
        file.flush()
        found, peak_bytes = measured(lambda: read_payload(file.fileno(), size_bytes))

    assert found.facts is not None
    assert peak_bytes < 5 * MEGABYTE


@pytest.mark.parametrize("around", [-1, 0, 1])
@in_both_formats
def test_the_limit_between_small_and_large_is_no_seam(make: Make, around: int) -> None:
    """At the very size where reading changes the facts stay the same."""
    spare = SMALL_BYTES + around - len(attached(make, ""))
    data = attached(make, "A" * spare)

    assert len(data) == SMALL_BYTES + around
    assert same_facts(facts(data), facts(make()))


@pytest.mark.sampled(6)
@in_both_formats
@pytest.mark.parametrize("where", range(0, 64, 7))
def test_no_position_in_a_piece_matters(make: Make, where: int) -> None:
    """The facts are the same wherever the attachment begins and ends within the pieces that are read."""
    padding = "x" * (where * 4096 + where)
    data = make(filler_bytes=1_200_000 + where * 1021, title=padding[:900], endpoint="E" * where or None)

    assert facts(data).patient is not None
    assert facts(data).title == (padding[:900] or None)
    assert facts(data).practice_name == "Synthetic Medical Centre"


@in_both_formats
def test_large_values_come_back_to_the_letter(make: Make) -> None:
    """Ampersands, references and quotes read in pieces are what they are in a small message."""
    title = "R&D <notes> \"quoted\" 'single' &amp; &#38; \N{GRINNING FACE} Ärztin"

    assert facts(make(title=title, filler_bytes=2 * MEGABYTE)).title == title


@in_both_formats
def test_a_large_message_cut_short_is_rejected(make: Make) -> None:
    """A message whose end is missing is broken, also if what is missing is the attachment's end."""
    data = make(filler_bytes=3 * MEGABYTE)

    assert {outcome(data[:-9]), outcome(data[:2_000_000])} <= {"payload_xml_broken", "payload_json_broken"}


def test_a_large_dtd_is_rejected_before_it_is_parsed() -> None:
    """A DOCTYPE that comes after a megabyte of comments, in pieces of any cut, is found."""
    for length in range(1024 * 1024 - 12, 1024 * 1024 + 3):
        data = b"<!--" + b"x" * length + b"--><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"

        assert rejection(data).code == "payload_dtd"


@pytest.mark.slow
def test_megabytes_of_comments_before_anything_are_rejected() -> None:
    """Nobody writes five megabytes before the first element."""
    comments = b"<!-- x -->" * 500_000

    assert rejection(comments + make_bundle_xml().split(b"\n", 1)[1]).code == "payload_too_complex"


@pytest.mark.slow
def test_structure_nobody_asked_for_passes_by() -> None:
    """Memory stays small while megabytes of other resources go by."""
    observation = "<entry><resource><Observation><status value='final'/></Observation></resource></entry>"
    data = make_bundle_xml().decode()
    data = data.replace("</Bundle>", observation * 30_000 + "</Bundle>", 1)
    encoded = data.encode()
    found, peak_bytes = measured(lambda: facts(encoded))

    assert same_facts(found, facts(make_bundle_xml()))
    assert peak_bytes < 5 * MEGABYTE


@pytest.mark.sampled(2)
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
def test_floods_are_rejected(flood: str) -> None:
    """Tens of thousands of patients, or values of over 10 MB that are no documents, are not read."""
    data = make_bundle_xml().decode()

    assert rejection(data.replace("</Bundle>", flood + "</Bundle>", 1).encode()).code == "payload_too_complex"


@pytest.mark.slow
def test_millions_of_elements_are_rejected() -> None:
    """What nobody asked for may be much, but not without end."""
    flood = "<entry><resource><Basic>" + "<a/>" * 5_000_000 + "</Basic></resource></entry>"
    data = make_bundle_xml().decode().replace("</Bundle>", flood + "</Bundle>", 1)

    assert rejection(data.encode()).code == "payload_too_complex"


def test_much_json_beside_the_attachments_is_rejected() -> None:
    """JSON is held in memory, so there is a limit to it."""
    flood = b', {"x": "%s"}' % (b"*" * 900) * 20_000

    assert rejection(make_bundle_json().removesuffix(b"]}") + flood + b"]}").code == "payload_too_complex"


@pytest.mark.sampled(3)
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
    ],
)
def test_large_opaque_files_are_judged_by_their_beginning(tmp_path: Path, beginning: bytes) -> None:
    """An opaque file has its digest up to 64 MiB; a larger one is neither read on nor hashed."""
    hashed = beginning + b"\n" * 2_000_000
    found = read(hashed)
    assert (found.facts, found.sha256) == (None, hashlib.sha256(hashed).hexdigest())

    sparse = tmp_path / "large"
    sparse.write_bytes(beginning + b"\n" * 2_000_000)
    size_bytes = 200 * OPAQUE_BYTES_WORTH_HASHING
    os.truncate(sparse, size_bytes)
    with sparse.open("rb") as file:
        reading = read_payload(file.fileno(), size_bytes)

    assert (reading.facts, reading.sha256, reading.size_bytes) == (None, None, size_bytes)


def test_a_bundle_is_never_taken_for_something_else() -> None:
    """Broken, it may still be a message about somebody."""
    cut_off = b'{"resourceType": "Bundle", "entry": [' + b"\n" * 2_000_000

    assert rejection(cut_off).code == "payload_json_broken"


def test_a_message_that_names_itself_late_is_read() -> None:
    """The order of keys is free in JSON."""
    message = make_bundle_json()
    late = message.replace(b"{", b'{"x": "' + b"a" * 1_100_000 + b'", ', 1)

    assert read(late).facts == read(message).facts


def test_what_begins_with_blanks_is_not_passed_over() -> None:
    """A message may begin behind them."""
    assert rejection(b" " * 1_100_000 + make_bundle_json()).code == "payload_too_complex"


@pytest.mark.parametrize("size_bytes", [10, 3_000_000])
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_that_changes_under_the_reader_is_rejected(
    tmp_path: Path, size_bytes: int, difference: int
) -> None:
    """A size that is no longer what it was means that somebody is still writing."""
    path = tmp_path / "letter.txt"
    path.write_bytes(b"a" * size_bytes)

    with path.open("rb") as file, pytest.raises(Rejection) as caught:
        read_payload(file.fileno(), size_bytes + difference)

    assert caught.value.code == "payload_changed"


def test_reading_starts_at_the_beginning(tmp_path: Path) -> None:
    """The descriptor's position does not matter, so a file can be read again."""
    path = tmp_path / "letter.xml"
    path.write_bytes(make_bundle_xml())

    with path.open("rb", buffering=0) as file:
        file.seek(100)
        first, second = (read_payload(file.fileno(), path.stat().st_size) for _ in range(2))

    assert first.facts is not None
    assert second == first


def test_reading_leaves_the_position(tmp_path: Path) -> None:
    """Who reads the file from the same descriptor goes on where it was."""
    path = tmp_path / "letter.xml"
    path.write_bytes(make_bundle_xml())

    with path.open("rb", buffering=0) as file:
        file.seek(100)
        read_payload(file.fileno(), path.stat().st_size)

        assert file.tell() == 100
