"""One daemon a state folder. Whoever comes second is told who is there."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from meshctl.errors import MeshctlError

_HOLDER = re.compile(r"process (?P<process>[1-9]\d*) on (?P<host>\S+) ")


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
        # The lock counts; a note that cannot be removed any more must not keep it.
        with suppress(OSError):
            holder.unlink()
        lock.release()


def holder_of(state_folder: Path) -> str:
    """Return who holds the lock, as they wrote it down."""
    try:
        return (state_folder / "holder").read_text().strip() or "unknown process"
    except OSError:
        return "unknown process"


def seems_running(state_folder: Path) -> bool:
    """Tell whether the process that wrote itself down lives; another machine's is believed to.

    Does not touch the lock, so it can be asked again and again while a daemon may be starting.
    """
    match = _HOLDER.match(holder_of(state_folder))
    if match is None:
        return False
    if match["host"] != socket.gethostname() or os.name == "nt":
        return True
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
