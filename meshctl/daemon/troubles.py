"""An error of the system or the ledger, told to a person: what is wrong, in which folder, what to do.

Nothing is told by the name of a file, which may differ from attempt to attempt and may be a patient's: the
folder that the settings name is what a person can mend.
"""

import errno
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshctl.errors import MeshctlError
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.database import LEDGER_NAME, primary_code

_MISSING: Final = "Mount or make the folder again."
_RIGHTS: Final = "Let the user that meshctl runs as read, write and enter the folder."
_ROOM: Final = "Free space there; df -h and df -i show what is left."
_READ_ONLY: Final = "Mount the file system for writing; the system's own log says why it is not."
_DISK: Final = "Look into the system's own log: disk, network or share fail."
_ADVICE: Final = {
    errno.ENOENT: _MISSING,
    errno.ENOTDIR: _MISSING,
    errno.ENOTCONN: _MISSING,
    errno.ESTALE: "Mount the share again.",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOSPC: _ROOM,
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
# Wherever these were met, they are about the process or the computer.
_NOWHERE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_LEDGER_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "Another program keeps the ledger locked: end it.",
    sqlite3.SQLITE_LOCKED: "Another program keeps the ledger locked: end it.",
    sqlite3.SQLITE_FULL: _ROOM,
    sqlite3.SQLITE_READONLY: "Let meshctl's user write there, on a file system that can be written to.",
    sqlite3.SQLITE_CANTOPEN: _RIGHTS,
    sqlite3.SQLITE_PERM: _RIGHTS,
    sqlite3.SQLITE_IOERR: _DISK,
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong and where, and what to do if that can be said."""

    text: str
    advice: str | None


def trouble_of(error: Exception, folders: Sequence[str]) -> Trouble:
    """Return what to tell of an error; `folders` are those that the settings name, the deepest first."""
    if isinstance(error, sqlite3.Error):
        state = next((f" in {folder}" for folder in folders if os.path.exists(f"{folder}/{LEDGER_NAME}")), "")
        # SQLite's own texts name tables, never values.
        text = f"The ledger{state} cannot be used: {error}"
        return Trouble(text, _LEDGER_ADVICE.get(primary_code(error)))
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno)
        place = "" if error.errno in _NOWHERE else _place(error, folders)
        return Trouble(f"{reason}: {place}" if place else reason, _ADVICE.get(error.errno))
    return (
        Trouble(str(error), None) if isinstance(error, MeshctlError) else Trouble(type(error).__name__, None)
    )


def _place(error: OSError, folders: Sequence[str]) -> str:
    """Return the folder where somebody has to do something."""
    names = [
        os.fsdecode(name) for name in (error.filename2, error.filename) if isinstance(name, (str, bytes))
    ]
    places = list(dict.fromkeys(_folder_of(name, folders) for name in names))
    if error.errno == errno.EXDEV:
        return " and ".join(map(_shown, reversed(places)))
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
        # Of a move from folder to folder, the one that refuses.
        places.sort(key=lambda place: os.access(place, os.R_OK | os.W_OK | os.X_OK))
    return _shown(places[0]) if places else ""


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
