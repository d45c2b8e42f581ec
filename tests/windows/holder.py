"""Opens files at random so that nobody else can, as virus scanners and indexers do.

    python -m tests.windows.holder STOP_FILE FOLDER ...

goes on until there is a file STOP_FILE, and prints how often it held one.
"""

import ctypes
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import wintypes
from pathlib import Path
from typing import Any

from tests.site import Site

_READ, _SHARE_NOTHING, _OPEN_EXISTING = 0x80000000, 0, 3
_LONGEST_SECONDS = 0.05


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Keep a file to oneself while the block lasts; False if it is gone or somebody else has it."""
    system: Any = ctypes
    kernel = system.WinDLL("kernel32")
    kernel.CreateFileW.restype = wintypes.HANDLE
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    handle = kernel.CreateFileW(str(path), _READ, _SHARE_NOTHING, None, _OPEN_EXISTING, 0, None)
    if handle == wintypes.HANDLE(-1).value:
        yield False
        return
    try:
        yield True
    finally:
        kernel.CloseHandle(handle)


@contextmanager
def held_open(site: Site) -> Iterator[list[int]]:
    """Hold files open in two processes while the block lasts; return how often, when it has ended."""
    stop = site.root / "stop"
    command = [sys.executable, "-m", "tests.windows.holder", str(stop)]
    folders = [str(folder) for folder in (site.outbox, site.work, site.out)]
    holders = [subprocess.Popen([*command, *folders], stdout=subprocess.PIPE) for _ in range(2)]
    times: list[int] = []
    try:
        yield times
    finally:
        stop.touch()
        times += [int(holder.communicate(timeout=240)[0]) for holder in holders]


def main(stop: Path, folders: list[Path]) -> None:
    """Hold files, each for a moment, until told to stop."""
    chance, count = random.Random(1), 0
    while not stop.exists():
        # A letter's folder may go meanwhile, which walk passes over.
        walks = (walk for folder in folders for walk in os.walk(folder))
        files = [Path(folder, name) for folder, inner, names in walks for name in (*inner, *names)]
        for path in chance.sample(files, min(20, len(files))):
            with held(path) as is_held:
                if is_held:
                    time.sleep(chance.uniform(0, _LONGEST_SECONDS))
                    count += 1
    print(count)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
