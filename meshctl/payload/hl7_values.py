"""Values of an HL7 v2 message that stand for something: time stamps, and the numbers of documents. Pure."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from meshctl.payload.hl7_v2 import Message, Parts, Segment, text_of, whole_text

PLACEHOLDERS: Final = frozenset({"0001-01-01", "1753-01-01", "1800-01-01", "1900-01-01", "9999-12-31"})
"""Days that databases and programs write where they know none."""

_INSTANT: Final = re.compile(
    r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})(?:[T ]?([0-9]{2}):?([0-9]{2})(?::?[0-9]{2}(?:\.[0-9]*)?)?)?"
    r" ?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_MIDNIGHT: Final = ("00", "00")


def instant_of(text: str) -> str | None:
    """Return a time stamp as ISO 8601, None for none; without an offset it is of the United Kingdom."""
    found = _INSTANT.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, offset = found.groups()
    try:
        written = date(int(year), int(month), int(day)).isoformat()
        if written in PLACEHOLDERS:
            return None
        # Systems write a day without a time as midnight.
        if hour is None or ((hour, minute) == _MIDNIGHT and not offset):
            return written
        written += f"T{hour}:{minute}"
        at = datetime.fromisoformat(written + (offset or ""))
    except ValueError:
        return None
    if offset is None and (london := _london()) is not None:
        at = at.replace(tzinfo=london)
    return at.isoformat(timespec="minutes")


def _london() -> ZoneInfo | None:
    """Return the zone of the United Kingdom; None where the system has no zones, such as Windows."""
    try:
        return ZoneInfo("Europe/London")
    except ZoneInfoNotFoundError:
        return None


_STAMP: Final = re.compile(
    r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})[T ]?([0-9]{2}):?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?"
    r" ?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def written_at(message: Message) -> datetime | None:
    """Return when the sending system wrote a message (MSH-7); None if that is not certain."""
    found = _STAMP.fullmatch(message.text(message.first("MSH"), 7))
    if found is None:
        return None
    try:
        year, month, day, hour, minute, second, fraction, offset = found.groups("")
        # Python before 3.13 reads fractions of three digits or six alone.
        time = f"{hour}:{minute}:{second or '00'}.{fraction:0<6}"
        at = datetime.fromisoformat(f"{year}-{month}-{day}T{time}{offset}")
    except ValueError:
        return None
    if offset:
        return at
    at = at.replace(tzinfo=_london() or UTC)
    # An hour that comes twice, in autumn.
    return None if at.utcoffset() != at.replace(fold=1).utcoffset() else at


_NO_NUMBER: Final = re.compile(r"[0\W_]*|N/?A|NONE|NULL|NIL|UNK(?:NOWN)?|TB[AC]", re.IGNORECASE)


def number_of(message: Message, number: Parts) -> str | None:
    """Return what identifies a document, as a text to be hashed; None without a number.

    Systems write the number into the first component or the third, with or without an authority. Without one
    it is the number of the system that sends (MSH-3): two systems of a hospital may both have a 1001.
    Zeros and such words as N/A stand for none, and a number of the patient is none of a document.
    """
    parts = [part for component in number for part in component if part]
    own = text_of(number, 1) or text_of(number, 3)
    patient = {text_of(one, 1) for one in message.repetitions(message.first("PID"), 3)}
    if _NO_NUMBER.fullmatch(own) or own in patient:
        return None
    header = message.first("MSH")
    senders = [message.parts(header, 4), message.parts(header, 3) if len(parts) == 1 else ()]
    by = ["\x1f".join(part for component in sender for part in component if part) for sender in senders]
    return "\x1e".join((*by, "\x1f".join(parts)))


def number_of_report(message: Message, order: Segment) -> str | None:
    """Return what identifies a report: the number of its order, and what was ordered (OBR-4).

    An order may have several reports, of histology and of cytology say.
    """
    number = number_of(message, message.parts(order, 3))
    return number and f"{number}\x1e{_what(message.parts(order, 4))}"


def result_of(message: Message, order: Segment, carriers: Sequence[Segment]) -> str:
    """Return which result of its order a report is about: what was found (OBX-3, 4), and in what (OBR-7).

    A correction has the same; when it was reported (OBR-22) has changed.
    """
    first = carriers[0]
    # Over several OBX it counts the parts of the document; a 1 alone says no more than nothing.
    part = "" if len(carriers) > 1 else message.text(first, 4)
    taken = next(filter(None, map(instant_of, (message.text(order, 7), message.text(first, 14)))), "")
    return "\x1e".join((_what(message.parts(first, 3)), "" if part == "1" else part, taken))


def _what(kind: Parts) -> str:
    """Return a code, or without one the name that stands in its place."""
    return next(filter(None, (whole_text(kind, component) for component in (1, 4, 2, 5))), "")
