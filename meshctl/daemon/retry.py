"""Try again what an obstacle keeps from going on: told once, with growing pauses.

A full disk, a missing folder or a locked ledger is an obstacle that somebody will mend; the daemon neither
ends nor spins. An exception that nobody foresaw is treated alike, so that one bad turn does not stop the
rest. A person is told what is wrong, in which folder and what to do, never the name of a file: the folder
that the settings name is what a person can mend.
"""

import errno
import os
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from meshctl.clock import Clock
from meshctl.errors import MeshctlError
from meshctl.files.item_error import is_general
from meshctl.journal.events import Journal, error_fields
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.database import LEDGER_NAME, primary_code
from meshctl.settings.model import Settings

_MISSING: Final = "Mount or make the folder again."
_RIGHTS: Final = "Let the user that meshctl runs as read, write and enter the folder."
_ROOM: Final = "Free space there; df -h and df -i show what is left."
_READ_ONLY: Final = "Mount the file system for writing; the system's own log says why it is not."
_DISK: Final = "Look into the system's own log: disk, network or share fail."
_ADVICE: Final = {
    errno.ENOENT: _MISSING,
    errno.ENOTDIR: _MISSING,
    errno.ENOTCONN: _MISSING,
    errno.ESTALE: "Mount the share again.",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: "Free space there, or raise the quota of the user that meshctl runs as.",
    errno.EROFS: _READ_ONLY,
    errno.EIO: _DISK,
    errno.ETIMEDOUT: _DISK,
    errno.EHOSTDOWN: _DISK,
    errno.EMFILE: "Raise the limit of open files (LimitNOFILE in the unit, ulimit -n) and restart meshctl.",
    errno.ENFILE: "The whole system has too many files open; see fs.file-max.",
    errno.ENOMEM: "Free memory.",
    errno.EXDEV: "Put outbox and work folder on one mount of one file system; see meshctl check.",
}
_LEDGER_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "Another program keeps the ledger locked: end it.",
    sqlite3.SQLITE_LOCKED: "Another program keeps the ledger locked: end it.",
    sqlite3.SQLITE_FULL: _ROOM,
    sqlite3.SQLITE_READONLY: "Let meshctl's user write there, on a file system that can be written to.",
    sqlite3.SQLITE_CANTOPEN: _RIGHTS,
    sqlite3.SQLITE_PERM: _RIGHTS,
    sqlite3.SQLITE_IOERR: _DISK,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong and where, and what to do if that can be said."""

    text: str
    advice: str | None


def problem_of(error: Exception, folders: Sequence[str]) -> Problem:
    """Return what to tell of an error; `folders` are those that the settings name, the deepest first."""
    if isinstance(error, sqlite3.Error):
        state = next((f" in {folder}" for folder in folders if os.path.exists(f"{folder}/{LEDGER_NAME}")), "")
        # SQLite's own texts name tables, never values.
        text = f"The ledger{state} cannot be used: {error}"
        return Problem(text, _LEDGER_ADVICE.get(primary_code(error)))
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno)
        place = "" if is_general(error) else _place(error, folders)
        return Problem(f"{reason}: {place}" if place else reason, _ADVICE.get(error.errno))
    return (
        Problem(str(error), None) if isinstance(error, MeshctlError) else Problem(type(error).__name__, None)
    )


def _place(error: OSError, folders: Sequence[str]) -> str:
    """Return the folder where somebody has to do something."""
    names = [
        os.fsdecode(name) for name in (error.filename2, error.filename) if isinstance(name, (str, bytes))
    ]
    places = list(dict.fromkeys(_folder_of(name, folders) for name in names))
    if error.errno == errno.EXDEV:
        return " and ".join(map(_shown, reversed(places)))
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
        # Of a move from folder to folder, the one that refuses.
        places.sort(key=lambda place: os.access(place, os.R_OK | os.W_OK | os.X_OK))
    return _shown(places[0]) if places else ""


def _folder_of(path: str, folders: Sequence[str]) -> str:
    """Return the folder that a path lies in, not deeper than one below a folder of the settings."""
    if path in folders:
        return path
    place = path if os.path.isdir(path) else os.path.dirname(path)
    for folder in folders:
        if place.startswith(folder + os.sep):
            return os.path.join(folder, place[len(folder) + 1 :].split(os.sep)[0])
    return place


def _shown(folder: str) -> str:
    return os.sep.join(map(mask_file_name, folder.split(os.sep)))


# What mends itself sooner, a locked ledger or a share that reconnects, need wake nobody.
_ALERT_AFTER_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0

Result = TypeVar("Result")


class Pauses:
    """The pauses between the attempts at one thing. They double up to a longest one.

    They are spread by `chance`, which gives numbers from 0 to 1, so that many who lost the same share or the
    same MESH do not all come back in the same second.
    """

    def __init__(self, longest_seconds: float, chance: Callable[[], float] = random.random) -> None:
        self._longest = longest_seconds
        self._chance = chance
        self._next = _FIRST_PAUSE_SECONDS

    def failed(self, asked_seconds: float | None = None) -> float:
        """Return how many seconds to wait after one more failure in a row.

        Between half of this failure's pause and all of it; never less than the far end asked for, and then
        with the same spread on top.
        """
        spread = self._next * (1 + self._chance()) / 2
        self._next = min(self._next * 2, self._longest)
        return spread if asked_seconds is None else asked_seconds + spread

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self._next = _FIRST_PAUSE_SECONDS


class RetriedWork:
    """Runs one part of the work (`name`: outbound, inbound, ledger) and keeps count of what is in its way.

    `folders` are those that the settings name; an obstacle is told by the one that it lies in. One
    that has lasted a minute is an alert, and so is its end.
    """

    def __init__(self, name: str, folders: Sequence[str], clock: Clock, journal: Journal) -> None:
        self._name = name
        self._folders = folders
        self._clock = clock
        self._journal = journal
        self._blocked_since: float | None = None
        self._has_alerted = False
        self._pauses = Pauses(_LONGEST_PAUSE_SECONDS)
        self._not_before = 0.0
        self._told: set[object] = set()
        self.obstacle: str | None = None
        self.error: Exception | None = None

    def run(self, work: Callable[[], Result]) -> Result | None:
        """Do the work unless it is too early to try again; None when it was not done."""
        if self._clock.monotonic() < self._not_before:
            return None
        try:
            result = work()
        except (OSError, sqlite3.Error, MeshctlError) as error:
            self._note(error, problem_of(error, self._folders))
            return None
        except Exception as error:  # noqa: BLE001 - the one place where the unforeseen is caught
            self._log_fault(error)
            self._note(error, Problem(f"an unforeseen error ({type(error).__name__})", None))
            return None
        if self.obstacle is not None:
            self._journal.info("daemon.unblocked", part=self._name)
        if self._has_alerted:
            self._send_alert("daemon.unblocked", Problem("What was in the way is mended.", "Nothing to do."))
        self.obstacle = self.error = self._blocked_since = None
        self._has_alerted = False
        self._told.clear()
        self._pauses.succeeded()
        self._not_before = 0.0
        return result

    @property
    def pause_seconds(self) -> float | None:
        """Return how long to wait before the next attempt; None when nothing is in the way."""
        if self.obstacle is None:
            return None
        return max(0.0, self._not_before - self._clock.monotonic())

    def _note(self, error: Exception, problem: Problem) -> None:
        pause_seconds = self._pauses.failed()
        # Two obstacles may take turns, a full disk in two folders say; each is told once until all is well.
        if problem.text not in self._told:
            self._told.add(problem.text)
            self._journal.error("daemon.blocked", part=self._name, text=problem.text, advice=problem.advice)
        else:
            self._journal.debug(
                "daemon.still_blocked", part=self._name, retry_seconds=round(pause_seconds, 1)
            )
        self.obstacle, self.error = problem.text, error
        self._alert_in_time(problem)
        self._not_before = self._clock.monotonic() + pause_seconds

    def _alert_in_time(self, problem: Problem) -> None:
        now = self._clock.monotonic()
        if self._blocked_since is None:
            self._blocked_since = now
        if not self._has_alerted and now - self._blocked_since >= _ALERT_AFTER_SECONDS:
            self._has_alerted = True
            self._send_alert("daemon.blocked", problem)

    def _send_alert(self, event: str, problem: Problem) -> None:
        self._journal.alert(event, text=problem.text, advice=problem.advice, part=self._name)

    def _log_fault(self, error: Exception) -> None:
        fields = error_fields(error)
        fault = tuple(fields.values())
        if fault not in self._told:
            self._told.add(fault)
            self._journal.error("daemon.error", part=self._name, **fields)


class RetriedParts:
    """The parts of the daemon's work, each with what stands in its way; they outlive a reopened ledger."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        clock, folders = Clock(), folders_of(settings)
        self.outbound = RetriedWork("outbound", folders, clock, journal)
        self.inbound = RetriedWork("inbound", folders, clock, journal)
        self.ledger = RetriedWork("ledger", folders, clock, journal)

    def obstacles(self) -> list[str]:
        """Return what is in the way, each obstacle once."""
        found = (attempts.obstacle for attempts in (self.ledger, self.outbound, self.inbound))
        return list(dict.fromkeys(obstacle for obstacle in found if obstacle))

    def forget_errors(self) -> None:
        """Forget what went wrong with a ledger that has been opened anew since; the pauses still hold."""
        self.outbound.error = self.inbound.error = None

    def errors(self) -> list[Exception]:
        """Return the errors of the last attempts at the work that failed."""
        return [each.error for each in (self.outbound, self.inbound) if each.error is not None]


def folders_of(settings: Settings) -> list[str]:
    """Return every folder that the settings name, the deepest first."""
    mailbox, staging, reports = settings.mailbox, settings.staging, settings.reports
    folders = [
        staging.outbox, staging.rejected, staging.work, settings.state.folder, reports.archive,
        mailbox.folder, mailbox.in_folder, mailbox.out_folder, mailbox.sent_folder, mailbox.failed_folder,
    ]  # fmt: skip
    if reports.deliver is not None:
        folders.append(reports.deliver)
    return sorted({str(folder) for folder in folders}, key=len, reverse=True)
