"""Makes documents of the kinds that can be seen to be cut off, as the programs of this world write them.

Each maker tells where the last byte that counts ends: what stands behind that is padding or junk.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import strategies as st


class Made(NamedTuple):
    """A whole document, where it ends but for padding, and where it could end as well: a whole one before."""

    data: bytes
    end: int
    ends_before: frozenset[int] = frozenset()


def made_pdf(updates: Sequence[bytes], padding: bytes = b"\n") -> Made:
    """Return a PDF that was changed later, so many times; each change is a stream with these bytes."""
    data, ends = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", []
    for number, content in enumerate((b"the letter", *updates), start=1):
        at = len(data)
        data += b"%d 0 obj\n<< /Length %d >>\nstream\n%s\nendstream\nendobj\n" % (
            number,
            len(content),
            content,
        )
        start = len(data)
        data += b"xref\n%d 1\n%010d 00000 n \ntrailer\n<< /Size %d >>\n" % (number, at, number + 1)
        data += b"startxref\n%d\n%%%%EOF" % start
        ends.append(len(data))
        data += padding
    return Made(data, ends[-1], frozenset(ends[:-1]))


def made_linearized_pdf(*, has_first_end: bool = True) -> Made:
    """Return a PDF made for the web; some writers leave the end of its first part out."""
    page = b"10 0 obj\n<< >>\nstream\n%s\nendstream\nendobj\n" % (b"first page " * 400)
    first_end = b"%%EOF\n" if has_first_end else b""
    head = b"%%PDF-1.5\n1 0 obj\n<< /Linearized 1 /L %06d /H [ 9 9 ] /O 10 /E %06d /N 2 /T 9 >>\nendobj\n"
    first = b"xref\n10 1\n0000000016 00000 n \ntrailer\n<< >>\nstartxref\n0\n" + first_end + page
    rest = b"11 0 obj\n<< >>\nendobj\nxref\n0 1\n0000000016 00000 n \ntrailer\n<< >>\nstartxref\n173\n%%EOF"
    start = len(head % (0, 0))
    data = head % (start + len(first + rest), start + len(first)) + first + rest
    return Made(data, len(data))


def made_jpeg(segments: Sequence[bytes], scans: Sequence[bytes], behind: bytes = b"") -> Made:
    """Return a JPEG: segments of applications, an image in several scans, and what follows its end."""
    data = b"\xff\xd8"
    for number, content in enumerate(segments):
        data += b"\xff%c%s%s" % (0xE0 + number % 16, (len(content) + 2).to_bytes(2), content)
    for content in scans:
        # Tables before each scan, restart markers within, fill bytes before a marker.
        data += (
            b"\xff\xff\xc4\0\x05abc\xff\xda\0\x08123456"
            + content.replace(b"\xff", b"\xff\0")
            + b"\xff\xd0end"
        )
    data += b"\xff\xd9"
    return Made(data + behind, len(data))


def made_rtf(groups: Sequence[bytes], behind: bytes = b"") -> Made:
    """Return an RTF with these groups."""
    data = b"{\\rtf1\\ansi" + b"".join(groups) + b"}"
    return Made(data + behind, len(data))


def made_tiff(
    pages: Sequence[Sequence[bytes]],
    order: str = "<",
    *,
    is_big: bool = False,
    directories_last: bool = False,
) -> Made:
    """Return a TIFF; a page is a list of strips, at least three, so that their places stand in lists."""
    place, number, place_bytes = ("Q", "Q", 8) if is_big else ("I", "H", 4)
    head = struct.pack(f"{order}2sH", b"II" if order == "<" else b"MM", 43 if is_big else 42)
    head += struct.pack(f"{order}HH", 8, 0) if is_big else b""
    first_at = len(head) + place_bytes
    directory = struct.Struct(f"{order}{number}{f'HH{place}{place}' * 3}{place}")
    contents_bytes = sum(len(strip) + 8 for strips in pages for strip in strips) + 10 * len(pages)
    directory_at = first_at + (contents_bytes if directories_last else 0)
    contents_at = first_at + (0 if directories_last else directory.size * len(pages))
    directories = contents = b""
    for number_of_page, strips in enumerate(pages, start=1):
        starts = [
            contents_at + len(contents) + sum(map(len, strips[:before])) for before in range(len(strips))
        ]
        contents += b"".join(strips)
        lists_at = contents_at + len(contents)
        contents += struct.pack(f"{order}{2 * len(strips)}I5H", *starts, *map(len, strips), 8, 8, 8, 8, 8)
        places = (lists_at, lists_at + 4 * len(strips), lists_at + 8 * len(strips))
        fields = zip((273, 279, 258), (4, 4, 3), (len(strips), len(strips), 5), places, strict=True)
        next_at = directory_at + directory.size * number_of_page if number_of_page < len(pages) else 0
        directories += directory.pack(3, *(value for field in fields for value in field), next_at)
    parts = (contents, directories) if directories_last else (directories, contents)
    data = head + struct.pack(f"{order}{place}", directory_at) + b"".join(parts)
    return Made(data, len(data))


_SOME = st.binary(max_size=40)
_RTF_TEXT = st.sampled_from(
    [b"Dear doctor ", b"\\par ", b"\\{", b"\\}", b"\\\\", b"\\'7b", b"\\binary1", b"\r\n"]
)
_RTF_BINARY = _SOME.map(lambda data: b"\\bin%d %s" % (len(data), data))
_RTF_GROUP = st.recursive(
    st.one_of(_RTF_TEXT, _RTF_BINARY),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: b"{" + b"".join(parts) + b"}"),
    max_leaves=12,
)

PDFS = st.one_of(
    st.builds(
        made_pdf, st.lists(_SOME, max_size=3), st.sampled_from([b"", b"\r\n", b"\0" * 700, b" \n\x1a"])
    ),
    st.builds(made_linearized_pdf, has_first_end=st.booleans()),
)
JPEGS = st.builds(
    made_jpeg,
    st.lists(st.one_of(_SOME, st.just(b"Exif\0\0\xff\xd8small image\xff\xd9")), max_size=3),
    st.lists(_SOME, min_size=1, max_size=4),
    st.one_of(_SOME, st.just(bytes(700))),
)
RTFS = st.builds(made_rtf, st.lists(_RTF_GROUP, max_size=4), st.sampled_from([b"", b"\0", b"\r\n\0\0"]))
TIFFS = st.builds(
    made_tiff,
    st.lists(st.lists(_SOME.filter(bool), min_size=3, max_size=6), min_size=1, max_size=4),
    st.sampled_from("<>"),
    is_big=st.booleans(),
    directories_last=st.booleans(),
)
