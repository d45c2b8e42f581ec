r"""HL7 v2: from the bytes of a file to the fields of one message. Pure; what a field means is not known here.

What systems write into files differs from the standard. The bytes of MLLP, and the segments of a batch around
one message, are left out. Only the segments and fields that are about a document are kept, and the value of
an OBX (the document itself) as its place in the file.

Bounded: no field but a document is longer than `LONGEST_FIELD_BYTES`, and more lines, segments or text than
any letter has are a rejection. No error quotes a value.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import AnyStr, Final

from meshctl.errors import Rejection
from meshctl.payload.hl7_characters import (
    AS_IN_XML,
    LOST,
    character_set,
    decoded,
    encoding_of,
    has_lost,
    has_references,
    without_references,
)
from meshctl.payload.hl7_segments import (
    NOTHING,
    VALUE,
    Delimiters,
    broken,
    delimiters_of,
    end_of_value,
    has_line_end,
    segments_in,
    too_complex,
)
from meshctl.sizes import size_text

LONGEST_FIELD_BYTES: Final = 64 * 1024
LONGEST_TEXT_BYTES: Final = 1024 * 1024
"""The longest letter that is text in the message; the largest is a hundred pages."""

LARGEST_BYTES: Final = 150_000_000
"""A larger file is not read: no practice takes such a document."""

_XML_BYTES: Final = 64 * 1024
_XML_MARKS: Final = (b"urn:hl7-org:v2xml", b"MSH|^~\\&amp;|", b"MSH|^~\\&|")
_MOST_FIELDS: Final = 45
_MOST_PARTS: Final = 50

_SEPARATOR: Final = rb"[\t!-/:-@\[-`{-~]"
_START: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?[ \t\r\n\x0b\x1c]*(?:MSH|FHS|BHS)(?P<field>%s)(?P<others>[!-/:-@\[-`{-~]{0,8}?)"
    rb"(?:(?P=field)|[\r\n]|\Z)" % _SEPARATOR
)
_OTHER_LINE: Final = re.compile(rb"[\r\n\x1e]|\\[rn][A-Z]{3}")
_NOTE: Final = "NTE"
_KEPT: Final = frozenset({"MSH", "EVN", "PID", "TXA", "OBR", "OBX", _NOTE, "ADD", "DSC"})
_BATCH: Final = frozenset({"FHS", "BHS", "BTS", "FTS"})
# With what else messages with documents or results have, in any version, or take along from other messages.
_KNOWN: Final = _KEPT | _BATCH | {
    "ACC", "AL1", "ARV", "BLG", "CON", "CTD", "CTI", "DB1", "DEV", "DG1", "DRG", "FT1", "GT1", "IAM", "IN1",
    "IN2", "IN3", "NK1", "NPU", "ORC", "PD1", "PDA", "PR1", "PRD", "PRT", "PV1", "PV2", "RF1", "ROL", "SAC",
    "SFT", "SPM", "TQ1", "TQ2", "UAC", "UB1", "UB2",
}  # fmt: skip
_BEGINS_BATCH: Final = frozenset({"FHS", "BHS"})
_COUNTS: Final = frozenset({"BTS", "FTS"})
_ONE: Final = frozenset({b"", b"1"})

Parts = tuple[tuple[str, ...], ...]
"""The components of a field, each as its sub-components."""


@dataclass(slots=True, repr=False)
class Segment:
    """One segment: its name, and its fields as bytes; `value` is where OBX-5 is in the file.

    `read` has the fields that `Message.repetitions` was asked for.
    """

    name: str
    fields: list[bytes]
    value: tuple[int, int] = (0, 0)
    read: dict[int, list[Parts]] = field(default_factory=dict)

    @property
    def is_unknown(self) -> bool:
        """True if no message with a document has a segment of this name; it may be a line of text."""
        return _is_unknown(self.name)

    def field(self, number: int) -> bytes:
        """Return a field, empty where there is none."""
        return self.fields[number] if number < len(self.fields) else b""


@dataclass(slots=True, repr=False)
class Message:
    """The segments of one message that are about a document, in their order. It does not hold the file.

    Of those that no such message has, only the name.

    `cautions` are sentences about how it is written, each with what to do. `has_end` is false if its last
    segment has no line end, and no frame ends: more of it may have been on its way. `is_as_in_xml` if it has
    characters that are written as in XML.
    """

    segments: list[Segment]
    delimiters: Delimiters
    encoding: str = "utf-8"
    cautions: tuple[tuple[str, str], ...] = ()
    has_end: bool = True
    is_as_in_xml: bool = False
    _first: dict[str, Segment] = field(init=False)

    def __post_init__(self) -> None:
        """Note the first segment of each name."""
        self._first = {segment.name: segment for segment in reversed(self.segments)}

    def all(self, name: str) -> list[Segment]:
        """Return the segments of a name."""
        return [segment for segment in self.segments if segment.name == name]

    def first(self, name: str) -> Segment:
        """Return the first segment of a name, an empty one where there is none."""
        return self._first.get(name) or self._first.setdefault(name, Segment(name, []))

    def repetitions(self, segment: Segment, number: int) -> list[Parts]:
        """Return a field as its repetitions, without those that are empty.

        Raises Rejection `hl7_character_set`.
        """
        found = segment.read.get(number)
        if found is None:
            found = segment.read[number] = self._repetitions(segment.field(number))
        return found

    def _repetitions(self, field: bytes) -> list[Parts]:
        if not field:
            return []
        if field.isalnum():
            # Letters and digits of ASCII, which no mark and no escape is.
            return [((field.decode("ascii"),),)]
        marks = self.delimiters
        if marks.escape and marks.subcomponent and (lone := b" %s " % marks.subcomponent) in field:
            # With blanks on both sides it is a sign that somebody has typed: "Smith & Jones".
            field = field.replace(lone, b" %sT%s " % (marks.escape, marks.escape))
        if self.is_as_in_xml:
            field = without_references(field, marks.escape, marks.letters, self.encoding)
        if marks.escape and marks.escape in field:
            found = [
                tuple(
                    tuple(map(self._text, _split(component, marks.subcomponent)))
                    for component in _split(repetition, marks.component)
                )
                for repetition in _split(field, marks.repetition)
            ]
        else:
            # All characters beyond ASCII are without separators in every character set that is read.
            repetition_mark, component_mark, subcomponent_mark = (
                mark.decode("ascii") for mark in (marks.repetition, marks.component, marks.subcomponent)
            )
            found = [
                tuple(
                    tuple(map(_without_null, _split(component, subcomponent_mark)))
                    for component in _split(repetition, component_mark)
                )
                for repetition in _split(decoded(field, self.encoding), repetition_mark)
            ]
        return [parts for parts in found if any(map(any, parts))]

    def parts(self, segment: Segment, number: int) -> Parts:
        """Return the first repetition of a field. Raises Rejection `hl7_character_set`."""
        return next(iter(self.repetitions(segment, number)), ())

    def text(self, segment: Segment, number: int, component: int = 1) -> str:
        """Return one component of a field. Raises Rejection `hl7_character_set`."""
        return text_of(self.parts(segment, number), component)

    def decoded(self, value: bytes) -> str:
        """Return a text with its escapes resolved, line ends kept. Raises Rejection `hl7_character_set`."""
        unescaped = self._unescaped(value)
        try:
            return decoded(unescaped, self.encoding)
        except Rejection:
            # The bytes of the file were examined when its character set was determined.
            raise character_set(
                "an escape (\\X..\\) in it stands for bytes that do not fit the one that it names or seems to"
                " be in"
            ) from None

    def _text(self, value: bytes) -> str:
        return _without_null(self.decoded(value))

    def _unescaped(self, value: bytes) -> bytes:
        delimiters = self.delimiters
        if not delimiters.escape or delimiters.escape not in value:
            return value
        meaning = {letter: mark for mark, letter in delimiters.letters.items()}

        def resolved(found: re.Match[bytes]) -> bytes:
            if found["letter"]:
                return meaning.get(found["letter"], b"")
            if found["hex"]:
                return bytes.fromhex(found["hex"].decode("ascii"))
            if found["switch"]:
                raise character_set("the message switches its character set within a text")
            layout = (found["layout"] or b"").lower()
            times = min(abs(int(found["number"] or 1)), 20)
            return {b"br": b"\n", b"ce": b"\n", b"sp": b"\n" * times, b"sk": b" " * times}.get(layout, b"")

        return _escapes(delimiters.escape).sub(resolved, value)


def text_of(parts: Parts, component: int, subcomponent: int = 1) -> str:
    """Return one component of a field, its first sub-component or another; empty where there is none."""
    subcomponents = parts[component - 1] if component <= len(parts) else ()
    return subcomponents[subcomponent - 1] if subcomponent <= len(subcomponents) else ""


def whole_text(parts: Parts, component: int) -> str:
    """Return one component with its sub-components, where it has none by the standard: "A&E letter"."""
    return "&".join(filter(None, parts[component - 1])) if component <= len(parts) else ""


def one_line(text: str) -> str:
    """Return a text without line ends and with single blanks."""
    return " ".join(text.split())


def is_hl7(head: bytes) -> bool:
    """True if a file that begins with `head` (1 KiB of it or more) is HL7 v2 in its own form, not in XML."""
    if b"\0" in head[:16]:
        # UTF-16: recognised, to be rejected.
        head = head[:256].lstrip(b"\xff\xfe").replace(b"\0", b"")
    return _START.match(head) is not None


def is_hl7_in_xml(head: bytes) -> bool:
    """True if a file that begins with `head` is XML with HL7 v2 in it: its XML form, or wrapped."""
    head = head[:_XML_BYTES]
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" and any(mark in head for mark in _XML_MARKS)


def read_message(data: bytes) -> Message:
    """Return the one message in a file that `is_hl7`.

    Raises Rejection: `hl7_broken`, `hl7_character_set`, `hl7_cut_off`, `hl7_several_messages`,
    `hl7_too_complex`.
    """
    if b"\0" in data[:16]:
        raise character_set("the file is UTF-16")
    start = _START.match(data)
    if start is None:
        raise broken("its separators cannot be read")
    found = list(segments_in(data, start.start("field") - 3, start["field"]))
    headers = [number for number, (name, *_) in enumerate(found) if name == "MSH"]
    if not headers:
        raise broken("it has no MSH segment")
    if len(headers) > 1:
        raise Rejection(
            "hl7_several_messages",
            f"The file holds {len(headers)} HL7 messages; one dropped file becomes one message.",
            "Have the system write each message into a file of its own.",
        )
    first = headers[0]
    if any(name in _BEGINS_BATCH for name, *_ in found[first:]):
        raise Rejection(
            "hl7_several_messages",
            "Behind its HL7 message the file begins another batch; one dropped file becomes one message.",
            "Have the system write each message into a file of its own.",
        )
    header = _START.match(data, found[first][1])
    if header is None:
        raise broken("the separators in MSH cannot be read")
    if header["field"] != start["field"]:
        raise broken("the separators in MSH are not those of its batch")
    delimiters = delimiters_of(header["field"], header["others"])
    if _OTHER_LINE.search(data[found[first][1] : found[first][2]].rstrip(NOTHING)):
        raise broken("its lines do not begin like segments, with a name in capitals")
    own = [one for one in found[first:] if one[0] not in _BATCH]
    _check_end(data, found[first:], own)
    segments = [
        _segment(data, one, delimiters) if one[0] in _KEPT else Segment(one[0], [])
        for one in own
        if one[0] in _KEPT or _is_unknown(one[0])
    ]
    message = Message(segments, delimiters, has_end=has_line_end(data, end_of_value(data, 0, len(data))))
    named = message.first("MSH").field(18).split(delimiters.repetition or b"\0")[0]
    texts = []
    for text in _texts(data, message):
        if not text.isascii():
            texts.append(text)
        message.is_as_in_xml = message.is_as_in_xml or has_references(text)
    message.encoding, cautions = encoding_of(named, texts)
    if any(has_lost(text, message.encoding) for text in texts):
        cautions = (*cautions, LOST)
    if message.is_as_in_xml:
        cautions = (*cautions, AS_IN_XML)
    message.cautions = (*cautions, *_left_out(data, found, delimiters))
    return message


def _is_unknown(name: str) -> bool:
    return name not in _KNOWN and not name.startswith("Z")


def _left_out(
    data: bytes, found: Sequence[tuple[str, int, int]], delimiters: Delimiters
) -> Iterator[tuple[str, str]]:
    """Yield what is doubtful of the segments that are not read."""
    ends = [
        data[start : min(end, start + LONGEST_FIELD_BYTES)].split(delimiters.field, 2)
        for name, start, end in found
        if name in _COUNTS
    ]
    if any(count.strip(NOTHING) not in _ONE for fields in ends for count in fields[1:2]):
        yield _OTHER_COUNT
    if any(name not in _KNOWN for name, *_ in found):
        yield _OF_SYSTEM


_OTHER_COUNT: Final = (
    "The batch says that it has another number of messages (BTS-1, FTS-1) than the one that is in the file.",
    "Look in the sending system whether a message was lost.",
)
_OF_SYSTEM: Final = (
    "The HL7 message has segments of the sending system's own (Z), or unknown ones, which will not be sent.",
    "See that they say nothing that the practice has to know, and have the system leave them out.",
)


def _check_end(
    data: bytes, found: Sequence[tuple[str, int, int]], own: Sequence[tuple[str, int, int]]
) -> None:
    """Raise Rejection where a frame of MLLP shows that the message was cut off, or goes on behind its end."""
    header = found[0][1]
    end = data.find(b"\x1c", header)
    if end < 0:
        if b"\x0b" in data[:header]:
            raise Rejection(
                "hl7_cut_off",
                "The HL7 message was cut off: its frame (MLLP) begins and does not end.",
                "Have the sending system write the whole message, and drop it again.",
            )
        return
    next_start = next((start for _, start, _ in found if start > end), len(data))
    if own[-1][1] > end or data[end:next_start].strip(NOTHING):
        raise broken("something follows the end of the message")


def _segment(data: bytes, found: tuple[str, int, int], delimiters: Delimiters) -> Segment:
    name, start, end = found
    field = delimiters.field
    if name != "OBX":
        fields = data[start:end].rstrip(NOTHING).split(field, _MOST_FIELDS)
        if name == "MSH":
            fields.insert(1, field)
        return Segment(name, _checked(fields))
    at = start
    for _ in range(VALUE):
        at = data.find(field, at, end) + 1
        if not at:
            return Segment(name, _checked(data[start:end].rstrip(NOTHING).split(field)))
    value_end = data.find(field, at, end)
    value_end = end if value_end < 0 else value_end
    rest = data[value_end + 1 : end].rstrip(NOTHING).split(field, _MOST_FIELDS)
    if at - start > LONGEST_FIELD_BYTES:
        raise _too_long()
    fields = data[start : at - 1].split(field)
    return Segment(name, _checked([*fields, b"", *rest]), (at, end_of_value(data, at, value_end)))


def _checked(fields: list[bytes]) -> list[bytes]:
    if max(map(len, fields)) > LONGEST_FIELD_BYTES:
        raise _too_long()
    return fields


def _too_long() -> Rejection:
    return too_complex(f"A field has more than {size_text(LONGEST_FIELD_BYTES)}.")


def _without_null(text: str) -> str:
    text = text.strip()
    # The null of HL7: the value is to be deleted.
    return "" if text == '""' else text


def _split(value: AnyStr, separator: AnyStr) -> list[AnyStr]:
    if not separator or separator not in value:
        return [value]
    found = value.split(separator, _MOST_PARTS)
    if len(found) > _MOST_PARTS:
        raise too_complex(f"A field has more than {_MOST_PARTS} parts.")
    return found


def _texts(data: bytes, message: Message) -> Iterator[bytes]:
    """Yield all that is read of a message but the documents in it."""
    for segment in message.segments:
        if segment.name == _NOTE:
            continue
        yield from segment.fields
        if segment.name == "OBX" and segment.field(2).strip() in TEXT_TYPES:
            start, end = segment.value
            if end - start <= LONGEST_TEXT_BYTES:
                yield data[start:end]


TEXT_TYPES: Final = frozenset({b"TX", b"FT", b"ST"})
"""The types of an OBX whose value is text."""


@lru_cache(maxsize=8)
def _escapes(escape: bytes) -> re.Pattern[bytes]:
    """Return the pattern of the escapes that have a meaning; whatever else looks like one is text."""
    mark = re.escape(escape)
    return re.compile(
        mark + rb"(?:(?P<letter>[EFPRST])|X(?P<hex>(?:[0-9A-Fa-f]{2})+)|[HN]|(?P<switch>[CM])[0-9A-Fa-f]{2,6}"
        rb"|\.(?P<layout>(?i:br|ce|sp|sk|in|ti|fi|nf)) ?(?P<number>[+-]?[0-9]{0,3}))" + mark
    )
