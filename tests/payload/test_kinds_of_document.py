"""What kind of document an opaque file is, by its content."""

from collections.abc import Callable

import pytest

from meshctl.payload.document import content_of
from meshctl.payload.facts import Content
from tests.payload.made_documents import made_jpeg, made_pdf, made_tiff
from tests.payload.reading import read
from tests.payloads import tiff

PDF = b"%PDF-1.7\n1 0 obj\n"
PAGES = [[b"a", b"page", b"in strips"]]


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (PDF + b"%%EOF\n", "application/pdf"),
        (b"\r\nsome scanners write first" + PDF + b"%%EOF", "application/pdf"),
        (tiff("a scan"), "image/tiff"),
        (made_tiff(PAGES, ">").data, "image/tiff"),
        (made_jpeg([b"JFIF"], [b"an image"]).data, "image/jpeg"),
        (b"{\\rtf1\\ansi Dear doctor}", "text/rtf"),
        (b'{\\rtf1\\ansi about "resourceType"}', "text/rtf"),
        ("Dear doctor,\r\n\tZoë has been seen.\f".encode(), "text/plain"),
        (b"\xef\xbb\xbfDear doctor", "text/plain"),
    ],
)
def test_documents_that_a_practice_can_file(data: bytes, content_type: str) -> None:
    """PDF, TIFF, JPEG, RTF and plain text, whatever the name says."""
    assert read(data).content == Content(content_type)


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04",
        b"<html><body>a PDF, its name says</body></html>",
        b'{"rows": []}',
        "Dear Zoë".encode("latin-1"),
        b"Dear\x00doctor",
        b"\x7fELF",
        "Dear doctor".encode("utf-16"),
    ],
    ids=repr,
)
def test_what_is_no_document(data: bytes) -> None:
    """A word processor's file, HTML, data for programs, text in another encoding."""
    assert read(data).content == Content(None)


def test_a_bigtiff_is_taken_with_a_warning() -> None:
    """Few programs can open one."""
    content = read(made_tiff(PAGES, is_big=True).data).content

    assert content is not None
    assert (content.content_type, content.cut_off) == ("image/tiff", None)
    assert "BigTIFF" in content.problems[0]


@pytest.mark.parametrize("filling", [b"", b"x" * 2_000_000], ids=["small", "large"])
def test_an_encrypted_pdf_is_taken_with_a_warning(filling: bytes) -> None:
    """The practice may lack the password."""
    content = read(PDF + filling + b"trailer <</Encrypt 5 0 R>> %%EOF").content

    assert content is not None
    assert (content.content_type, content.cut_off) == ("application/pdf", None)
    [problem] = content.problems
    assert "encrypted" in problem


def test_a_large_text_is_judged_by_its_beginning() -> None:
    """A character that the first part ends in is no fault."""
    assert read("ä".encode() * 1_000_000).content == Content("text/plain")
    assert read(b"x" + "ä".encode() * 1_000_000).content == Content("text/plain")


@pytest.mark.parametrize(
    ("change", "is_told"),
    [
        (lambda data: data, False),
        (lambda data: b"junk\n" + data, False),
        (lambda data: data.replace(b"\n", b"\r\n"), True),
        (lambda data: data[:200] + data[276:], True),
        (lambda data: data[:200] + data[124:], True),
    ],
    ids=["whole", "junk", "line ends", "lost", "doubled"],
)
def test_a_pdf_that_lost_or_doubled_a_piece_is_told(change: Callable[[bytes], bytes], is_told: bool) -> None:
    """Its table is then not where it says; readers repair that, or show less."""
    data = change(made_pdf([b"x" * 300]).data)

    problems = content_of(data, len(data), lambda most, at: data[at : at + most]).problems

    assert any("startxref" in problem for problem in problems) == is_told
