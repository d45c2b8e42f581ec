"""What a file is, judged by its beginning (XML, JSON or opaque), and whether it may be parsed.

XML is passed on only once everything before its root element has been seen, however long, so that no parser
ever gets a DOCTYPE. No content is decoded, expanded or kept.

All rejections of this package but those of sidecar and index are worded here: none quotes content; at most it
names a line and column.
"""

import re
from enum import Enum, auto
from typing import Final

from meshctl.errors import Rejection
from meshctl.sizes import size_text

_BLANK: Final = b" \t\r\n"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ENCODING: Final = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]*?\sencoding\s*=\s*["']([^"'>]{0,40})["']""")
# Encodings in which markup is ASCII: a search in the bytes finds what a parser would find.
_READABLE: Final = frozenset(
    {b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"iso-8859-15", b"windows-1252"}
)
_WIDE: Final = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_TAG_NAME: Final = re.compile(rb"<(?:[^\s<>/:=\"']*:)?([^\s<>/:=\"']+)")
_MESSAGE_HINT: Final = re.compile(r'"resourceType"(?!\s*:\s*"(?!Bundle")[A-Za-z]+")')
_HEADER_HINT: Final = re.compile(rb'"resourceType"[ \t\r\n]*:[ \t\r\n]*"MessageHeader"')
_BLANKS: Final = re.compile(rb"[ \t\r\n]*")
_DOCTYPE: Final = b"<!DOCTYPE"
_DOCTYPE_HTML: Final = re.compile(rb"<!DOCTYPE\s+html(?:\s[^\[>]*)?>", re.IGNORECASE)
_LONGEST_TAG_BYTES: Final = 4096
_LONGEST_PROLOG_BYTES: Final = 4 * 1024 * 1024


class Form(Enum):
    """What a file looks like; an opaque one is not parsed."""

    XML = auto()
    JSON = auto()
    OPAQUE = auto()


def form_of(head: bytes) -> Form:
    """Return what a file looks like; `head` holds all of it or at least its first KiB.

    Raises Rejection `payload_encoding` for XML and FHIR messages in UTF-16 or UTF-32.
    """
    if b"\0" in head[:2] or head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        _check_not_wide_message(head[: 64 * 1024])
        return Form.OPAQUE
    if head.startswith(b"{\\rtf"):
        # RTF begins like JSON.
        return Form.OPAQUE
    first = head.removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANK)[:1]
    return {b"<": Form.XML, b"{": Form.JSON}.get(first, Form.OPAQUE)


def may_be_large_message(head: bytes) -> bool:
    """True if JSON that begins with `head` has a MessageHeader, the first entry of any message."""
    return _HEADER_HINT.search(head) is not None


def looks_like_message(head: bytes) -> bool:
    """True if JSON that begins with `head` names itself a FHIR Bundle within its first KiB."""
    return _MESSAGE_HINT.search(head[:1024].decode("latin-1")) is not None


def _check_not_wide_message(head: bytes) -> None:
    """Raise Rejection for XML or a FHIR message in UTF-16 or UTF-32."""
    for encoding in _WIDE:
        content = head.decode(encoding, "ignore").lstrip("\ufeff \t\r\n")
        is_markup = content[:1] == "<" and not content[:9].casefold().startswith(("<html", "<!doctype"))
        if is_markup or (content[:1] == "{" and '"resourceType"' in content):
            raise wrong_encoding("UTF-16 or UTF-32")


class Prolog:
    """What stands before the root element of XML, in pieces; the first has 1 KiB or is the whole file.

    `root` is the name of that element without its prefix, once it was seen.
    """

    def __init__(self) -> None:
        self.root = b""
        self._seen_bytes = 0
        self._rest = b""
        self._inside = b""
        self._is_html = False

    def feed(self, data: bytes) -> Form | None:
        """Take the next bytes; return Form.XML at the root element, Form.OPAQUE for HTML, None before either.

        Raises Rejection: `payload_dtd` for a DOCTYPE, `payload_encoding` for an encoding in which markup
        could hide, `payload_too_complex`. What is not XML at all is left for the parser to reject.
        """
        if not self._seen_bytes:
            _check_declared_encoding(data)
            data = data.removeprefix(_BYTE_ORDER_MARK)
        elif self._seen_bytes > _LONGEST_PROLOG_BYTES:
            raise too_complex(
                f"More than {size_text(_LONGEST_PROLOG_BYTES)} of comments stand before its first element."
            )
        self._seen_bytes += len(data)
        data = self._rest + data
        at = 0
        while True:
            if self._inside:
                end = data.find(self._inside, at)
                if end < 0:
                    self._rest = data[max(at, len(data) - 2) :]
                    return None
                at, self._inside = end + len(self._inside), b""
            at = _past_blanks(data, at)
            if data.startswith(b"<!--", at):
                at, self._inside = at + 4, b"-->"
            elif data.startswith(b"<?", at):
                at, self._inside = at + 2, b"?>"
            else:
                start = data[at : at + _LONGEST_TAG_BYTES]
                if len(start) < _LONGEST_TAG_BYTES and b">" not in start:
                    self._rest = start
                    return None
                if start[: len(_DOCTYPE)].upper() != _DOCTYPE:
                    return self._root(start)
                at += self._html_doctype_bytes(start)

    def _html_doctype_bytes(self, start: bytes) -> int:
        doctype = _DOCTYPE_HTML.match(start)
        if doctype is None or self._is_html:
            raise dtd()
        self._is_html = True
        return doctype.end()

    def _root(self, start: bytes) -> Form:
        tag = _TAG_NAME.match(start)
        name = self.root = tag[1] if tag else b""
        # HTML is opaque, but a message does not become HTML by a DOCTYPE that says so.
        if self._is_html and name == b"Bundle":
            raise dtd()
        return Form.OPAQUE if self._is_html or name.lower() == b"html" else Form.XML


def _past_blanks(data: bytes, at: int) -> int:
    blanks = _BLANKS.match(data, at)
    return blanks.end() if blanks else at


def declared_encoding(head: bytes) -> bytes | None:
    """Return the encoding that XML declares, in small letters; None where it declares none."""
    declared = _ENCODING.match(head[:1024])
    return declared[1].lower() if declared else None


def _check_declared_encoding(head: bytes) -> None:
    declared = declared_encoding(head)
    if declared is not None and declared not in _READABLE:
        raise wrong_encoding("an encoding other than UTF-8")


def empty() -> Rejection:
    """Return the rejection of a file without content."""
    return Rejection("payload_empty", "The file is empty.", "Drop it again with its content.")


def changed() -> Rejection:
    """Return the rejection of a file whose size has changed."""
    return Rejection(
        "payload_changed",
        "The file changed while it was read.",
        "Write it elsewhere and rename it into the outbox once it is complete.",
    )


def wrong_encoding(what: str) -> Rejection:
    """Return the rejection of XML or JSON whose encoding is `what`."""
    return Rejection(
        "payload_encoding",
        f"The file is XML or JSON in {what}; FHIR messages are UTF-8.",
        "Have the system that made it write UTF-8, and drop the file again.",
    )


def dtd() -> Rejection:
    """Return the rejection of XML with a DOCTYPE."""
    return Rejection(
        "payload_dtd",
        "The file is XML with a DTD (a DOCTYPE), and XML with a DTD is not read.",
        "FHIR messages have none: have the system that made the file omit the DOCTYPE.",
    )


def broken_xml(where: str = "") -> Rejection:
    """Return the rejection of XML that is not well-formed; `where` begins with a blank or is empty."""
    return Rejection(
        "payload_xml_broken",
        f"The file begins like XML but is not well-formed{where}.",
        "Export it again from the system that made it, and drop the whole file.",
    )


def broken_json(what: str) -> Rejection:
    """Return the rejection of a FHIR message in JSON; `what` is a verb and the rest of the sentence."""
    return Rejection(
        "payload_json_broken",
        f"The file begins like a FHIR message in JSON but {what}.",
        "Export it again from the system that made it, and drop the whole file.",
    )


def too_complex(why: str) -> Rejection:
    """Return the rejection of a file that would take unreasonable time or memory; `why` is a sentence."""
    return Rejection(
        "payload_too_complex",
        f"The file is too large in structure to be read. {why}",
        "Send it in parts, or have the system that made it omit what the document does not need.",
    )
