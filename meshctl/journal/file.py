"""The log file itself: append-only, private, rotated by size, at peace with logrotate and with a full disk.

Writing never raises. While the file cannot be written, lines wait in memory up to a bound; once it can be
written again they follow, and a line says how many were lost. Not thread-safe: its handler holds a lock.

`LineHandler` carries records as lines to it, or to standard error: each at once, or all of a batch together.
"""

import contextlib
import errno
import logging
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from meshctl.files import change

# Looking whether logrotate has moved the file costs a stat; once a second is often enough.
CHECK_SECONDS = 1.0
MAX_WAITING_BYTES = 1 << 20
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def rotated_name(path: Path, number: int) -> Path:
    """Return the name of the old log file `number`; 1 is the newest."""
    return path.with_name(f"{path.name}.{number}")


class LogFile:
    """Appends lines to `path`, at most `rotate_bytes` a file (0: no rotation), and keeps `keep` old files.

    `gap_line` makes the line that says how many lines were lost.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int,
        keep: int,
        gap_line: Callable[[int], bytes],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._gap_line = gap_line
        self._monotonic = monotonic
        self._descriptor = -1
        self._was_open = False
        self._size_bytes = 0
        self._next_check_at = 0.0
        self._next_rotation_at = 0.0
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lost_lines = 0
        self._pause_seconds = 0.0
        self._next_try_at = 0.0

    def write(self, data: bytes) -> None:
        """Append whole lines, each with its line end."""
        if self._waiting_bytes + len(data) > MAX_WAITING_BYTES and self._waiting:
            self._lost_lines += data.count(b"\n")
        else:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
        now = self._monotonic()
        if now < self._next_try_at:
            return
        try:
            self._follow_moves(now)
            self._write_waiting(now)
        except OSError as error:
            self._pause(now, error)
        else:
            self._pause_seconds = 0.0

    def reopen(self) -> None:
        """Close the file, so that the next line goes to whatever then has its name, without delay."""
        self._release()
        self._next_try_at = 0.0

    def close(self) -> None:
        """Write what waits, if that can be done now, and close the file; writing opens it again."""
        if self._waiting or self._lost_lines:
            with contextlib.suppress(OSError):
                self._write_waiting(self._monotonic())
        self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write_waiting(self, now: float) -> None:
        while self._waiting or self._lost_lines:
            if not self._waiting:
                line, self._lost_lines = self._gap_line(self._lost_lines), 0
                self._waiting.append(line)
                self._waiting_bytes += len(line)
            if self._descriptor < 0:
                self._open(0o600)
            if self._rotate_bytes and self._size_bytes + len(self._waiting[0]) > self._rotate_bytes:
                self._rotate(now)
            written = os.write(self._descriptor, self._waiting[0])
            self._size_bytes += written
            self._waiting_bytes -= written
            # What a short write left over stays first in line, so that a full disk tears no line.
            rest = self._waiting.popleft()[written:]
            if rest:
                self._waiting.appendleft(rest)

    def _follow_moves(self, now: float) -> None:
        if self._descriptor < 0 or now < self._next_check_at:
            return
        self._next_check_at = now + CHECK_SECONDS
        if self._still_ours():
            self._size_bytes = os.fstat(self._descriptor).st_size
        else:
            self._release()

    def _still_ours(self) -> bool:
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._descriptor))

    def _open(self, mode: int) -> None:
        folder = self._path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            folder.chmod(0o700)
        try:
            self._descriptor = change.open_file(self._path, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            self._descriptor = change.open_file(self._path, _OPEN_FLAGS)
        else:
            self._path.chmod(mode)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if not self._was_open:
            _end_torn_line(self._descriptor, status.st_size)
        self._size_bytes, self._was_open = status.st_size, True

    def _rotate(self, now: float) -> None:
        if now < self._next_rotation_at or not self._size_bytes:
            return
        mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
        # Another process that shares the log may have rotated it a moment ago.
        is_ours = self._still_ours()
        # First, as Windows renames no file that is open.
        self._release()
        if is_ours:
            try:
                self._shift_old_files()
            except OSError:
                # Better a log file too long than none: append on, and try to rotate again later.
                self._next_rotation_at = now + _LONGEST_PAUSE_SECONDS
        self._open(mode)

    def _shift_old_files(self) -> None:
        # On Windows this fails while somebody holds the log; then the old ones stay where they are.
        change.rename(self._path, self._path)
        beyond = self._keep + 1
        while rotated_name(self._path, beyond).exists():
            change.unlink(rotated_name(self._path, beyond))
            beyond += 1
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                change.rename(rotated_name(self._path, number), rotated_name(self._path, number + 1))
        if self._keep:
            change.rename(self._path, rotated_name(self._path, 1))
        else:
            change.unlink(self._path)

    def _pause(self, now: float, error: OSError) -> None:
        self._release()
        if not self._pause_seconds:
            reason = os.strerror(error.errno) if error.errno else "unknown reason"
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(
                    f"meshctl: cannot write the log {self._path}: {reason}. "
                    "Lines wait in memory until it can be written; free space or mend the folder's rights.\n"
                )
                sys.stderr.flush()
        self._pause_seconds = min(max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), _LONGEST_PAUSE_SECONDS)
        self._next_try_at = now + self._pause_seconds


def _end_torn_line(descriptor: int, size_bytes: int) -> None:
    """End the line that an earlier process was killed in, so that ours does not continue it."""
    if size_bytes:
        os.lseek(descriptor, -1, os.SEEK_END)
        if os.read(descriptor, 1) != b"\n":
            os.write(descriptor, b"\n")


# A batch of this size is written although it has not ended, so that memory stays bounded.
_MAX_BATCH_CHARACTERS = 1 << 18


class Sink(Protocol):
    """Where lines end up."""

    def write(self, data: bytes) -> None:
        """Take whole lines."""

    def reopen(self) -> None:
        """Begin anew under the same name."""

    def close(self) -> None:
        """Let go of what is open."""


class StandardError:
    """Standard error as a sink; one that is closed or full is no reason to stop."""

    def write(self, data: bytes) -> None:
        """Write the lines and flush."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(data.decode())
            sys.stderr.flush()

    def reopen(self) -> None:
        """Do nothing: standard error has no name."""

    def close(self) -> None:
        """Do nothing: standard error is not ours to close."""


class LineHandler(logging.Handler):
    """A `logging` handler that renders each record as one line for `sink`."""

    def __init__(self, render: Callable[[logging.LogRecord], str], sink: Sink) -> None:
        super().__init__()
        self._render = render
        self._sink = sink
        self._batches = 0
        self._lines: list[str] = []
        self._characters = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or keep it for the end of the batch."""
        line = self._render(record)
        self._lines.append(line)
        self._characters += len(line)
        if not self._batches or self._characters > _MAX_BATCH_CHARACTERS:
            self._write_lines()

    def begin_batch(self) -> None:
        """Hold lines back from now on."""
        with self._locked():
            self._batches += 1

    def end_batch(self) -> None:
        """Write what was held back, if this ends the outermost batch."""
        with self._locked():
            self._batches -= 1
            if not self._batches:
                self._write_lines()

    def reopen(self) -> None:
        """Write what is held back and let the sink begin anew."""
        with self._locked():
            self._write_lines()
            self._sink.reopen()

    def close(self) -> None:
        """Write what is held back and close the sink."""
        with self._locked():
            self._write_lines()
            self._sink.close()
        super().close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _write_lines(self) -> None:
        if self._lines:
            data = "\n".join([*self._lines, ""]).encode()
            self._lines = []
            self._characters = 0
            self._sink.write(data)
