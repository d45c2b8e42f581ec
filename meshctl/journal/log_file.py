"""The log file: where lines go, and how a process is set up to log.

Logging never raises. Lines that cannot be written wait in memory up to a bound and follow later; a line then
says how many were lost. Of a library's records only name, level and place are logged: their texts may quote
paths and data.
"""

import contextlib
import errno
import itertools
import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol

from meshctl.journal.events import (
    LOGGER_NAME,
    EventRecord,
    Fields,
    Journal,
    error_fields,
    event_and_fields,
    held_back,
    journal,
)
from meshctl.journal.lines import json_line, logfmt_fields, logfmt_line, rotated_name
from meshctl.platform import system

Line = Callable[[float, str, str, Fields], str]
"""Makes a line of the time in seconds since 1970, a level, an event and its fields."""

# sd-daemon(3): the number that journald reads from the start of a line on stderr.
_SD_PRIORITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}
_SD_NOTICE = 5


def journald_line(at_seconds: float, level: str, event: str, fields: Fields) -> str:
    """Return the event as systemd's journal takes it, which has a time of its own."""
    del at_seconds
    return f"<{_SD_PRIORITY.get(level, _SD_NOTICE)}>{event}{logfmt_fields(fields)}"


class LineFormatter(logging.Formatter):
    """Makes a line of a record, ours or a library's."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line end."""
        event, fields = event_and_fields(record)
        return self._line(record.created, record.levelname, event, fields)


MAX_WAITING_BYTES = 1 << 20
# Seeing whether logrotate has moved the file takes longer than writing a line.
LOOK_EVERY_SECONDS = 1.0
# A batch of this size is written although it has not ended.
_MAX_BATCH_BYTES = 1 << 18
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | system.NO_FOLLOW


class LogFile(logging.Handler):
    """Appends lines to the private file `path`, and begins a new one at `rotate_bytes` (0: never).

    `keep` old files stay. A file that logrotate has moved is followed. Not `RotatingFileHandler`: that tears
    a line on a full disk, makes each line twice, and loads pickle and more into every daemon.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int,
        keep: int,
        line: Line,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.setFormatter(LineFormatter(line))
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._monotonic = monotonic
        self._descriptor = -1
        self._waiting = bytearray()
        self._lost_lines = 0
        self._batches = 0
        # A short write left the end of a line waiting; nothing else may come between.
        self._is_within_line = False
        self._pause_seconds = 0.0
        self._trouble: OSError | None = None
        self._next_try_at = self._next_rotation_at = self._next_look_at = float("-inf")
        self._size_bytes = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or keep it for the end of the batch."""
        line = f"{self.format(record)}\n".encode()
        if self._waiting and len(self._waiting) + len(line) > MAX_WAITING_BYTES:
            self._lost_lines += 1
        else:
            self._waiting += line
        if not self._batches or len(self._waiting) > _MAX_BATCH_BYTES:
            self._try_to_write()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write what is logged meanwhile at once, at the end; batches may be nested and overlap."""
        with self._locked():
            self._batches += 1
        try:
            yield
        finally:
            with self._locked():
                self._batches -= 1
                if not self._batches:
                    self._try_to_write()

    def flush(self) -> None:
        """Write what waits, unless the file could not be written a moment ago."""
        self.retry()

    def retry(self) -> OSError | None:
        """Write what waits, as `flush` does; return why it could not be written when that was last tried."""
        with self._locked():
            self._try_to_write()
            return self._trouble

    def close(self) -> None:
        """Write what waits, if that can be done now, and close the file; a later record opens it again."""
        with self._locked():
            self._next_try_at = float("-inf")
            self._try_to_write()
            self._release()
        super().close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _try_to_write(self) -> None:
        now = self._monotonic()
        if now < self._next_try_at:
            return
        try:
            self._write_waiting(now)
        except OSError as error:
            self._pause(now, error)
        else:
            self._pause_seconds, self._trouble = 0.0, None

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # A network share reports here what it could not store: nothing that could be written again.
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _write_waiting(self, now: float) -> None:
        if self._descriptor >= 0 and now >= self._next_look_at:
            self._next_look_at = now + LOOK_EVERY_SECONDS
            self._follow_moves()
        while self._waiting or self._lost_lines:
            if not self._waiting:
                gap = EventRecord(logging.WARNING, "daemon.log_gap", {"lines": self._lost_lines})
                self._waiting += f"{self.format(gap)}\n".encode()
                self._lost_lines = 0
            if self._descriptor < 0:
                self._open(0o600)
            if self._is_full():
                self._rotate(now)
            written = os.write(self._descriptor, self._waiting)
            self._size_bytes += written
            self._is_within_line = not self._waiting.endswith(b"\n", 0, written)
            del self._waiting[:written]

    def _follow_moves(self) -> None:
        if self._still_ours():
            self._size_bytes = os.fstat(self._descriptor).st_size
        else:
            self._release()

    def _still_ours(self) -> bool:
        """True unless logrotate, or another process with the same log, has moved the file."""
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._descriptor))

    def _open(self, mode: int) -> None:
        folder = self._path.parent
        if not folder.is_dir():
            system.make_folder(folder, 0o700)
            folder.chmod(0o700)
        try:
            self._descriptor = system.open_file(self._path, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            self._descriptor = system.open_file(self._path, _OPEN_FLAGS)
        else:
            self._path.chmod(mode)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if not self._is_within_line:
            _end_torn_line(self._descriptor, status.st_size)
        self._size_bytes = status.st_size

    def _is_full(self) -> bool:
        if not self._rotate_bytes or self._is_within_line or not self._size_bytes:
            return False
        return self._size_bytes + len(self._waiting) > self._rotate_bytes

    def _rotate(self, now: float) -> None:
        if now < self._next_rotation_at:
            return
        mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
        # Another process with the same log may have rotated it a moment ago.
        is_ours = self._still_ours()
        # First, as Windows renames no file that is open.
        self._release()
        try:
            if is_ours:
                self._shift_old_files()
        except OSError:
            # Better a log file too long than none: append on, and try to rotate again later.
            self._next_rotation_at = now + _LONGEST_PAUSE_SECONDS
        self._open(mode)

    def _shift_old_files(self) -> None:
        # On Windows this fails while somebody holds the log; then the old ones stay where they are.
        system.rename(self._path, self._path)
        beyond = itertools.takewhile(
            Path.exists, (rotated_name(self._path, number) for number in itertools.count(self._keep + 1))
        )
        for path in beyond:
            system.unlink(path)
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                system.rename(rotated_name(self._path, number), rotated_name(self._path, number + 1))
        if self._keep:
            system.rename(self._path, rotated_name(self._path, 1))
        else:
            system.unlink(self._path)

    def _pause(self, now: float, error: OSError) -> None:
        self._release()
        # Of a write it does not say where; the folder is what is named, whatever lies in the file's place.
        number = error.errno or errno.EIO
        self._trouble = OSError(number, os.strerror(number), str(self._path.parent))
        if not self._pause_seconds:
            reason = os.strerror(error.errno) if error.errno else "unknown reason"
            _print(
                f"meshctl: cannot write the log {self._path}: {reason}. "
                "Lines wait in memory until it can be written; free space or correct the folder's rights."
            )
        self._pause_seconds = min(max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), _LONGEST_PAUSE_SECONDS)
        self._next_try_at = now + self._pause_seconds


def _end_torn_line(descriptor: int, size_bytes: int) -> None:
    """End the line that an earlier process was killed in, so that the next does not continue it."""
    if size_bytes:
        os.lseek(descriptor, -1, os.SEEK_END)
        if os.read(descriptor, 1) != b"\n":
            os.write(descriptor, b"\n")


class StandardError(logging.Handler):
    """Prints lines to standard error."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.setFormatter(LineFormatter(line))

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        _print(self.format(record))


def _print(line: str) -> None:
    """Print to standard error; one that is closed or full is no reason to stop."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class LogOptions(Protocol):
    """The settings' section `[log]`."""

    @property
    def file(self) -> Path:
        """Where the log is written."""

    @property
    def format(self) -> str:
        """Either `logfmt` or `json`."""

    @property
    def level(self) -> str:
        """The lowest level that is written: DEBUG, INFO, WARNING or ERROR."""

    @property
    def rotate_bytes(self) -> int:
        """The size at which the file is rotated; 0 for never."""

    @property
    def keep(self) -> int:
        """How many old files are kept."""


_undo = ExitStack()
"""Takes away what `configure_log` has put in place."""


def configure_log(log: LogOptions, *, to_terminal: bool = False) -> Journal:
    """Send the journal to `log.file` and write what was held back.

    Under systemd lines also go to stderr with their priority; `to_terminal` repeats them there for a person.
    Uncaught exceptions are logged by type and place. May be called again with other settings. A file that
    cannot be written is reported on stderr, not raised.
    """
    release_log()
    line = json_line if log.format == "json" else logfmt_line
    level = logging.getLevelNamesMapping()[log.level.upper()]
    handlers: list[logging.Handler] = [
        LogFile(log.file, rotate_bytes=log.rotate_bytes, keep=log.keep, line=line)
    ]
    if _stderr_is_systemd_journal():
        handlers.append(StandardError(journald_line))
    elif to_terminal:
        handlers.append(StandardError(logfmt_line))
    root, logger = logging.getLogger(), logging.getLogger(LOGGER_NAME)
    _undo.callback(logger.setLevel, logging.DEBUG)
    logger.setLevel(level)
    for handler in handlers:
        _undo.callback(handler.close)
        _undo.callback(root.removeHandler, handler)
        root.addHandler(handler)
    # Before the others go: what a thread logs meanwhile must not be printed by `logging` itself.
    _undo.callback(root.addHandler, held_back)
    root.removeHandler(held_back)
    with journal.batch():
        for record in held_back.take():
            if record.levelno >= level:
                for handler in handlers:
                    handler.handle(record)
    _undo.callback(setattr, sys, "excepthook", sys.excepthook)
    sys.excepthook = partial(_log_uncaught, sys.excepthook)
    _undo.callback(setattr, threading, "excepthook", threading.excepthook)
    threading.excepthook = _log_uncaught_in_thread
    return journal


def retry_log() -> OSError | None:
    """Write the lines that wait in memory; return why the log cannot be written, None if it can."""
    files = (handler for handler in logging.getLogger().handlers if isinstance(handler, LogFile))
    return next((trouble for trouble in (file.retry() for file in files) if trouble is not None), None)


def release_log() -> None:
    """Close the log; what is logged from now on is held back for the next `configure_log`."""
    _undo.close()


def _stderr_is_systemd_journal() -> bool:
    """True if our own stderr goes to journald; the variable alone may be inherited (systemd.exec(5))."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], object]


def _log_uncaught(
    former: ExceptHook, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        fields = error_fields(error.with_traceback(trace))
        journal.error("daemon.error", **fields)
        if former is sys.__excepthook__:
            # Python's own hook would print the exception's text, which may quote a value.
            text = f"meshctl: a fault in meshctl itself: {fields['error']} at {fields['where']}."
            _print(f"{text} Please report it with this line; the log has it too.")
            return
    former(kind, error, trace)


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        journal.error("daemon.error", **error_fields(args.exc_value))
