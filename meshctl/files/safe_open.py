"""Opening what others put into a folder, without following a link or waiting for a FIFO's writer."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

OPEN_SAFELY = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


@contextmanager
def open_regular(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to read it. Raises OSError; so does anything that is no file, links included."""
    with open(path, "rb", opener=lambda name, _: os.open(name, OPEN_SAFELY)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def read_regular(path: str | Path, most_bytes: int) -> bytes:
    """Return the first bytes of a file, so many at most. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read(most_bytes)
