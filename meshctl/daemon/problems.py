"""What an error means to a person: what is wrong, in which folder, and what to do.

Never with the name of a file: the folder of the settings is what a person can see to.
"""

import errno
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshctl.errors import MeshctlError
from meshctl.files.mounts import FREE_SPACE, away, has_no_room, nearest_existing
from meshctl.files.reading import is_general
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.database import LEDGER_NAME, primary_code
from meshctl.platform import host, system
from meshctl.platform.common import GroupRefusedError
from meshctl.platform.systemd import drop_in, own_unit
from meshctl.settings.folders import used_folders
from meshctl.settings.model import Settings

_MISSING: Final = "Mount or recreate the folder."
_RIGHTS: Final = "Let the user that meshctl runs as read, write and enter the folder."
_READ_ONLY: Final = "Mount the file system for writing; the system's own log says why it is not."
_DISK: Final = "Look in the system log: a disk, the network or a share is failing."
_ADVICE: Final = {
    errno.ENOENT: _MISSING,
    errno.ENOTDIR: _MISSING,
    errno.ENOTCONN: _MISSING,
    errno.EISDIR: "Move the folder away that has the name of the file.",
    errno.ESTALE: "Mount the share again.",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: "Free space there, or raise the quota of the user that meshctl runs as.",
    errno.EROFS: _READ_ONLY,
    errno.EIO: _DISK,
    errno.ETIMEDOUT: _DISK,
    errno.EHOSTDOWN: _DISK,
    errno.EMFILE: "Raise the limit of open files (LimitNOFILE in the unit, ulimit -n) and restart meshctl.",
    errno.ENFILE: "The whole system has too many files open; see fs.file-max.",
    errno.ENOMEM: "Free memory.",
    errno.EXDEV: "Put outbox and work folder on one mount of one file system; see meshctl check.",
}
# By ProtectHome in the unit.
_HOMES: Final = ("/home", "/root", "/run/user")
_LEDGER_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "Another program keeps the ledger locked: end it.",
    sqlite3.SQLITE_LOCKED: "Another program keeps the ledger locked: end it.",
    sqlite3.SQLITE_FULL: FREE_SPACE,
    sqlite3.SQLITE_READONLY: "Let meshctl's user write there, on a file system that can be written to.",
    sqlite3.SQLITE_CANTOPEN: _RIGHTS,
    sqlite3.SQLITE_PERM: _RIGHTS,
    sqlite3.SQLITE_IOERR: _DISK,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong and where, and what to do if that can be said.

    `code` tells one problem from another, where the text does not. `is_passing` if it mostly clears by itself
    (MESH is away). `asked_seconds` is how long a server asks to be left alone.
    """

    text: str
    advice: str | None = None
    code: str = ""
    is_passing: bool = False
    is_unforeseen: bool = False
    asked_seconds: float | None = None

    def __str__(self) -> str:
        """Return it for a person: what is wrong, then what to do."""
        return f"{self.text}. {self.advice or ''}".rstrip()


def unforeseen(error: Exception, advice: str | None = None, code: str = "") -> Problem:
    """Return what to say of an exception that is a fault of meshctl; its text may hold a patient."""
    text = f"an unforeseen error ({type(error).__name__})"
    return Problem(text, advice, code, is_unforeseen=True)


def problem_of(error: Exception, folders: Sequence[str]) -> Problem:
    """Return what an error means to the daemon; `folders` are those of the settings, the deepest first."""
    if isinstance(error, sqlite3.Error):
        state = next((f" in {folder}" for folder in folders if os.path.exists(f"{folder}/{LEDGER_NAME}")), "")
        # SQLite's own texts name tables, never values.
        text = f"The ledger{state} cannot be used: {error}"
        # SQLite says of a full disk that it fails, where it cannot make a file of its own.
        is_full = any(os.path.isdir(folder) and has_no_room(Path(folder)) for folder in folders)
        return Problem(text, FREE_SPACE if is_full else _LEDGER_ADVICE.get(primary_code(error)))
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno)
        places = [] if is_general(error) else _places(error, folders)
        if error.errno != errno.EXDEV:
            places = places[:1]
        place = " and ".join(map(_shown, places))
        return Problem(f"{reason}: {place}" if place else reason, _advice(error, places, folders))
    if isinstance(error, OSError):
        return Problem(type(error).__name__)
    if isinstance(error, MeshctlError):
        text, _, advice = str(error).partition(". ")
        return Problem(text.rstrip("."), advice or None)
    return unforeseen(error)


def _advice(error: OSError, places: Sequence[str], folders: Sequence[str]) -> str | None:
    """Return what to do about an error in these places, by what is in the way there."""
    unit, place = own_unit(os.environ), places[0] if places else ""
    advice = None
    if isinstance(error, GroupRefusedError):
        advice = _group_advice(host.group_name(error.group_id), place, unit)
    elif error.errno == errno.EXDEV and _are_two_mounts(places):
        advice = _one_mount_advice(places, unit)
    elif error.errno == errno.EROFS and _is_closed(place):
        advice = _closed_advice(place, folders, unit)
    elif error.errno == errno.ENOENT and (gone := away(Path(place))) is not None:
        advice = gone[1]
    elif unit is not None and error.errno in (errno.ENOENT, errno.EACCES):
        home = next((each for each in _HOMES if f"{place}/".startswith(f"{each}/")), None)
        advice = home and f"The unit hides {home} (ProtectHome=yes). {drop_in(unit, 'ProtectHome=no')}"
    return advice or _ADVICE.get(error.errno or 0)


def _closed_advice(place: str, folders: Sequence[str], unit: str | None) -> str:
    if unit is None:
        return "It is mounted read-only here, as a container does it: mount it for writing."
    folder = next((each for each in reversed(folders) if f"{place}/".startswith(f"{each}/")), place)
    return f"{unit} may write only where its unit lets it. {drop_in(unit, _writable(folder))}"


def _group_advice(group: str, out: str, unit: str | None) -> str:
    filtered = "" if unit is None else f" {unit} may change no file's group."
    return (
        f"Files get the group {group} of themselves where the folder has it:{filtered} As root: chgrp {group}"
        f" {_shown(out)} && chmod g+s {_shown(out)}"
    )


def _one_mount_advice(places: Sequence[str], unit: str | None) -> str:
    apart = "They are on one file system, but on two mounts of it"
    # Only systemd makes mounts of folders; on Windows two shares have nothing in common.
    if unit is None or (common := os.path.commonpath(places)) == os.sep:
        return (
            f"{apart}: have both under one mount, or on one share, or set [staging] work to a folder beside"
            " the outbox."
        )
    return (
        f"{apart}, since each ReadWritePaths of {unit} is a mount of its own: name one folder above both."
        f" {drop_in(unit, _writable(common))}"
    )


def _writable(folder: str) -> str:
    shown = _shown(folder)
    return f'ReadWritePaths="{shown}"' if " " in shown else f"ReadWritePaths={shown}"


def _is_closed(place: str) -> bool:
    try:
        mount = system.mount_of(Path(place))
    except OSError:
        return False
    return mount is not None and mount.is_closed


def _are_two_mounts(places: Sequence[str]) -> bool:
    """True if places are on one file system and on different mounts of it."""
    try:
        folders = [nearest_existing(Path(place)) for place in places]
        devices = {folder.stat().st_dev for folder in folders}
        mounts = {system.mount_of(folder) for folder in folders}
    except OSError:
        return False
    return len(devices) == 1 < len(mounts)


def _places(error: OSError, folders: Sequence[str]) -> list[str]:
    """Return the folders that an error is about; where somebody has to do something comes first."""
    names = [
        os.fsdecode(name) for name in (error.filename2, error.filename) if isinstance(name, (str, bytes))
    ]
    places = list(dict.fromkeys(_folder_of(name, folders) for name in names))
    if error.errno == errno.EXDEV:
        return places[::-1]
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
        # Of a move from folder to folder, the one that is not accessible.
        places.sort(key=lambda place: os.access(place, os.R_OK | os.W_OK | os.X_OK))
    return places


def _folder_of(path: str, folders: Sequence[str]) -> str:
    """Return the folder that a path lies in, not deeper than one below a folder of the settings."""
    if path in folders:
        return path
    place = path if os.path.isdir(path) else os.path.dirname(path)
    for folder in folders:
        if place.startswith(folder + os.sep):
            return os.path.join(folder, place[len(folder) + 1 :].split(os.sep)[0])
    return place


def _shown(folder: str) -> str:
    return os.sep.join(map(mask_file_name, folder.split(os.sep)))


def folders_of(settings: Settings) -> list[str]:
    """Return every folder that the settings name, the deepest first."""
    folders = {settings.mailbox.folder, *(used.path for used in used_folders(settings))}
    return sorted(map(str, folders), key=len, reverse=True)
