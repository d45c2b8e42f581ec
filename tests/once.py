"""What takes long to make and is only read afterwards is made once, however many workers run the tests."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled, in this process or in the first worker that asked for it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # What the workers have in common.
        base = base.parent
    folder, is_made = base / name, base / f"{name}.made"
    with FileLock(base / f"{name}.lock"):
        if not is_made.exists():
            # Somebody may have failed half-way.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            is_made.touch()
    return folder
