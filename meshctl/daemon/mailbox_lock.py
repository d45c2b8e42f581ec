"""Who works on mailbox and outbox: one daemon each, and one who does the MESH Client's job.

The lock in the mailbox's folder is held by the daemon, whatever its settings and its state folder are: two
daemons in one mailbox would each take the other's messages for their own. It lies in that folder itself,
where neither the MESH Client nor other applications look: those use IN, OUT, SENT, FAILED and TEMP. It guards
against a mistake, so what else keeps it from being taken (no rights, a share without locks, a link) is
logged, and stops nothing. Beside the outbox a note says who takes letters from it: from one outbox of two
daemons a letter would go out under the mailbox of whichever comes first.

The other lock keeps a bridge and a simulator from serving one mailbox at once. A MESH Client does not know
it; `meshctl check` reports a client beside a bridge.
"""

import errno
import os
import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from filelock import FileLock, Timeout

from meshctl.clock import now
from meshctl.daemon.lock import (
    LOCK_NAME,
    AlreadyRunningError,
    HeldFile,
    InstanceLock,
    is_locked,
    names_living_process,
    read_holder,
    this_process,
    write_holder,
)
from meshctl.errors import MeshctlError
from meshctl.files.client_folders import SERVER_LOCK_NAME, SERVER_NAME
from meshctl.files.durable import make_folder
from meshctl.files.owner import WORKER_LOCK_NAME, WORKER_NAME
from meshctl.journal.events import Journal
from meshctl.platform import host
from meshctl.settings.model import MailboxSettings, Settings

_WORKER: Final = re.compile(r"process \d+ on (?P<host>\S+) since \S+ with (?P<settings>.+)")
_SERVER: Final = re.compile(r".+, process (?P<process>[1-9]\d*) on (?P<host>\S+)")
_NOTE_EVERY_SECONDS: Final = 60.0
# Whoever may put files into the mailbox may find out who works on it.
_LOCK_MODE: Final = 0o660
ONE_ONLY: Final = (
    "Two in one mailbox would take each other's messages for their own: stop one of them, and remove its"
    " settings file, or name its own mailbox in it."
)
ONE_OUTBOX: Final = (
    "Each letter would go out under the mailbox of whichever daemon comes first: give each settings file an"
    " outbox of its own (staging.outbox)."
)

NO_LOCK_ADVICE: Final = (
    f"Let meshctl's user write {WORKER_LOCK_NAME} in the mailbox's folder, or remove what has that name; on a"
    " share without locks see to it yourself that only one settings file names this mailbox."
)


class FolderLock(ABC):
    """What one daemon holds of a folder, and a note there that says who has it or had it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self._settings_file = settings.file
        self._started_at = now()

    @abstractmethod
    def hold(self) -> OSError | None:
        """Take it, unless we have it. Does not wait. Raises AlreadyRunningError."""

    @abstractmethod
    def release(self) -> None:
        """Let it go."""

    def give_up(self) -> None:
        """Let it go for good, and go on elsewhere."""
        self.release()

    def is_like(self, other: "FolderLock") -> bool:
        """True if this is the hold that another object stands for, too."""
        is_there = os.path.realpath(self.folder) == os.path.realpath(other.folder)
        return type(self) is type(other) and is_there


class MailboxLock(FolderLock):
    """The lock of the daemon in the mailbox's folder."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.mailbox.folder, settings)
        self._lock = HeldFile(self.folder / WORKER_LOCK_NAME, _LOCK_MODE)
        self._is_noted = False

    def hold(self) -> OSError | None:
        """Take the lock, unless we have it, or the folder is missing. Does not wait.

        Returns why it cannot be taken, None if nothing is in the way. Raises AlreadyRunningError.
        """
        # The library would make the folder: a share that is away must not be made on the disk below.
        if self._lock.is_held():
            self._note()
            return None
        if not os.path.isdir(self.folder):
            return None
        try:
            self._lock.take()
        except Timeout:
            raise AlreadyRunningError(
                f"Another meshctl already works on the mailbox {self.folder}: {worker_of(self.folder)}."
                f" {ONE_ONLY}"
            ) from None
        except (FileNotFoundError, NotADirectoryError):
            # Whoever works there says so.
            return None
        except OSError as error:
            return error
        self._is_noted = False
        self._note()
        return None

    def _note(self) -> None:
        if not self._is_noted:
            note = f"{this_process(self._started_at)} with {self._settings_file}"
            self._is_noted = write_holder(self.folder / WORKER_NAME, note)

    def release(self) -> None:
        """Let the lock go; the note stays, for who comes next."""
        self._lock.release()


class OutboxLock(FolderLock):
    """The daemon's hold on the outbox: a note beside it that names it, which is believed while it works.

    In the outbox itself nothing lies that nobody dropped. No file is held open: that would keep a share from
    being unmounted, and a disk from being remounted. What is not the daemon's, root's or the outbox's owner's
    is not believed, so that nobody else can keep the daemon from starting.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.staging.outbox, settings)
        self._state_folder = settings.state.folder
        self._path = self.folder.with_name(f".{self.folder.name}{WORKER_NAME}")
        self._next_try_clock = float("-inf")

    def hold(self) -> OSError | None:
        """Write our note unless it is there, or the folder is missing; return why it cannot be written.

        Raises AlreadyRunningError if the note is that of another daemon that works.
        """
        note = self._read()
        if note == self._text:
            self._next_try_clock = float("-inf")
            return None
        if not os.path.isdir(self.folder):
            return None
        if self._is_of_another(note):
            raise AlreadyRunningError(
                f"Another meshctl already takes letters from {self.folder}: {self.worker()}. {ONE_OUTBOX}"
            )
        # Where that has no effect, not at every turn.
        clock = time.monotonic()
        if clock >= self._next_try_clock:
            self._next_try_clock = clock + _NOTE_EVERY_SECONDS
            write_holder(self._path, self._text)
        return None

    def worker(self) -> str:
        """Return who works there, or worked there last, by its own note."""
        return self._read().partition("\n")[0] or "unknown process"

    def is_worked_on(self) -> bool:
        """True if another daemon than one with these settings takes letters there now."""
        return self._is_of_another(self._read())

    def settings_of_worker(self) -> Path | None:
        """Return with which settings file the outbox is worked on, or was last; None if that is unknown."""
        return _settings_in(self.worker())

    def release(self) -> None:
        """Leave the note for who comes next: nobody believes it once we have ended."""

    def give_up(self) -> None:
        """Take our note away: others may take letters there while we go on elsewhere."""
        if self._read() == self._text:
            with suppress(OSError):
                self._path.unlink()

    @property
    def _text(self) -> str:
        return f"{this_process(self._started_at)} with {self._settings_file}\nstate {self._state_folder}"

    def _read(self) -> str:
        try:
            status = self._path.lstat()
            if not (host.is_trusted(status) or status.st_uid == self.folder.stat().st_uid):
                return ""
        except OSError:
            return ""
        return read_holder(self._path)

    def _is_of_another(self, note: str) -> bool:
        """True if a note names a daemon of this computer with another state folder, and it works."""
        worker, _, state = note.partition("\nstate ")
        if _settings_in(worker) is None or os.path.realpath(state) == os.path.realpath(self._state_folder):
            return False
        try:
            has_lock = is_locked(Path(state) / LOCK_NAME)
        except OSError:
            # Another user's: its process is what can be seen.
            return names_living_process(worker)
        return has_lock and names_living_process(worker)


def folder_locks(settings: Settings) -> list[FolderLock]:
    """Return the locks, besides that of the state folder, that a daemon with these settings needs."""
    return [MailboxLock(settings), OutboxLock(settings)]


class Locks:
    """What one daemon holds alone: the state folder; mailbox's folder and outbox as soon as they are there.

    At the end of a `with` block all of it is let go.
    """

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._state = InstanceLock(settings.state.folder)
        self._folders = folder_locks(settings)
        self._journal = journal
        self._logged: dict[FolderLock, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lock in self._folders:
            lock.release()
        self._state.release()

    def hold(self) -> None:
        """Take what we do not hold. Raises AlreadyRunningError, OSError."""
        self._state.hold()
        self.hold_folders()

    def note(self) -> None:
        """Write who holds the state folder, unless that is written, and show that we work."""
        self._state.note()
        self._state.give_sign()

    def hold_folders(self) -> None:
        """Take the locks of the folders unless we hold them, or log why not. Raises AlreadyRunningError."""
        for lock in self._folders:
            problem = lock.hold()
            text = "" if problem is None else problem_text(problem)
            if text and text != self._logged.get(lock):
                self._journal.warning("daemon.warning", text=text, advice=NO_LOCK_ADVICE)
            self._logged[lock] = text

    def change_to(self, settings: Settings) -> None:
        """Hold the folders of other settings instead. Raises AlreadyRunningError, and then holds the old."""
        wanted = folder_locks(settings)
        kept = [own for own in self._folders if any(own.is_like(lock) for lock in wanted)]
        new = [lock for lock in wanted if not any(lock.is_like(own) for own in kept)]
        try:
            for lock in new:
                lock.hold()
        except AlreadyRunningError:
            for lock in new:
                lock.give_up()
            raise
        for own in self._folders:
            if own not in kept:
                own.give_up()
        self._folders = [*kept, *new]
        self._logged = {}

    def has_state(self) -> bool:
        """True unless the lock of the state folder was removed or replaced."""
        return self._state.is_held()


def problem_text(problem: OSError) -> str:
    """Return what keeps the lock of a mailbox from being taken."""
    reason = "it is a link" if problem.errno == errno.ELOOP else os.strerror(problem.errno or 0)
    name = problem.filename or WORKER_LOCK_NAME
    return f"{name} cannot be locked ({reason}): a second meshctl on this mailbox would not be noticed."


def worker_of(folder: Path) -> str:
    """Return which daemon works on the mailbox in a folder, or worked there last, by its own note."""
    return read_holder(folder / WORKER_NAME) or "unknown process"


def is_worked_on(folder: Path) -> bool:
    """True if a daemon holds the lock of the mailbox in a folder. Raises OSError if that cannot be seen."""
    # The lock is tried only where its holder seems alive: a daemon that starts just now must get it.
    return names_living_process(worker_of(folder)) and is_locked(folder / WORKER_LOCK_NAME)


def settings_of_worker(folder: Path) -> Path | None:
    """Return with which settings file a mailbox is worked on or was last; None if unknown, or elsewhere."""
    return _settings_in(worker_of(folder))


def _settings_in(worker: str) -> Path | None:
    """Return the settings file that a note of this computer names."""
    match = _WORKER.fullmatch(worker)
    return Path(match["settings"]) if match is not None and match["host"] == socket.gethostname() else None


@contextmanager
def serving(mailbox: MailboxSettings, who: str) -> Iterator[None]:
    """Lock a mailbox for `who` ("the bridge"), in its TEMP folder, which is made if it is missing.

    Raises MeshctlError at once if it is locked; OSError, also if the mailbox's folder does not exist.
    """
    folder = mailbox.temp_folder
    # Not its parents: a share that is away must not be made on the disk below.
    make_folder(folder, 0o750)
    holder = folder / SERVER_NAME
    lock = FileLock(folder / SERVER_LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MeshctlError(
            f"The mailbox {mailbox.folder} is served already: {_written_server(folder)}. Stop that one first."
        ) from None
    except OSError:
        if (folder / SERVER_LOCK_NAME).is_symlink():
            raise MeshctlError(
                f"{folder / SERVER_LOCK_NAME} is a link, and a lock is never taken through one. Remove it,"
                " and see who may write in that folder."
            ) from None
        raise
    try:
        write_holder(holder, f"{who}, process {os.getpid()} on {socket.gethostname()}")
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
    return _written_server(folder) if is_locked(folder / SERVER_LOCK_NAME) else None


def describe_server(mailbox: MailboxSettings) -> str:
    """Return for a person whether somebody serves a mailbox; may be asked at any rate."""
    folder = mailbox.temp_folder
    server = _written_server(folder)
    match = _SERVER.fullmatch(server)
    if match is None or (match["host"] == socket.gethostname() and not host.is_alive(int(match["process"]))):
        return "not running"
    try:
        # The lock is tried only where its holder seems alive: a bridge that starts just now must get it.
        return f"running, {server}" if is_locked(folder / SERVER_LOCK_NAME) else "not running"
    except OSError as error:
        return f"unknown: the lock cannot be looked at ({os.strerror(error.errno or 0)})"


def _written_server(folder: Path) -> str:
    return read_holder(folder / SERVER_NAME) or "unknown"
