"""Carries records as lines to where they are written: each at once, or all of a batch together.

It never raises: what cannot be written is the sink's to keep or to drop.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

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
