r"""The segments of an HL7 v2 file, by their places in it, and the separators that MSH names. Pure.

A segment ends at CR, LF or CRLF, but only where the next line begins like a segment: base64 and text may
have line ends within. More lines or segments than any letter has are a rejection.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from meshctl.errors import Rejection

LINE_ENDS: Final = (b"\r", b"\n", b"\x0b", b"\x1c")
NOTHING: Final = b" \t\r\n\x0b\x1c\0\x1a"
"""Blanks, padding and line ends between messages and behind the last."""

VALUE: Final = 5
"""The field of an OBX that holds the document."""

_MOST_LINES: Final = 4_000_000
_MOST_SEGMENTS: Final = 20_000
_PIECE_BYTES: Final = 4 * 1024
_WITHOUT_ESCAPE, _MOST_SEPARATORS = 3, 5
# Without what base64 has.
_MARK: Final = rb"[!-*,.:-<>-@\[-`{-~-]"
# Another message, or batch, whatever its separators.
_HEADER: Final = re.compile(
    rb"(?:MSH|FHS|BHS)(?P<field>\t|%s)(?P<others>%s{2,5}?)(?P=field)" % (_MARK, _MARK)
)
# That begins anywhere, even where a line does not.
_MESSAGE: Final = re.compile(rb"MSH(?P<field>\t|%s)(?P<others>%s{3,5}?)(?P=field)" % (_MARK, _MARK))
_HEADS: Final = frozenset({b"MSH", b"FHS", b"BHS"})
_NAME: Final = re.compile(rb"[A-Z][A-Z0-9]{2}")


class Delimiters(NamedTuple):
    r"""The separators that MSH names, each one byte; empty where it names none. Usual: `|^~\&`."""

    field: bytes
    component: bytes = b""
    repetition: bytes = b""
    escape: bytes = b""
    subcomponent: bytes = b""
    truncation: bytes = b""

    @property
    def letters(self) -> dict[bytes, bytes]:
        """Each separator's letter, which stands for it between two escapes."""
        letters = dict(zip(self, (b"F", b"S", b"R", b"E", b"T", b"P"), strict=True))
        return {mark: letter for mark, letter in letters.items() if mark}


def segments_in(data: bytes, first: int, field: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and end of each segment, in order; `first` is where the first begins."""
    has_batch = data.startswith((b"FHS", b"BHS"), first)
    starts = [first]
    line_starts, heads = _line_starts(data, first, field)
    headers = _headers(data, first, heads)
    # Of the segment in hand: how many separators it has before a place.
    counted, counted_to = 0, first
    for start in sorted({*line_starts, *headers}):
        is_begun = data[start + 3 : start + 4] == field or start in headers
        if not is_begun and data.startswith(b"OBX", starts[-1]):
            counted, counted_to = counted + data.count(field, counted_to, start), start
            is_end_of_batch = has_batch and data[start : start + 3] in (b"BTS", b"FTS")
            if counted <= VALUE and not is_end_of_batch:
                # A line of the text in OBX-5: "ECG".
                continue
        starts.append(start)
        counted, counted_to = 0, start
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield data[start : start + 3].decode("ascii"), start, end


def _line_starts(data: bytes, first: int, field: bytes) -> tuple[list[int], list[int]]:
    """Return where lines begin that look like segments, and that have the name of a header.

    Raises Rejection `hl7_too_complex`.
    """
    ends = {field, *LINE_ENDS, b""}
    starts: list[int] = []
    heads: list[int] = []
    lines = 0
    for bound in LINE_ENDS:
        at = data.find(bound, first)
        while at >= 0:
            lines += 1
            if data[at + 4 : at + 5] in ends and _NAME.fullmatch(data, at + 1, at + 4):
                starts.append(at + 1)
            if data[at + 1 : at + 4] in _HEADS:
                heads.append(at + 1)
            at = data.find(bound, at + 1)
            if lines > _MOST_LINES or max(len(starts), len(heads)) > _MOST_SEGMENTS:
                raise _too_many()
    return starts, heads


def _headers(data: bytes, first: int, heads: Iterable[int]) -> set[int]:
    """Return where another message or batch begins, whatever its separators; `first` is where the first does.

    `heads` are where lines have such a name. A message may be written behind one whose last line does not
    end; so much looks like MSH nowhere else. Raises Rejection `hl7_too_complex`.
    """
    headers: set[int] = set()
    found = chain((_HEADER.match(data, head) for head in heads), _messages(data, first + 3))
    for number, match in enumerate(found):
        if number >= 2 * _MOST_SEGMENTS:
            raise _too_many()
        if match is not None and len({*match["field"], *match["others"]}) > len(match["others"]):
            headers.add(match.start())
    return headers


def _messages(data: bytes, first: int) -> Iterator[re.Match[bytes]]:
    # Most files have none, and in base64 a search from the end takes half the time of the pattern's.
    return _MESSAGE.finditer(data, first) if data.rfind(b"MSH", first) >= 0 else iter(())


def _too_many() -> Rejection:
    return too_complex("It has more lines or segments than any letter has.")


def delimiters_of(field: bytes, others: bytes) -> Delimiters:
    r"""Return the separators; `others` is MSH-2, which some systems write without the escape (`^~&`)."""
    marks = [others[at : at + 1] for at in range(len(others))]
    if len(marks) == _WITHOUT_ESCAPE and marks[2] != b"\\":
        marks.insert(2, b"")
    used = [mark for mark in (field, *marks) if mark]
    if (
        not marks
        or len(marks) > _MOST_SEPARATORS
        or len(set(used)) < len(used)
        or set(used) & {b"+", b"/", b"="}
    ):
        raise broken("the separators in MSH cannot be read")
    return Delimiters(field, *marks)


def end_of_value(data: bytes, start: int, end: int) -> int:
    """Return where a value ends without the blanks, line ends and padding behind it."""
    while end > start:
        before = max(start, end - _PIECE_BYTES)
        if kept := len(data[before:end].rstrip(NOTHING)):
            return before + kept
        end = before
    return end


def has_line_end(data: bytes, end: int) -> bool:
    """True if a line or a frame ends in the blanks and padding that begin at `end`."""
    return any(mark in data[end : end + _PIECE_BYTES] for mark in LINE_ENDS)


def broken(why: str) -> Rejection:
    """Return the rejection of a file that begins like HL7 v2 and cannot be read; `why` is a clause."""
    return Rejection(
        "hl7_broken",
        f"The file begins like an HL7 v2 message and cannot be read as one: {why}.",
        "Have the sending system write the message again, and drop the whole file.",
    )


def too_complex(why: str) -> Rejection:
    """Return the rejection of a message that would take unreasonable time or memory; `why` is a sentence."""
    return Rejection(
        "hl7_too_complex",
        f"The HL7 message is too large in structure to be read. {why}",
        "Look at the file: a letter has a few segments and one document.",
    )
