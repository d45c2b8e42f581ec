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

from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, read_control_file
from meshctl.platform import system
from meshctl.platform.common import BeingWrittenError

NOT_A_FILE_ADVICE: Final = "Move it away, and have whoever puts it there write an ordinary file."
NAME_ADVICE: Final = "Give it, and what goes with it, a short, plain name; it is then tried again by itself."
ROOM_ADVICE: Final = "Free space there, or make the file smaller; it is then tried again by itself."
_CHUNK_BYTES: Final = 1 << 20
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
    "Look in the system log: a disk, the network or a share is failing. It is tried again by itself."
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


def load_control(path: str | Path) -> ControlFile:
    """Return what a control file says. Raises ControlFileError, OSError as `open_regular` does."""
    return read_control_file(read_regular(path, CONTROL_FILE_MAX_BYTES + 1))


def is_same_content(one: str, other: str) -> bool:
    """True if both are regular files that can be read, with the same content."""
    try:
        with open_regular(one) as first, open_regular(other) as second:
            if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
                return False
            while (data := first.read(_CHUNK_BYTES)) == second.read(_CHUNK_BYTES):
                if not data:
                    return True
    except OSError:
        pass
    return False


def _not_regular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", str(path))


def is_there(path: str) -> bool:
    """True if anything has this name, be it a link that leads nowhere. Raises OSError if unknown."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def identity_of(path: str | Path) -> tuple[int, int]:
    """Return what distinguishes a file from a later one of the same name. Raises OSError."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def is_in_place(path: str | Path, identity: tuple[int, int] | None) -> bool:
    """True if a file is still the one with this identity, neither removed nor replaced by another."""
    try:
        return identity_of(path) == identity
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # A file that cannot be seen, for want of rights say, need not be gone.
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
    if error.errno == errno.EINVAL and getattr(error, "winerror", None) and error.strerror:
        # What Windows says of networks is a number of its own, which POSIX has no word for.
        return error.strerror.rstrip(".")
    return os.strerror(error.errno or 0)


def advice_on(error: OSError) -> str:
    """Return what to do about an error that one item meets."""
    return _ADVICE.get(error.errno or 0, _OTHERWISE)
