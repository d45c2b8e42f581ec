"""Documents whose end is missing: their own structure shows it."""

import os
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from meshctl.payload.facts import Content
from meshctl.payload.reader import read_content
from tests.payload.made_documents import (
    JPEGS,
    PDFS,
    RTFS,
    TIFFS,
    Made,
    made_jpeg,
    made_linearized_pdf,
    made_pdf,
    made_rtf,
    made_tiff,
)
from tests.payload.reading import read
from tests.payloads import pdf, tiff

SAMPLE = Path(__file__).parents[2] / "sample_mailbox" / "payloads" / "send-document"
PIECE = 64 * 1024
LARGE = 1_300_000
PAGES = [[b"a page " * 20, b"goes on", b"to its end"], [b"the second", b"is", b"shorter"]]
# As much as tells the kind.
BEGINNING_BYTES = 8


def content(data: bytes) -> Content:
    """Read an opaque file."""
    found = (read_content if len(data) < LARGE else read)(data).content
    assert found is not None
    return found


def is_cut_off(data: bytes) -> bool:
    """True if a file counts as cut off, in words that quote nothing of it."""
    reason = content(data).cut_off
    assert reason is None or reason.isascii()
    return reason is not None


@given(st.one_of(PDFS, JPEGS, RTFS, TIFFS))
def test_a_whole_document_is_never_reported_as_cut_off(made: Made) -> None:
    """With whatever stands behind it, or without."""
    assert not is_cut_off(made.data)
    assert not is_cut_off(made.data[: made.end])


@given(st.one_of(PDFS, JPEGS, RTFS, TIFFS), st.floats(0, 1, exclude_max=True))
def test_a_part_of_a_document_is_always_reported_as_cut_off(made: Made, part: float) -> None:
    """Wherever it was cut, but where an earlier version of it was whole."""
    length = BEGINNING_BYTES + int((made.end - BEGINNING_BYTES) * part)
    cut = made.data[:length]
    assume(len(cut.rstrip(b"\0 \r\n\x1a")) not in made.ends_before)

    assert is_cut_off(cut)
    # Zeros in place of a scan could be one.
    assert is_cut_off(cut + bytes(600)) or content(cut).content_type == "image/tiff"


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "made",
    [
        made_pdf([b"a later change"]),
        made_pdf([b"a later change " * 3000]),
        made_linearized_pdf(),
        made_jpeg([b"\xff\xd8small\xff\xd9"], [b"an image\xff in"] * 2),
        made_rtf([b"{\\b bold \\{}", b"{\\pict\\bin7 {{{}}}}}", b"\\\\"]),
        made_tiff(PAGES),
        made_tiff(PAGES, ">", directories_last=True),
        made_tiff(PAGES, is_big=True, directories_last=True),
        Made(pdf("a letter"), len(pdf("a letter")) - 1),
        Made(tiff("a scan"), len(tiff("a scan"))),
        *(Made(path.read_bytes(), len(path.read_bytes().rstrip())) for path in sorted(SAMPLE.glob("*.pdf"))),
    ],
)
def test_every_place_to_cut_is_found(made: Made) -> None:
    places = (
        *range(BEGINNING_BYTES, made.end, 1 + made.end // 4000),
        *range(max(BEGINNING_BYTES, made.end - 100), made.end),
    )

    unseen = [at for at in places if not is_cut_off(made.data[:at])]

    assert [at for at in unseen if len(made.data[:at].rstrip()) not in made.ends_before] == []
    assert not is_cut_off(made.data)


@pytest.mark.parametrize("shift", [-20, *range(-8, 3)])
def test_the_pieces_that_a_file_is_read_in_cut_nothing(shift: int) -> None:
    """Markers, escapes and words that stand across the end of a piece count as they do elsewhere."""
    filling = PIECE + shift
    jpeg = made_jpeg([], [b"i" * (filling - 18)])
    rtf = b"{\\rtf1 " + b"i" * (filling - 7)

    assert not is_cut_off(jpeg.data)
    assert is_cut_off(jpeg.data[:-1])
    for word in (b"\\{", b"\\\\", b"\\bin3 {{{", b"\\bin12 }\\}\\}\\}\\}\\}\\}{", b"\\bin0{}"):
        assert not is_cut_off(rtf + word + b"}")
        assert is_cut_off(rtf + word)


def test_a_large_document_is_judged_as_a_small_one_is() -> None:
    """It is read in pieces, from the disk."""
    wholes = (
        made_jpeg([b"x" * 60_000] * 20, [b"image\xff" * 30_000]),
        made_rtf([b"{\\b \\{bold}" * 130_000]),
        made_tiff([[b"strip" * 1000] * 150, [b"strip" * 1000] * 150], directories_last=True),
        made_pdf([b"x" * LARGE]),
    )
    for made in wholes:
        assert len(made.data) > LARGE
        assert not is_cut_off(made.data)
        assert is_cut_off(made.data[: made.end - 1])
        assert is_cut_off(made.data[:LARGE])


@pytest.mark.parametrize("size_bytes", [1, 511, 70_000, 900_000])
def test_a_block_that_is_filled_up_ends_no_document(size_bytes: int) -> None:
    """Zeros behind the end are nothing; zeros instead of the end are what was never written."""
    scan = made_tiff(PAGES, directories_last=True)
    for made in (made_pdf([]), made_jpeg([], [b"image"]), made_rtf([b"text"]), scan):
        assert not is_cut_off(made.data + bytes(size_bytes))
        assert is_cut_off(made.data[: made.end // 2] + bytes(size_bytes))


@pytest.mark.parametrize(
    "junk",
    [b"\r\n0\r\n\r\n", b"<!-- 3 ms -->", b"\r\n--boundary--\r\n", b"\x1a", b"%%EOF\n", b"x" * 1000],
    ids=repr,
)
def test_junk_behind_a_pdf_is_let_pass(junk: bytes) -> None:
    """What web servers and mail gateways leave there."""
    assert not is_cut_off(pdf("a letter") + junk)
    assert is_cut_off(pdf("a letter") + junk + b"x" * 1024)


@pytest.mark.parametrize(
    "begun", ["1", "12 ", "12 0", "12 0 o", "12 0 obj <<", "x", "xref\n0 1", "trail", "% by X\n4 0 obj"]
)
def test_a_change_that_has_only_begun_is_reported(begun: str) -> None:
    """The PDF as it was before is whole; what was added to it, a signature or a page, is not."""
    reason = content(pdf("a letter") + begun.encode()).cut_off

    assert reason is not None
    assert "later change" in reason


def test_a_tiff_whose_writer_had_not_done_is_reported() -> None:
    """Room that was taken beforehand, and the first directory's place still to come."""
    whole = tiff("a scan")

    assert is_cut_off(whole[:4] + bytes(4) + whole[8:])
    assert is_cut_off(whole[:14] + bytes(len(whole) - 14))


def test_directories_that_run_in_a_circle_end() -> None:
    """A second page that is the first one."""
    whole = tiff("a scan")

    assert not is_cut_off(whole[:-4] + whole[4:8])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xd8\xff\xfe\0\2" * 300_000, "JPEG"),
        (b"\xff\xd8\xff" + b"\xff\xd8" * 1_000_000, "JPEG"),
        (b"{\\rtf" + b"\\bin0 " * 300_000, "RTF"),
        (b"{\\rtf" + b"{}" * 1_000_000, "RTF"),
        (b"{\\rtf\\bin9999999999 }", "RTF"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 100, "TIFF"),
        (b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 1_000_000, "TIFF"),
    ],
    ids=range(7),
)
def test_hostile_documents_cost_little(data: bytes, said: str) -> None:
    """Many steps, and places beyond all bounds."""
    before = os.times().user

    assert said in str(content(data).cut_off)

    assert os.times().user - before < 2.0


@pytest.mark.slow
def test_more_than_can_be_read_is_judged_by_its_end() -> None:
    """After so many steps, or bytes, the end alone tells."""
    jpeg = made_jpeg([b""] * 70_000, [b"image"])
    rtf = made_rtf([b"{\\bin0 }"] * 3000)

    for made in (jpeg, rtf):
        assert not is_cut_off(made.data + bytes(100))
        assert is_cut_off(made.data[:-3])


@example(b"II*\0\x08\0\0\0\x01\0\x11\x01\x04\0\xff\xff\xff\xff\xff\xff\xff\xff")
@given(
    st.builds(
        lambda begin, rest: begin + rest,
        st.sampled_from(
            [b"%PDF-", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0", b"\xff\xd8\xff", b"{\\rtf"]
        ),
        st.binary(max_size=300),
    )
)
def test_nothing_makes_it_fail(data: bytes) -> None:
    assert content(data).content_type is not None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"PK\x03\x04 a zip", None),
        (b"Dear doctor, and no more", "text/plain"),
        (b"a,b\r\n1,", "text/plain"),
        (b"MSH|^~\\&|x", None),
    ],
)
def test_other_kinds_are_not_judged(data: bytes, expected: str | None) -> None:
    """Nothing says where they end."""
    assert content(data) == Content(expected)
