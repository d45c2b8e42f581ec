"""Read one file: what it says if it is a message (FHIR, ITK2, HL7 v2), its SHA-256, whether it may be read.

Memory and time stay bounded whatever was dropped: up to `SMALL_BYTES` a file is read whole, above that in
pieces. No error quotes content, no entity is expanded, nothing is fetched or written.

The middle of each attached document in a large FHIR message is left out, so that the parser gets little of
it. A piece is trimmed only if all of it is base64 (and its line ends, as each format may escape them). Both
its ends stay, so the value stays longer than `VALUE_CHARS`, and no value that matters is changed. In place of
the middle goes one character that the format allows within values and comments, and nowhere in markup: so
trimming never makes a broken file well-formed.
"""

import codecs
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from meshctl import clock
from meshctl.errors import Rejection
from meshctl.payload.document import TEXT, content_of
from meshctl.payload.facts import Content, MessageFacts, MessageKind
from meshctl.payload.fhir import VALUE_CHARS, Tree, XmlStream, read_json, read_xml
from meshctl.payload.hl7_file import Hl7File, read_hl7, unreadable_hl7
from meshctl.payload.hl7_v2 import LARGEST_BYTES as LARGEST_HL7_BYTES
from meshctl.payload.hl7_v2 import is_hl7
from meshctl.payload.itk2 import ROOT_NAMES as ITK2_ROOTS
from meshctl.payload.itk2 import read_itk2
from meshctl.payload.kind import (
    Form,
    Prolog,
    broken_xml,
    changed,
    declared_encoding,
    empty,
    form_of,
    may_be_large_message,
    too_complex,
)
from meshctl.payload.message import message_facts
from meshctl.platform import system
from meshctl.sizes import size_text

SMALL_BYTES: Final = 1024 * 1024
KEPT_BYTES: Final = 64 * 1024
"""The content of a larger file is not kept in memory while others are judged."""
OPAQUE_BYTES_WORTH_HASHING: Final = 64 * 1024 * 1024
_PIECE_BYTES: Final = 256 * 1024
_HL7_HEAD_BYTES: Final = 1024
_BUNDLE_HINT: Final = re.compile(rb'"resourceType"[ \t\r\n]{0,99}:[ \t\r\n]{0,99}"Bundle"')
_HINT_BYTES: Final = 256
_BEGINS_WITH_MARK: Final = (
    "The message begins with a byte order mark, for which some receiving systems reject it (10009).",
    "Have the sending system write UTF-8 without a byte order mark.",
)
_IS_JSON: Final = (
    "The message is in JSON; receiving systems need to read only XML (ITK3), and some reject JSON (10009).",
    "Have the sending system write XML, unless the recipient is known to accept JSON.",
)
_NOT_UTF_8: Final = (
    "The message is not in UTF-8, as FHIR messages are: some systems reject it, or misread letters.",
    "Have the sending system write UTF-8.",
)
_UTF_8: Final = frozenset({None, b"utf-8", b"utf8", b"us-ascii", b"ascii"})
_MOST_JSON_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """The outcome of reading one file.

    `facts` is None for an opaque file, which only a sidecar can address; it has `content` instead. `sha256`
    is lower-case hex, None for an opaque file too large to be worth reading. `oddities` are reasons for which
    a recipient's system may reject a message, and what is doubtful in it, each with what to do: sentences.
    `hl7` is what a file of HL7 v2 holds, which is opaque as well.
    """

    facts: MessageFacts | None
    sha256: str | None
    size_bytes: int
    content: Content | None = None
    oddities: tuple[tuple[str, str], ...] = ()
    hl7: Hl7File | None = None


def read_payload(descriptor: int, size_bytes: int) -> Reading:
    """Return what the regular file open at `descriptor` says, read from its start.

    A small file that begins with `<` must be well-formed XML, unless it is HTML; a large one that is not a
    FHIR message is judged by its beginning. An opaque file over 64 MiB is not read beyond its first MiB and
    has no SHA-256. A file of HL7 v2 is read whole up to `LARGEST_HL7_BYTES`; what is wrong with it is in the
    outcome, as a use case may send it as it is.

    Raises Rejection: `payload_empty`, `payload_changed` (its size is no longer `size_bytes`),
    `payload_encoding`, `payload_dtd`, `payload_xml_broken`, `payload_json_broken`, `payload_too_complex`.
    """
    if size_bytes <= SMALL_BYTES:
        return read_content(load_content(descriptor, size_bytes))
    try:
        return _read_large(descriptor, size_bytes)
    except RecursionError:
        raise _too_deep() from None


def load_content(descriptor: int, size_bytes: int) -> bytes:
    """Return all of a file for `read_content`. Raises Rejection `payload_empty`, `payload_changed`."""
    if size_bytes == 0:
        raise empty()
    data = b""
    while len(data) < size_bytes and (
        piece := system.read_at(descriptor, size_bytes + 1 - len(data), len(data))
    ):
        data += piece
    if len(data) != size_bytes:
        raise changed()
    return data


def read_content(data: bytes) -> Reading:
    """Read what a file of at most `SMALL_BYTES` holds, or one of HL7 v2, as `read_payload` does."""
    sha256 = hashlib.sha256(data).hexdigest()
    if is_hl7(data[:_HL7_HEAD_BYTES]):
        return Reading(None, sha256, len(data), Content(None), hl7=read_hl7(data, KEPT_BYTES))
    try:
        facts = _facts_of(data)
    except RecursionError:
        raise _too_deep() from None
    content, hl7 = None, None
    if facts is None:
        content = content_of(data, len(data), lambda most_bytes, at: data[at : at + most_bytes])
        hl7 = unreadable_hl7(data, is_text=content.content_type == TEXT)
    return Reading(facts, sha256, len(data), content, _oddities(facts, data), hl7)


def _too_deep() -> Rejection:
    return too_complex("It is nested hundreds of levels deep.")


def _facts_of(data: bytes) -> MessageFacts | None:
    form = form_of(data)
    if form is Form.JSON:
        return _fhir_facts(read_json(data))
    if form is Form.XML:
        prolog = Prolog()
        begun = prolog.feed(data)
        if begun is None:
            raise broken_xml()
        if begun is Form.XML:
            itk2 = read_itk2([data], _today()) if prolog.root in ITK2_ROOTS else None
            return itk2 or _fhir_facts(read_xml(data))
    return None


def _fhir_facts(tree: Tree | None) -> MessageFacts | None:
    return None if tree is None else message_facts(tree, _today())


def _today() -> str:
    return clock.now().date().isoformat()


def _read_large(descriptor: int, size_bytes: int) -> Reading:
    head = system.read_at(descriptor, SMALL_BYTES, 0)
    if head.isspace():
        # Behind so many blanks there might be a message, about anybody.
        raise too_complex("It begins with more than 1 MB of blanks.")
    if is_hl7(head[:_HL7_HEAD_BYTES]) and size_bytes <= LARGEST_HL7_BYTES:
        return read_content(load_content(descriptor, size_bytes))
    form = form_of(head)
    sha256 = hashlib.sha256()
    pieces = _pieces(descriptor, size_bytes, sha256.update)
    facts = None
    if form is Form.XML:
        facts = _stream_xml(pieces)
    elif form is Form.JSON and (may_be_large_message(head) or _names_a_bundle(descriptor)):
        facts = _fhir_facts(_gather_json(pieces))
    content, hl7 = None, None
    if facts is None:
        content = content_of(
            head, size_bytes, lambda most_bytes, at: system.read_at(descriptor, most_bytes, at)
        )
        hl7 = unreadable_hl7(head, is_text=content.content_type == TEXT)
    if facts is None and size_bytes > OPAQUE_BYTES_WORTH_HASHING:
        return Reading(None, None, size_bytes, content, hl7=hl7)
    for _ in pieces:
        pass
    return Reading(facts, sha256.hexdigest(), size_bytes, content, _oddities(facts, head), hl7)


def _oddities(facts: MessageFacts | None, head: bytes) -> tuple[tuple[str, str], ...]:
    """Return why a receiver may reject a FHIR message, or what in it is doubtful."""
    if facts is None or facts.kind is not MessageKind.FHIR:
        return ()
    odd = [_BEGINS_WITH_MARK] if head.startswith(codecs.BOM_UTF8) else []
    if form_of(head) is Form.JSON:
        odd.append(_IS_JSON)
    elif declared_encoding(head) not in _UTF_8:
        odd.append(_NOT_UTF_8)
    return (*odd, *facts.doubts)


def _names_a_bundle(descriptor: int) -> bool:
    """True if JSON has the resourceType Bundle anywhere in its first OPAQUE_BYTES_WORTH_HASHING."""
    before = b""
    for at in range(0, OPAQUE_BYTES_WORTH_HASHING, _PIECE_BYTES):
        piece = system.read_at(descriptor, _PIECE_BYTES, at)
        if _BUNDLE_HINT.search(before + piece):
            return True
        if not piece:
            break
        before = piece[-_HINT_BYTES:]
    return False


def _pieces(descriptor: int, size_bytes: int, see: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield the whole file in pieces, each shown to `see` first."""
    at = 0
    while piece := system.read_at(descriptor, _PIECE_BYTES, at):
        at += len(piece)
        see(piece)
        yield piece
    if at != size_bytes:
        raise changed()


def _stream_xml(pieces: Iterator[bytes]) -> MessageFacts | None:
    prolog, form = Prolog(), None
    # At most as much as may come before a root element.
    held = []
    while form is None and (piece := next(pieces, None)) is not None:
        held.append(piece)
        form = prolog.feed(piece)
    if form is None:
        raise broken_xml()
    if form is Form.OPAQUE:
        return None
    if prolog.root in ITK2_ROOTS:
        return read_itk2(chain(held, pieces), _today())
    trimmer, stream = Trimmer(XML), XmlStream()
    for piece in chain(held, pieces):
        if not stream.feed(trimmer.trim(piece)):
            return None
    return _fhir_facts(stream.close()) if stream.feed(trimmer.rest()) else None


def _gather_json(pieces: Iterator[bytes]) -> Tree | None:
    trimmer = Trimmer(JSON)
    gathered = bytearray()
    for piece in pieces:
        gathered += trimmer.trim(piece)
        if len(gathered) > _MOST_JSON_BYTES:
            raise too_complex(f"Beside its attachments it has over {size_text(_MOST_JSON_BYTES)} of JSON.")
    gathered += trimmer.rest()
    return read_json(gathered)


_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_EDGE_BYTES: Final = VALUE_CHARS + 24


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a format writes a base64 value: `escapes` may stand for its characters and line ends."""

    alphabet: bytes
    escapes: tuple[tuple[bytes, bytes], ...]
    escape_begins: bytes
    escape_bytes: int
    mark: bytes


# Line ends in an attribute are only kept as character references; .NET and Java write them so.
XML: Final = Dialect(
    alphabet=_BASE64 + b" \t\r\n",
    escapes=tuple((one, b"") for one in (b"&#xD;", b"&#xA;", b"&#13;", b"&#10;", b"&#xd;", b"&#xa;")),
    escape_begins=b"&",
    escape_bytes=5,
    mark=b"+",
)
# A blank is not of the alphabet: within a string a line end is an error, and it has to stay one.
JSON: Final = Dialect(
    alphabet=_BASE64,
    escapes=(
        (b"\\r", b""),
        (b"\\n", b""),
        (b"\\/", b"/"),
        (b"\\u002B", b"+"),
        (b"\\u002b", b"+"),
        (b"\\u003D", b"="),
        (b"\\u003d", b"="),
        (b"\\u002F", b"/"),
        (b"\\u002f", b"/"),
    ),
    escape_begins=b"\\",
    escape_bytes=6,
    mark=b"G",
)


class Trimmer:
    """Trims the pieces of one file; parse what `trim` and in the end `rest` return."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._held = b""

    def trim(self, piece: bytes) -> bytes:
        """Return the next piece as it is to be parsed."""
        dialect = self._dialect
        piece = self._held + piece
        # An escape cut in two by the end of a piece would keep both pieces from being recognised.
        cut = piece.rfind(dialect.escape_begins, max(0, len(piece) - dialect.escape_bytes))
        piece, self._held = (piece, b"") if cut < 0 else (piece[:cut], piece[cut:])
        plain = piece
        if piece.translate(None, dialect.alphabet):
            # An escape that is used is used often, so the first KiB shows which ones to replace.
            start = piece[:_EDGE_BYTES]
            for escape, meaning in dialect.escapes:
                if escape in start:
                    plain = plain.replace(escape, meaning)
            if plain is piece or plain.translate(None, dialect.alphabet):
                return piece
        if len(plain) <= 2 * _EDGE_BYTES or plain.isspace():
            return piece
        return plain[:_EDGE_BYTES] + dialect.mark + plain[-_EDGE_BYTES:]

    def rest(self) -> bytes:
        """Return the bytes held back until the end of the file."""
        return self._held
