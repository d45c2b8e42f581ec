"""Wake-ups from the file system. An event only says "go and look"; what it says is never the truth.

Two things an event knows that a folder does not. One is that a file was renamed into place, and so is
complete. Windows tells that only of a file that had another name in the same folder; of one that comes from
elsewhere it tells that it was made, as of every new file, but not that it was written to as well. The
other, on Linux, is that a file was written to and not closed yet.

During a backlog only writes and closings are listened to: ten thousand renames, most of them our own, would
cost more to hear of than to find.
"""

import contextlib
import os
import sys
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
# What says who writes; nothing that meshctl does in a watched folder is among it.
_OF_WRITERS: list[type[FileSystemEvent]] = [FileModifiedEvent, FileClosedEvent]
# By then it has been told that a file that was made has also been written to.
_SETTLED_SECONDS = 0.02
_STOP_SECONDS = 1.0

if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyObserver
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

    # A file that leaves a folder holds up every later event for this long, in case it turns up in another
    # watched folder. We take files out of the outbox all day, and do not care where they went.
    InotifyMoveEventGrouper.delay = 0
    _EVENTS: list[type[FileSystemEvent]] = [
        FileMovedEvent,
        FileModifiedEvent,
        FileClosedEvent,
        FileDeletedEvent,
        DirCreatedEvent,
        DirMovedEvent,
    ]

    def _new_observer() -> BaseObserver:
        # Full events: a rename from an unwatched folder is told as a move, not as a creation.
        return InotifyObserver(generate_full_events=True)

else:
    from watchdog.observers import Observer

    _EVENTS = [FileMovedEvent, FileCreatedEvent, FileModifiedEvent, DirCreatedEvent, DirMovedEvent]

    # On Windows what happens is told only once nothing more has happened for so long.
    _GATHERING_SECONDS = 0.05

    def _new_observer() -> BaseObserver:
        return Observer(timeout=_GATHERING_SECONDS)


@dataclass(frozen=True, slots=True)
class _Watch:
    watch: ObservedWatch
    inode: int
    is_narrow: bool


class Watcher(FileSystemEventHandler):
    """Watches folders, not what lies below them, and calls `wake` when something happens in one."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._observer: BaseObserver | None = None
        self._watches: dict[str, _Watch] = {}
        self._arrivals: set[str] = set()
        self._made: set[str] = set()
        self._written: set[str] = set()
        self._settling: Timer | None = None
        self._guard = Lock()

    def watch(self, folders: Iterable[str]) -> OSError | None:
        """Watch exactly these folders, those made anew as well; return why one could not be watched."""
        wanted = {folder: _inode(folder) for folder in folders}
        narrow = {}
        for folder, known in list(self._watches.items()):
            if wanted.get(folder) != known.inode:
                self._drop(folder)
            elif known.is_narrow:
                narrow[folder] = self._watches.pop(folder)
        problem: OSError | None = None
        for folder, inode in wanted.items():
            if folder not in self._watches and inode is not None:
                try:
                    self._add(folder, inode)
                except OSError as error:
                    problem = error
        for known in narrow.values():
            self._unschedule(known)
        return problem

    def pause(self) -> None:
        """Hear only who writes, until `watch` is called; whoever calls this looks through the folders."""
        for folder, known in list(self._watches.items()):
            if not known.is_narrow:
                # The new watch stands before the old one goes: no closing of a file is missed.
                with contextlib.suppress(OSError):
                    self._add(folder, known.inode, is_narrow=True)
                if self._watches[folder] is known:
                    self._drop(folder)
                else:
                    self._unschedule(known)

    def arrivals(self) -> set[str]:
        """Return the paths that were renamed into place since the last call."""
        with self._guard:
            arrivals, self._arrivals = self._arrivals, set()
        return arrivals

    def being_written(self) -> frozenset[str]:
        """Return the paths that were written to and not closed since, as far as events have told."""
        with self._guard:
            return frozenset(self._written)

    def close(self) -> None:
        """Stop all threads."""
        if self._observer is not None:
            # The library's threads wait for each other without a limit; we do not wait for them without one.
            stopping = Thread(target=self._observer.stop, name="watches", daemon=True)
            stopping.start()
            stopping.join(_STOP_SECONDS)
            self._observer.join(_STOP_SECONDS)
            self._observer = None
        if self._settling is not None:
            self._settling.cancel()
        self._watches.clear()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note what was renamed into place, and wake the loop."""
        if sys.platform == "linux" and not isinstance(event, DirCreatedEvent | DirMovedEvent):
            self._note_writing(event)
        if sys.platform == "linux" and isinstance(event, FileModifiedEvent | FileDeletedEvent):
            # The closing wakes; each write would be too often.
            return
        if isinstance(event, FileMovedEvent):
            if not event.dest_path:
                return
            with self._guard:
                if len(self._arrivals) < _MOST_ARRIVALS:
                    self._arrivals.add(_path(event.dest_path))
        elif sys.platform == "win32" and isinstance(event, FileCreatedEvent):
            self._note_made(_path(event.src_path))
        elif sys.platform == "win32" and isinstance(event, FileModifiedEvent):
            with self._guard:
                self._made.discard(_path(event.src_path))
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
                # Its writer may write on under the new name.
                target = _path(event.dest_path)
                (self._written.add if was_written else self._written.discard)(target)

    def _note_made(self, path: str) -> None:
        with self._guard:
            if len(self._made) < _MOST_ARRIVALS:
                self._made.add(path)
            self._await_settling()

    def _await_settling(self) -> None:
        """Have what was made looked at a little later; whoever calls this holds the guard."""
        if self._made and self._settling is None:
            self._settling = Timer(_SETTLED_SECONDS, self._settle, [frozenset(self._made)])
            self._settling.daemon = True
            self._settling.start()

    def _settle(self, made: frozenset[str]) -> None:
        """Take for renamed into place what was made a while ago and has not been written to since."""
        with_content = {path for path in made if _size(path)}
        with self._guard:
            self._arrivals |= with_content & self._made
            self._made -= made
            self._settling = None
            self._await_settling()
        self._wake()

    def _add(self, folder: str, inode: int, *, is_narrow: bool = False) -> None:
        if self._observer is None:
            observer = _new_observer()
            observer.start()
            self._observer = observer
        events = _OF_WRITERS if is_narrow else _EVENTS
        watch = self._observer.schedule(self, folder, recursive=False, event_filter=events)
        self._watches[folder] = _Watch(watch, inode, is_narrow)

    def _drop(self, folder: str) -> None:
        known = self._watches.pop(folder)
        prefix = f"{folder}/"
        with self._guard:
            # Nobody will tell of their closing.
            self._written = {path for path in self._written if not path.startswith(prefix)}
        self._unschedule(known)

    def _unschedule(self, known: _Watch) -> None:
        if self._observer is not None:
            with contextlib.suppress(KeyError, OSError):
                self._observer.unschedule(known.watch)


def _path(told: str | bytes) -> str:
    """Return a path as the folders are looked through: a folder as it was given, then "/" and a name."""
    return "/".join(os.path.split(os.fsdecode(told)))


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
