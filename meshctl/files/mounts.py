"""Whether files can be renamed from one folder to another.

Two mounts of one file system count as two: a rename between them fails. So it is for a unit of systemd, where
each ReadWritePaths is a mount of its own.
"""

import os
from pathlib import Path

from meshctl.platform import system


def on_one_mount(one: Path, other: Path) -> bool:
    """True if a file can be renamed from one folder to the other; a missing one counts as created."""
    return _mount(one) == _mount(other)


def nearest_existing(path: Path) -> Path:
    """Return a folder, or if it is missing the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if os.path.isdir(folder))


def _mount(path: Path) -> tuple[int, object]:
    folder = nearest_existing(path)
    return folder.stat().st_dev, system.mount_of(folder)
