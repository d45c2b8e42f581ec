r"""The document in an HL7 v2 message: which OBX hold it, and its bytes. Pure.

A document is in OBX-5 as base64 (type ED), whole or over several OBX, or as lines of text (TX, FT). What
it is, its bytes say, never a label. It is decoded strictly: what is not whole is a rejection, and so is a
message with several documents, or with text beside the document that a practice would not see.
"""

import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from io import BytesIO
from typing import Final, NamedTuple

from meshctl.errors import Rejection
from meshctl.payload.document import TEXT, content_of
from meshctl.payload.facts import Content
from meshctl.payload.hl7_segments import Delimiters, too_complex
from meshctl.payload.hl7_text import about_order, check_whole
from meshctl.payload.hl7_v2 import LONGEST_TEXT_BYTES, TEXT_TYPES, Message, Segment, read_message
from meshctl.sizes import size_text

TEXT_LEFT_OUT_BYTES: Final = 200
"""Longer text beside a document may say what the document does not."""

_CHUNK_BYTES: Final = 1024 * 1024
_HEAD_BYTES: Final = 2048
_COMPONENTS: Final = 5
_COUNT: Final = re.compile(rb"(?<![0-9])[0-9]{1,6}(?=\s*\Z)")
_DATA_TYPE, _POINTER, _SHORT_TEXT = b"ED", b"RP", b"ST"
_MAY_HOLD_DATA: Final = TEXT_TYPES | {_DATA_TYPE, b""}
_RESULTS, _ORDER = "ORU", "OBR"
_BLANKS: Final = b" \t\r\n\x0b\x1c"
_EACH_BLANK: Final = tuple(_BLANKS[at : at + 1] for at in range(len(_BLANKS)))
_BLANK_RUN: Final = re.compile(rb"[ \t\r\n\x0b\x1c]+")
_LONGEST_ESCAPE_BYTES: Final = 16
# As web pages write a document; some systems put all of it into OBX-5.
_DATA_URI: Final = re.compile(
    rb"\s*data:[\w.+/-]{0,100}(?:;[\w.+-]{1,40}=[\w.+-]{1,80})?;base64,", re.IGNORECASE
)
# How other files begin that systems put beside a document: PNG, GIF, ZIP (DOCX), DOC, XML, web pages.
_FILES: Final = (
    b"\x89PNG\r\n", b"GIF8", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"<?xml", b"<html", b"<HTML", b"<!DOCTYPE",
)  # fmt: skip
_PDF_END_BYTES: Final = 64
# Labels of a document that is no text.
_BINARY: Final = re.compile(rb"(?<![a-z])(?:pdf|rtf|tiff?|jpe?g|png|gif|docx?|image)(?![a-z])", re.IGNORECASE)
_CUT: Final = "the last segment of the HL7 message has no line end, so more may have been on its way"
_NOT_WHOLE: Final = "it is not whole base64 (or hex)"
_EMPTY: Final = (
    "An OBX of the HL7 message that is to hold a document (type ED or RP) is empty.",
    "See in the sending system whether a document is missing beside the one that was sent.",
)
_SEE: Final = "See that the document says all that the practice has to know."


class _Form(Enum):
    """How the bytes of a document are written (table 0299)."""

    BASE64 = auto()
    HEX = auto()
    PLAIN = auto()


class _Part(NamedTuple):
    """One part of a document: its OBX, how it is written, and where it is in the file.

    `is_named` if the message says how it is written; `labels` is what stands before it in OBX-5.
    """

    segment: Segment
    form: _Form
    start: int
    end: int
    is_named: bool
    labels: bytes = b""


@dataclass(frozen=True, slots=True, repr=False)
class Hl7Document:
    """The one document of a message: `segments` are the OBX that hold it.

    `data` is all of it, or None where it is too large to be kept; `document_in` returns it again. `cautions`
    are sentences about what is in the message and not in the document, each with what to do.
    """

    data: bytes | None
    size_bytes: int
    content: Content
    sha256: str
    segments: tuple[Segment, ...]
    cautions: tuple[tuple[str, str], ...] = ()


def document_in(data: bytes) -> bytes:
    """Return the document of an HL7 file that was read before. Raises Rejection as its readers do."""
    return read_document(data, read_message(data)).data or b""


def read_document(data: bytes, message: Message) -> Hl7Document:
    """Return the document of a message that was read from `data`.

    Raises Rejection: `hl7_pointer`, `hl7_no_document`, `hl7_several_documents`, `hl7_document_broken`,
    `hl7_text_beside_document`, `hl7_too_complex`, `hl7_character_set`, `hl7_cut_off`.
    """
    _check_not_continued(message)
    is_result = message.text(message.first("MSH"), 9) == _RESULTS
    parts: list[_Part] = []
    lines: list[Segment] = []
    results = orders = pointers = empty = 0
    with_text: set[int] = set()
    for segment in message.segments:
        orders += segment.name == _ORDER
        if segment.name != "OBX":
            continue
        kind, (start, end) = segment.field(2).strip().upper(), segment.value
        part = _part(data, segment, message.delimiters) if start < end else None
        if part is not None:
            parts.append(part)
        elif kind == _POINTER and start < end:
            pointers += 1
        elif kind in (_DATA_TYPE, _POINTER):
            empty += 1
        elif kind in TEXT_TYPES and not (is_result and kind == _SHORT_TEXT):
            # An empty one is an empty line.
            lines.append(segment)
            if start < end:
                with_text.add(orders)
        elif start < end:
            results += 1
    if parts:
        # What a pointer leads to is a result among others beside a document that is there.
        found = _from_parts(data, message, parts, lines, results + pointers)
        return replace(found, cautions=(*found.cautions, _EMPTY)) if empty else found
    if pointers:
        raise Rejection(
            "hl7_pointer",
            "The document is not in the message, which only says where it is (OBX of type RP).",
            "Have the system put the document itself into the message (type ED, base64).",
        )
    if empty and with_text:
        raise _broken("an OBX that is to hold it (type ED or RP) is empty, and there is only text beside it")
    if len(with_text) > 1:
        # Each order has a report of its own, as it has a number of its own (OBR-3).
        raise _several()
    return _from_text(data, message, lines, results)


def _check_not_continued(message: Message) -> None:
    """Raise Rejection where the rest of a document is in another segment, or in another message."""
    if message.text(message.first("MSH"), 14) or any(message.text(one, 1) for one in message.all("DSC")):
        raise Rejection(
            "hl7_cut_off",
            "The HL7 message is a part of a longer one: it continues in another or began in one (DSC,"
            " MSH-14).",
            "Have the sending system write the whole message, and drop that.",
        )
    if any(any(map(bytes.strip, one.fields[1:])) for one in message.all("ADD")):
        raise _broken("the message continues in a segment of its own (ADD), which is not read")


def _part(data: bytes, segment: Segment, delimiters: Delimiters) -> _Part | None:
    """Return what an OBX holds of a document, None for a line of text or another result."""
    start, end = segment.value
    kind = segment.field(2).strip().upper()
    head = data[start : min(end, start + _HEAD_BYTES)]
    components = _split(head, delimiters.component)
    if len(components) == 1 and len(cut := _split(head, delimiters.repetition)) == _COMPONENTS:
        # Some systems write the components as repetitions.
        components = cut if _form(cut[3]) else components
    form = _form(components[3]) if len(components) == _COMPONENTS else None
    start += len(head) - len(components[-1])
    if found := _DATA_URI.match(data, start, end):
        start, form = found.end(), _Form.BASE64
    labels = data[segment.value[0] : start]
    part = _Part(segment, form or _Form.BASE64, start, end, form is not None, labels)
    is_readable = len(components) in (1, _COMPONENTS)
    if kind == _DATA_TYPE and not is_readable:
        raise _broken("its components cannot be told apart")
    if not is_readable or kind not in _MAY_HOLD_DATA:
        return None
    # Of which the message may say that it is text, or nothing.
    encoded = part._replace(form=_Form.BASE64) if form is _Form.PLAIN else part
    if (form is _Form.PLAIN or kind != _DATA_TYPE) and _begins_as_document(data, encoded, delimiters):
        return encoded
    return part if kind == _DATA_TYPE and start < end else None


def _split(head: bytes, separator: bytes) -> list[bytes]:
    return head.split(separator, _COMPONENTS - 1) if separator else [head]


def _form(label: bytes) -> _Form | None:
    folded = label.strip().lower().replace(b"-", b"")
    return {b"base64": _Form.BASE64, b"hex": _Form.HEX, b"a": _Form.PLAIN}.get(folded)


def _from_parts(
    data: bytes, message: Message, parts: Sequence[_Part], lines: Sequence[Segment], results: int
) -> Hl7Document:
    if len(parts) > 1:
        _check_one_document(data, parts, message.delimiters)
    beside = sum(end - start for start, end in (line.value for line in lines)) + _note_bytes(message)
    first = parts[0]
    if first.form is _Form.PLAIN:
        check_whole(message, [part.segment for part in parts])
        document = _text_bytes(data, message, [(part.start, part.end) for part in parts])
    else:
        document = _decoded(data, parts, message.delimiters)
    made = _made(message, document, [part.segment for part in parts], results, beside)
    if not first.is_named and made.content.content_type in (None, TEXT):
        raise _broken("the message does not say how it is written, and it is not base64 of a known document")
    if made.content.content_type == TEXT:
        if _BINARY.search(first.labels):
            raise _broken("by its label it is no text, and its bytes are text, perhaps a message of an error")
        again = _Part(first.segment, _Form.BASE64, 0, len(document), is_named=True)
        if _begins_as_document(document, again, message.delimiters):
            raise _broken("it is base64 of base64")
    return made


def _note_bytes(message: Message) -> int:
    """Return how much text is in the notes of a message (NTE-3), which no document has."""
    return sum(len(note.field(3).strip()) for note in message.all("NTE"))


def _from_text(data: bytes, message: Message, lines: Sequence[Segment], results: int) -> Hl7Document:
    document = _text_bytes(data, message, [line.value for line in lines])
    if results or not document.strip():
        what = "It has results, and perhaps text beside them" if results else "No OBX has a value that is one"
        raise Rejection(
            "hl7_no_document",
            f"The message has no document. {what}.",
            "Have the system send a letter as a document (type ED, base64); results alone are none.",
        )
    check_whole(message, lines)
    made = _made(message, document, lines, 0, _note_bytes(message))
    return replace(made, cautions=(*made.cautions, *about_order(message, lines)))


def _made(
    message: Message, document: bytes, segments: Sequence[Segment], results: int, beside_bytes: int
) -> Hl7Document:
    """Return a document beside which there are results and text. Raises `hl7_text_beside_document`."""
    if beside_bytes > TEXT_LEFT_OUT_BYTES:
        raise Rejection(
            "hl7_text_beside_document",
            f"Beside the document the message has text ({size_text(beside_bytes)}; OBX or NTE) that may say"
            " what the document does not, and that a practice would not see.",
            "Have the system put all of the letter into the document; or drop the document alone, as a PDF"
            " with a sidecar.",
        )
    size_bytes = len(document)
    content = content_of(
        document[:_CHUNK_BYTES], size_bytes, lambda most_bytes, at: document[at : at + most_bytes]
    )
    if content.content_type == TEXT and not message.has_end:
        # Only the line end shows that a text is whole; a binary document has an end of its own.
        content = replace(content, cut_off=_CUT)
    cautions = []
    if results:
        which = "One result" if results == 1 else f"{results} results"
        cautions.append((f"{which} of the HL7 message will not be in what is sent, the document.", _SEE))
    if beside_bytes:
        cautions.append(("A short text beside the document of the HL7 message will not be sent.", _SEE))
    return Hl7Document(
        document, size_bytes, content, hashlib.sha256(document).hexdigest(), tuple(segments), tuple(cautions)
    )


def _check_one_document(data: bytes, parts: Sequence[_Part], delimiters: Delimiters) -> None:
    """Raise Rejection unless several OBX are the parts of one document.

    They have one name and one label, are counted, and only the first begins a document.
    """
    labels = {part.labels.strip().lower() for part in parts}
    names = {(part.segment.field(3).strip(), part.form) for part in parts}
    begins = [_begins_as_document(data, part, delimiters) for part in parts]
    if len(names) > 1 or len(labels - {b""}) > 1 or begins != [True] + [False] * (len(parts) - 1):
        raise _several()
    by_part, by_segment = ([_count(part.segment.field(number)) for part in parts] for number in (4, 1))
    due = list(range(1, len(parts) + 1))
    is_counted = due in (by_part, _from_one(by_segment))
    # The other must say nothing, or the same; but OBX-1 may count other OBX along.
    if not is_counted or _is_mixed_up(by_segment) or (_says_order(by_part) and _from_one(by_part) != due):
        raise _broken("its parts do not count 1, 2, 3 (OBX-4 or OBX-1), so one is missing or misplaced")


def _count(field: bytes) -> int:
    """Return the number that a field ends in (1, or 1.1 as a part of the first); 0 without one."""
    found = _COUNT.search(field)
    return int(found[0]) if found else 0


def _from_one(counts: Sequence[int]) -> list[int]:
    return [count - counts[0] + 1 for count in counts]


def _says_order(counts: Sequence[int]) -> bool:
    """True if parts are told apart by their numbers."""
    return 0 not in counts and len(set(counts)) == len(counts)


def _is_mixed_up(counts: Sequence[int]) -> bool:
    return _says_order(counts) and list(counts) != sorted(counts)


def _begins_as_document(data: bytes, part: _Part, delimiters: Delimiters) -> bool:
    head = part._replace(end=min(part.end, part.start + _HEAD_BYTES))
    try:
        piece = next(_pieces(data, head, delimiters), b"")
        width = 2 if part.form is _Form.HEX else 4
        decoded = _binary(piece[: len(piece) // width * width], part.form)
    except (binascii.Error, ValueError):
        return False
    kind = content_of(decoded, len(decoded), lambda most_bytes, at: decoded[at : at + most_bytes])
    return kind.content_type not in (None, TEXT)


def _decoded(data: bytes, parts: Sequence[_Part], delimiters: Delimiters) -> bytes:
    """Return the bytes of a document. Raises Rejection `hl7_document_broken`.

    The base64 of inner parts may end anywhere, or be padded; the next part then starts afresh.
    """
    repetition = delimiters.repetition
    if repetition and any(data.find(repetition, part.start, part.end) >= 0 for part in parts):
        # Neither base64 nor hex has it.
        raise _several()
    form = parts[0].form
    if form is _Form.BASE64 and len(set(_widths(data, parts, delimiters))) > 1:
        raise _broken("there are blanks in its base64 where a system has lost the sign +")
    width = 2 if form is _Form.HEX else 4
    decoded, rest = BytesIO(), b""
    begins = []
    for part in parts:
        begins.append(decoded.tell())
        is_over = False
        for piece in _pieces(data, part, delimiters):
            written = rest + piece
            usable = len(written) // width * width
            try:
                decoded.write(_binary(written[:usable], form))
            except (binascii.Error, ValueError):
                is_over = True
            if is_over:
                raise _broken(_NOT_WHOLE)
            rest, is_over = written[usable:], piece.endswith(b"=")
    if rest:
        raise _broken(_NOT_WHOLE)
    document = decoded.getvalue()
    if any(_is_another(document, at) for at in begins[1:]):
        raise _several()
    return document


def _is_another(document: bytes, at: int) -> bool:
    """True if what begins there is no part of the document: a file of its own, or behind the end of a PDF."""
    is_pdf = b"%PDF-" in document[:_HEAD_BYTES]
    is_over = is_pdf and document[max(0, at - _PDF_END_BYTES) : at].rstrip(_BLANKS).endswith(b"%%EOF")
    return document.startswith(_FILES, at) or (is_over and document[at:].strip(_BLANKS) != b"")


def _widths(data: bytes, parts: Sequence[_Part], delimiters: Delimiters) -> Iterator[int]:
    """Yield how much base64 stands before each of the blanks that no line end is beside.

    Where they stand for line ends, that is the same; a program that reads base64 as part of an address (URL)
    makes a blank of each +.
    """
    marks = {delimiters.escape, delimiters.component}
    for part in parts:
        if not any(data.find(blank, part.start, part.end) >= 0 for blank in (b" ", b"\t")):
            continue
        before = part.start
        for run in _BLANK_RUN.finditer(data, part.start, part.end):
            width, before = run.start() - before, run.end()
            is_at_edge = not width or before == part.end or data[before : before + 1] in marks
            if (
                not is_at_edge
                and data[run.start() - 1 : run.start()] not in marks
                and not run[0].strip(b" \t")
            ):
                yield width


def _binary(text: bytes, form: _Form) -> bytes:
    if form is _Form.HEX:
        return bytes.fromhex(text.decode("ascii"))
    return binascii.a2b_base64(text, strict_mode=True)


def _pieces(data: bytes, part: _Part, delimiters: Delimiters) -> Iterator[bytes]:
    """Yield what is written of a part without blanks, line ends, and the escapes that stand for line ends."""
    at, end, escape = part.start, part.end, delimiters.escape
    while at < end:
        piece = data[at : min(at + _CHUNK_BYTES, end)]
        if at + len(piece) < end and escape:
            # An escape must not be cut in two.
            cut = piece.rfind(escape, len(piece) - _LONGEST_ESCAPE_BYTES)
            piece = piece if cut < 0 else piece[:cut]
        at += len(piece)
        # Most have none, and to look is much faster.
        if any(blank in piece for blank in _EACH_BLANK):
            piece = piece.translate(None, _BLANKS)
        if escape and escape in piece:
            piece = _line_ends(escape).sub(b"", piece)
        if at >= end and delimiters.component:
            # Empty components may follow.
            piece = piece.rstrip(delimiters.component)
        if piece:
            yield piece


@lru_cache(maxsize=8)
def _line_ends(escape: bytes) -> re.Pattern[bytes]:
    mark = re.escape(escape)
    return re.compile(mark + rb"(?:\.br|X(?:0D|0A|20|09)+)" + mark, re.IGNORECASE)


def _text_bytes(data: bytes, message: Message, places: Sequence[tuple[int, int]]) -> bytes:
    """Return text of a message as a plain text: a line for each OBX, and for each repetition in it."""
    if sum(end - start for start, end in places) > LONGEST_TEXT_BYTES:
        raise too_complex(f"Its text has more than {size_text(LONGEST_TEXT_BYTES)}.")
    repetition = message.delimiters.repetition
    lines = []
    for start, end in places:
        value = data[start:end]
        if repetition and repetition in value:
            value = _repetitions(repetition).sub(b"\n", value)
        lines += message.decoded(value).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "".join(f"{line.rstrip()}\n" for line in lines).strip("\n").encode() + b"\n"


@lru_cache(maxsize=8)
def _repetitions(separator: bytes) -> re.Pattern[bytes]:
    """Return what ends a line (HL7, type TX); as in "5 ~ 6 kg" or "~5 cm" it is a sign, which stays."""
    return re.compile(rb"(?<![ \t(])" + re.escape(separator) + rb"(?![ \t0-9])")


def _several() -> Rejection:
    return Rejection(
        "hl7_several_documents",
        "The message holds several documents; one message to a practice has one.",
        "Have the system send each document in a message of its own.",
    )


def _broken(why: str) -> Rejection:
    return Rejection(
        "hl7_document_broken",
        f"The document in OBX-5 cannot be read: {why}.",
        "Have the system write the document again as base64 (type ED), and drop the whole message.",
    )
