"""Permissions of files, where the system has them."""

import stat
import sys
from pathlib import Path


def has_mode(path: Path, mode: int) -> bool:
    """True if a file or folder has exactly these mode bits; always on Windows, which has none."""
    return sys.platform == "win32" or stat.S_IMODE(path.stat().st_mode) == mode
