"""When a file in the outbox is complete: one rule for payloads, sidecars, attachments and indexes.

A file is complete when

(a) an event said that it was renamed into the outbox and nothing about it has changed since; or
(b) its size, its times and its identity were seen unchanged for `quiet_seconds` of our own steady clock. What
    its stamps say counts for nothing: copiers set them before they copy, and shares show those of the first
    write until the last;
(c) and, in both cases, no program has it open for writing, as far as the kernel and the events say (see
    `files/reading.py`): an event of a write that no event of a closing has followed counts as open, unless
    the kernel knows that nobody has it open. Not every write ends with a closing (`truncate` opens nothing),
    and events get lost.

Where (c) has no answer, as for what other computers write to a share, a writer that closes its file and
pauses for longer than `quiet_seconds` cannot be distinguished from one that is done.

An empty file is never complete by (a), and by (b) only after `empty_seconds`: many programs make a file first
and fill it later.
"""

import os
import stat
from collections.abc import Callable, Collection

from meshctl.files.reading import is_being_written
from meshctl.platform import system

_MOST_OURS = 4096
_LONG_OPEN_SECONDS = 3600.0
_MANY_LOOKS = 3


class Completeness:
    """How long the files in the outbox have not changed. `monotonic` gives seconds that only go forward."""

    def __init__(self, quiet_seconds: float, empty_seconds: float, monotonic: Callable[[], float]) -> None:
        self._quiet_seconds = quiet_seconds
        self._empty_seconds = max(empty_seconds, quiet_seconds)
        self._monotonic = monotonic
        self._arrived: dict[str, int | None] = {}
        self._ours: set[str] = set()
        # Size, time and number of a file at the last look, and at how many looks the number alone changed.
        self._looks: dict[str, tuple[int, int, int, int]] = {}
        self._written: Collection[str] = ()
        # By folder: the mark of each file as it was first seen, and when that was.
        self._seen: dict[str, dict[int, float]] = {}
        self._seen_now: dict[str, dict[int, float]] = {}

    def note_events(self, arrived: Collection[str], written: Collection[str]) -> None:
        """Note which paths were renamed into place, and which were written to and not closed yet."""
        for path in arrived:
            if path in self._ours:
                self._ours.discard(path)
            else:
                self._arrived[path] = None
        self._written = written

    def note_put_back(self, path: str) -> None:
        """Note that the daemon itself causes the next event about a path: it says nothing about a writer."""
        if len(self._ours) >= _MOST_OURS:
            # Without events none of them is ever used up.
            self._ours.clear()
        self._ours.add(path)
        self._arrived.pop(path, None)

    def missing_seconds(self, folder: str, name: str, status: os.stat_result) -> float:
        """Return for how long a file must stay as it is to count as complete; 0.0 when it does."""
        path = f"{folder}/{name}"
        mark = mark_of(folder, name, status)
        if path in self._written:
            is_quiet = self._seen_seconds(folder, mark) >= self._quiet_seconds
            if not is_quiet or is_being_written(path) is not False:
                return self._quiet_seconds
        if self._has_arrived(path, mark) and status.st_size:
            return 0.0
        wanted = self._quiet_seconds if status.st_size else self._empty_seconds
        return max(wanted - self._seen_seconds(folder, mark), 0.0)

    def is_complete(self, folder: str, name: str, status: os.stat_result) -> bool:
        """True if a file that a letter is to take along is complete."""
        # A link or a folder is rejected for what it is.
        return not stat.S_ISREG(status.st_mode) or self.missing_seconds(folder, name, status) <= 0

    def seen_seconds(self, folder: str, name: str, status: os.stat_result) -> float:
        """Return for how long a file has been seen as it is."""
        return self._seen_seconds(folder, mark_of(folder, name, status))

    def is_held_open(self, folder: str, name: str, status: os.stat_result) -> bool:
        """True if a file that a program has open has not changed for so long that a person must know."""
        return self.seen_seconds(folder, name, status) >= _LONG_OPEN_SECONDS

    def is_another_each_time(self, folder: str, name: str, status: os.stat_result) -> bool:
        """True if the number of a file has changed from look to look, and neither size nor time."""
        path = f"{folder}/{name}"
        size, time_ns, number, changes = self._looks.pop(path, (0, 0, 0, 0))
        if (size, time_ns) != (status.st_size, status.st_mtime_ns):
            changes = 0
        elif number != status.st_ino:
            changes += 1
        if len(self._looks) < _MOST_OURS:
            self._looks[path] = (status.st_size, status.st_mtime_ns, status.st_ino, changes)
        return changes >= _MANY_LOOKS

    def forget_taken(self, folder: str, name: str, status: os.stat_result) -> None:
        """Forget a file that was taken."""
        self._looks.pop(f"{folder}/{name}", None)
        self._arrived.pop(f"{folder}/{name}", None)
        seen_now = self._seen_now.get(folder)
        if seen_now:
            seen_now.pop(mark_of(folder, name, status), None)

    def finish_folder(self, folder: str) -> None:
        """Forget what was not seen in a folder since the last call: a folder was gone through to its end."""
        self._seen[folder] = self._seen_now.pop(folder, {})
        prefix = f"{folder}/"
        for path in [path for path in self._arrived if path.startswith(prefix)]:
            if not os.path.lexists(path):
                del self._arrived[path]

    def _seen_seconds(self, folder: str, mark: int) -> float:
        now = self._monotonic()
        seen_now = self._seen_now.setdefault(folder, {})
        since = seen_now.get(mark) or self._seen.get(folder, {}).get(mark, now)
        seen_now[mark] = since
        return now - since

    def _has_arrived(self, path: str, mark: int) -> bool:
        if path not in self._arrived:
            return False
        seen = self._arrived[path]
        if seen is None:
            self._arrived[path] = mark
        elif seen != mark:
            del self._arrived[path]
            return False
        return True


def mark_of(folder: str, name: str, status: os.stat_result) -> int:
    """Return a number that stays the same as long as a file does not change."""
    changed_ns = system.arrived_ns(f"{folder}/{name}", status)
    return hash((name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, changed_ns))
