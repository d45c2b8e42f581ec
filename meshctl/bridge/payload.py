"""The payload of a pair on its way out: read a block at a time, so that its size costs no memory.

Its stream knows whether all of it was handed over. A request that broke off before that was never whole, so
MESH cannot have taken it; one that broke off after it may have arrived.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from meshctl.bridge.faults import StoppedError
from meshctl.durable import naming
from meshctl.safe_open import OPEN_SAFELY


@contextmanager
def open_regular(path: str) -> Iterator[BinaryIO]:
    """Open a file to read it. Raises OSError; so does anything that is no file, links included."""
    with open(path, "rb", opener=lambda name, _: os.open(name, OPEN_SAFELY)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        yield file


class ChunkStream:
    """The bytes of one chunk, as `MeshClient.send_chunk` wants them: a `read` and a length.

    `should_stop` is asked between blocks. `error` is what reading the file failed with, for whoever calls a
    library that would take it for a fault of the network.
    """

    def __init__(self, file: BinaryIO, offset: int, size_bytes: int, should_stop: Callable[[], bool]) -> None:
        file.seek(offset)
        self._file = file
        self._left = size_bytes
        self._should_stop = should_stop
        self.error: OSError | None = None

    def __len__(self) -> int:
        return self._left

    @property
    def is_handed_over(self) -> bool:
        """Whether every byte was handed over to be sent."""
        return self._left == 0

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, none at the end. Raises StoppedError; OSError if the file is too short."""
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        if wanted == 0:
            return b""
        if self._should_stop():
            raise StoppedError
        try:
            return self._read(wanted)
        except OSError as error:
            self.error = error
            raise

    def _read(self, wanted: int) -> bytes:
        with naming(self._file.name):
            data = self._file.read(wanted)
        if not data:
            # Ending here would make a whole message of a part.
            raise OSError(errno.EIO, "the payload became shorter", self._file.name)
        self._left -= len(data)
        return data
