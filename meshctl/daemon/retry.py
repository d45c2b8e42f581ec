"""Retry the work of the daemon and the bridge with growing pauses while something is in its way.

A full disk, a missing folder or a locked ledger will be cleared by somebody; until then the program neither
ends nor spins. An exception that nobody foresaw is treated alike, so that one bad turn of one part does not
stop the others. Each problem is logged once, with what is wrong, in which folder and what to do; never with
the name of a file, as the folder of the settings is what a person can see to.
"""

import errno
import os
import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from meshctl.clock import Clock
from meshctl.errors import MeshctlError
from meshctl.files.reading import is_general
from meshctl.journal.events import FieldValue, Journal, error_fields
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.database import LEDGER_NAME, primary_code
from meshctl.settings.model import Settings

_MISSING: Final = "Mount or recreate the folder."
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
    """What is wrong and where, and what to do if that can be said.

    `code` tells one problem from another, where the text does not. `is_passing` if it mostly clears by itself
    (MESH is away). `asked_seconds` is how long a server asks to be left alone.
    """

    text: str
    advice: str | None = None
    code: str = ""
    is_passing: bool = False
    is_unforeseen: bool = False
    asked_seconds: float | None = None


def unforeseen(error: Exception, advice: str | None = None, code: str = "") -> Problem:
    """Return what to say of an exception that is a fault of meshctl; its text may hold a patient."""
    text = f"an unforeseen error ({type(error).__name__})"
    return Problem(text, advice, code, is_unforeseen=True)


def problem_of(error: Exception, folders: Sequence[str]) -> Problem:
    """Return what an error means to the daemon; `folders` are those of the settings, the deepest first."""
    if isinstance(error, sqlite3.Error):
        state = next((f" in {folder}" for folder in folders if os.path.exists(f"{folder}/{LEDGER_NAME}")), "")
        # SQLite's own texts name tables, never values.
        text = f"The ledger{state} cannot be used: {error}"
        return Problem(text, _LEDGER_ADVICE.get(primary_code(error)))
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno)
        place = "" if is_general(error) else _place(error, folders)
        return Problem(f"{reason}: {place}" if place else reason, _ADVICE.get(error.errno))
    if isinstance(error, OSError):
        return Problem(type(error).__name__)
    return Problem(str(error)) if isinstance(error, MeshctlError) else unforeseen(error)


def _place(error: OSError, folders: Sequence[str]) -> str:
    """Return the folder where somebody has to do something."""
    names = [
        os.fsdecode(name) for name in (error.filename2, error.filename) if isinstance(name, (str, bytes))
    ]
    places = list(dict.fromkeys(_folder_of(name, folders) for name in names))
    if error.errno == errno.EXDEV:
        return " and ".join(map(_shown, reversed(places)))
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
        # Of a move from folder to folder, the one that is not accessible.
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


_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# What clears sooner, a locked ledger or a share that reconnects, need wake nobody.
_ALERT_AFTER_SECONDS = 60.0
_PASSING_ALERT_AFTER_SECONDS = 900.0

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

        Between half of this failure's pause and all of it; where the server asked for a pause, that one with
        the same spread on top.
        """
        spread = self._next * (1 + self._chance()) / 2
        self._next = min(self._next * 2, self._longest)
        return spread if asked_seconds is None else asked_seconds + spread

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self._next = _FIRST_PAUSE_SECONDS


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a program retries its work: `explain` says what an error means.

    The events begin with the name of the `program`; with `logs_pause` they say when it is tried again.
    """

    program: str
    explain: Callable[[Exception], Problem]
    longest_pause_seconds: float
    logs_pause: bool = False


class RetriedWork:
    """Runs one part of a program's work (`name`) and keeps count of what is in its way.

    A problem that has lasted a minute (one that is passing, a quarter of an hour) is an alert, and so is its
    end. `problem` is None while nothing is in the way, and `error` what caused it.
    """

    def __init__(self, name: str, policy: RetryPolicy, clock: Clock, journal: Journal) -> None:
        self.name = name
        self._policy = policy
        self._clock = clock
        self._journal = journal
        self._blocked_at = 0.0
        self._has_alerted = False
        self._pauses = Pauses(policy.longest_pause_seconds)
        self._not_before = float("-inf")
        self._logged: set[object] = set()
        self.problem: Problem | None = None
        self.error: Exception | None = None

    def run(self, work: Callable[[], Result]) -> Result | None:
        """Do the work unless it is too early; None if it was not done."""
        if self.wait_seconds > 0:
            self._alert_in_time()
            return None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - the one place where the unforeseen is caught
            self._failed(error, self._policy.explain(error))
            return None
        self._succeeded()
        return result

    @property
    def obstacle(self) -> str | None:
        """Return what is in the way; None if nothing is."""
        # Read once: in the bridge another thread may clear it meanwhile.
        problem = self.problem
        return None if problem is None else problem.text

    @property
    def wait_seconds(self) -> float:
        """Return how long it is too early to do the work."""
        return max(0.0, self._not_before - self._clock.monotonic())

    @property
    def pause_seconds(self) -> float | None:
        """Return how long to wait before the next attempt; None when nothing is in the way."""
        return None if self.problem is None else self.wait_seconds

    def rest(self, seconds: float) -> None:
        """Let the next run be so much later, unless a failure decides on that."""
        if self.problem is None:
            self._not_before = self._clock.monotonic() + seconds

    def _succeeded(self) -> None:
        if self.problem is not None:
            self._journal.info(f"{self._policy.program}.unblocked", part=self.name)
        if self._has_alerted:
            self._send_alert("unblocked", "The problem is resolved; work has resumed.", "Nothing to do.")
        self.problem = self.error = None
        self._has_alerted = False
        self._logged.clear()
        self._pauses.succeeded()

    def _failed(self, error: Exception, problem: Problem) -> None:
        pause_seconds = self._pauses.failed(problem.asked_seconds)
        if self.problem is None:
            self._blocked_at = self._clock.monotonic()
        self.problem, self.error = problem, error
        if problem.is_unforeseen:
            self._log_once("daemon.error", error_fields(error))
        self._log_problem(problem, round(pause_seconds, 1))
        self._alert_in_time()
        self._not_before = self._clock.monotonic() + pause_seconds

    def _log_problem(self, problem: Problem, retry_seconds: float) -> None:
        """Log a problem; each once until all is well, as two may take turns: a full disk in two folders."""
        key = problem.code or problem.text
        if key in self._logged:
            event = f"{self._policy.program}.still_blocked"
            self._journal.debug(event, part=self.name, retry_seconds=retry_seconds)
            return
        self._logged.add(key)
        log = self._journal.warning if problem.is_passing else self._journal.error
        log(
            f"{self._policy.program}.{'delayed' if problem.is_passing else 'blocked'}",
            part=self.name,
            code=problem.code or None,
            text=problem.text,
            advice=problem.advice,
            retry_seconds=retry_seconds if self._policy.logs_pause else None,
        )

    def _log_once(self, event: str, fields: Mapping[str, FieldValue]) -> None:
        key = tuple(fields.values())
        if key not in self._logged:
            self._logged.add(key)
            self._journal.error(event, part=self.name, **fields)

    def _alert_in_time(self) -> None:
        problem = self.problem
        if problem is None or self._has_alerted:
            return
        limit = _PASSING_ALERT_AFTER_SECONDS if problem.is_passing else _ALERT_AFTER_SECONDS
        if self._clock.monotonic() - self._blocked_at >= limit:
            self._has_alerted = True
            self._send_alert("blocked", problem.text, problem.advice)

    def _send_alert(self, event: str, text: str, advice: str | None) -> None:
        self._journal.alert(f"{self._policy.program}.{event}", text=text, advice=advice, part=self.name)


class RetriedParts:
    """The parts of the daemon's work, each with what stands in its way; they outlive a reopened ledger."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        clock, policy = Clock(), daemon_policy(folders_of(settings))
        self.outbound = RetriedWork("outbound", policy, clock, journal)
        self.inbound = RetriedWork("inbound", policy, clock, journal)
        self.ledger = RetriedWork("ledger", policy, clock, journal)

    def obstacles(self) -> list[str]:
        """Return what is in the way, each obstacle once."""
        found = (attempts.obstacle for attempts in (self.ledger, self.outbound, self.inbound))
        return list(dict.fromkeys(obstacle for obstacle in found if obstacle))

    def forget_errors(self) -> None:
        """Forget what went wrong with a ledger that has been reopened since; the pauses still hold."""
        self.outbound.error = self.inbound.error = None

    def errors(self) -> list[Exception]:
        """Return the errors of the last attempts at the work that failed."""
        return [each.error for each in (self.outbound, self.inbound) if each.error is not None]


def daemon_policy(folders: Sequence[str]) -> RetryPolicy:
    """Return how the daemon retries its work; `folders` as for `problem_of`."""
    return RetryPolicy("daemon", lambda error: problem_of(error, folders), _LONGEST_PAUSE_SECONDS)


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
