"""Reading a pair taken from OUT: its control file, and whether there is a payload that can be sent.

What is wrong with a pair for good is told as the MESH Client tells it (COLLECT 01, COLLECT 02); anything
else, such as a disk that fails, may be better next time and comes out as the OSError that it is.
"""

import errno
import os
from typing import Final

from meshctl.bridge.payload import open_regular
from meshctl.bridge.settling import Failure
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, ControlFileError, read_control_file

_CANNOT_BE_READ: Final = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO}
)
_NO_CONTROL: Final = ("COLLECT", "01")
_NO_DATA: Final = ("COLLECT", "02")


class UnfitPairError(Exception):
    """A pair that cannot be sent as it is."""

    def __init__(self, event_and_code: tuple[str, str], text: str) -> None:
        super().__init__(text)
        self.failure = Failure(*event_and_code, text)


def read_control(path: str) -> ControlFile:
    """Read the control file of a pair. Raises UnfitPairError, OSError."""
    try:
        with open_regular(path) as file:
            return read_control_file(file.read(CONTROL_FILE_MAX_BYTES + 1))
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
