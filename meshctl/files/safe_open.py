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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from meshctl.platform import system
from meshctl.platform.common import BeingWrittenError


@contextmanager
def open_regular(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to read it. Raises OSError; so does anything that is no file, links included."""
    with open(path, "rb", opener=lambda name, _: system.open_file(name, system.READ)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def read_regular(path: str | Path, most_bytes: int) -> bytes:
    """Return the first bytes of a file, so many at most. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read(most_bytes)


def is_there(path: str) -> bool:
    """True if there is anything of this name, be it a link that leads nowhere. Raises OSError if unknown."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def is_being_written(path: str) -> bool:
    """True if somebody is known to have a file open for writing."""
    try:
        descriptor = system.open_file(path, system.READ)
    except OSError as error:
        return system.is_held_open(error)
    try:
        system.check_nobody_writes(descriptor, path)
    except BeingWrittenError:
        return True
    finally:
        os.close(descriptor)
    return False
