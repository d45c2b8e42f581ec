"""Turns one event into one line, as logfmt or as JSON; pure.

Whatever the values hold, the result is a single line whose keys are the ones given: a newline, a quote or
an `=` in a value cannot forge a line or a key, and nothing like an NHS number leaves in a text value.
"""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePath

from meshctl.journal.masking import mask_numbers

FieldValue = str | int | float | bool | datetime | PurePath | Sequence[str] | None
Fields = Mapping[str, FieldValue]

# Our own ids and digests, and words from settings and tables: masking could only cost time or spoil them.
UNMASKED_KEYS = frozenset(
    {"message_id", "repeat_of", "resend_of", "sha256", "use_case", "workflow_id", "state"}
)

# Too short to hold a ten-digit number, so not worth looking through.
_SHORT_CHARACTERS = 9
_NEEDS_QUOTES = re.compile(r'[\s"=]')


def iso_utc(at_seconds: float) -> str:
    """Return the instant as `2026-11-22T09:15:02.481Z`; `at_seconds` counts from 1970, as `time.time()`."""
    whole_seconds, milliseconds = divmod(round(at_seconds * 1000), 1000)
    return f"{_second(whole_seconds)}.{milliseconds:03d}Z"


def logfmt_fields(fields: Fields) -> str:
    """Return ` key=value` for each field that has a value, with a leading space, or an empty text."""
    return "".join(
        [f" {key}={_logfmt_value(key, value)}" for key, value in fields.items() if value is not None]
    )


def logfmt_line(at_seconds: float, level: str, event: str, fields: Fields) -> str:
    """Return the event as one logfmt line, without its line end."""
    return f"{iso_utc(at_seconds)} {level} {event}{logfmt_fields(fields)}"


def json_line(at_seconds: float, level: str, event: str, fields: Fields) -> str:
    """Return the event as one JSON object on one line, without its line end."""
    record: dict[str, object] = {"at": iso_utc(at_seconds), "level": level, "event": event}
    for key, value in fields.items():
        if value is not None:
            record[key] = _json_value(key, value)
    return _printable(json.dumps(record, ensure_ascii=False))


@lru_cache(maxsize=4)
def _second(whole_seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole_seconds))


def _logfmt_value(key: str, value: FieldValue) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is str and (len(value) <= _SHORT_CHARACTERS or key in UNMASKED_KEYS):
        return _quoted_if_needed(value)
    plain = _json_value(key, value)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, int | float):
        return repr(plain)
    return _quoted_if_needed(",".join(plain) if isinstance(plain, list) else plain)


def _quoted_if_needed(text: str) -> str:
    if text and not _NEEDS_QUOTES.search(text) and text.isprintable():
        return text
    return _printable(json.dumps(text, ensure_ascii=False))


def _json_value(key: str, value: FieldValue) -> str | int | float | bool | list[str]:
    if isinstance(value, str):
        return str(value) if key in UNMASKED_KEYS else mask_numbers(value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return iso_utc(value.astimezone(UTC).timestamp())
    if isinstance(value, Sequence):
        return [mask_numbers(str(item)) for item in value]
    return mask_numbers(str(value))


def _printable(quoted: str) -> str:
    """Escape what JSON would let through and a terminal or `splitlines()` would act upon."""
    if quoted.isprintable():
        return quoted
    return "".join(character if character.isprintable() else _escape(character) for character in quoted)


def _escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
