"""Make names and texts from outside safe to log: no patient, no control character, no endless line.

Masking errs on the safe side: digits that could be an NHS number are masked. Grouped as people write one, or
in a longer run, they need not pass Mod 11; in any other groups they must, or counts and dates would go too.
Message ids and time stamps stay, because operators search for them. Nothing here reads a file or knows a
patient.
"""

import re
import unicodedata
from collections.abc import Sequence

from meshctl.mesh.nhs_number import nhs_numbers_in

MASK = "**********"
MAX_NAME_CHARACTERS = 200
MAX_OUTPUT_CHARACTERS = 500

_ESCAPED = "%[0-9A-Fa-f]{2}"
_SEPARATOR = rf"(?:{_ESCAPED}|[\W_]){{0,3}}"
# Ten digits as people write NHS numbers (3-3-4), or any longer run, which may hide one among other digits.
_NUMBER = re.compile(
    rf"(?:(?<!\d)|(?<={_ESCAPED}))"
    rf"(?:(?P<run>\d{{11,}})|\d{{3}}{_SEPARATOR}\d{{3}}{_SEPARATOR}\d{{4}})(?!\d)"
)
# YYYYMMDDHHMM, then seconds and fractions: the stamps in the message ids of meshctl, MESH and DTS.
_STAMP = re.compile(
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d\d{0,6})?"
)
_ROUTING = re.compile(r"GPPROVIDER_.*", re.IGNORECASE | re.DOTALL)
# Words this short occur inside others; masked as words of their own only, or "Ng" would hollow out "meeting".
_SHORT_WORD_CHARACTERS = 2


def mask_numbers(text: str) -> str:
    """Return `text` with everything like an NHS number or a GPPROVIDER address masked."""
    if "GPPROVIDER_" in text.upper():
        text = _ROUTING.sub(f"GPPROVIDER_{MASK}", text)
    return _NUMBER.sub(_mask_unless_stamp, _mask_spans(text, list(nhs_numbers_in(text))))


def escape_unprintable(text: str) -> str:
    r"""Return `text` with control, format, bidi and private characters as `\x1b` or `\u202e`.

    A byte that is not UTF-8 (Python holds it as a lone surrogate) comes out as that byte: `\xff`.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _visible(character) for character in text)


def mask_file_name(name: str, also: Sequence[str] = ()) -> str:
    """Return a file name fit for a log line, an error text or a terminal.

    Masks anything like an NHS number and, regardless of case, every word in `also` (a surname, say); then
    makes unprintable characters visible and cuts the middle out of what exceeds `MAX_NAME_CHARACTERS`.
    """
    if also:
        name = _mask_words(name, also)
    name = escape_unprintable(mask_numbers(name))
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    tail_characters = MAX_NAME_CHARACTERS // 4
    return f"{name[: MAX_NAME_CHARACTERS - tail_characters - 1]}…{name[-tail_characters:]}"


def mask_output(output: bytes | str, *, end: bool = False) -> str:
    """Return what another program or server said, fit for a log line: masked, on one line, and cut.

    Of what is too long the beginning stays, or the `end`: programs say last what made them fail.
    """
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    text = escape_unprintable(mask_numbers(" ".join(text.split())))
    if len(text) <= MAX_OUTPUT_CHARACTERS:
        return text
    kept = MAX_OUTPUT_CHARACTERS - 1
    return f"…{text[-kept:]}" if end else f"{text[:kept]}…"


def _mask_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return `text` with each span masked, and those that overlap as one. They are in order."""
    parts, done = [], 0
    for begin, end in spans:
        if begin >= done:
            parts += [text[done:begin], MASK]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def _mask_unless_stamp(match: re.Match[str]) -> str:
    run = match["run"]
    return run if run is not None and _STAMP.fullmatch(run) else MASK


def _mask_words(name: str, words: Sequence[str]) -> str:
    folded = unicodedata.normalize("NFC", name).casefold()
    # Compiling a pattern costs more than all the rest of a log line; few names hold any of the words.
    found = [word for word in words if unicodedata.normalize("NFC", word.strip()).casefold() in folded]
    # A word within another goes last, or the rest of the longer one would stay.
    for word in sorted(found, key=len, reverse=True):
        name = _mask_word(name, word)
    return name


def _mask_word(name: str, word: str) -> str:
    word = unicodedata.normalize("NFC", word.strip())
    if not word:
        return name
    pattern = re.escape(word)
    if len(word) <= _SHORT_WORD_CHARACTERS:
        pattern = rf"(?<![^\W\d_]){pattern}(?![^\W\d_])"
    return re.sub(pattern, MASK, unicodedata.normalize("NFC", name), flags=re.IGNORECASE)


def _visible(character: str) -> str:
    if character < "\x80" or "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) & 0xFF:02x}"
    return character.encode("ascii", "backslashreplace").decode()
