"""Look through the MESH Client's folders for new control files, and read them.

Looking reads names only, never the files themselves, and a folder that did not change costs one stat. Other
applications share mailboxes, and some of their files stay for ever; what has been logged about a file is
remembered over restarts, so that it is logged once.

A control file that cannot be read may not be finished, so it is read again until nobody has written to it for
a while. Links are not followed, FIFOs not waited for, and no text of a file gets into a reason.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Final

from meshctl.clock import Clock
from meshctl.files.reading import NOT_A_FILE_ADVICE, advice_on, is_general, is_there, reason_of
from meshctl.journal.events import error_fields
from meshctl.ledger import reads
from meshctl.ledger.services import Services
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, ControlFileError, read_control_file
from meshctl.platform import system
from meshctl.settings.model import Settings
from meshctl.sizes import size_text

BATCH: Final = 256
"""So many files are read, recorded in one transaction and logged together."""
SOON_SECONDS: Final = 1.0
LATER_SECONDS: Final = 60.0

# Network shares report wrong times of change, so every so many rescans a folder is looked through anyway.
_RESCANS_PER_FULL_LOOK = 6
# FAT stamps in steps of two seconds, the coarsest there is.
_COARSEST_STAMP_SECONDS = 2.0
_NANOSECONDS = 1_000_000_000
# Most file systems stamp in ticks of milliseconds: what comes in the tick of a look may have been missed.
_TICK_SECONDS = 0.05
# Looking through a big folder over and over again must never take more than a twentieth of a core.
REST_PER_LOOK: Final = 20.0
_NEVER = _AT_ONCE = float("-inf")
PAYLOAD_ENDS: Final = {".ctl": (".dat",), ".CTL": (".DAT", ".dat")}
"""The ends of control files, and those that their payloads may have."""
_CONTROL_ENDS = tuple(PAYLOAD_ENDS)


class FolderPoll:
    """When to look through one folder again, by the time of its last change."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._full_look_seconds = settings.staging.rescan_seconds * _RESCANS_PER_FULL_LOOK
        self._trusted_stamp_ns: int | None = None
        self._stamp_ns = self._last_stamp_ns = 0
        self._began_clock = self._ended_clock = _NEVER
        self._rests_until = _NEVER
        self._wants_look = False

    def begin(self, folder: str, *, at_once: bool = False) -> bool:
        """True if the folder is to be looked through now; `at_once`: also when it should rest.

        Raises FileNotFoundError when it is not there, OSError when its time cannot be read.
        """
        self._stamp_ns = os.stat(folder).st_mtime_ns
        now = self._clock.monotonic()
        unchanged = self._stamp_ns == self._trusted_stamp_ns
        if unchanged and now - self._ended_clock < self._full_look_seconds:
            self._wants_look = False
            return False
        if now < self._rests_until and not at_once:
            self._wants_look |= self._stamp_ns != self._last_stamp_ns
            return False
        self._began_clock = now
        return True

    def end(self) -> None:
        """Note that the folder has been looked through since `begin`.

        The time of its last change is trusted only when it is well past: file systems stamp in coarse ticks.
        """
        age_seconds = abs(self._clock.now().timestamp() - self._stamp_ns / _NANOSECONDS)
        self._last_stamp_ns = self._stamp_ns
        self._trusted_stamp_ns = self._stamp_ns if age_seconds > _COARSEST_STAMP_SECONDS else None
        self._ended_clock = self._clock.monotonic()
        self.rest_from(self._ended_clock - self._began_clock)
        self._wants_look = age_seconds < _TICK_SECONDS
        if self._wants_look:
            self._rests_until = max(self._rests_until, self._ended_clock + _TICK_SECONDS)

    def rest_from(self, cost_seconds: float) -> None:
        """Let the folder rest after a look that took so long."""
        self._rests_until = max(self._rests_until, self._clock.monotonic() + cost_seconds * REST_PER_LOOK)

    @property
    def next_look_seconds(self) -> float | None:
        """Return in how many seconds to look again at a folder that may hold something new."""
        return max(0.0, self._rests_until - self._clock.monotonic()) if self._wants_look else None


class SeenFiles:
    """What became of the files of one folder, remembered over restarts by keyed hash of their names."""

    def __init__(self, folder: str, services: Services) -> None:
        self._folder = folder
        self._keys = services.keys
        self._ledger = services.ledger
        self._outcomes = reads.seen_files(services.ledger.connection, folder)
        self._unsaved: dict[bytes, str] = {}

    def outcome(self, name: str) -> str | None:
        """Return what is remembered of a file."""
        return self._outcomes.get(self._keys.of(name)) if self._outcomes else None

    def note(self, outcomes: Mapping[str, str | None]) -> None:
        """Remember outcomes of files by name; None forgets a file.

        Raises LedgerError, sqlite3.Error; until the next restart they are remembered all the same.
        """
        without = []
        for name, outcome in outcomes.items():
            if outcome is None and not self._outcomes:
                continue
            key = self._keys.of(name)
            if outcome is None:
                without.append(key)
            elif self._outcomes.get(key) != outcome:
                self._outcomes[key] = self._unsaved[key] = outcome
        self._forget(without)
        if self._unsaved:
            self._ledger.remember_files(self._folder, self._unsaved.items())
            self._unsaved.clear()

    def keep_only(self, names: Iterable[str]) -> dict[str, str]:
        """Forget all files but these; return the outcomes that are remembered, by name."""
        if not self._outcomes:
            return {}
        name_by_key = {self._keys.of(name): name for name in names}
        self._forget(self._outcomes.keys() - name_by_key.keys())
        return {name_by_key[key]: outcome for key, outcome in self._outcomes.items()}

    def _forget(self, keys: Iterable[bytes]) -> None:
        forgotten = [key for key in keys if self._outcomes.pop(key, None) is not None]
        for key in forgotten:
            self._unsaved.pop(key, None)
        if forgotten:
            self._ledger.forget_files(self._folder, forgotten)


@dataclass(frozen=True, slots=True)
class NextLook:
    """What becomes of a file: `outcome` is remembered, `again_seconds` says when to look again.

    Without `again_seconds` the file is done with; without `outcome`, too, nothing is remembered of it.
    """

    outcome: str | None = None
    again_seconds: float | None = None
    is_gone: bool = False


GONE: Final = NextLook(is_gone=True)
DONE: Final = NextLook()
SOON: Final = NextLook(again_seconds=SOON_SECONDS)


class FolderScan:
    """The control files of one of the client's folders (`label`: SENT, FAILED or IN).

    Files with an outcome of `open_outcomes` are looked at again after a restart.
    """

    def __init__(
        self, label: str, settings: Settings, services: Services, open_outcomes: Collection[str]
    ) -> None:
        self.label = label
        self._mailbox = settings.mailbox
        self.folder = str(self._mailbox.client_folder(label))
        self._clock = services.clock
        self._open_outcomes = open_outcomes
        self._seen = SeenFiles(label, services)
        self._is_first_look = True
        self._done: set[str] = set()
        self._waiting: dict[str, float] = {}
        self._arrivals = 0
        self._next_due = _AT_ONCE
        self.poll = FolderPoll(settings, services.clock)

    def look(self, *, at_once: bool = False) -> bool:
        """Look for new names if that is due; return whether there are any. Raises OSError."""
        folder = self.folder = str(self._mailbox.client_folder(self.label))
        try:
            if not self.poll.begin(folder, at_once=at_once):
                return False
            new, still_there = self._scan(folder)
        except FileNotFoundError:
            if self.label != "IN":
                # The client makes SENT and FAILED when it needs them.
                return False
            raise
        if still_there < len(self._done):
            gone = self._done.difference(os.listdir(folder))
            self._done -= gone
            self._seen.note(dict.fromkeys(gone))
        if self._is_first_look:
            outcomes = self._seen.keep_only(new)
            self._done.update(name for name, one in outcomes.items() if one not in self._open_outcomes)
            new = [name for name in new if name not in self._done]
            self._is_first_look = False
        else:
            self._arrivals += len(new)
        # Message ids begin with their time, so in the order of names the oldest come first.
        self._waiting.update((name, _AT_ONCE) for name in sorted(new))
        if new:
            self._next_due = _AT_ONCE
        self.poll.end()
        return bool(new)

    def batch(self, limit: int = BATCH) -> list[str]:
        """Return up to `limit` names that are to be looked at now; they stay until `note` says otherwise."""
        now = self._clock.monotonic()
        if now < self._next_due:
            return []
        found = list(islice((name for name, due in self._waiting.items() if due <= now), limit))
        if not found:
            self._next_due = min(self._waiting.values(), default=float("inf"))
        return found

    def note(self, next_looks: Mapping[str, NextLook]) -> None:
        """Note what becomes of files of the last batch. Raises LedgerError, sqlite3.Error."""
        now = self._clock.monotonic()
        outcomes: dict[str, str | None] = {}
        for name, next_look in next_looks.items():
            if next_look.again_seconds is not None:
                self._waiting[name] = now + next_look.again_seconds
                self._next_due = min(self._next_due, self._waiting[name])
                if next_look.outcome is not None:
                    outcomes[name] = next_look.outcome
            else:
                self._waiting.pop(name, None)
                outcomes[name] = next_look.outcome
                if not next_look.is_gone:
                    self._done.add(name)
        self._seen.note(outcomes)

    def outcome(self, name: str) -> str | None:
        """Return what is remembered of a file, so that nothing is logged twice."""
        return self._seen.outcome(name)

    def reopen(self, names: Iterable[str]) -> None:
        """Look at these names again."""
        for name in names:
            self._done.discard(name)
            self._waiting[name] = self._next_due = _AT_ONCE

    def take_arrivals(self) -> int:
        """Return how many names came since the last call; what was there at the start does not count."""
        arrivals, self._arrivals = self._arrivals, 0
        return arrivals

    @property
    def is_busy(self) -> bool:
        """True if more names are to be looked at now."""
        return bool(self.batch(1))

    @property
    def next_look_seconds(self) -> float | None:
        """Return in how many seconds there is something to look at, None if nothing is due."""
        waits = [self.poll.next_look_seconds]
        if self._waiting:
            waits.append(max(0.0, self._next_due - self._clock.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _scan(self, folder: str) -> tuple[list[str], int]:
        """Return the names never seen before, and how many of those that are done with are still there."""
        new, still_there = [], 0
        done, waiting = self._done, self._waiting
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name in done:
                    still_there += 1
                elif name.endswith(_CONTROL_ENDS) and name not in waiting and name[0] != ".":
                    new.append(name)
        return new, still_there


def payload_of(control_path: str) -> str | None:
    """Return the path of the payload beside a control file, None when there is none. Raises OSError."""
    stem, end = os.path.splitext(control_path)
    return next((stem + other for other in PAYLOAD_ENDS[end] if is_there(stem + other)), None)


NO_PAYLOAD_ADVICE: Final = (
    "Find out from whoever runs the MESH Client where it is; put back, it is read by itself."
)
CONTENT_ADVICE: Final = (
    "Look at it with 'meshctl explain FILE'. If another application shares the mailbox, it may belong to"
    " that one; else find out who wrote it, and move it away."
)
_LEAST_PATIENCE_SECONDS = 5.0
_NOT_A_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV})


class UnreadReason(Enum):
    """Why there is no control file."""

    GONE = auto()
    UNFINISHED = auto()
    UNREADABLE = auto()
    NOT_A_FILE = auto()


@dataclass(frozen=True, slots=True, repr=False)
class Unread:
    """A control file that was not read; `reason` and `advice` are for people and hold nothing of the file."""

    why: UnreadReason
    reason: str = ""
    advice: str = CONTENT_ADVICE


@dataclass(frozen=True, slots=True, repr=False)
class Read:
    """A control file, and when it was last written."""

    control: ControlFile
    changed_ns: int


class ControlReader:
    """Reads control files. A file that nobody wrote to for `patience_seconds` counts as finished."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self.patience_seconds = max(settings.staging.quiet_seconds, _LEAST_PATIENCE_SECONDS)
        # By path: size and time of change of a file that is no control file as long as they stay, and why.
        self._faulty: dict[str, tuple[int, int, str]] = {}
        # By path: a time of change in the future, and since when the file was seen unchanged.
        self._future: dict[str, tuple[int, float]] = {}
        self._newest_ns: int | None = None

    def read(self, path: str) -> Read | Unread:
        """Read a control file. Raises OSError only for what is not the fault of this file."""
        try:
            return self._read(path)
        except FileNotFoundError:
            self._faulty.pop(path, None)
            self._future.pop(path, None)
            return Unread(UnreadReason.GONE)
        except OSError as error:
            if is_general(error):
                raise
            if error.errno in _NOT_A_FILE:
                return _not_a_file()
            if system.is_held_open(error):
                return Unread(UnreadReason.UNFINISHED)
            # Rights may be given yet, a network share may come back: the caller looks again later.
            reason = f"It cannot be read: {reason_of(error)}."
            return Unread(UnreadReason.UNREADABLE, reason, advice_on(error))
        except Exception as error:  # noqa: BLE001 - one file never stops the others
            return Unread(UnreadReason.UNREADABLE, fault_text(error))

    def _read(self, path: str) -> Read | Unread:
        descriptor = system.open_file(path, system.READ)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return _not_a_file()
            *stamp, reason = self._faulty.get(path, (-1, -1, ""))
            if stamp == [status.st_size, status.st_mtime_ns]:
                return Unread(UnreadReason.UNREADABLE, reason)
            self._faulty.pop(path, None)
            if status.st_size > CONTROL_FILE_MAX_BYTES:
                most = size_text(CONTROL_FILE_MAX_BYTES)
                reason = f"It has {size_text(status.st_size)}; at most {most} are read."
                return self._unreadable(path, status, reason)
            data = os.read(descriptor, CONTROL_FILE_MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        try:
            read = Read(read_control_file(data), status.st_mtime_ns)
        except ControlFileError as error:
            if not self.is_finished(path, status.st_mtime_ns):
                return Unread(UnreadReason.UNFINISHED)
            return self._unreadable(path, status, str(error))
        self._newest_ns = max(self._newest_ns or 0, read.changed_ns)
        return read

    def take_newest_ns(self) -> int | None:
        """Return when the newest control file was written of those read since the last call, if any was."""
        newest_ns, self._newest_ns = self._newest_ns, None
        return newest_ns

    def is_finished(self, path: str, changed_ns: int) -> bool:
        """True if a file that was written at `changed_ns` is unlikely to be written again."""
        age_seconds = self._clock.age_seconds(changed_ns)
        if age_seconds is None:
            now = self._clock.monotonic()
            seen_ns, since = self._future.get(path, (None, now))
            if seen_ns != changed_ns:
                since = now
            self._future[path] = (changed_ns, since)
            age_seconds = now - since
        if age_seconds < self.patience_seconds:
            return False
        self._future.pop(path, None)
        return True

    def _unreadable(self, path: str, status: os.stat_result, reason: str) -> Unread:
        self._faulty[path] = (status.st_size, status.st_mtime_ns, reason)
        return Unread(UnreadReason.UNREADABLE, reason)


def fault_text(error: Exception) -> str:
    """Return the description of an unforeseen error: its kind and place, never its text."""
    fields = error_fields(error)
    return f"A fault in meshctl itself, please report it: {fields['error']} at {fields['where']}."


def _not_a_file() -> Unread:
    reason = "It is no ordinary file but a link, a folder, a FIFO or a device."
    return Unread(UnreadReason.NOT_A_FILE, reason, NOT_A_FILE_ADVICE)
