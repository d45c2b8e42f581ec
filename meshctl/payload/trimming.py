"""Leaves the middle out of the documents attached to a large file, so that a parser sees little of them.

A piece of the file is trimmed only if all of it is base64 (and its line ends, as each format may escape
them). Both its ends stay, which keeps any value longer than `outline.VALUE_CHARS`, so that no value that
matters is altered unseen. In place of the middle goes one character that the format allows within values and
comments, and nowhere in markup: leaving something out never makes a file well-formed that was not.
"""

from dataclasses import dataclass
from typing import Final

from meshctl.payload.outline import VALUE_CHARS

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_EDGE_BYTES: Final = VALUE_CHARS + 24


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a format writes a base64 value: `escapes` are what may stand for its characters and line ends."""

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
    """Passes the pieces of one file on; what `trim` and at last `rest` return is what there is to parse."""

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
            # An escape in use is in use often, so the first KiB shows which ones are worth a pass.
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
        """Return what was held back at the end of the file."""
        return self._held
