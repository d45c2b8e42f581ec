"""File-system events. An event only says "go and look"; the folder is the truth.

Two things an event shows that a folder does not. One is that a file was renamed into place, and so is
complete. Windows reports a rename only within a folder; a file that is moved in from elsewhere is reported as
created, like every new file, but not as written to. The other, on Linux, is that a file was written to and
has not been closed yet.

During a backlog only writes and closings are watched: ten thousand renames, most of them our own, would cost
more to hear of than to find.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock, Thread, Timer

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, ObservedWatch

_MOST_ARRIVALS = 4096
# What writers do; meshctl itself does none of it in a watched folder.
_OF_WRITERS: list[type[FileSystemEvent]] = [FileModifiedEvent, FileClosedEvent]
# By then Windows has reported whether a file that was created has also been written to.
_SETTLED_SECONDS = 0.02
_STOP_SECONDS = 1.0

if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyObserver
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

    # A file that leaves a folder delays every later event for this long, in case it appears in another
    # watched folder. We take files out of the outbox all day, and need not know where they went.
    InotifyMoveEventGrouper.delay = 0
    _EVENTS: list[type[FileSystemEvent]] = [
        FileMovedEvent,
        FileModifiedEvent,
        FileClosedEvent,
        FileDeletedEvent,
        DirCreatedEvent,
        DirMovedEvent,
    ]

    # Whether writes and closings are reported.
    _TELLS_WRITERS: bool = True

    def _new_observer() -> BaseObserver:
        # Full events: a rename from an unwatched folder is reported as a move, not as a creation.
        return InotifyObserver(generate_full_events=True)

else:
    from watchdog.observers import Observer

    _EVENTS = [FileMovedEvent, FileCreatedEvent, FileModifiedEvent, DirCreatedEvent, DirMovedEvent]

    _TELLS_WRITERS = False
    # Windows reports events only once nothing more has happened for so long.
    _GATHERING_SECONDS = 0.05

    def _new_observer() -> BaseObserver:
        return Observer(timeout=_GATHERING_SECONDS)


# Windows reports a file renamed from an unwatched folder as created, without a write to it.
_TELLS_ARRIVALS_AS_NEW: bool = sys.platform == "win32"


@dataclass(frozen=True, slots=True)
class _Watch:
    """A watch of the library, and the threads that came into being with it."""

    watch: ObservedWatch
    inode: int
    is_narrow: bool
    threads: frozenset[Thread]


class Watcher(FileSystemEventHandler):
    """Watches folders, without their sub-folders, and calls `wake` when something happens in one."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._observer: BaseObserver | None = None
        self._watches: dict[str, _Watch] = {}
        self._arrivals: set[str] = set()
        self._created: set[str] = set()
        self._written: set[str] = set()
        self._settling: Timer | None = None
        self._guard = Lock()

    def watch(self, folders: Iterable[str]) -> OSError | None:
        """Watch exactly these folders, also one that was replaced; return why one cannot be watched.

        One that is gone or closed to us is no reason: whoever works in it says so. It is tried again. A
        thread of the library ends when a share hiccups, without a word: all watches are then set again.
        """
        wanted = {folder: _inode(folder) for folder in folders}
        narrow = {}
        for folder, watched in list(self._watches.items()):
            if wanted.get(folder) != watched.inode:
                self._drop(folder)
            elif watched.is_narrow:
                narrow[folder] = self._watches.pop(folder)
        if not self._are_alive(*self._watches.values(), *narrow.values()):
            self._end_watches()
            narrow.clear()
        problem: OSError | None = None
        for folder, inode in wanted.items():
            if folder not in self._watches and inode is not None:
                try:
                    self._add(folder, inode)
                except (FileNotFoundError, NotADirectoryError, PermissionError):
                    continue
                except OSError as error:
                    problem = error
        for watched in narrow.values():
            self._unschedule(watched)
        return problem

    def pause(self) -> None:
        """Watch only writes and closings until `watch` is called; the caller looks through the folders."""
        for folder, watched in list(self._watches.items()):
            if not watched.is_narrow:
                # The new watch is added before the old one is removed: no closing of a file is missed.
                with contextlib.suppress(OSError):
                    self._add(folder, watched.inode, is_narrow=True)
                if self._watches[folder] is watched:
                    self._drop(folder)
                else:
                    self._unschedule(watched)

    def arrivals(self) -> set[str]:
        """Return the paths that were renamed into place since the last call."""
        with self._guard:
            arrivals, self._arrivals = self._arrivals, set()
        return arrivals

    def being_written(self) -> frozenset[str]:
        """Return the paths that were written to and not closed since, as far as events show."""
        with self._guard:
            return frozenset(self._written)

    def close(self) -> None:
        """Stop all threads."""
        self._end_watches()
        if self._settling is not None:
            self._settling.cancel()

    def _are_alive(self, *watches: _Watch) -> bool:
        """True if every thread is at work that reports events."""
        is_observed = self._observer is None or self._observer.is_alive()
        return is_observed and all(thread.is_alive() for each in watches for thread in each.threads)

    def _end_watches(self) -> None:
        if self._observer is not None:
            # The library's threads wait for each other without a limit; we do not.
            stopping = Thread(target=self._observer.stop, name="watches", daemon=True)
            stopping.start()
            stopping.join(_STOP_SECONDS)
            self._observer.join(_STOP_SECONDS)
            self._observer = None
        self._watches.clear()
        with self._guard:
            # Their closing will not be seen.
            self._written.clear()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note what was renamed into place, and wake the loop."""
        if _TELLS_WRITERS and not isinstance(event, DirCreatedEvent | DirMovedEvent):
            self._note_writing(event)
        if _TELLS_WRITERS and isinstance(event, FileModifiedEvent | FileDeletedEvent):
            # The closing wakes the loop; every write would be too often.
            return
        if isinstance(event, FileMovedEvent):
            if not event.dest_path:
                return
            with self._guard:
                if len(self._arrivals) < _MOST_ARRIVALS:
                    self._arrivals.add(_path(event.dest_path))
        elif _TELLS_ARRIVALS_AS_NEW and isinstance(event, FileCreatedEvent):
            self._note_created(_path(event.src_path))
        elif _TELLS_ARRIVALS_AS_NEW and isinstance(event, FileModifiedEvent):
            with self._guard:
                self._created.discard(_path(event.src_path))
                self._arrivals.discard(_path(event.src_path))
        self._wake()

    def _note_writing(self, event: FileSystemEvent) -> None:
        with self._guard:
            source, is_full = _path(event.src_path), len(self._written) >= _MOST_ARRIVALS
            if isinstance(event, FileModifiedEvent):
                if not is_full:
                    self._written.add(source)
                return
            was_written = source in self._written
            self._written.discard(source)
            if event.dest_path:
                # Its writer may go on writing under the new name.
                target = _path(event.dest_path)
                (self._written.add if was_written else self._written.discard)(target)

    def _note_created(self, path: str) -> None:
        with self._guard:
            if len(self._created) < _MOST_ARRIVALS:
                self._created.add(path)
            self._await_settling()

    def _await_settling(self) -> None:
        """Look at new files a little later; the caller holds the guard."""
        if self._created and self._settling is None:
            self._settling = Timer(_SETTLED_SECONDS, self._settle, [frozenset(self._created)])
            self._settling.daemon = True
            self._settling.start()

    def _settle(self, created: frozenset[str]) -> None:
        """Count as renamed into place the files that were created a moment ago and not written to since."""
        with_content = {path for path in created if _size(path)}
        with self._guard:
            self._arrivals |= with_content & self._created
            self._created -= created
            self._settling = None
            self._await_settling()
        self._wake()

    def _add(self, folder: str, inode: int, *, is_narrow: bool = False) -> None:
        before = set(threading.enumerate())
        if self._observer is None:
            observer = _new_observer()
            observer.start()
            self._observer = observer
        events = _OF_WRITERS if is_narrow else _EVENTS
        watch = self._observer.schedule(self, folder, recursive=False, event_filter=events)
        born = set(threading.enumerate()) - before
        # Ours end by themselves.
        of_library = frozenset(thread for thread in born if not isinstance(thread, Timer))
        self._watches[folder] = _Watch(watch, inode, is_narrow, of_library)

    def _drop(self, folder: str) -> None:
        watched = self._watches.pop(folder)
        prefix = f"{folder}/"
        with self._guard:
            # Their closing will not be seen.
            self._written = {path for path in self._written if not path.startswith(prefix)}
        self._unschedule(watched)

    def _unschedule(self, watched: _Watch) -> None:
        if self._observer is not None:
            with contextlib.suppress(KeyError, OSError):
                self._observer.unschedule(watched.watch)


def _path(event_path: str | bytes) -> str:
    """Return a path as scans make it: a folder as it was given, then "/" and a name."""
    return "/".join(os.path.split(os.fsdecode(event_path)))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _inode(folder: str) -> int | None:
    try:
        return os.stat(folder).st_ino
    except OSError:
        return None
