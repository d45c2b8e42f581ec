"""One daemon a state folder. Whoever comes second is told who is there."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from meshctl.errors import MeshctlError


class AlreadyRunningError(MeshctlError):
    """Another daemon works on this state folder."""


@contextmanager
def single_instance(state_folder: Path, started_at: str) -> Iterator[None]:
    """Hold the lock of a state folder. Raises AlreadyRunningError, at once."""
    lock = FileLock(state_folder / "lock", timeout=0, mode=0o600)
    holder = state_folder / "holder"
    try:
        lock.acquire()
    except Timeout:
        raise AlreadyRunningError(
            f"Another meshctl already works on {state_folder}: {holder_of(state_folder)}. "
            "Stop it first, or give this mailbox a state folder of its own."
        ) from None
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {started_at}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_of(state_folder: Path) -> str:
    """Return who holds the lock, as they wrote it down."""
    try:
        return (state_folder / "holder").read_text().strip() or "unknown process"
    except OSError:
        return "unknown process"


def is_running(state_folder: Path) -> bool:
    """Tell whether a daemon holds the lock, without disturbing it."""
    path = state_folder / "lock"
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        with lock:
            return False
    except Timeout:
        return True
