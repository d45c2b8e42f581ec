"""The lock of a state folder: one daemon holds it. Whoever comes second learns who that is."""

import os
import re
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from meshctl.clock import iso, now
from meshctl.errors import MeshctlError
from meshctl.files.durable import replace_file
from meshctl.files.reading import identity_of, is_in_place, read_regular
from meshctl.platform import host

LOCK_NAME, _HOLDER_NAME = "lock", "holder"
_NOTE_MODE = 0o644
_SIGN_EVERY_SECONDS = 10.0
# What may take so long is foreseen by the watchdog of the unit, too.
_LONGEST_STEP_SECONDS = 300.0
_MOST_NOTE_BYTES = 1_000
_HOLDER = re.compile(r"process (?P<process>[1-9]\d*) on (?P<host>\S+) ")


class AlreadyRunningError(MeshctlError):
    """Another daemon works on this state folder, or on this mailbox."""


class HeldFile:
    """A lock file; it is held until it is released, or until the file is removed or replaced."""

    def __init__(self, path: Path, mode: int) -> None:
        self._path = path
        self._lock = FileLock(path, timeout=0, mode=mode)
        self._identity: tuple[int, int] | None = None

    def take(self) -> None:
        """Lock the file, making it if it is missing. Does not wait. Raises filelock.Timeout, OSError."""
        self._lock.release(force=True)
        self._lock.acquire()
        self._identity = identity_of(self._path)

    def is_held(self) -> bool:
        """True if we hold the lock, and its file is still the one that another process would try to lock."""
        return self._lock.is_locked and is_in_place(self._path, self._identity)

    def release(self) -> None:
        """Let the lock go, if we have it."""
        self._lock.release(force=True)


class InstanceLock:
    """The lock of a state folder, and a file beside it that says who holds it."""

    def __init__(self, state_folder: Path) -> None:
        self._folder = state_folder
        self._started_at = now()
        self._lock = HeldFile(state_folder / LOCK_NAME, 0o600)
        self._is_noted = False
        self._next_sign_clock = time.monotonic() + _SIGN_EVERY_SECONDS

    def __enter__(self) -> Self:
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def hold(self) -> None:
        """Take the lock; take it again if its file was removed or replaced. Does not wait.

        Raises AlreadyRunningError, OSError.
        """
        if not self.is_held():
            try:
                self._lock.take()
            except Timeout:
                raise AlreadyRunningError(
                    f"Another meshctl already works on {self._folder}: {holder_of(self._folder)}. Stop it"
                    " first."
                ) from None
            self._is_noted = False
        self.note()

    def note(self) -> None:
        """Write who holds the lock, unless that is written: a full disk may have kept it from being."""
        if not self._is_noted:
            note = this_process(self._started_at)
            self._is_noted = write_holder(self._folder / _HOLDER_NAME, note)

    def give_sign(self) -> None:
        """Show that we work, by the time of the note, unless we did so a moment ago. Never raises."""
        clock = time.monotonic()
        if clock >= self._next_sign_clock:
            self._next_sign_clock = clock + _SIGN_EVERY_SECONDS
            with suppress(OSError):
                # By our clock, and not by that of a share's server.
                seconds = now().timestamp()
                os.utime(self._folder / _HOLDER_NAME, (seconds, seconds))

    def is_held(self) -> bool:
        """True if we hold the lock, and its file is still the one that another daemon would try to lock."""
        return self._lock.is_held()

    def release(self) -> None:
        """Release the lock. A lock file that was replaced belongs to somebody else already."""
        if self.is_held():
            with suppress(OSError):
                (self._folder / _HOLDER_NAME).unlink()
        self._lock.release()


def this_process(since: datetime) -> str:
    """Return how a note names this process."""
    return f"process {os.getpid()} on {socket.gethostname()} since {iso(since)}"


def holder_of(state_folder: Path) -> str:
    """Return who holds the lock of a state folder, by what the holder wrote beside it.

    A full disk may have kept it from that, and left the note of the one before: then by the kernel's list.
    """
    note = read_holder(state_folder / _HOLDER_NAME)
    if not names_living_process(note):
        process_id = host.locker(state_folder / LOCK_NAME)
        if process_id is not None:
            return f"process {process_id} on {socket.gethostname()} (it could not write this down)"
    return note or "unknown process"


def holder_process(state_folder: Path) -> int | None:
    """Return the id of the process that `holder_of` names; None if there is none on this machine."""
    match = _HOLDER.match(holder_of(state_folder))
    return int(match["process"]) if match is not None and match["host"] == socket.gethostname() else None


def write_holder(path: Path, text: str) -> bool:
    """Write who holds a lock beside it; return whether that could be written."""
    # For people only: a full disk must not keep anything from starting.
    with suppress(OSError):
        replace_file(path, f"{text}\n".encode(errors="replace"), _NOTE_MODE)
        return True
    return False


def read_holder(path: Path) -> str:
    """Return what a note says, empty if there is none or it cannot be read."""
    try:
        return read_regular(path, _MOST_NOTE_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""


def seems_running(state_folder: Path) -> bool:
    """True if the process that `holder_of` names is alive.

    Does not touch the lock, so it may be called repeatedly while a daemon may be starting.
    """
    return names_living_process(holder_of(state_folder))


def names_living_process(note: str) -> bool:
    """True if the process that a note names is alive; on other machines it is assumed to be."""
    match = _HOLDER.match(note)
    if match is None:
        return False
    if match["host"] != socket.gethostname():
        return True
    return host.is_alive(int(match["process"]))


def is_running(state_folder: Path) -> bool:
    """True if a daemon holds the lock, without disturbing it. Raises OSError if that cannot be seen."""
    return is_locked(state_folder / LOCK_NAME)


def describe_daemon(state_folder: Path) -> str:
    """Return for a person whether a daemon works on a state folder; may be asked at any rate."""
    try:
        # The lock is tried only where its holder seems alive: a daemon that starts just now must get it.
        if seems_running(state_folder) and is_running(state_folder):
            return f"running, {holder_of(state_folder)}"
    except OSError as error:
        return f"unknown: the lock cannot be looked at ({os.strerror(error.errno or 0)})"
    return "not running"


def silent_since(state_folder: Path, rescan_seconds: float) -> datetime | None:
    """Return since when the daemon that runs has shown no sign that it works, if it hangs; None if not.

    One that has nothing to do looks around every `rescan_seconds`; no step of its work takes minutes.
    """
    try:
        seen_at = datetime.fromtimestamp((state_folder / _HOLDER_NAME).stat().st_mtime, UTC)
    except OSError:
        return None
    is_old = (now() - seen_at).total_seconds() > _LONGEST_STEP_SECONDS + rescan_seconds
    return seen_at if is_old and describe_daemon(state_folder).startswith("running") else None


def is_locked(path: Path) -> bool:
    """True if a process holds this lock file, without disturbing it. Raises OSError if that is not seen."""
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
