"""A file that is HL7 v2, or has HL7 v2 in it: its message and document, or why there is none. Pure.

Also of a file that cannot be read, the values of its patients are found, to be masked in its name.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from meshctl.errors import Rejection
from meshctl.payload.hl7_document import Hl7Document, read_document
from meshctl.payload.hl7_segments import too_complex
from meshctl.payload.hl7_v2 import LARGEST_BYTES, Message, is_hl7, is_hl7_in_xml, read_message
from meshctl.sizes import size_text

_HEAD_BYTES: Final = 2048
# Wherever in a line it begins: behind the time of a log, or a quote.
_HEADER_WITHIN: Final = re.compile(rb"(?<![a-z0-9])MSH(?P<mark>[|#~])[^\w\s]{2,5}(?P=mark)", re.IGNORECASE)
_LINE_WITHIN: Final = re.compile(rb"(?:\A|[\r\n])[^\w\r\n]{0,9}(?:EVN|PID|PV1|TXA|OBR|OBX)\|", re.IGNORECASE)
_TEXT_HEAD_BYTES: Final = 64 * 1024
_FEWEST_LINES: Final = 2
_NOT_IN_WORD: Final = re.compile(rb"[^0-9A-Za-z\x80-\xff '-]+")
_HAS_DIGIT: Final = re.compile(r"[0-9]")
_OF_NAME, _OF_NUMBER = (5, 6, 9), (2, 3, 4, 7, 19)
_MOST_PATIENTS, _MOST_WORDS, _LONGEST_PATIENT_BYTES = 100, 200, 4096
_SHORTEST_NUMBER: Final = 4
_UTF_16_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class Hl7File:
    """A file that is HL7 v2: its message and document, each perhaps with the reason why there is none.

    `words` are values of patients that must be masked where a file name repeats them.
    """

    message: Message | Rejection
    document: Hl7Document | Rejection
    words: tuple[str, ...] = ()


def read_hl7(data: bytes, kept_bytes: int) -> Hl7File:
    """Return what a file that `is_hl7` holds; the bytes of a document in a larger file are not kept."""
    try:
        message = read_message(data)
    except Rejection as rejection:
        return Hl7File(rejection, rejection, tuple(_words(islice(_patients_in(data), _MOST_PATIENTS))))
    words = tuple(_words(segment.fields for segment in message.all("PID")[:_MOST_PATIENTS]))
    try:
        document = read_document(data, message)
    except Rejection as rejection:
        return Hl7File(message, rejection, words)
    if len(data) > kept_bytes:
        document = replace(document, data=None)
    return Hl7File(message, document, words)


def unreadable_hl7(head: bytes, *, is_text: bool) -> Hl7File | None:
    """Return why the HL7 in a file that begins with `head` is not read; None where there is none."""
    if is_hl7(head[:_HEAD_BYTES]):
        rejection = too_complex(f"It has more than {size_text(LARGEST_BYTES)}.")
    elif is_hl7_in_xml(head):
        rejection = Rejection(
            "hl7_xml",
            "The file is an HL7 v2 message in XML, which is not read.",
            "Have the system write HL7 v2 in its own form: segments and bars.",
        )
    elif is_text and _has_hl7_within(head[:_TEXT_HEAD_BYTES]):
        rejection = Rejection(
            "hl7_broken",
            "The file is a text with an HL7 v2 message in it, and does not begin with that (MSH).",
            "Have the system write the message alone: no line before it, no quotes, segments in capitals.",
        )
    else:
        return None
    return Hl7File(rejection, rejection)


def _has_hl7_within(text: bytes) -> bool:
    return _HEADER_WITHIN.search(text) is not None or len(_LINE_WITHIN.findall(text)) >= _FEWEST_LINES


def _words(patients: Iterable[Sequence[bytes]]) -> Iterator[str]:
    """Yield names, numbers and dates of birth of patients, given as the fields of their segments (PID)."""
    for fields in patients:
        for number in (*_OF_NAME, *_OF_NUMBER):
            value = fields[number][:_LONGEST_PATIENT_BYTES] if number < len(fields) else b""
            if not value:
                continue
            for part in _NOT_IN_WORD.split(value)[:_MOST_WORDS]:
                word = part.decode("utf-8", "replace").strip()
                is_number = len(word) >= _SHORTEST_NUMBER and _HAS_DIGIT.search(word) is not None
                if is_number or (number in _OF_NAME and len(word) > 1):
                    yield from dict.fromkeys((word, *word.split()))


def _patients_in(data: bytes) -> Iterator[Sequence[bytes]]:
    """Yield the fields of each patient in a file that cannot be read as a message, whatever the fault."""
    if b"\0" in data[:16]:
        # UTF-16.
        data = data[:_UTF_16_BYTES].replace(b"\0", b"")
    at = -1
    while (at := data.find(b"PID", at + 1)) >= 0:
        if at == 0 or data[at - 1 : at] in (b"\r", b"\n", b"\x0b"):
            line = data[at : at + _LONGEST_PATIENT_BYTES].splitlines()[0]
            yield line.split(data[at + 3 : at + 4] or None)
