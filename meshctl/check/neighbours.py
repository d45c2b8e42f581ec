"""Whether another meshctl works on the same mailbox or in the same folders, or would.

Two daemons in one mailbox take each other's messages for their own, and two with one outbox send each letter
under the mailbox of whichever comes first. The daemon's locks in both folders keep two from working there at
once. What is found here is said before that, or where there can be no lock.
"""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from meshctl.check.finding import Finding, Setup, error, listed, ok, warning
from meshctl.daemon.lock import holder_of
from meshctl.daemon.mailbox_lock import (
    NO_LOCK_ADVICE,
    ONE_ONLY,
    ONE_OUTBOX,
    OutboxLock,
    is_worked_on,
    problem_text,
    settings_of_worker,
    worker_of,
)
from meshctl.errors import ConfigError
from meshctl.files.owner import WORKER_LOCK_NAME
from meshctl.settings.layout import PLACEHOLDER_ID
from meshctl.settings.load import load_settings
from meshctl.settings.mailboxes import FILE_NAME, every_mailbox
from meshctl.settings.model import CLIENT_FOLDERS, Settings

_NAME = "mailbox.alone"
_OUTBOX = "outbox.alone"
_FOLDERS = "folders.alone"
_LIVE = "live"
_ONE_FOLDER = (
    "Give each settings file folders of its own: what one puts there the other would take for its own, and a"
    " rejected letter would go out under the mailbox of whichever redrops it."
)
_ONE_FILE = "Give each settings file a file of its own: two programs that write one lose each other's lines."
_ONE_ID = (
    "MESH knows one mailbox of that id: what comes for it goes to whichever asks first, and the other never"
    " gets its reports. Let one settings file send for both, or correct id in [mailbox]. Nothing to do"
    " if one of them is a rehearsal that never reaches MESH."
)


def check_neighbours(setup: Setup) -> Iterator[Finding]:
    """Check that no other meshctl works on mailbox or outbox, and that no other settings name them."""
    settings = setup.settings
    is_busy = yield from _check_mailbox(setup)
    is_taken = yield from _check_outbox(settings)
    others = [
        each
        for each in other_settings(settings)
        # What works there now is named already.
        if not (is_busy and each.name == _NAME) and not (is_taken and each.name == _OUTBOX)
    ]
    yield from others
    found = {each.name for each in others}
    folder, outbox = settings.mailbox.folder, settings.staging.outbox
    if not is_busy and _NAME not in found and os.path.isdir(folder):
        yield ok(_NAME, f"No other meshctl is known to work on the mailbox {folder}.")
    if not is_taken and _OUTBOX not in found and os.path.isdir(outbox):
        yield ok(_OUTBOX, f"No other meshctl is known to take letters from {outbox}.")


def _check_mailbox(setup: Setup) -> Generator[Finding, None, bool]:
    """Yield what keeps the mailbox from being this daemon's alone; return whether there is something."""
    settings = setup.settings
    folder = settings.mailbox.folder
    if not os.path.isdir(folder):
        return False
    lock = folder / WORKER_LOCK_NAME
    if lock.is_symlink():
        yield error(
            _NAME,
            f"{lock} is a link, and a lock is never taken through one: a second meshctl on this mailbox would"
            " not be noticed.",
            "Remove it, and see who may write in that folder.",
        )
        return True
    try:
        is_busy = is_worked_on(folder)
    except OSError as problem:
        yield warning(_NAME, problem_text(problem), NO_LOCK_ADVICE)
        return True
    if not (is_busy and _is_another(settings, worker_of(folder), settings_of_worker(folder))):
        return False
    yield error(_NAME, f"Another meshctl works on the mailbox {folder}: {worker_of(folder)}.", ONE_ONLY)
    return True


def _check_outbox(settings: Settings) -> Generator[Finding, None, bool]:
    """Yield what keeps the outbox from being this daemon's alone; return whether there is something."""
    outbox = OutboxLock(settings)
    if not outbox.is_worked_on():
        return False
    text = f"Another meshctl takes letters from {outbox.folder}: {outbox.worker()}."
    yield error(_OUTBOX, text, ONE_OUTBOX)
    return True


def _is_another(settings: Settings, worker: str, file: Path | None) -> bool:
    """True if who holds a lock, by its note, is not the daemon of these settings."""
    # On a full disk a daemon cannot write beside its own lock that it holds that.
    is_ours = file is not None and os.path.realpath(file) == os.path.realpath(settings.file)
    return not is_ours and not _is_of(worker, holder_of(settings.state.folder))


def _is_of(worker: str, holder: str) -> bool:
    """True if the note in a folder and the one in a state folder name one process."""
    return worker.partition(" since ")[0] == holder.partition(" since ")[0]


def other_settings(settings: Settings) -> list[Finding]:
    """Return what other settings on this computer share with these and must not: errors, and warnings.

    In one mailbox's folder they take each other's messages; in folders of their own, with one id, each gets
    some of the answers. Looked at are those that mailbox's folder and outbox were last worked on with, those
    beside the outbox, and those of the mailboxes of this server.
    """
    mailbox = settings.mailbox
    candidates = []
    with suppress(ConfigError):
        candidates = [place.file for place in every_mailbox(os.environ)]
    last = (settings_of_worker(mailbox.folder), OutboxLock(settings).settings_of_worker())
    candidates += [file for file in last if file is not None]
    beside_outbox = settings.staging.outbox.parent / FILE_NAME
    made_there = _loaded(beside_outbox)
    # A copy of these settings that was left where they were made is nobody's.
    if made_there is not None and _folder(made_there.settings) != _folder(settings):
        candidates.append(beside_outbox)
    files = {os.path.realpath(file): file for file in reversed(candidates)}
    files.pop(os.path.realpath(settings.file), None)
    occupied = [other for file in files.values() if (other := _loaded(file)) is not None]
    others = [other.settings for other in occupied]
    found = [other for other in others if other.mailbox.id == mailbox.id]
    beside = [other for other in others if _folder(other) == _folder(settings)]
    elsewhere = [each for each in found if each not in beside and send_as_one(each, settings)]
    findings = []
    if beside:
        text = f"{_names(beside)} the same mailbox, {mailbox.folder}."
        findings.append(error(_NAME, text, ONE_ONLY))
    if elsewhere:
        text = f"{_names(elsewhere)} the same mailbox id, {mailbox.id}, with another folder."
        findings.append(warning("mailbox.id", text, _ONE_ID))
    ours = _occupied(settings)
    return findings + [each for theirs in occupied for each in _shared(ours, theirs)]


class _Place(NamedTuple):
    """A folder or file of a mailbox: the setting or the client's name, its path, and where that leads.

    The last ends in a separator.
    """

    name: str
    path: Path
    real: str


@dataclass(frozen=True, slots=True)
class _Occupied:
    """What a mailbox has for itself."""

    settings: Settings
    folders: tuple[_Place, ...]
    files: tuple[_Place, ...]


def _occupied(settings: Settings) -> _Occupied:
    def places(named: list[tuple[str, Path]]) -> tuple[_Place, ...]:
        return tuple(_Place(name, path, os.path.join(os.path.realpath(path), "")) for name, path in named)

    return _Occupied(settings, places(_folders_of(settings)), places(_files_of(settings)))


def _shared(ours: _Occupied, theirs: _Occupied) -> Iterator[Finding]:
    """Yield which folders and files of these settings are, or lie in, those of others.

    `deliver` may be: what is put there has names of MESH's own. Logs may lie in one folder, in files of their
    own.
    """
    found: dict[str, list[str]] = {_OUTBOX: [], _FOLDERS: []}
    file = theirs.settings.file
    for own, their in product(ours.folders, theirs.folders):
        relation = _relation(own.real, their.real)
        # Of the mailbox's folder there is a finding already.
        if relation is not None and not {own.name, their.name} <= set(CLIENT_FOLDERS):
            name = _OUTBOX if "staging.outbox" in {own.name, their.name} else _FOLDERS
            found[name].append(f"{own.name}, {own.path}, {relation} {their.name} of {file}")
    for name, advice in ((_OUTBOX, ONE_OUTBOX), (_FOLDERS, _ONE_FOLDER)):
        if found[name]:
            yield error(name, f"{listed(found[name], '; ')}.", advice)
    files = [
        f"{own.name}, {own.path}, is {their.name} of {file}"
        for own, their in product(ours.files, theirs.files)
        if own.real == their.real
    ]
    if files:
        yield warning("files.alone", f"{listed(files, '; ')}.", _ONE_FILE)


def _relation(mine: str, theirs: str) -> str | None:
    """Return what one path is to another, as a verb; None if they are apart."""
    if mine == theirs:
        return "is"
    if mine.startswith(theirs):
        return "lies in"
    return "holds" if theirs.startswith(mine) else None


def _folders_of(settings: Settings) -> list[tuple[str, Path]]:
    """Return the folders that no other mailbox may use, by the setting or the MESH Client's name."""
    staging, mailbox = settings.staging, settings.mailbox
    own = [
        ("staging.outbox", staging.outbox),
        ("staging.rejected", staging.rejected),
        ("staging.work", staging.work),
        ("reports.archive", settings.reports.archive),
        ("state.folder", settings.state.folder),
    ]
    if settings.bridge.environment is not None:
        own.append(("bridge.work", settings.bridge_work))
    return own + [(name, mailbox.client_folder(name)) for name in CLIENT_FOLDERS]


def _files_of(settings: Settings) -> list[tuple[str, Path]]:
    """Return the files that one daemon or bridge writes alone."""
    files = [("log.file", settings.log.file)]
    if settings.bridge.environment is not None:
        files.append(("bridge.log", settings.bridge.log))
    if settings.metrics.textfile is not None:
        files.append(("metrics.textfile", settings.metrics.textfile))
    return files


def send_as_one(one: Settings, other: Settings) -> bool:
    """True if both send as one mailbox of one MESH, which a client and the bridge's default call live."""
    meshes = {each.bridge.environment or _LIVE for each in (one, other)}
    return one.mailbox.id == other.mailbox.id != PLACEHOLDER_ID and len(meshes) == 1


def _names(others: Sequence[Settings]) -> str:
    files = sorted(str(each.file) for each in others)
    return f"{' and '.join(files)} name{'s' if len(files) == 1 else ''}"


def _folder(settings: Settings) -> str:
    return os.path.realpath(settings.mailbox.folder)


def _loaded(file: Path) -> _Occupied | None:
    """Return what the mailbox of a settings file has; None if that is missing, or wrong: nothing runs so."""
    try:
        status = file.stat()
    except OSError:
        return None
    return _read(file, (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))


@cache
def _read(file: Path, _version: tuple[int, ...]) -> _Occupied | None:
    """Return what the mailbox of a file has. Kept: each of dozens is compared with all the others."""
    try:
        return _occupied(load_settings(file, {}))
    except (ConfigError, OSError):
        return None
