"""Moving control files and their payloads out of IN, whole and without overwriting anything.

The payload goes first and the control file last, so whoever reads the target never finds a control file
without its payload. A crash in between leaves the control file in IN, where it is found again, and its
payload in the target, where `finish_move` finds it. A name that is taken gets a number, unless the very same
content lies there already.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from meshctl.files import change, durable
from meshctl.files.safe_open import is_there, open_regular

_TEMPORARY_PREFIX = ".meshctl-"
_FOLDER_MODE = 0o750
_CHUNK_BYTES = 1 << 20
_END_CHARACTERS = len(".ctl")
_PAYLOAD_ENDS = {".ctl": (".dat",), ".CTL": (".DAT", ".dat")}


def payload_of(control_path: str) -> str | None:
    """Return the path of the payload beside a control file, None when there is none. Raises OSError."""
    stem, end = control_path[:-_END_CHARACTERS], control_path[-_END_CHARACTERS:]
    return next((stem + other for other in _PAYLOAD_ENDS[end] if is_there(stem + other)), None)


def make_folder(folder: str) -> None:
    """Make a folder if it is missing, durably. Raises OSError."""
    durable.make_folders(folder, _FOLDER_MODE)


def move_in(control_path: str, payload_path: str | None, folder: str) -> None:
    """Move a control file, and first its payload if it has one, into a folder that exists. Raises OSError.

    A file that somebody else has taken meanwhile is passed over.
    """
    sources = [path for path in (payload_path, control_path) if path is not None]
    for targets in _candidates(sources, folder):
        moves = [(source, target, is_there(target)) for source, target in zip(sources, targets, strict=True)]
        if all(not taken or _is_same(source, target) for source, target, taken in moves):
            for source, target, taken in moves:
                with suppress(FileNotFoundError):
                    # The same content is there: a move was cut short after its copy, or the file came again.
                    change.unlink(source) if taken else _move(source, target)
            return


def finish_move(control_path: str, folder: str) -> bool:
    """Move a control file after its payload, if a crash left that alone in the folder; tell if so.

    Raises OSError.
    """
    stem, end = os.path.splitext(os.path.basename(control_path))
    for number in _numbers():
        name = f"{folder}/{stem}{number}"
        payloads = [name + other for other in _PAYLOAD_ENDS[end] if is_there(name + other)]
        if not payloads:
            return False
        if not is_there(name + end):
            with suppress(FileNotFoundError):
                _move(control_path, name + end)
            return True
        if _is_same(control_path, name + end):
            # From another file system: the crash came between the copy and the removal of the original.
            change.unlink_if_there(control_path)
            return True
    return False


class Archive:
    """`archive/YYYY/MM/DD/`: reports and acknowledgements that were ours, by the day they were recorded."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def day(self, day: str) -> str:
        """Return the folder of a day, given as `YYYY-MM-DD`, and make it if it is missing. Raises OSError."""
        folder = f"{self._root}/{day.replace('-', '/')}"
        make_folder(folder)
        return folder

    def finish_move(self, control_path: str) -> bool:
        """Finish what a crash left half archived, on whatever day that was; tell whether there was any.

        Raises OSError.
        """
        days = sorted(self._root.glob("[0-9]*/[0-9]*/[0-9]*"), reverse=True)
        return any(finish_move(control_path, str(day)) for day in days)


def _candidates(sources: Sequence[str], folder: str) -> Iterator[list[str]]:
    names = [os.path.basename(source) for source in sources]
    for number in _numbers():
        yield [f"{folder}/{name[:-_END_CHARACTERS]}{number}{name[-_END_CHARACTERS:]}" for name in names]


def _numbers() -> Iterator[str]:
    yield ""
    number = 2
    while True:
        yield f".{number}"
        number += 1


def _is_same(source: str, target: str) -> bool:
    try:
        with open_regular(source) as one, open_regular(target) as other:
            return _is_same_content(one, other)
    except OSError:
        return False


def _is_same_content(one: BinaryIO, other: BinaryIO) -> bool:
    if os.fstat(one.fileno()).st_size != os.fstat(other.fileno()).st_size:
        return False
    while (chunk := one.read(_CHUNK_BYTES)) == other.read(_CHUNK_BYTES):
        if not chunk:
            return True
    return False


def _move(source: str, target: str) -> None:
    folder, name = os.path.split(target)
    durable.move(source, target, f"{folder}/{_TEMPORARY_PREFIX}{name}")
