"""Counting letters by where they are: each that was dropped once, whatever the daemon does meanwhile.

A letter is in the outbox, or in the work folder, or in the ledger, where its state counts it. Of the files
only names are read, few time stamps, and the beginning of few that have just come, so that a full outbox
costs a fraction of a second. So whether one is ready or waits is an estimate: only the daemon, which reads
it, knows whether it needs a sidecar.
"""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from meshctl.errors import Rejection
from meshctl.files.reading import read_regular
from meshctl.journal.masking import mask_file_name
from meshctl.ledger import reads
from meshctl.ledger.records import SetAside
from meshctl.outbound.names import (
    ERROR_SUFFIX,
    LETTER_FOLDER,
    LETTERS_FOLDER,
    REDROPPED_FOLDER,
    SIDECAR_SUFFIX,
    NameKind,
    NameRules,
)
from meshctl.outbound.rejected import redrop_mark
from meshctl.payload.kind import Form, form_of, looks_like_message, may_be_large_message
from meshctl.platform import system
from meshctl.settings.model import Settings

STAMPS_READ: Final = 2000
"""Counting reads the time stamps of so many files of a folder at most; the rest counts as old."""

_FOUND_AT_MOST: Final = 20_000

_PEEKS: Final = 100
_PEEK_BYTES: Final = 64 * 1024
_MESSAGE_ENDS = (".xml", ".json")


@dataclass(frozen=True, slots=True)
class OutboxTally:
    """How many letters are ready to be sent or rejected, wait to be complete, and are set aside.

    Those of `no_use_case` lie in folders that are not named after one: they are not sent.
    """

    ready: int = 0
    waiting: int = 0
    set_aside: int = 0
    no_use_case: int = 0

    def __add__(self, other: "OutboxTally") -> "OutboxTally":
        return OutboxTally(
            self.ready + other.ready,
            self.waiting + other.waiting,
            self.set_aside + other.set_aside,
            self.no_use_case + other.no_use_case,
        )


class _Taken(NamedTuple):
    """A letter in the work folder: its id, the use case that it was dropped for, its folder and files."""

    message_id: str
    use_case: str | None
    path: str
    names: Sequence[str]
    is_redropped: bool
    """Whether it comes from `rejected/`; the ledger knows it as rejected then."""


def tally_letters(
    settings: Settings, now_seconds: float, connection: sqlite3.Connection | None
) -> OutboxTally:
    """Count the letters in outbox and work folder that are not in the ledger; `connection` is the ledger's.

    Waiting is a file written so recently that it may not be complete; a sidecar whose payload has not come;
    and a file without a sidecar that neither ends nor begins like a FHIR message (.xml, .json) and came so
    recently that its sidecar may still come. Every other payload is ready, and so is a letter that was taken
    already. A page that a sidecar names counts as a letter for as long as it lies in the outbox. A missing
    folder is empty. Raises OSError, sqlite3.Error.
    """
    set_aside = () if connection is None else reads.set_aside(connection)
    # A letter may be taken, or put back, while we look: it is seen at one end of its way at least.
    before = _taken(settings.staging.work)
    folders = _outbox(settings)
    taken = {**before, **_taken(settings.staging.work)}
    ids = [letter.message_id for letter in taken.values()]
    entered = reads.descriptions(connection, ids) if connection is not None and ids else {}
    total = OutboxTally()
    for letter in taken.values():
        is_new = letter.is_redropped or letter.message_id not in entered
        if _is_in_work(letter, settings, folders) and is_new:
            is_aside = _is_set_aside(letter, set_aside)
            total += OutboxTally(set_aside=1) if is_aside else OutboxTally(ready=1)
    for use_case, names in folders.items():
        total += _tally(settings, use_case, names, set_aside, now_seconds)
    return total + OutboxTally(no_use_case=sum(letters_of_no_use_case(settings).values()))


def letters_of_no_use_case(settings: Settings) -> dict[str, int]:
    """Return how many letters lie in which folders below the outbox that are not those of use cases."""
    outbox, rules = str(settings.staging.outbox), NameRules(settings.staging)
    found: dict[str, int] = {}
    folders, left = [outbox], _FOUND_AT_MOST
    while folders and left > 0:
        folder = folders.pop()
        name = os.path.relpath(folder, outbox)
        is_source = name == os.curdir or os.path.normcase(name) in settings.use_cases
        letters: set[str] = set()
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries if is_source else islice(entries, left):
                left -= not is_source
                is_folder = _is_folder(entry)
                if (is_source and not is_folder) or rules.kind_of(entry.name).is_ignored:
                    continue
                if is_folder:
                    folders.append(entry.path)
                else:
                    letters.add(_letter(entry.name))
        if letters:
            found[name] = len(letters)
    return found


def without_set_aside(
    names: Sequence[str], set_aside: Sequence[SetAside], use_case: str | None
) -> Sequence[str]:
    """Return the names of a folder without those of letters, and their sidecars, that are set aside there.

    The folder is that of a use case, or with None the outbox itself.
    """
    letters = Counter(_letter(one.file) for one in set_aside if one.folder == use_case)
    if not letters:
        return names
    passed_over = set()
    # The list has masked names: if two look the same masked, it does not matter which one is left out.
    for letter in sorted({_letter(name) for name in names}):
        if letters[shown := mask_file_name(letter)] > 0:
            letters[shown] -= 1
            passed_over.add(letter)
    return [name for name in names if _letter(name) not in passed_over]


def count_rejected(rejected: Path) -> int:
    """Count the rejected letters: files with an explanation beside them, or with a mark that they go back."""
    names = set(_entries(rejected)[0])
    return sum(name + ERROR_SUFFIX in names or redrop_mark(name) in names for name in names)


def _letter(name: str) -> str:
    return name.removesuffix(SIDECAR_SUFFIX)


def _outbox(settings: Settings) -> dict[str | None, set[str] | None]:
    """Return the names of the files by use-case folder; None for a folder that cannot be read."""
    outbox = settings.staging.outbox
    names, folders = _entries(outbox)
    found: dict[str | None, set[str] | None] = {None: set(names)}
    for folder in folders:
        if os.path.normcase(folder) in settings.use_cases:
            try:
                found[folder] = set(_entries(outbox / folder)[0])
            except OSError:
                found[folder] = None
    return found


def _taken(work: Path) -> dict[str, _Taken]:
    """Return the letters in the work folder, by the names of their folders. An empty one has gone on."""
    found = {}
    for folder in (work / LETTERS_FOLDER, work / REDROPPED_FOLDER):
        with suppress(FileNotFoundError):
            for name in os.listdir(folder):
                named = LETTER_FOLDER.fullmatch(name)
                with suppress(FileNotFoundError, NotADirectoryError):
                    files = [file for file in os.listdir(folder / name) if not file.startswith(".")]
                    if named and files:
                        is_redropped = folder.name == REDROPPED_FOLDER
                        path = str(folder / name)
                        found[path] = _Taken(named[1], named[2], path, files, is_redropped)
    return found


def _is_in_work(letter: _Taken, settings: Settings, folders: dict[str | None, set[str] | None]) -> bool:
    """True if a letter counts as taken; files that moved while we looked no longer count in the outbox."""
    outbox = settings.staging.outbox
    key = next((each for each in folders if each and os.path.normcase(each) == letter.use_case), None)
    dropped = folders[key] if letter.use_case is None or key is not None else None
    if dropped is None:
        return True
    for name in letter.names:
        if name in dropped:
            here = _inode(os.path.join(letter.path, name))
            there = _inode(os.path.join(outbox, key or "", name))
            if here is None:
                # It was put back before we looked there.
                return False
            if there in (None, here):
                dropped.discard(name)
    bases = {_letter(name) for name in letter.names if name.endswith(SIDECAR_SUFFIX)}
    # A crash came between sidecar and payload: the payload counts where it is.
    return not any(base in dropped for base in bases.difference(letter.names))


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_set_aside(letter: _Taken, set_aside: Sequence[SetAside]) -> bool:
    """True if a letter in the work folder is set aside."""
    shown = {mask_file_name(_letter(name)) for name in letter.names}
    return any(one.folder == letter.use_case and _letter(one.file) in shown for one in set_aside)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of files and of folders; none for a missing folder."""
    files: list[str] = []
    folders: list[str] = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            (folders if _is_folder(entry) else files).append(entry.name)
    return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _tally(
    settings: Settings,
    folder: str | None,
    names: Iterable[str] | None,
    set_aside: Sequence[SetAside],
    now_seconds: float,
) -> OutboxTally:
    """Count the letters of one folder; of one that cannot be read at least what is known to be in it."""
    staging = settings.staging
    use_case = None if folder is None else os.path.normcase(folder)
    known = [one for one in set_aside if one.folder == use_case]
    if names is None:
        return OutboxTally(set_aside=max(len(known), 1))
    rules = NameRules(staging)
    listed = [name for name in names if not rules.kind_of(name).is_ignored]
    # A folder is set aside as an item of the outbox, and all that lies in it with it.
    is_aside = folder is not None and any(one.folder is None and one.file == folder for one in set_aside)
    others = [] if is_aside else without_set_aside(listed, set_aside, use_case)
    aside = len({_letter(name) for name in listed}) - len({_letter(name) for name in others})
    return _by_age(staging.outbox / (folder or ""), others, settings, now_seconds) + OutboxTally(
        set_aside=aside
    )


def _by_age(folder: Path, names: Iterable[str], settings: Settings, now_seconds: float) -> OutboxTally:
    staging = settings.staging
    written_since = now_seconds - staging.quiet_seconds
    come_since = now_seconds - staging.sidecar_wait_seconds
    rules = NameRules(staging)
    kinds = {name: rules.kind_of(name) for name in names}
    payloads = [name for name, kind in kinds.items() if kind is NameKind.PAYLOAD]
    sidecars = {name[: -len(SIDECAR_SUFFIX)] for name, kind in kinds.items() if kind is NameKind.SIDECAR}
    lone_sidecars = len(sidecars.difference(payloads))
    waiting = peeks = 0
    for name in payloads[:STAMPS_READ]:
        try:
            status = os.lstat(folder / name)
        except OSError:
            continue
        if status.st_mtime > written_since:
            waiting += 1
        elif name not in sidecars and system.arrived_ns(str(folder / name), status) > come_since * 1e9:
            may_be_message = name.lower().endswith(_MESSAGE_ENDS)
            if may_be_message and peeks < _PEEKS:
                peeks += 1
                may_be_message = _begins_like_message(folder / name)
            waiting += not may_be_message
    return OutboxTally(len(payloads) - waiting, waiting + lone_sidecars)


def _begins_like_message(path: Path) -> bool:
    """True if a file may say all that it needs; also for one that cannot be read here."""
    try:
        head = read_regular(path, _PEEK_BYTES)
        form = form_of(head)
    except (OSError, Rejection):
        return True
    is_message = form is Form.JSON and (looks_like_message(head) or may_be_large_message(head))
    return form is Form.XML or is_message
