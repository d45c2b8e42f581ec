"""What kind of document an opaque file is, by its content."""

import pytest

from meshctl.payload.facts import Content
from tests.payload.reading import read

PDF = b"%PDF-1.7\n1 0 obj\n"


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (PDF + b"%%EOF\n", "application/pdf"),
        (b"\r\nsome scanners write first" + PDF + b"%%EOF", "application/pdf"),
        (b"II*\0\x08", "image/tiff"),
        (b"MM\0*\0", "image/tiff"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"{\\rtf1\\ansi Dear doctor}", "text/rtf"),
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


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PDF, ["cut off"]),
        (PDF + b"trailer <</Encrypt 5 0 R>> %%EOF", ["encrypted"]),
        (PDF + b"x" * 2_000_000 + b"<</Encrypt 5 0 R>>", ["cut off", "encrypted"]),
    ],
    ids=["truncated", "encrypted", "both, large"],
)
def test_odd_pdfs_are_taken_with_a_warning(data: bytes, words: list[str]) -> None:
    """One that may have been cut off, or that needs a password."""
    content = read(data).content

    assert content is not None
    assert content.content_type == "application/pdf"
    assert len(content.problems) == len(words)
    assert all(word in problem for word, problem in zip(words, content.problems, strict=True))


def test_a_large_text_is_judged_by_its_beginning() -> None:
    """A character that the first part ends in is no fault."""
    assert read("ä".encode() * 1_000_000).content == Content("text/plain")
    assert read(b"x" + "ä".encode() * 1_000_000).content == Content("text/plain")
