"""One server a mailbox: a bridge and a stand-in never do the MESH Client's job on the same folders at once.

Whoever comes second is told who is there. A MESH Client knows nothing of this lock; `meshctl check` tells
when both are set up.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from meshctl.errors import MeshctlError
from meshctl.settings.mailbox import MailboxSettings

_LOCK, _HOLDER = "serving.lock", "serving"


@contextmanager
def serving(mailbox: MailboxSettings, who: str) -> Iterator[None]:
    """Hold a mailbox as `who` ("the bridge"), in its TEMP folder, which is made if it is missing.

    Raises MeshctlError, at once, if it is held; OSError, also if the mailbox's folder is not there.
    """
    folder = mailbox.temp_folder
    # Not its parents: a share that is away must not come into being on the disk below.
    folder.mkdir(mode=0o750, exist_ok=True)
    holder = folder / _HOLDER
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MeshctlError(
            f"The mailbox {mailbox.folder} is served already: {_holder(folder)}. End that one first."
        ) from None
    try:
        # Told for people alone: a full disk must not keep it from starting.
        with suppress(OSError):
            holder.write_text(f"{who}, process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def server_of(mailbox: MailboxSettings) -> str | None:
    """Return who holds a mailbox ("the bridge, process 17 on mesh1"), None if nobody does.

    Leaves the lock as it is. Raises OSError if it may not be looked at.
    """
    folder = mailbox.temp_folder
    if not os.path.exists(folder / _LOCK):
        return None
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return None
    except Timeout:
        return _holder(folder)


def _holder(folder: Path) -> str:
    try:
        return (folder / _HOLDER).read_text().strip() or "unknown"
    except OSError:
        return "unknown"
