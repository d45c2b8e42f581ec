"""Read the log back: all its files in order, either format, across rotation; never write.

The result is safe for a terminal, whoever wrote the file: unprintable characters are made visible.
"""

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from meshctl.journal.log_file import logfmt_fields, rotated_name
from meshctl.journal.masking import escape_unprintable
from meshctl.platform import system

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
        return os.fdopen(system.open_file(path, os.O_RDONLY), "rb")
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
