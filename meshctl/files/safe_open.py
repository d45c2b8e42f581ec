"""Opening what others put into a folder, safely, and asking whether they still write to it.

No link is followed, and no FIFO's writer waited for.

Quiet is not complete: a writer that pauses longer than `quiet_seconds` would be taken for done. On Linux a
read lease on a file is granted only while nobody has it open for writing, so asking for one and giving it
back at once answers the question for local writers. For another user's files it is granted only to who has
CAP_LEASE. On Windows an open that forbids writing fails while somebody writes. Elsewhere, on network shares
and on file systems without leases there is no answer, and the quiet time alone decides.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from meshctl.files import change, mounts

OPEN_SAFELY = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class BeingWrittenError(OSError):
    """Somebody has the file open for writing."""


@contextmanager
def open_regular(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to read it. Raises OSError; so does anything that is no file, links included."""
    with open(path, "rb", opener=lambda name, _: change.open_file(name, OPEN_SAFELY)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def is_there(path: str) -> bool:
    """True if there is anything of this name, be it a link that leads nowhere. Raises OSError if unknown."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def read_regular(path: str | Path, most_bytes: int) -> bytes:
    """Return the first bytes of a file, so many at most. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read(most_bytes)


if sys.platform == "linux":
    import fcntl
    import signal

    def ignore_lease_breaks() -> None:
        """Keep a writer that opens a file in the instant of our question from ending the process."""
        signal.signal(signal.SIGIO, signal.SIG_IGN)

    def check_nobody_writes(descriptor: int, path: str) -> None:
        """Raise BeingWrittenError if somebody is known to have an open file open for writing."""
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            if mounts.is_on_network(os.fstat(descriptor)):
                # NFS and SMB say the same when the server gave us no delegation or oplock, for good maybe.
                return
            raise BeingWrittenError(errno.EAGAIN, "being written", path) from None
        except OSError:
            # No answer: another user's file without CAP_LEASE, or a file system without leases.
            return
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)

elif sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _ask = ctypes.WinDLL("kernel32").GetFileInformationByHandleEx
    _ask.argtypes = (wintypes.HANDLE, ctypes.c_int, wintypes.LPVOID, wintypes.DWORD)
    _READ_ATTRIBUTES = 0x80
    _FOLDERS_TOO_LINKS_THEMSELVES = 0x02000000 | 0x00200000
    _BASIC_INFO = 0
    # Windows counts in 100 ns, from 1601.
    _UNIX_EPOCH = 116_444_736_000_000_000

    class _BasicInfo(ctypes.Structure):
        _fields_ = (("times", ctypes.c_longlong * 4), ("attributes", wintypes.DWORD))

    def ignore_lease_breaks() -> None:
        """Do nothing: there are no leases here."""

    def check_nobody_writes(descriptor: int, path: str) -> None:
        """Raise BeingWrittenError if somebody has a file open for writing, here or through a share."""
        del descriptor
        shared = change.SHARE_READ | change.SHARE_DELETE
        try:
            handle = change.open_handle(path, change.GENERIC_READ, shared, change.OPEN_EXISTING, 0)
        except OSError as error:
            if change.is_held_open(error):
                raise BeingWrittenError(errno.EAGAIN, "being written", path) from None
            return
        change.close_handle(handle)

    def lying_since_ns(path: str, status: os.stat_result) -> int:
        """Return when a file came to lie where it is: a rename sets that time, and nobody can fake it.

        What `status` has as its change time is when the file was made, and stays over a rename.
        """
        try:
            handle = change.open_handle(
                path,
                _READ_ATTRIBUTES,
                change.SHARE_ALL,
                change.OPEN_EXISTING,
                _FOLDERS_TOO_LINKS_THEMSELVES,
            )
        except OSError:
            return status.st_ctime_ns
        info = _BasicInfo()
        is_known = _ask(handle, _BASIC_INFO, ctypes.byref(info), ctypes.sizeof(info))
        change.close_handle(handle)
        changed: int = info.times[3]
        return (changed - _UNIX_EPOCH) * 100 if is_known and changed else status.st_ctime_ns

else:

    def ignore_lease_breaks() -> None:
        """Do nothing: there are no leases here."""

    def check_nobody_writes(descriptor: int, path: str) -> None:
        """Do nothing: who else has a file open cannot be told here."""
        del descriptor, path


def is_being_written(path: str) -> bool:
    """True if somebody is known to have a file open for writing."""
    try:
        descriptor = change.open_file(path, OPEN_SAFELY)
    except OSError as error:
        return change.is_held_open(error)
    try:
        check_nobody_writes(descriptor, path)
    except BeingWrittenError:
        return True
    finally:
        os.close(descriptor)
    return False


if sys.platform != "win32":

    def lying_since_ns(path: str, status: os.stat_result) -> int:
        """Return when a file came to lie where it is: a rename sets that time, and nobody can fake it."""
        del path
        return status.st_ctime_ns
