"""The locks: one daemon a state folder, and one server a mailbox.

Whoever comes second is told who is there. The second lock keeps a bridge and a simulator from doing the
MESH Client's job on the same folders at once. A MESH Client knows nothing of it; `meshctl check` tells when
both are set up.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from meshctl.clock import iso
from meshctl.errors import MeshctlError
from meshctl.files.durable import replace_file
from meshctl.platform import host
from meshctl.settings.model import MailboxSettings

_LOCK_NAME, _HOLDER_NAME = "lock", "holder"
_NOTE_MODE = 0o644
_HOLDER = re.compile(r"process (?P<process>[1-9]\d*) on (?P<host>\S+) ")


class AlreadyRunningError(MeshctlError):
    """Another daemon works on this state folder."""


class InstanceLock:
    """The lock of a state folder, and beside it who holds it."""

    def __init__(self, state_folder: Path, started_at: datetime) -> None:
        self._folder = state_folder
        self._path = state_folder / _LOCK_NAME
        self._started_at = started_at
        self._lock = FileLock(self._path, timeout=0, mode=0o600)
        self._identity: tuple[int, int] | None = None

    def hold(self) -> None:
        """Take the lock, at once, also when its file was removed or replaced since.

        Raises AlreadyRunningError, OSError.
        """
        if self.is_held():
            return
        self._lock.release(force=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise AlreadyRunningError(
                f"Another meshctl already works on {self._folder}: {holder_of(self._folder)}. "
                "Stop it first, or give this mailbox a state folder of its own."
            ) from None
        self._identity = _identity(self._path)
        _write_down(
            self._folder / _HOLDER_NAME,
            f"process {os.getpid()} on {socket.gethostname()} since {iso(self._started_at)}",
        )

    def is_held(self) -> bool:
        """True if the lock is ours, and its file still is what another daemon would try to lock."""
        if not self._lock.is_locked:
            return False
        try:
            return self._identity == _identity(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # Somebody has withdrawn our rights, say: what cannot be looked at has not been taken from us.
            return True

    def release(self) -> None:
        """Let others have the folder. What was removed under us is theirs already."""
        if self.is_held():
            with suppress(OSError):
                (self._folder / _HOLDER_NAME).unlink()
        self._lock.release(force=True)


@contextmanager
def single_instance(state_folder: Path, started_at: datetime) -> Iterator[InstanceLock]:
    """Hold the lock of a state folder. Raises AlreadyRunningError, at once."""
    lock = InstanceLock(state_folder, started_at)
    lock.hold()
    try:
        yield lock
    finally:
        lock.release()


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def holder_of(state_folder: Path) -> str:
    """Return who holds the lock, as they wrote it down."""
    return _written_down(state_folder / _HOLDER_NAME) or "unknown process"


def holder_process(state_folder: Path) -> int | None:
    """Return the process that wrote itself down; None if nobody did, or somebody on another machine."""
    match = _HOLDER.match(holder_of(state_folder))
    return int(match["process"]) if match is not None and match["host"] == socket.gethostname() else None


def _write_down(path: Path, text: str) -> None:
    """Tell people: a full disk must not keep anything from starting."""
    with suppress(OSError):
        replace_file(path, f"{text}\n".encode(errors="replace"), _NOTE_MODE)


def _written_down(path: Path) -> str:
    """Return what was told to people, nothing if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def seems_running(state_folder: Path) -> bool:
    """True if the process that wrote itself down lives; another machine's is believed to.

    Does not touch the lock, so it can be asked again and again while a daemon may be starting.
    """
    match = _HOLDER.match(holder_of(state_folder))
    if match is None:
        return False
    if match["host"] != socket.gethostname():
        return True
    return host.is_alive(int(match["process"]))


def is_running(state_folder: Path) -> bool:
    """True if a daemon holds the lock, without disturbing it."""
    path = state_folder / _LOCK_NAME
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        with lock:
            return False
    except Timeout:
        return True


def ask_to_reload(state_folder: Path) -> None:
    """Ask the daemon of a state folder to read its settings again.

    Raises MeshctlError if there is none, or it cannot be reached from here.
    """
    if not is_running(state_folder):
        raise MeshctlError(
            f"No daemon works on {state_folder}. It reads the settings when it starts: meshctl run."
        )
    try:
        asked = host.ask_to_reload(state_folder, state_folder / _LOCK_NAME, holder_process(state_folder))
    except (PermissionError, ProcessLookupError):
        asked = False
    if not asked:
        raise MeshctlError(
            f"The daemon ({holder_of(state_folder)}) cannot be asked from here. Run meshctl reload on its"
            " computer, in its container, as its user or an administrator."
        )


_SERVER_LOCK, _SERVER = "serving.lock", "serving"


@contextmanager
def serving(mailbox: MailboxSettings, who: str) -> Iterator[None]:
    """Hold a mailbox as `who` ("the bridge"), in its TEMP folder, which is made if it is missing.

    Raises MeshctlError, at once, if it is held; OSError, also if the mailbox's folder is not there.
    """
    folder = mailbox.temp_folder
    # Not its parents: a share that is away must not come into being on the disk below.
    folder.mkdir(mode=0o750, exist_ok=True)
    holder = folder / _SERVER
    lock = FileLock(folder / _SERVER_LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MeshctlError(
            f"The mailbox {mailbox.folder} is served already: {_written_server(folder)}. End that one first."
        ) from None
    except OSError:
        if (folder / _SERVER_LOCK).is_symlink():
            raise MeshctlError(
                f"{folder / _SERVER_LOCK} is a link, and a lock is never taken through one. Remove it, and"
                " see who may write in that folder."
            ) from None
        raise
    try:
        _write_down(holder, f"{who}, process {os.getpid()} on {socket.gethostname()}")
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
    if not os.path.exists(folder / _SERVER_LOCK):
        return None
    try:
        with FileLock(folder / _SERVER_LOCK, timeout=0):
            return None
    except Timeout:
        return _written_server(folder)


def _written_server(folder: Path) -> str:
    return _written_down(folder / _SERVER) or "unknown"
