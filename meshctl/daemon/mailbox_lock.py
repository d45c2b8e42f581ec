"""The locks of mailbox's folder and outbox: one daemon, and one who does the MESH Client's job.

The first two are held by the daemon, whatever its settings and its state folder are: two daemons in one
mailbox would each take the other's messages for their own, and from one outbox a letter would go out under
the mailbox of whichever comes first. They lie in the folder itself; in the mailbox's neither the MESH Client
nor other applications look, which use IN, OUT, SENT, FAILED and TEMP. They guard against a mistake, so what
else keeps them from being taken (no rights, a share without locks, a link) is logged, and stops nothing.

The third keeps a bridge and a simulator from serving one mailbox at once. A MESH Client does not know it;
`meshctl check` reports a client beside a bridge.
"""

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, Self

from filelock import FileLock, Timeout

from meshctl.clock import now
from meshctl.daemon.lock import (
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


class FolderLock:
    """A lock in a folder that one daemon works on, and a note beside it that says who has it or had it."""

    mode: ClassVar[int]
    advice: ClassVar[str]

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self._settings_file = settings.file
        self._started_at = now()
        self._lock = HeldFile(folder / WORKER_LOCK_NAME, self.mode)
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
            self._take()
        except Timeout:
            raise AlreadyRunningError(self._taken()) from None
        except (FileNotFoundError, NotADirectoryError):
            # Whoever works there says so.
            return None
        except OSError as error:
            return error
        self._is_noted = False
        self._note()
        return None

    def worker(self) -> str:
        """Return who works there, or worked there last, by its own note."""
        return worker_of(self.folder)

    def problem_text(self, problem: OSError) -> str:
        """Return what keeps the lock from being taken, or from being looked at."""
        raise NotImplementedError

    def _take(self) -> None:
        """Take the lock. Raises Timeout, OSError."""
        self._lock.take()

    def _taken(self) -> str:
        """Return that another daemon has the lock, and what to do."""
        raise NotImplementedError

    def _note(self) -> None:
        if not self._is_noted:
            note = f"{this_process(self._started_at)} with {self._settings_file}"
            self._is_noted = write_holder(self.folder / WORKER_NAME, note)

    def release(self) -> None:
        """Let the lock go; the note stays, for who comes next."""
        self._lock.release()

    def is_like(self, other: "FolderLock") -> bool:
        """True if this is the lock that another object stands for, too."""
        is_there = os.path.realpath(self.folder) == os.path.realpath(other.folder)
        return type(self) is type(other) and is_there


class MailboxLock(FolderLock):
    """The lock of the daemon in the mailbox's folder."""

    # Whoever may put files into the mailbox may find out who works on it.
    mode = 0o660
    advice = NO_LOCK_ADVICE

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.mailbox.folder, settings)

    def problem_text(self, problem: OSError) -> str:
        """Return what keeps the lock from being taken, or from being looked at."""
        return problem_text(problem)

    def _taken(self) -> str:
        return f"Another meshctl already works on the mailbox {self.folder}: {self.worker()}. {ONE_ONLY}"


class OutboxLock(FolderLock):
    """The lock of the daemon in the outbox.

    Senders may write there: what is not the daemon's, root's or the outbox's owner's is neither locked nor
    believed, so that no sender can keep the daemon from starting.
    """

    mode = 0o600
    advice = (
        f"Let meshctl's user write {WORKER_LOCK_NAME} in the outbox, or remove what has that name; on a share"
        " without locks see to it yourself that only one settings file names this outbox."
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.staging.outbox, settings)

    def worker(self) -> str:
        """Return who works there, or worked there last, by its own note."""
        return "unknown process" if self._is_strangers(WORKER_NAME) else super().worker()

    def is_worked_on(self) -> bool:
        """True if a daemon holds the lock. Raises OSError if that cannot be seen."""
        is_believed = not self._is_strangers(WORKER_LOCK_NAME)
        return is_believed and names_living_process(self.worker()) and is_locked(self._path)

    def settings_of_worker(self) -> Path | None:
        """Return with which settings file the outbox is worked on, or was last; None if that is unknown."""
        return _settings_in(self.worker())

    def problem_text(self, problem: OSError) -> str:
        """Return what keeps the lock from being taken, or from being looked at."""
        return problem_text(problem, "a second meshctl on this outbox")

    @property
    def _path(self) -> Path:
        return self.folder / WORKER_LOCK_NAME

    def _take(self) -> None:
        self._refuse_strangers()
        try:
            self._lock.take()
        except Timeout:
            self._refuse_strangers()
            raise
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError:
            # A daemon of another user, or one that may write where we may not: its note is what can be seen.
            if self._is_another(self.worker()):
                raise Timeout(str(self._path)) from None
            raise

    def _is_another(self, worker: str) -> bool:
        file = _settings_in(worker)
        is_other = file is not None and os.path.realpath(file) != os.path.realpath(self._settings_file)
        return is_other and names_living_process(worker)

    def _taken(self) -> str:
        return f"Another meshctl already takes letters from {self.folder}: {self.worker()}. {ONE_OUTBOX}"

    def _refuse_strangers(self) -> None:
        if self._is_strangers(WORKER_LOCK_NAME):
            raise StrangersLockError(errno.EPERM, os.strerror(errno.EPERM), str(self._path))

    def _is_strangers(self, name: str) -> bool:
        """True if something there belongs to a user who may only be a sender."""
        try:
            status = (self.folder / name).lstat()
            return not (host.is_trusted(status) or status.st_uid == self.folder.stat().st_uid)
        except OSError:
            return False


class StrangersLockError(PermissionError):
    """A lock belongs to a user whose locks count for nothing."""


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
            text = "" if problem is None else lock.problem_text(problem)
            if text and text != self._logged.get(lock):
                self._journal.warning("daemon.warning", text=text, advice=lock.advice)
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
                lock.release()
            raise
        for own in self._folders:
            if own not in kept:
                own.release()
        self._folders = [*kept, *new]
        self._logged = {}

    def has_state(self) -> bool:
        """True unless the lock of the state folder was removed or replaced."""
        return self._state.is_held()


def problem_text(problem: OSError, second: str = "a second meshctl on this mailbox") -> str:
    """Return what keeps the lock of a mailbox or an outbox from being taken."""
    reason = "it is a link" if problem.errno == errno.ELOOP else os.strerror(problem.errno or 0)
    if isinstance(problem, StrangersLockError):
        reason = "it belongs to another user"
    name = problem.filename or WORKER_LOCK_NAME
    return f"{name} cannot be locked ({reason}): {second} would not be noticed."


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
