"""Wake-ups from the file system. An event only says "go and look"; what it says is never the truth.

The one thing that an event knows and a folder does not is that a file was renamed into place, and so is
complete. Windows tells that only of a file that had another name in the same folder; of one that comes from
elsewhere it tells that it was made, as of every new file, but not that it was written to as well.

During a backlog the watches are taken down: ten thousand renames would cost more to hear of than to find.
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
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, ObservedWatch

_MOST_ARRIVALS = 4096
# By then it has been told that a file that was made has also been written to.
_SETTLED_SECONDS = 0.02
_STOP_SECONDS = 1.0

if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyObserver
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

    # A file that leaves a folder holds up every later event for this long, in case it turns up in another
    # watched folder. We take files out of the outbox all day, and do not care where they went.
    InotifyMoveEventGrouper.delay = 0
    _EVENTS: list[type[FileSystemEvent]] = [FileMovedEvent, FileClosedEvent, DirCreatedEvent, DirMovedEvent]

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


class Watcher(FileSystemEventHandler):
    """Watches folders, not what lies below them, and calls `wake` when something happens in one."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._observer: BaseObserver | None = None
        self._watches: dict[str, _Watch] = {}
        self._arrivals: set[str] = set()
        self._made: set[str] = set()
        self._settling: Timer | None = None
        self._guard = Lock()

    def watch(self, folders: Iterable[str]) -> OSError | None:
        """Watch exactly these folders, those made anew as well; return why one could not be watched."""
        wanted = {folder: _inode(folder) for folder in folders}
        for folder, known in list(self._watches.items()):
            if wanted.get(folder) != known.inode:
                self._drop(folder)
        problem: OSError | None = None
        for folder, inode in wanted.items():
            if folder not in self._watches and inode is not None:
                try:
                    self._add(folder, inode)
                except OSError as error:
                    problem = error
        return problem

    def pause(self) -> None:
        """Stop listening; whoever calls this looks through the folders after `watch` was called again."""
        for folder in list(self._watches):
            self._drop(folder)

    def arrivals(self) -> set[str]:
        """Return the paths that were renamed into place since the last call."""
        with self._guard:
            arrivals, self._arrivals = self._arrivals, set()
        return arrivals

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

    def _add(self, folder: str, inode: int) -> None:
        if self._observer is None:
            observer = _new_observer()
            observer.start()
            self._observer = observer
        watch = self._observer.schedule(self, folder, recursive=False, event_filter=_EVENTS)
        self._watches[folder] = _Watch(watch, inode)

    def _drop(self, folder: str) -> None:
        known = self._watches.pop(folder)
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
