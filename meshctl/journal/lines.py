"""Lines of the log: how an event becomes a line, and how the log is read back, across rotation.

Whatever the values are, an event is one line with the keys given: a newline, a quote or an `=` in a value
cannot forge a line or a key, and a text value shows nothing like an NHS number. What is read back is safe for
a terminal, whoever wrote the file: unprintable characters are made visible.
"""

import itertools
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Self

from meshctl.files.reading import open_named
from meshctl.journal.events import Fields, FieldValue
from meshctl.journal.masking import escape_unprintable, mask_numbers

# Ids and digests made by meshctl, words of settings and tables: masking would cost time or spoil them.
UNMASKED_KEYS = frozenset(
    {"message_id", "repeat_of", "resend_of", "replaces", "sha256", "use_case", "workflow_id", "state"}
)

# Too short for a ten-digit number, so not searched.
_SHORT_CHARACTERS = 9
_NEEDS_QUOTES = re.compile(r'[\s"=]')


def iso_utc(at_seconds: float) -> str:
    """Return the instant as `2026-11-22T09:15:02.481Z`; `at_seconds` counts from 1970."""
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
    """Escape what JSON lets through and a terminal or `splitlines()` would act on."""
    if quoted.isprintable():
        return quoted
    return "".join(character if character.isprintable() else _escape(character) for character in quoted)


def _escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def rotated_name(path: Path, number: int) -> Path:
    """Return the name of the old log file `number`; 1 is the newest."""
    return path.with_name(f"{path.name}.{number}")


LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_LINE = re.compile(rf"(\d{{4}}-\d\d-\d\dT[\d:.]+Z) ({'|'.join(LEVELS)}) ([a-z]+\.[a-z_]+)((?: .*)?)")
_FIELD = re.compile(r' ([A-Za-z_]\w*)=("(?:[^"\\]|\\.)*"|[^\s"]*)')


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log: `text` is its fields as logfmt, `values` the same by key.

    A line that meshctl did not write has an empty `at`, `level` and `event`, and is in `text` as a whole.
    """

    at: str
    level: str
    event: str
    text: str
    values: Mapping[str, str]

    def reaches(self, level: str) -> bool:
        """True if the entry is of `level` or above; never for a line without a level."""
        return self.level in LEVELS[LEVELS.index(level) :]

    def concerns(self, message_id: str) -> bool:
        """True if any field names the message, alone or in a list."""
        return any(message_id in value.split(",") for value in self.values.values())


def parse_line(line: str) -> Entry:
    """Return the entry on one line of the log, in either format."""
    entry = _parse_json(line) if line.startswith("{") else _parse_logfmt(line)
    return entry or Entry("", "", "", escape_unprintable(line), {})


class LogReader:
    """Reads the log at `path` and its rotated files, oldest first, and remembers how far it has read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._current: BinaryIO | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def new_lines(self) -> Iterator[str]:
        """Yield the whole lines not read so far: first the whole log, then what was appended since.

        Follows any number of rotations since, and a log that does not exist yet. Raises OSError if a file
        exists and cannot be read.
        """
        if self._current is not None:
            yield from _whole_lines(self._current)
            if _is_at(self._path, self._current):
                return
        with ExitStack() as opened:
            for file in [opened.enter_context(file) for file in _files_after(self._path, self._current)]:
                if self._current is not None:
                    # What was appended between the last read and the rotation.
                    yield from _whole_lines(self._current)
                self._current = file
                yield from _whole_lines(file)
            self._opened.close()
            self._opened = opened.pop_all()


def _parse_logfmt(line: str) -> Entry | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    at, level, event, text = match.groups()
    values = {key: _unquoted(value) for key, value in _FIELD.findall(text)}
    return Entry(at, level, event, escape_unprintable(text.strip()), values)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def _parse_json(line: str) -> Entry | None:
    try:
        record = json.loads(line)
        at, level, event = (str(record.pop(key)) for key in ("at", "level", "event"))
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None
    text = escape_unprintable(logfmt_fields(record).strip())
    lists = {key: value if isinstance(value, list) else [value] for key, value in record.items()}
    values = {key: ",".join(str(item) for item in items) for key, items in lists.items()}
    return Entry(escape_unprintable(at), escape_unprintable(level), escape_unprintable(event), text, values)


def _files_after(path: Path, last: BinaryIO | None) -> list[BinaryIO]:
    """Open the log and its rotated files that are newer than `last`; return the oldest first.

    They are opened newest first: a rotation meanwhile shows one of them twice, and hides none.
    """
    files: list[BinaryIO] = []
    for number in itertools.count():
        file = _open(rotated_name(path, number) if number else path)
        if file is None:
            # A rotation in progress leaves no current file, but old ones.
            if number:
                break
        elif last is not None and _is_same(file, last):
            file.close()
            break
        elif any(_is_same(file, other) for other in files):
            file.close()
        else:
            files.insert(0, file)
    return files


def _open(path: Path) -> BinaryIO | None:
    try:
        # So that on Windows the log can be rotated meanwhile.
        return open_named(path)
    except FileNotFoundError:
        return None


def _is_same(one: BinaryIO, other: BinaryIO) -> bool:
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


def _is_at(path: Path, file: BinaryIO) -> bool:
    """True if the log's name still leads to `file`, or to nothing."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return True


def _whole_lines(file: BinaryIO) -> Iterator[str]:
    if os.fstat(file.fileno()).st_size < file.tell():
        # Emptied in place, as logrotate's `copytruncate` does.
        file.seek(0)
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        yield _text(line)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
