"""The file systems of folders: whether files can be renamed from one to another, and whether there is room.

Two mounts of one file system count as two: a rename between them fails. So it is for a unit of systemd, where
each ReadWritePaths is a mount of its own; and on Windows for two shares of one server, which look like one
disk.
"""

import errno
import os
from pathlib import Path
from typing import Final

from meshctl.files.reading import is_there
from meshctl.platform import shell, system

FREE_SPACE: Final = f"Free space there; {shell.SEE_ROOM}."
"""What to do about a file system without room."""

_SMALL_FILE_BYTES: Final = 4096

NO_LETTER: Final = (
    "Drive letters belong to a logon session, and a service has none of yours: name the share in the"
    r" settings, \\server\share\folder."
)
"""What to do about a drive letter that somebody has mapped, on Windows."""
_NO_DRIVE: Final = (
    "If it is a disk of this server, see why it is away (diskmgmt.msc: offline, locked, another letter). If"
    r" it is mapped to a share, a service does not have that letter: name the share, \\server\share\folder."
)
_SHARE_ADVICE: Final = (
    "Correct the name of the share, and see whether the daemon's account can reach its server."
)


def on_one_mount(one: Path, other: Path) -> bool:
    """True if a file can be renamed from one folder to the other; a missing one counts as created.

    Raises OSError.
    """
    return _mount(one) == _mount(other)


def has_no_room(folder: Path) -> bool:
    """True if the file system of a folder has no room for one more small file. Raises OSError."""
    room, inodes = system.free_bytes(str(folder)), system.free_inodes(folder)
    return inodes == 0 or (room is not None and room < _SMALL_FILE_BYTES)


def nearest_existing(path: Path) -> Path:
    """Return a folder, or if it is missing the nearest one above it that exists.

    Raises FileNotFoundError if not even its drive or share is there.
    """
    for folder in (path, *path.parents):
        if os.path.isdir(folder):
            return folder
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path.anchor)


def away(path: Path) -> tuple[str, str] | None:
    """Return which drive or share a path is on that is not there, and what to do; on POSIX there is none."""
    try:
        if not path.anchor or is_there(path.anchor):
            return None
    except OSError:
        # It may be closed to us, and what is in it not.
        return None
    name = path.anchor.rstrip(os.sep)
    if name.startswith("\\\\"):
        return f"the share {name}", _SHARE_ADVICE
    return f"the drive {name}", _NO_DRIVE


def _mount(path: Path) -> tuple[int, object]:
    folder = nearest_existing(path)
    return folder.stat().st_dev, system.mount_of(folder)
