"""The locks: one daemon a state folder, and one server a mailbox.

Whoever comes second learns who holds the lock. The second lock keeps a bridge and a simulator from doing the
MESH Client's job on the same folders at once. A MESH Client does not know it; `meshctl check` reports a
client beside a bridge.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from meshctl.clock import iso, now
from meshctl.errors import MeshctlError
from meshctl.files.client_folders import SERVER_LOCK_NAME, SERVER_NAME
from meshctl.files.durable import replace_file
from meshctl.platform import host
from meshctl.settings.model import MailboxSettings

LOCK_NAME, _HOLDER_NAME = "lock", "holder"
_NOTE_MODE = 0o644
_HOLDER = re.compile(r"process (?P<process>[1-9]\d*) on (?P<host>\S+) ")


class AlreadyRunningError(MeshctlError):
    """Another daemon works on this state folder."""


class InstanceLock:
    """The lock of a state folder, and a file beside it that says who holds it."""

    def __init__(self, state_folder: Path) -> None:
        self._folder = state_folder
        self._path = state_folder / LOCK_NAME
        self._started_at = now()
        self._lock = FileLock(self._path, timeout=0, mode=0o600)
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def hold(self) -> None:
        """Take the lock; take it again if its file was removed or replaced. Does not wait.

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
        _write_holder(
            self._folder / _HOLDER_NAME,
            f"process {os.getpid()} on {socket.gethostname()} since {iso(self._started_at)}",
        )

    def is_held(self) -> bool:
        """True if we hold the lock, and its file is still the one that another daemon would try to lock."""
        if not self._lock.is_locked:
            return False
        try:
            return self._identity == _identity(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # A file that we may not look at, for want of rights say, is not gone.
            return True

    def release(self) -> None:
        """Release the lock. A lock file that was replaced belongs to somebody else already."""
        if self.is_held():
            with suppress(OSError):
                (self._folder / _HOLDER_NAME).unlink()
        self._lock.release(force=True)


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def holder_of(state_folder: Path) -> str:
    """Return who holds the lock of a state folder, by what the holder wrote beside it."""
    return _read_holder(state_folder / _HOLDER_NAME) or "unknown process"


def holder_process(state_folder: Path) -> int | None:
    """Return the id of the process that `holder_of` names; None if there is none on this machine."""
    match = _HOLDER.match(holder_of(state_folder))
    return int(match["process"]) if match is not None and match["host"] == socket.gethostname() else None


def _write_holder(path: Path, text: str) -> None:
    # For people only: a full disk must not keep anything from starting.
    with suppress(OSError):
        replace_file(path, f"{text}\n".encode(errors="replace"), _NOTE_MODE)


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def seems_running(state_folder: Path) -> bool:
    """True if the process that `holder_of` names is alive; on other machines it is assumed to be.

    Does not touch the lock, so it may be called repeatedly while a daemon may be starting.
    """
    match = _HOLDER.match(holder_of(state_folder))
    if match is None:
        return False
    if match["host"] != socket.gethostname():
        return True
    return host.is_alive(int(match["process"]))


def is_running(state_folder: Path) -> bool:
    """True if a daemon holds the lock, without disturbing it. Raises OSError if that cannot be seen."""
    return _is_locked(state_folder / LOCK_NAME)


def describe_daemon(state_folder: Path) -> str:
    """Return for a person whether a daemon works on a state folder; may be asked at any rate."""
    try:
        # The lock is tried only where its holder seems alive: a daemon that starts just now must get it.
        if seems_running(state_folder) and is_running(state_folder):
            return f"running, {holder_of(state_folder)}"
    except OSError as error:
        return f"unknown: the lock cannot be looked at ({os.strerror(error.errno or 0)})"
    return "not running"


def _is_locked(path: Path) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        # Any other error, in a folder that we may not enter for example, does not mean that nobody holds it.
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def ask_to_reload(state_folder: Path) -> None:
    """Ask the daemon of a state folder to read its settings again.

    Raises MeshctlError if none runs, or if it cannot be asked from here.
    """
    if not is_running(state_folder):
        raise MeshctlError(
            f"No daemon works on {state_folder}. It reads the settings when it starts: meshctl run."
        )
    try:
        asked = host.ask_to_reload(state_folder, state_folder / LOCK_NAME, holder_process(state_folder))
    except (PermissionError, ProcessLookupError):
        asked = False
    if not asked:
        raise MeshctlError(
            f"The daemon ({holder_of(state_folder)}) cannot be asked from here. Run meshctl reload on its"
            " computer, in its container, as its user or an administrator."
        )


@contextmanager
def serving(mailbox: MailboxSettings, who: str) -> Iterator[None]:
    """Lock a mailbox for `who` ("the bridge"), in its TEMP folder, which is made if it is missing.

    Raises MeshctlError at once if it is locked; OSError, also if the mailbox's folder does not exist.
    """
    folder = mailbox.temp_folder
    # Not its parents: a share that is away must not be made on the disk below.
    folder.mkdir(mode=0o750, exist_ok=True)
    holder = folder / SERVER_NAME
    lock = FileLock(folder / SERVER_LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MeshctlError(
            f"The mailbox {mailbox.folder} is served already: {_written_server(folder)}. End that one first."
        ) from None
    except OSError:
        if (folder / SERVER_LOCK_NAME).is_symlink():
            raise MeshctlError(
                f"{folder / SERVER_LOCK_NAME} is a link, and a lock is never taken through one. Remove it,"
                " and see who may write in that folder."
            ) from None
        raise
    try:
        _write_holder(holder, f"{who}, process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def server_of(mailbox: MailboxSettings) -> str | None:
    """Return who has locked a mailbox ("the bridge, process 17 on mesh1"), None if nobody has.

    Raises OSError if the lock may not be looked at.
    """
    folder = mailbox.temp_folder
    return _written_server(folder) if _is_locked(folder / SERVER_LOCK_NAME) else None


def _written_server(folder: Path) -> str:
    return _read_holder(folder / SERVER_NAME) or "unknown"
