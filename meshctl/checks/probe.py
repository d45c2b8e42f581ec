"""Trying out a folder of our own: whether a file can be made, renamed and removed there.

The probe has a hidden name that the daemon passes over, is empty, and never stays. Folders of the MESH Client
are never probed.
"""

import contextlib
import os
from pathlib import Path

# The beginning that the daemon clears away in `rejected/`, and passes over elsewhere.
_NAME = ".meshctl-probe"


def try_out(folder: Path) -> float:
    """Make, rename and remove a file; return when the file system says it was made, seconds since 1970.

    Raises OSError where one of these is refused.
    """
    first = folder / f"{_NAME}-{os.getpid()}"
    second = folder / f"{_NAME}-{os.getpid()}-renamed"
    try:
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            made_at = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
        first.rename(second)
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                path.unlink()
    return made_at
