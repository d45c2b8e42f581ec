"""The yardstick: one message after the other, only the durable steps, no reading, no ledger, no log."""

import os
import time
from pathlib import Path

_CONTROL_FILE = b"x" * 900


def messages_per_second(root: Path) -> float:
    """Hand over all that lies in `root/outbox`; return how many a second."""
    outbox, out = root / "outbox", root / "OUT"
    out.mkdir()
    names = sorted(os.listdir(outbox))
    folder = os.open(out, os.O_RDONLY)
    started = time.perf_counter()
    for number, name in enumerate(names):
        _sync(f"{outbox}/{name}")
        os.rename(f"{outbox}/{name}", f"{out}/{number}.dat")
        with open(f"{out}/{number}.tmp", "wb") as temporary:
            temporary.write(_CONTROL_FILE)
            temporary.flush()
            os.fsync(temporary.fileno())
        os.rename(f"{out}/{number}.tmp", f"{out}/{number}.ctl")
        os.fsync(folder)
    elapsed = time.perf_counter() - started
    os.close(folder)
    return len(names) / elapsed


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
