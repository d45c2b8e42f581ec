"""The locks of a mailbox's folder: one daemon, and one who does the MESH Client's job.

The first is held by the daemon, whatever its settings and its state folder are: two daemons in one mailbox
would each take the other's messages for their own. It lies in the mailbox's folder itself, where neither the
MESH Client nor other applications look: those use IN, OUT, SENT, FAILED and TEMP. It guards against a
mistake, so what else keeps it from being taken (no rights, a share without locks, a link) is logged, and
stops nothing.

The second keeps a bridge and a simulator from serving one mailbox at once. A MESH Client does not know it;
`meshctl check` reports a client beside a bridge.
"""

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

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
from meshctl.journal.events import Journal
from meshctl.settings.model import MailboxSettings, Settings

WORKER_LOCK_NAME: Final = ".meshctl.lock"
_WORKER_NAME: Final = ".meshctl"
# Whoever may put files into the mailbox may find out who works on it.
_LOCK_MODE: Final = 0o660
_WORKER: Final = re.compile(r"process \d+ on (?P<host>\S+) since \S+ with (?P<settings>.+)")
ONE_ONLY: Final = (
    "Two in one mailbox would take each other's messages for their own: stop one of them, and remove its"
    " settings file, or name its own mailbox in it."
)

NO_LOCK_ADVICE: Final = (
    f"Let meshctl's user write {WORKER_LOCK_NAME} in the mailbox's folder, or remove what has that name; on a"
    " share without locks see to it yourself that only one settings file names this mailbox."
)


class MailboxLock:
    """The lock of the daemon in the mailbox's folder, and a note beside it that says who has it or had it."""

    def __init__(self, settings: Settings) -> None:
        self._mailbox = settings.mailbox
        self._settings_file = settings.file
        self._started_at = now()
        self._lock = HeldFile(self._mailbox.folder / WORKER_LOCK_NAME, _LOCK_MODE)
        self._is_noted = False

    def hold(self) -> OSError | None:
        """Take the lock, unless we have it, or the folder is missing. Does not wait.

        Returns why it cannot be taken, None if nothing is in the way. Raises AlreadyRunningError.
        """
        # The library would make the folder: a share that is away must not be made on the disk below.
        if self._lock.is_held():
            self._note()
            return None
        if not os.path.isdir(self._mailbox.folder):
            return None
        try:
            self._lock.take()
        except Timeout:
            raise AlreadyRunningError(
                f"Another meshctl already works on the mailbox {self._mailbox.folder}:"
                f" {worker_of(self._mailbox.folder)}. {ONE_ONLY}"
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
            self._is_noted = write_holder(self._mailbox.folder / _WORKER_NAME, note)

    def release(self) -> None:
        """Let the lock go; the note stays, for who comes next."""
        self._lock.release()

    def is_for(self, settings: Settings) -> bool:
        """True if this is the lock that a daemon with these settings needs."""
        return os.path.realpath(settings.mailbox.folder) == os.path.realpath(self._mailbox.folder)


class Locks:
    """What one daemon holds alone: the state folder, and the mailbox's folder as soon as that is there.

    At the end of a `with` block all of it is let go.
    """

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._state = InstanceLock(settings.state.folder)
        self._mailbox = MailboxLock(settings)
        self._journal = journal
        self._logged: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._mailbox.release()
        self._state.release()

    def hold(self) -> None:
        """Take what we do not hold. Raises AlreadyRunningError, OSError."""
        self._state.hold()
        self.hold_mailbox()

    def note(self) -> None:
        """Write who holds the state folder, unless that is written."""
        self._state.note()

    def hold_mailbox(self) -> None:
        """Take the mailbox's lock unless we hold it, or say why we cannot. Raises AlreadyRunningError."""
        problem = self._mailbox.hold()
        text = None if problem is None else problem_text(problem)
        if text is not None and text != self._logged:
            self._journal.warning("daemon.warning", text=text, advice=NO_LOCK_ADVICE)
        self._logged = text

    def change_to(self, settings: Settings) -> None:
        """Hold the mailbox's folder of other settings instead. Raises AlreadyRunningError."""
        if not self._mailbox.is_for(settings):
            mailbox = MailboxLock(settings)
            mailbox.hold()
            self._mailbox.release()
            self._mailbox = mailbox

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
    return read_holder(folder / _WORKER_NAME) or "unknown process"


def is_worked_on(folder: Path) -> bool:
    """True if a daemon holds the lock of the mailbox in a folder. Raises OSError if that cannot be seen."""
    # The lock is tried only where its holder seems alive: a daemon that starts just now must get it.
    return names_living_process(worker_of(folder)) and is_locked(folder / WORKER_LOCK_NAME)


def settings_of_worker(folder: Path) -> Path | None:
    """Return with which settings file a mailbox is worked on or was last; None if unknown, or elsewhere."""
    match = _WORKER.fullmatch(worker_of(folder))
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


def _written_server(folder: Path) -> str:
    return read_holder(folder / SERVER_NAME) or "unknown"
