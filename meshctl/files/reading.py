"""Reading what others put into a folder: opened safely, perhaps still being written, and what an error means.

No link is followed, and no FIFO's writer waited for.

Quiet is not complete: a writer that pauses longer than `quiet_seconds` would be taken for done. Linux tells
by a read lease whether a local program has a file open for writing (of another user's file only with
CAP_LEASE), Windows by an open that forbids writing. Elsewhere, on network shares and on file systems without
leases it is not known, and the quiet time alone decides.

An error at one file or folder concerns that item alone, and keeps no other waiting. Only what says nothing
about an item (too many open files, no memory) concerns the whole process.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from meshctl.platform import system
from meshctl.platform.common import BeingWrittenError

NOT_A_FILE_ADVICE: Final = "Move it away, and have whoever puts it there write an ordinary file."
NAME_ADVICE: Final = "Give it, and what goes with it, a short, plain name; it is then tried again by itself."
ROOM_ADVICE: Final = "Free space there, or make the file smaller; it is then tried again by itself."
_GENERAL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_RIGHTS: Final = (
    "Let the user that meshctl runs as read it, and move it out of its folder; it is then tried again by"
    " itself."
)
_ADVICE: Final = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "Mount the file system for writing; it is then tried again by itself.",
    errno.EXDEV: "Put it on the file system of the outbox and the work folder, under one mount of it.",
    errno.ENAMETOOLONG: NAME_ADVICE,
    errno.EINVAL: NAME_ADVICE,
    errno.EILSEQ: NAME_ADVICE,
    errno.ELOOP: NOT_A_FILE_ADVICE,
    errno.ENOSPC: ROOM_ADVICE,
    errno.EDQUOT: ROOM_ADVICE,
}
_OTHERWISE: Final = (
    "Look into the system's own log: disk, network or share fail. It is tried again by itself."
)


@contextmanager
def open_regular(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to read it. Raises OSError, also for anything that is no regular file, links included."""
    with open(path, "rb", opener=lambda name, _: system.open_file(name, system.READ)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _not_regular(path)
        yield file


def open_named(path: str | Path) -> BinaryIO:
    """Open a file that a person or the settings name, to read it; a link is followed, as they may mean it.

    Raises OSError, also for anything that is no regular file: no FIFO's writer is waited for.
    """
    try:
        descriptor = system.open_file(path, system.READ_NAMED)
    except OSError as error:
        # So Linux answers for a socket.
        if error.errno == errno.ENXIO:
            raise _not_regular(path) from None
        # Windows has words of its own for the same errors.
        code = error.errno or 0
        raise OSError(code, os.strerror(code), str(path)) from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise _not_regular(path)
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | Path, most_bytes: int) -> bytes:
    """Return at most the first `most_bytes` of a file. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read(most_bytes)


def _not_regular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", str(path))


def is_there(path: str) -> bool:
    """True if anything has this name, be it a link that leads nowhere. Raises OSError if unknown."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def is_being_written(path: str) -> bool | None:
    """Return whether somebody has a file open for writing; None if that is not known."""
    try:
        descriptor = system.open_file(path, system.READ)
    except OSError as error:
        return system.is_held_open(error) or None
    try:
        return False if system.check_nobody_writes(descriptor, path) else None
    except BeingWrittenError:
        return True
    finally:
        os.close(descriptor)


def is_general(error: OSError) -> bool:
    """True if the whole process suffers from this, and not one item."""
    return error.errno in _GENERAL


def reason_of(error: OSError) -> str:
    """Return what the system says is wrong, without the path."""
    return os.strerror(error.errno or 0)


def advice_on(error: OSError) -> str:
    """Return what to do about an error that one item meets."""
    return _ADVICE.get(error.errno or 0, _OTHERWISE)
