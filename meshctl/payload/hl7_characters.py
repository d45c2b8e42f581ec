"""The characters of an HL7 v2 message: its character set, and those that are written as XML writes them.

The character set is the one that MSH-18 names, or that the message is written in.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from html.entities import html5
from typing import Final

from meshctl.errors import Rejection

_ENCODINGS: Final = {
    "ASCII": "",
    "USASCII": "",
    "UNICODE": "utf-8",
    "UNICODEUTF8": "utf-8",
    "UTF8": "utf-8",
    "WINDOWS1252": "cp1252",
    "CP1252": "cp1252",
    "LATIN1": "iso8859-1",
    # There is no twelfth part.
    **{
        f"{prefix}8859{part}": f"iso8859-{part}"
        for prefix in ("", "ISO")
        for part in (*range(1, 12), *range(13, 17))
    },
}
_NOT_IN_CODE: Final = re.compile(r"[^A-Z0-9]")
_C1: Final = re.compile(rb"[\x80-\x9f]")
_GUESSED: Final = (
    "The message does not say its character set (MSH-18) and is not UTF-8; it was read as Windows-1252.",
    "Look at names and text in what was sent; have the sending system write UTF-8 and say so in MSH-18.",
)
_NOT_AS_NAMED: Final = (
    "The message names another character set (MSH-18), and its text is UTF-8; it was read as that.",
    "Look at names and text in what was sent; have the sending system say UNICODE UTF-8 in MSH-18.",
)
_NOT_LATIN_1: Final = (
    "The message says ISO 8859-1 (MSH-18) and has characters of Windows-1252; it was read as that.",
    "Have the sending system write UTF-8 and say so in MSH-18.",
)

# A sub-component begins with such a name and ends it with a semicolon nowhere else. The & may be escaped.
_REFERENCE: Final = re.compile(
    rb"(?:&|\\T\\)(?:(?P<name>[A-Za-z][A-Za-z0-9]{1,7})|#(?P<number>[0-9]{2,6})|#[xX](?P<hex>[0-9A-Fa-f]{2,5}));"
)
AS_IN_XML: Final = (
    "The HL7 message has characters written as in XML (&apos;); all but those in lines of text were read so.",
    "Look at names and titles in what was sent; have the sending system write the characters themselves.",
)
LOST: Final = (
    "The HL7 message has characters that an earlier system could not read and has lost (U+FFFD).",
    "Look at names and text in what was sent; see which system wrote another character set than it said.",
)


def has_lost(text: bytes, encoding: str) -> bool:
    """True if a text has the character that stands for one that could not be read."""
    return encoding == "utf-8" and b"\xef\xbf\xbd" in text


def has_references(value: bytes) -> bool:
    """True if a value has a character that is written as in XML: `O&apos;NEILL`."""
    return b";" in value and any(_meant(found) is not None for found in _REFERENCE.finditer(value))


def _meant(found: re.Match[bytes]) -> str | None:
    """Return what a reference of XML or HTML stands for; None if it is none."""
    if found["name"]:
        return html5.get(f"{found['name'].decode('ascii')};")
    code = int(found["number"] or found["hex"], 10 if found["number"] else 16)
    return chr(code) if code <= sys.maxunicode else None


def without_references(value: bytes, escape: bytes, marks: Mapping[bytes, bytes], encoding: str) -> bytes:
    """Return a value with the characters themselves where they are written as in XML.

    `marks` are the letters that stand between two `escape` for separators; what cannot be written otherwise
    is left as it is.
    """

    def meant(found: re.Match[bytes]) -> bytes:
        text = _meant(found)
        if text is None:
            return found[0]
        if not text.isprintable():
            # A blank that does not break, or a control character.
            return b" " if text.isspace() else b""
        try:
            written = text.encode(encoding)
        except UnicodeEncodeError:
            return found[0]
        if written not in marks:
            return written
        return escape + marks[written] + escape if escape else found[0]

    return _REFERENCE.sub(meant, value)


def encoding_of(named: bytes, texts: Sequence[bytes]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the character set of a message, and what is doubtful about it, each with what to do.

    `named` is what MSH-18 says, `texts` all that is read of the message beyond ASCII. Raises Rejection
    `hl7_character_set`.
    """
    code = _NOT_IN_CODE.sub("", named.decode("ascii", "replace").upper())
    if code and code not in _ENCODINGS:
        raise character_set("the one that MSH-18 names is not known to meshctl")
    encoding = _ENCODINGS.get(code, "")
    if not texts:
        return encoding or "utf-8", ()
    if encoding not in ("", "utf-8") and _is_utf_8(texts):
        # What makes sense as UTF-8 makes none as anything else: Ã© for é.
        return "utf-8", (_NOT_AS_NAMED,)
    if encoding == "iso8859-1" and any(map(_C1.search, texts)):
        return _fitting("cp1252", texts), (_NOT_LATIN_1,)
    if encoding:
        return _fitting(encoding, texts), ()
    if _is_utf_8(texts):
        return "utf-8", ()
    return _fitting("cp1252", texts), (_GUESSED,)


def _is_utf_8(texts: Iterable[bytes]) -> bool:
    with suppress(Rejection):
        return _fitting("utf-8", texts) == "utf-8"
    return False


def _fitting(encoding: str, texts: Iterable[bytes]) -> str:
    for text in texts:
        decoded(text, encoding)
    return encoding


def decoded(value: bytes, encoding: str) -> str:
    """Return a value as text. Raises Rejection `hl7_character_set`."""
    try:
        return value.decode(encoding)
    except UnicodeDecodeError:
        raise character_set("its bytes do not fit the one that it names or seems to be in") from None


def character_set(why: str) -> Rejection:
    """Return the rejection of a message whose texts cannot be read for sure; `why` is a clause."""
    return Rejection(
        "hl7_character_set",
        f"The character set of the HL7 message cannot be determined: {why}.",
        "Have the sending system write UTF-8 and name it in MSH-18: UNICODE UTF-8.",
    )
