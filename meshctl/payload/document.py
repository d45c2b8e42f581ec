"""What kind of document an opaque file is, and whether its end was cut off.

Judged by its bytes, read in pieces, as many as the format needs and at most `_MOST_READ_BYTES` of one file:
time and memory stay bounded whatever was dropped. The content of a document is never decoded, and it is not
searched for faults: it is cut off where its own structure says that more should follow.
"""

import codecs
import operator
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Final, NamedTuple

from meshctl.payload.facts import Content
from meshctl.payload.kind import Form, form_of

ReadAt = Callable[[int, int], bytes]
"""Read at most so many bytes of a file (the first argument), from an offset on; fewer only at its end."""

PDF: Final = "application/pdf"
TIFF: Final = "image/tiff"
JPEG: Final = "image/jpeg"
RTF: Final = "text/rtf"
TEXT: Final = "text/plain"
_ENDINGS: Final = {
    ".pdf": PDF,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".rtf": RTF,
}
_BIG_TIFF: Final = (b"II+\0", b"MM\0+")
_BEGINNINGS: Final = {
    b"II*\0": TIFF,
    b"MM\0*": TIFF,
    **dict.fromkeys(_BIG_TIFF, TIFF),
    b"\xff\xd8\xff": JPEG,
    b"{\\rtf": RTF,
}
# Other bytes may come before and after a PDF; PDF readers search so far (ISO 32000-1, annex H.3).
_PDF_WITHIN_BYTES: Final = 1024
_NO_TEXT: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")

_MOST_READ_BYTES: Final = 64 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024
# Each read counts as at least this many bytes, which limits the number of small ones.
_STEP_BYTES: Final = 1024
# The end mark of a PDF, and its mark of encryption, are near the end of the file.
_TAIL_BYTES: Final = 16 * 1024
# Systems that write in blocks fill up the last one; CP/M's end of file is still in use.
_PADDING: Final = b"\0 \t\r\n\f\x1a"
_MOST_PADDING_BYTES: Final = 1024 * 1024


def named_type(name: str) -> str | None:
    """Return the content type that the ending of a file's name stands for; None for any other ending."""
    return _ENDINGS.get(PurePath(name).suffix.lower())


def content_of(head: bytes, size_bytes: int, read_at: ReadAt) -> Content:
    """Return what kind of document an opaque file is; `head` is all of it, or its first MiB."""
    file = _File(size_bytes, read_at)
    for beginning, content_type in _BEGINNINGS.items():
        if head.startswith(beginning):
            return Content(content_type, _problems(beginning), _CUT_OFF[content_type](file))
    if b"%PDF-" in head[:_PDF_WITHIN_BYTES]:
        tail = file.tail()
        cut_off = _cut_off_pdf(head, tail)
        problems = _pdf_problems(head, tail.data, None if cut_off else file)
        return Content(PDF, tuple(problems), cut_off)
    return Content(TEXT if _is_text(head, is_whole=len(head) == size_bytes) else None)


def _problems(beginning: bytes) -> tuple[str, ...]:
    is_big = beginning in _BIG_TIFF
    return ("The TIFF is a BigTIFF: the practice may not be able to open it.",) if is_big else ()


def _is_text(head: bytes, *, is_whole: bool) -> bool:
    if form_of(head) is not Form.OPAQUE:
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=is_whole)
    except UnicodeDecodeError:
        return False
    return _NO_TEXT.search(text) is None


class _TooLongError(Exception):
    """More of a file would have to be read than is allowed."""


class _File:
    """A file that is read piece by piece, up to a limit."""

    def __init__(self, size_bytes: int, read_at: ReadAt) -> None:
        self.size_bytes = size_bytes
        self._read_at = read_at
        self._left_bytes = _MOST_READ_BYTES
        self._piece = b""
        self._piece_at = 0

    def part(self, at: int, size_bytes: int) -> bytes:
        """Return part of the file; less only at its end. Raises _TooLongError."""
        start = at - self._piece_at
        is_at_hand = start >= 0 and start + size_bytes <= len(self._piece)
        self._left_bytes -= _STEP_BYTES if is_at_hand else max(size_bytes, _STEP_BYTES)
        if self._left_bytes < 0:
            raise _TooLongError
        return self._piece[start : start + size_bytes] if is_at_hand else self._read(at, size_bytes)

    def marker(self, pattern: re.Pattern[bytes], at: int) -> tuple[int, bytes] | None:
        """Return where the next match of a pattern of two bytes ends, and its second byte.

        Raises _TooLongError.
        """
        while at < self.size_bytes:
            start = at - self._piece_at
            if not 0 <= start < len(self._piece) - 1:
                self._piece, self._piece_at, start = self.part(at, _PIECE_BYTES), at, 0
            if found := pattern.search(self._piece, start):
                return self._piece_at + found.end(), found[0][1:]
            # The first byte of a match may be the last of the piece.
            at = max(at + 1, self._piece_at + len(self._piece) - 1)
        return None

    def tail(self) -> "_Tail":
        """Return the end of the file without padding."""
        end = self.size_bytes
        while end > 0 and self.size_bytes - end < _MOST_PADDING_BYTES:
            start = max(0, end - _PIECE_BYTES)
            piece = self._read(start, end - start).rstrip(_PADDING)
            end = start + len(piece)
            if piece:
                break
        start = max(0, end - _TAIL_BYTES)
        return _Tail(self._read(start, end - start), end)

    def _read(self, at: int, size_bytes: int) -> bytes:
        data = b""
        if at >= self.size_bytes:
            return data
        while len(data) < size_bytes and (more := self._read_at(size_bytes - len(data), at + len(data))):
            data += more
        return data


class _Tail(NamedTuple):
    """The end of a file without padding: the bytes, and where in the file they end."""

    data: bytes
    end: int


_EOF: Final = b"%%EOF"
_FIRST_PAGE_END: Final = re.compile(rb"/Linearized\b[^>]*/E\s+(\d{1,15})\b")
# The beginning of an update, perhaps incomplete: "12 0 obj", or its cross-reference table.
_UPDATE_BEGINS: Final = re.compile(
    rb"[1-9]\d{0,9}(?:\s+(?:\d{1,5}(?:\s+(?:o(?:b(?:j.*)?)?)?)?)?)?\Z|xref|trailer|startxref", re.DOTALL
)
_UPDATE_WORDS: Final = (b"xref", b"trailer", b"startxref")
_UPDATE_WITHIN: Final = re.compile(rb"\d\s+\d+\s+obj\b|\bendobj\b|\bstartxref\b")


# Where the table of the objects begins (ISO 32000-1, 7.5.5 and 7.5.8).
_TABLE_AT: Final = re.compile(rb"startxref\s+([1-9]\d{0,14})\b")
_TABLE: Final = re.compile(rb"\s*(?:xref\b|\d+\s+\d+\s+obj\b)")
_TABLE_BYTES: Final = 64


def _pdf_problems(head: bytes, tail: bytes, whole: _File | None) -> Iterator[str]:
    """Yield what may keep a PDF from being shown; that its table is misplaced only of one that is `whole`."""
    if b"/Encrypt" in head or b"/Encrypt" in tail:
        yield "The PDF is encrypted: the practice may not be able to open it."
    places = _TABLE_AT.findall(tail)
    if places and whole is not None and not _has_table(whole, int(places[-1]), head.find(b"%PDF-")):
        yield (
            "The PDF's table is not where it says (startxref): parts of it may be missing or doubled, or its"
            " line ends changed, and the practice may not be able to open it."
        )


def _has_table(file: _File, at: int, junk_bytes: int) -> bool:
    """True if the table is at a place, counted from the file's beginning, or from the PDF's behind junk."""
    try:
        return any(_TABLE.match(file.part(place, _TABLE_BYTES)) for place in {at, at + junk_bytes})
    except _TooLongError:
        return True


def _cut_off_pdf(head: bytes, tail: _Tail) -> str | None:
    """Return how a PDF shows that it is cut off, or None.

    A little junk behind its end is accepted, as by PDF readers; an update (ISO 32000-1, 7.5.6) must end too.
    """
    before, end, after = tail.data.rpartition(_EOF)
    if not end or len(after) > _PDF_WITHIN_BYTES:
        return "the PDF has no end (%%EOF)"
    after = after.strip(_PADDING)
    if after and (
        _UPDATE_BEGINS.match(after)
        or any(word.startswith(after) for word in _UPDATE_WORDS)
        or _UPDATE_WITHIN.search(after)
    ):
        return "a later change to the PDF has no end (%%EOF)"
    # A linearised PDF also has an end mark before its first page, and says where that page ends (annex F.3).
    end_at = tail.end - len(tail.data) + len(before)
    first_page = _FIRST_PAGE_END.search(head, 0, 2 * _PDF_WITHIN_BYTES)
    if first_page and end_at == head.find(_EOF) and end_at < int(first_page[1]):
        return "the PDF ends before its first page"
    return None


# The markers of segments and of the end; lower codes are reserved, so noise (ITU-T T.81, B.1.1.3).
_JPEG_MARKER: Final = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_END_OF_IMAGE, _START_OF_SCAN = b"\xd9", b"\xda"


def _cut_off_jpeg(file: _File) -> str | None:
    """Return how a JPEG shows that it is cut off, or None: its segments are followed to the end marker.

    The inside of a segment, such as a small image with its own end marker, is skipped. What follows the end
    marker is ignored: cameras append films there, scanners zeros.
    """
    at, has_image = 2, False
    try:
        while found := file.marker(_JPEG_MARKER, at):
            at, code = found
            if code == _END_OF_IMAGE:
                return None
            has_image = has_image or code == _START_OF_SCAN
            at += int.from_bytes(file.part(at, 2))
    except _TooLongError:
        has_image = True
    if has_image and file.tail().data.endswith(b"\xff\xd9"):
        return None
    return "the JPEG has no end (FFD9)"


_RTF_ESCAPED: Final = re.compile(rb"\\[\\{}]")
_RTF_BINARY: Final = re.compile(rb"\\bin(\d{0,10})(?![A-Za-z0-9]) ?")
_RTF_WORD_BYTES: Final = 16


def _cut_off_rtf(file: _File) -> str | None:
    """Return how an RTF shows that it is cut off, or None: a brace is open where it ends."""
    try:
        return "the RTF ends within a group: a brace is open" if _open_braces(file) > 0 else None
    except _TooLongError:
        return None if file.tail().data.endswith(b"}") else "the RTF does not end with a brace"


def _open_braces(file: _File) -> int:
    at, opened = 0, 0
    while at < file.size_bytes:
        piece = file.part(at, _PIECE_BYTES)
        if not piece:
            break
        # A remaining backslash begins a control word, which the end of the piece must not cut in two.
        piece = _RTF_ESCAPED.sub(b"__", piece)
        cut = piece.rfind(b"\\", max(1, len(piece) - _RTF_WORD_BYTES))
        if cut > 0 and at + len(piece) < file.size_bytes:
            piece = piece[:cut]
        skipped = 0
        if binary := _RTF_BINARY.search(piece):
            skipped = int(binary[1] or 0)
            piece = piece[: binary.end()]
        opened += piece.count(b"{") - piece.count(b"}")
        at += len(piece) + skipped
    # Where announced binary data are missing, their closing brace is missing too.
    return opened


# The bytes of a value, by type of field (TIFF 6.0 and BigTIFF).
_TIFF_TYPES: Final = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
_TIFF_NUMBERS: Final = {3: "H", 4: "I", 16: "Q"}
# The tags with the offsets and the lengths of the parts of an image: strips, tiles.
_TIFF_PARTS: Final = ((273, 279), (324, 325))
# Tags from here on are private: their values may mean anything.
_TIFF_PRIVATE_TAG: Final = 32768
_TIFF_MOST_FIELDS: Final = 65535
_TIFF_AT_ONCE: Final = 8192


class _Values(NamedTuple):
    """The values of a field of a directory: `struct` form, number, and offset of the first."""

    form: str
    amount: int
    at: int


class _Tiff:
    """A TIFF. BigTIFF differs in the width of its offsets and counts."""

    def __init__(self, file: _File) -> None:
        self._file = file
        head = file.part(0, 4)
        self._order = "<" if head.startswith(b"I") else ">"
        is_big = b"+" in head
        self._place, self._first_at = ("Q", 8) if is_big else ("I", 4)
        self._place_bytes = 8 if is_big else 4
        self._number = "Q" if is_big else "H"
        self._entry = struct.Struct(f"{self._order}HH{self._place}")

    def cut_off(self) -> str | None:
        """Return how it shows that it is cut off, or None: a directory or its data lie beyond the end."""
        at, seen = self._number_at(self._place, self._first_at), set[int]()
        if not at:
            return "the TIFF has no directory: it was not written to its end"
        while at and at not in seen:
            seen.add(at)
            count = self._number_at(self._number, at) or 0
            first_at = at + struct.calcsize(self._number)
            entry_bytes = self._entry.size + self._place_bytes
            # A directory of zeros is space that was reserved and never written to.
            if not count or first_at + count * entry_bytes > self._file.size_bytes:
                return "a directory of the TIFF lies beyond its end"
            if count > _TIFF_MOST_FIELDS:
                raise _TooLongError
            if not self._is_complete(first_at, count, entry_bytes):
                return "a page of the TIFF goes on beyond its end"
            at = self._number_at(self._place, first_at + count * entry_bytes)
            if at is None:
                return "the TIFF ends before it says whether a page follows"
        return None

    def _is_complete(self, first_at: int, count: int, entry_bytes: int) -> bool:
        """True if the values of a directory, and the parts of its image, lie within the file."""
        fields: dict[int, _Values] = {}
        entries = self._file.part(first_at, count * entry_bytes)
        for offset in range(0, len(entries), entry_bytes):
            tag, kind, values = self._entry.unpack_from(entries, offset)
            size_bytes = _TIFF_TYPES.get(kind, 0) * values
            inside_at = first_at + offset + self._entry.size
            at = (
                inside_at if size_bytes <= self._place_bytes else self._number_at(self._place, inside_at) or 0
            )
            if tag < _TIFF_PRIVATE_TAG and at + size_bytes > self._file.size_bytes:
                return False
            if kind in _TIFF_NUMBERS:
                fields[tag] = _Values(_TIFF_NUMBERS[kind], values, at)
        return all(
            self._ends_at(fields[starts], fields.get(sizes)) <= self._file.size_bytes
            for starts, sizes in _TIFF_PARTS
            if starts in fields
        )

    def _ends_at(self, starts: _Values, sizes: _Values | None) -> int:
        """Return where the last part of an image ends; where it begins, if no lengths are given."""
        farthest = 0
        for first in range(0, starts.amount, _TIFF_AT_ONCE):
            begin = self._numbers(starts, first)
            length = self._numbers(sizes, first) if sizes else ()
            farthest = max(farthest, *begin, *map(operator.add, begin, length))
        return farthest

    def _numbers(self, values: _Values, first: int) -> tuple[int, ...]:
        """Return up to _TIFF_AT_ONCE of the values of a field, from the `first` on."""
        width = struct.calcsize(values.form)
        count = max(0, min(_TIFF_AT_ONCE, values.amount - first))
        data = self._file.part(values.at + first * width, count * width)
        return struct.unpack(f"{self._order}{len(data) // width}{values.form}", data)

    def _number_at(self, number: str, at: int) -> int | None:
        data = self._file.part(at, struct.calcsize(number))
        return (
            struct.unpack(f"{self._order}{number}", data)[0] if len(data) == struct.calcsize(number) else None
        )


def _cut_off_tiff(file: _File) -> str | None:
    try:
        return _Tiff(file).cut_off()
    except _TooLongError:
        return None


_CUT_OFF: Final = {TIFF: _cut_off_tiff, JPEG: _cut_off_jpeg, RTF: _cut_off_rtf}
