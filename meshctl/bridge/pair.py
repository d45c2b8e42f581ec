"""Read a pair on its way out: its control file, and its payload a block at a time.

What is wrong with a pair for good is told as the MESH Client tells it (COLLECT 01, COLLECT 02); anything
else, such as a disk that fails, may be better next time and comes out as the OSError that it is. The
payload's stream knows whether all of it was handed over: a request that broke off before that was never
whole, so MESH cannot have taken it; one that broke off after it may have arrived.

The queue says whose turn it is: pairs under way first, then those in OUT, oldest first. A pair whose call
failed lets others pass until one of them got through, so that one message that MESH cannot take does not hold
up all. While MESH takes none, most stay in OUT.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, Final

from meshctl.bridge.answers import StoppedError
from meshctl.files.client_folders import ClientFolders, TakenPair
from meshctl.files.durable import naming
from meshctl.files.safe_open import open_regular, read_regular
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, ControlFileError, read_control_file

_CANNOT_BE_READ: Final = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO}
)
_NO_CONTROL: Final = ("COLLECT", "01")
_NO_DATA: Final = ("COLLECT", "02")


@dataclass(frozen=True, slots=True)
class SendFailure:
    """Why a message was not sent, as in a status record.

    `logged` is what the log says in place of the text, where that is in MESH's own words.
    """

    event: str
    code: str
    text: str
    logged: str = ""


class UnfitPairError(Exception):
    """A pair that cannot be sent as it is."""

    def __init__(self, event_and_code: tuple[str, str], text: str) -> None:
        super().__init__(text)
        self.failure = SendFailure(*event_and_code, text)


def read_control(path: str) -> ControlFile:
    """Read the control file of a pair. Raises UnfitPairError, OSError."""
    try:
        return read_control_file(read_regular(path, CONTROL_FILE_MAX_BYTES + 1))
    except ControlFileError as error:
        raise UnfitPairError(_NO_CONTROL, f"Control file is unreadable: {error}") from None
    except OSError as error:
        raise _told(error, _NO_CONTROL, "Control file is missing or inaccessible") from None


def payload_size_bytes(path: str) -> int:
    """Return how large the payload of a pair is. Raises UnfitPairError, OSError."""
    try:
        with open_regular(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _told(error, _NO_DATA, "Data file is missing or inaccessible") from None
    if size_bytes == 0:
        # MESH says so itself of an empty body; one that was compressed would not look empty.
        raise UnfitPairError(_NO_DATA, "Data file is empty.")
    return size_bytes


def _told(error: OSError, event_and_code: tuple[str, str], text: str) -> Exception:
    if error.errno not in _CANNOT_BE_READ:
        return error
    return UnfitPairError(event_and_code, f"{text} ({errno.errorcode[error.errno]}).")


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


_MOST_SET_BACK: Final = 8


class SendQueue:
    """The pairs of one mailbox; one in OUT has its turn when its control file is `pick_up_seconds` old."""

    def __init__(self, folders: ClientFolders, pick_up_seconds: float) -> None:
        self._folders = folders
        self._pick_up_seconds = pick_up_seconds
        self._under_way: deque[TakenPair] = deque()
        self._set_back: deque[TakenPair] = deque()
        self._resting: list[tuple[float, TakenPair]] = []
        self._in_out: deque[str] = deque()

    def restart(self, under_way: Iterable[TakenPair]) -> None:
        """Begin anew with the pairs that were taken from OUT before; those that were set back stay so."""
        set_back = {pair.stem for pair in self._set_back}
        pairs = list(under_way)
        self._under_way = deque(pair for pair in pairs if pair.stem not in set_back)
        self._set_back = deque(pair for pair in pairs if pair.stem in set_back)
        self._resting.clear()
        self._in_out.clear()

    def next(self) -> TakenPair | None:
        """Return the pair whose turn it is, taken from OUT if need be; None when there is none now.

        It stays its turn until something else is said of it. Raises OSError.
        """
        now = time.monotonic()
        rested = [pair for until, pair in self._resting if until <= now]
        if rested:
            self._resting = [one for one in self._resting if one[0] > now]
            self._under_way.extend(rested)
        if not self._under_way and len(self._set_back) < _MOST_SET_BACK:
            self._take()
        if not self._under_way and self._set_back:
            self._under_way.append(self._set_back.popleft())
        return self._under_way[0] if self._under_way else None

    def set_back(self, pair: TakenPair) -> None:
        """Let others pass a pair, if it still is its turn."""
        if self._under_way and self._under_way[0] is pair:
            self._set_back.append(self._under_way.popleft())

    def rest(self, seconds: float) -> None:
        """Give the pair whose turn it is no turn for so long."""
        self._resting.append((time.monotonic() + seconds, self._under_way.popleft()))

    def over(self) -> None:
        """Be done with the pair whose turn it is."""
        self._under_way.popleft()
        self._under_way.extend(self._set_back)
        self._set_back.clear()

    def _take(self) -> None:
        if not self._in_out:
            self._in_out = deque(self._folders.waiting(self._pick_up_seconds))
        while self._in_out:
            pair = self._folders.take(self._in_out.popleft())
            if pair is not None:
                self._under_way.append(pair)
                return
