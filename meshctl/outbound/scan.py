"""Looking through the outbox for files that are ready. The folder is the truth; events only say when to look.

A file is ready when nobody has written to it for `quiet_seconds`, or at once when an event said that it
was renamed into place. It then waits for its sidecar only if it cannot be sent without one. Nothing is
moved here.
"""

import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from meshctl.clock import Clock
from meshctl.files.safe_open import lying_since_ns
from meshctl.outbound.examine import FileIdentity, Refused
from meshctl.outbound.names import SIDECAR_SUFFIX, NameKind, NameRules, is_index, is_sidecar
from meshctl.settings.model import StagingSettings

# Files are taken oldest first within so many; a bigger outbox is not read into memory at once.
_SORTED_AT_ONCE = 1024
_SOON_SECONDS = 0.25
# Whoever writes to a temporary name and renames it has done so by then.
_UNFINISHED_SECONDS = 60.0
# Local file systems stamp in ticks, and answers from a server take their time.
_SAME_TIME_NS = 500_000_000


@dataclass(slots=True)
class WorkLeft:
    """What a scan saw and did not hand out."""

    being_written: int = 0
    waiting: int = 0
    next_look_seconds: float | None = None
    indexed: dict[str, bool] = field(default_factory=dict)
    """Whether a folder held an index when that was first asked in this turn."""

    def look_again_in(self, seconds: float) -> None:
        """Note that something may be ready after `seconds`."""
        seconds = max(seconds, 0.005)
        if self.next_look_seconds is None or seconds < self.next_look_seconds:
            self.next_look_seconds = seconds


class Ready(NamedTuple):
    """A file that has been quiet long enough.

    `ask` are the files, it or its sidecar, of which the kernel has yet to say that nobody is writing to them.
    """

    name: str
    has_sidecar: bool
    ask: tuple[str, ...]


@dataclass(slots=True)
class _Unchanged:
    """A file whose stamp lies in the future: how long it has been seen unchanged decides instead."""

    identity: FileIdentity
    since: float


@dataclass(slots=True)
class Memory:
    """What is remembered between scans, only of files that still lie in the outbox."""

    future: dict[str, _Unchanged] = field(default_factory=dict)
    ignored: dict[str, set[str]] = field(default_factory=dict)
    arrived: dict[str, FileIdentity | None] = field(default_factory=dict)
    waiting: dict[str, FileIdentity] = field(default_factory=dict)


class OutboxScan:
    """The outbox of one mailbox. The callables hear of what stays where it is."""

    def __init__(
        self,
        settings: StagingSettings,
        use_cases: Collection[str],
        clock: Clock,
        on_waiting: Callable[[Refused], None],
        on_folder: Callable[[str], None],
        on_ignored: Callable[[str], None],
    ) -> None:
        self.outbox = str(settings.outbox)
        self._names = NameRules(settings)
        self._use_cases = use_cases
        self._quiet_seconds = settings.quiet_seconds
        self._sidecar_wait_seconds = settings.sidecar_wait_seconds
        self._clock = clock
        self._on_waiting = on_waiting
        self._on_folder = on_folder
        self._on_ignored = on_ignored
        self._memory = Memory()
        self._skew_ns = 0

    def note_file_clock(self, now_ns: int) -> None:
        """Note what time the outbox's file system has now: a share's server may not have ours."""
        skew_ns = self._clock.now_ns() - now_ns
        self._skew_ns = skew_ns if abs(skew_ns) > _SAME_TIME_NS else 0

    def folders(self) -> list[tuple[str, str | None]]:
        """Return the outbox and its use-case sub-folders, with the use case each stands for."""
        with os.scandir(self.outbox) as entries:
            named = [
                (entry.path, os.path.normcase(entry.name))
                for entry in entries
                if self._is_use_case(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
        return [(self.outbox, None), *named]

    def _is_use_case(self, name: str) -> bool:
        return os.path.normcase(name) in self._use_cases

    def note_arrivals(self, paths: Collection[str]) -> None:
        """Note files that were renamed into place, and so are complete."""
        for path in paths:
            self._memory.arrived[path] = None

    def ready(self, folder: str, use_case: str | None, work_left: WorkLeft) -> Iterator[Ready]:
        """Yield the files in one folder that are ready to be looked into, oldest first.

        Raises OSError when the folder cannot be read.
        """
        told = self._memory.ignored.setdefault(folder, set())
        lying: set[str] = set()
        with os.scandir(folder) as entries:
            while chunk := list(islice(entries, _SORTED_AT_ONCE)):
                for name, status in self._by_age(chunk, told, lying, is_root=use_case is None):
                    ready = self._ready(folder, name, status, work_left)
                    if ready is not None:
                        yield ready
        # Of a folder that was read to its end; those that are gone are forgotten.
        self._memory.ignored[folder] = lying

    def must_wait(self, folder: str, examined: Refused, work_left: WorkLeft) -> bool:
        """True if a file that lacks a sidecar or an attachment has time left for it to come."""
        path = f"{folder}/{examined.name}"
        status = _lstat(path)
        if status is None:
            return True
        left = self._time_left(path, status)
        if left <= 0 and examined.sidecar is None and self._may_have_a_row(folder, path, work_left):
            # For the turn after this one, by when an index that is whole has become sidecars.
            self.note_writing(work_left)
            return True
        if left <= 0:
            return False
        if path not in self._memory.waiting:
            self._on_waiting(examined)
        self._memory.waiting[path] = examined.identity
        work_left.waiting += 1
        # An attachment that has come is complete only when nobody has written to it for a while.
        work_left.look_again_in(min(left, self._soon()) if examined.sidecar else left)
        return True

    def _may_have_a_row(self, folder: str, path: str, work_left: WorkLeft) -> bool:
        """True if a sidecar has come since the file was looked at, or an index that lies here may bring one.

        After a time without a daemon everything has lain for longer than files wait.
        """
        if _is_file(path + SIDECAR_SUFFIX):
            return True
        if folder not in work_left.indexed:
            with os.scandir(folder) as entries:
                work_left.indexed[folder] = any(is_index(entry.name) for entry in entries)
        return work_left.indexed[folder]

    def note_writing(self, work_left: WorkLeft) -> None:
        """Note that somebody is writing to a file that looked quiet."""
        work_left.being_written += 1
        work_left.look_again_in(self._soon())

    def _soon(self) -> float:
        return max(self._quiet_seconds, _SOON_SECONDS)

    def forget_gone(self) -> None:
        """Forget files that no longer lie in the outbox."""
        memory = self._memory
        for path in {*memory.future, *memory.waiting, *memory.arrived}:
            if not os.path.lexists(path):
                memory.future.pop(path, None)
                memory.waiting.pop(path, None)
                memory.arrived.pop(path, None)

    def _by_age(
        self, entries: list[os.DirEntry[str]], told: set[str], lying: set[str], *, is_root: bool
    ) -> list[tuple[str, os.stat_result]]:
        """Return the files that are not ignored, oldest first.

        Ignored names that were `told` of before, or are now, go into `lying`.
        """
        found = []
        for entry in entries:
            kind = self._names.kind_of(entry.name)
            if kind.is_ignored and entry.name in told:
                lying.add(entry.name)
                continue
            try:
                status = _status_of(entry)
            except FileNotFoundError:
                continue
            if kind.is_ignored:
                if is_root and self._is_use_case(entry.name) and stat.S_ISDIR(status.st_mode):
                    continue
                if kind is NameKind.LEFT_OVER or self._has_lain(entry.path, status):
                    lying.add(entry.name)
                    told.add(entry.name)
                    self._on_ignored(entry.name)
                continue
            if stat.S_ISDIR(status.st_mode):
                if not (is_root and self._is_use_case(entry.name)):
                    self._on_folder(entry.path)
                continue
            found.append((entry.name, status))
        found.sort(key=lambda item: item[1].st_mtime_ns)
        return found

    def _ready(self, folder: str, name: str, status: os.stat_result, work_left: WorkLeft) -> Ready | None:
        path = f"{folder}/{name}"
        if is_sidecar(name):
            return Ready(name, False, ()) if self._is_abandoned(path, status, work_left) else None
        quiet = self._quiet(path, status, work_left)
        if quiet is None:
            return None
        sidecar = _lstat(path + SIDECAR_SUFFIX)
        if sidecar is None:
            return None if self._still_waits(path, status, work_left) else Ready(name, False, quiet)
        sidecar_quiet = self._quiet(path + SIDECAR_SUFFIX, sidecar, work_left)
        return None if sidecar_quiet is None else Ready(name, True, quiet + sidecar_quiet)

    def _quiet(self, path: str, status: os.stat_result, work_left: WorkLeft) -> tuple[str, ...] | None:
        """Return the file if the kernel has to be asked about it, nothing if not, None if it is not quiet."""
        if not stat.S_ISREG(status.st_mode):
            return ()
        if status.st_size > 0 and self._was_renamed_in(path, status):
            # What Windows tells is not that certain.
            return (path,) if sys.platform == "win32" else ()
        quiet_for = self._unchanged_for(path, status, status.st_mtime_ns)
        if quiet_for < self._quiet_seconds:
            work_left.being_written += 1
            work_left.look_again_in(self._quiet_seconds - quiet_for)
            return None
        return (path,)

    def _was_renamed_in(self, path: str, status: os.stat_result) -> bool:
        """True if an event said so, and nobody has written to the file since."""
        if path not in self._memory.arrived:
            return False
        identity = FileIdentity.of(status)
        seen = self._memory.arrived[path]
        if seen is None:
            self._memory.arrived[path] = identity
        elif seen != identity:
            del self._memory.arrived[path]
            return False
        return True

    def _unchanged_for(self, path: str, status: os.stat_result, stamp_ns: int) -> float:
        """Return for how many seconds a file has been as it is."""
        age = self._clock.age_seconds(stamp_ns + self._skew_ns)
        if age is not None:
            self._memory.future.pop(path, None)
            return age
        now = self._clock.monotonic()
        seen = self._memory.future.get(path)
        if seen is None or seen.identity != FileIdentity.of(status):
            self._memory.future[path] = _Unchanged(FileIdentity.of(status), now)
            return 0.0
        return now - seen.since

    def _is_abandoned(self, path: str, status: os.stat_result, work_left: WorkLeft) -> bool:
        """True if the payload of a sidecar has had its time to come."""
        if _is_file(path[: -len(SIDECAR_SUFFIX)]):
            return False
        waited = self._unchanged_for(path, status, lying_since_ns(path, status))
        if waited < self._sidecar_wait_seconds:
            work_left.waiting += 1
            work_left.look_again_in(self._sidecar_wait_seconds - waited)
            return False
        return True

    def _has_lain(self, path: str, status: os.stat_result) -> bool:
        """True if nobody has written to a file for so long that nobody is going to."""
        return self._unchanged_for(path, status, status.st_mtime_ns) > _UNFINISHED_SECONDS

    def _still_waits(self, path: str, status: os.stat_result, work_left: WorkLeft) -> bool:
        """True if a file that lacks its sidecar has time left; it is not read again."""
        known = self._memory.waiting.get(path)
        if known != FileIdentity.of(status):
            return False
        left = self._time_left(path, status)
        if left <= 0:
            return False
        work_left.waiting += 1
        work_left.look_again_in(left)
        return True

    def _time_left(self, path: str, status: os.stat_result) -> float:
        return self._sidecar_wait_seconds - self._unchanged_for(path, status, lying_since_ns(path, status))


def _status_of(entry: os.DirEntry[str]) -> os.stat_result:
    if sys.platform == "win32":
        # What a folder knows of its files there is neither all nor the newest.
        return os.lstat(entry.path)
    return entry.stat(follow_symlinks=False)


def _is_file(path: str) -> bool:
    """True if there is a payload, and not a folder, which never leaves."""
    status = _lstat(path)
    return status is not None and not stat.S_ISDIR(status.st_mode)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
