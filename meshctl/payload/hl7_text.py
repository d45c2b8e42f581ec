r"""Whether all lines of a letter that is text in an HL7 v2 message are whole, there, and in order. Pure.

A separator that stands unescaped in a line cuts it off: what is behind it stands in other fields of the OBX,
or in a segment that no message has. What may stand there in a line of text is known, so it is seen.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from meshctl.errors import Rejection
from meshctl.payload.hl7_v2 import Message, Segment, text_of

_LAST_FIELD: Final = 25
_NOTHING: Final = re.compile(r"(?!)")
_DATE: Final = re.compile(r"[0-9].*")
# What may follow the value (6 units, 7 reference range): tables 0078, 0080 and 0085 of HL7.
_BEHIND: Final[Mapping[int, re.Pattern[str]]] = {
    6: _NOTHING,
    7: _NOTHING,
    8: re.compile(
        r"AA?|ABNORMAL|AC|B|CAR|D|DET|E|EXP?|H[HUMX<>]?|I|IE|IND|L[LUMX<>]?|MS|N|NCL|NDA?|NEG|NORMAL|NR|NS|NULL"
        r"|OBX|POS|QCF|RR?|S|SDD|SYN-[RS]|TOX|UN?E?|VS|WR?|[<>*+-]|\*\*"
    ),
    9: re.compile(r"[0-9]*\.?[0-9]+%?"),
    10: re.compile(r"[ABNRS]|S[PT]"),
    11: re.compile(r"[ABCDFINOPRSUVWX]"),
    12: _DATE,
    14: _DATE,
}
_MOST_DIGITS: Final = 6
_FEWEST: Final = 2
_ORDER: Final = "OBR"
_MISPLACED: Final = (
    "The lines of the text do not count 1, 2, 3 (OBX-1), so one may be missing or misplaced.",
    "See in the sending system that the text is whole and in order; have it number the lines as they stand.",
)


def check_whole(message: Message, lines: Sequence[Segment]) -> None:
    """Raise Rejection `hl7_document_broken` unless each line of a text ends where its OBX-5 does.

    Also `hl7_too_complex` and `hl7_character_set`.
    """
    place = next((place for line in lines for place in _misplaced(message, line)), None)
    if place is None and lines and _is_cut_by_line(message, lines[0]):
        place = "a line that begins like a segment and is none"
    if place is not None:
        raise Rejection(
            "hl7_document_broken",
            "The text in OBX-5 cannot be read: a line of it has the separator of fields in it, unescaped, and"
            " would be cut off there; or it has units, a reference range or another value that a letter has"
            f" not ({place}).",
            r"Have the system write the separator as an escape (\F\), and nothing but text into the OBX;"
            " or have it send the letter as a document (type ED, base64).",
        )


def _misplaced(message: Message, line: Segment) -> Iterator[str]:
    """Yield the fields behind OBX-5 whose value cannot stand there."""
    for number, allowed in _BEHIND.items():
        for parts in message.repetitions(line, number):
            if allowed.fullmatch(text_of(parts, 1).upper()) is None:
                yield f"OBX-{number}"
    if any(map(bytes.strip, line.fields[_LAST_FIELD + 1 :])):
        yield f"more than {_LAST_FIELD} fields"


def _is_cut_by_line(message: Message, first: Segment) -> bool:
    """True if a segment that HL7 does not know follows the first line: "BMI|23" is a line of the text."""
    at = next(number for number, segment in enumerate(message.segments) if segment is first)
    return any(segment.is_unknown for segment in message.segments[at:])


def about_order(message: Message, lines: Sequence[Segment]) -> tuple[tuple[str, str], ...]:
    """Return the caution that is due where the numbers of a text's lines (OBX-1) have a gap or are mixed up.

    They count within an order (OBR), along with its other OBX. Numbers that are missing or the same say
    nothing.
    """
    groups: list[list[Segment]] = [[]]
    for segment in message.segments:
        if segment.name == _ORDER:
            groups.append([])
        elif segment.name == "OBX":
            groups[-1].append(segment)
    its_own = set(map(id, lines))
    # The first order that has any counts from 1; a later one may count on.
    is_first = True
    for group in filter(None, groups):
        if _is_misplaced(group, [one for one in group if id(one) in its_own], is_first=is_first):
            return (_MISPLACED,)
        is_first = False
    return ()


def _is_misplaced(group: Sequence[Segment], lines: Sequence[Segment], *, is_first: bool) -> bool:
    numbers = [number for line in lines if (number := _number(line)) is not None]
    if len(lines) < _FEWEST or len(set(numbers)) < len(lines):
        return False
    due = range(1 if is_first else numbers[0], numbers[-1])
    return numbers != sorted(numbers) or not {_number(one) for one in group}.issuperset(due)


def _number(segment: Segment) -> int | None:
    text = segment.field(1).strip()
    return int(text) if text.isdigit() and len(text) <= _MOST_DIGITS else None
