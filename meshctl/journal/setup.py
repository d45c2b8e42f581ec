"""Connects the journal to the log file, and under systemd to the system's journal.

Records of libraries come here too, but only their name, level and place are kept: their texts may quote
paths and data. Uncaught exceptions are logged by type and place. Nothing here ever raises into its caller.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

from meshctl.journal.events import LOGGER_NAME, Journal, error_fields, event_and_fields, held_back, journal
from meshctl.journal.file import LineHandler, LogFile, StandardError
from meshctl.journal.format import Fields, json_line, logfmt_fields, logfmt_line

# sd-daemon(3): the number that journald reads from the start of a line on stderr.
_SD_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
_RENDERERS: dict[str, Callable[[float, str, str, Fields], str]] = {"logfmt": logfmt_line, "json": json_line}


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


class _Setup:
    """What `configure_log` has put in place, so that the next call or `release_log` can take it away."""

    handlers: tuple[LineHandler, ...] = ()
    former_hook = staticmethod(sys.__excepthook__)


def configure_log(log: LogOptions, *, to_terminal: bool = False) -> Journal:
    """Send the journal to `log.file` and write what was held back; also repeat lines on stderr where wanted.

    Under systemd lines go to stderr with their priority; `to_terminal` repeats them there for a person.
    May be called again with other settings. A file that cannot be written is told on stderr, not raised.
    """
    release_log()
    # No line says them, and finding them out for every record costs as much as the line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    level = logging.getLevelNamesMapping()[log.level.upper()]
    handlers = [_file_handler(log)]
    if _stderr_is_systemd_journal():
        handlers.append(LineHandler(_journald_line, StandardError()))
    elif to_terminal:
        handlers.append(LineHandler(_render_record(logfmt_line), StandardError()))
    root = logging.getLogger()
    root.removeHandler(held_back)
    for handler in handlers:
        root.addHandler(handler)
    logging.getLogger(LOGGER_NAME).setLevel(level)
    _Setup.handlers = tuple(handlers)
    with journal.batch():
        for record in held_back.take():
            if record.levelno >= level:
                for handler in handlers:
                    handler.handle(record)
    _Setup.former_hook = staticmethod(sys.excepthook)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    return journal


def reopen_log() -> None:
    """Open the log file again under its name at the next line, as after an external rotation."""
    for handler in _Setup.handlers:
        handler.reopen()


def release_log() -> None:
    """Close the log; what is said from now on is held back for the next `configure_log`."""
    root = logging.getLogger()
    for handler in _Setup.handlers:
        root.removeHandler(handler)
        handler.close()
    _Setup.handlers = ()
    logging.getLogger(LOGGER_NAME).setLevel(logging.DEBUG)
    if held_back not in root.handlers:
        root.addHandler(held_back)
    if sys.excepthook is _log_uncaught:
        sys.excepthook = _Setup.former_hook
    if threading.excepthook is _log_uncaught_in_thread:
        threading.excepthook = threading.__excepthook__


def _file_handler(log: LogOptions) -> LineHandler:
    render = _RENDERERS[log.format]

    def gap_line(lines: int) -> bytes:
        return f"{render(time.time(), 'WARNING', 'daemon.log_gap', {'lines': lines})}\n".encode()

    file = LogFile(log.file, rotate_bytes=log.rotate_bytes, keep=log.keep, gap_line=gap_line)
    return LineHandler(_render_record(render), file)


def _render_record(
    render: Callable[[float, str, str, Fields], str],
) -> Callable[[logging.LogRecord], str]:
    def rendered(record: logging.LogRecord) -> str:
        event, fields = event_and_fields(record)
        return render(record.created, record.levelname, event, fields)

    return rendered


def _journald_line(record: logging.LogRecord) -> str:
    event, fields = event_and_fields(record)
    return f"<{_SD_PRIORITY.get(record.levelno, 5)}>{event}{logfmt_fields(fields)}"


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


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        fields = error_fields(error.with_traceback(trace))
        journal.error("daemon.error", **fields)
        if _Setup.former_hook is sys.__excepthook__:
            # Python's own hook would print the exception's text, which may quote a value.
            text = f"meshctl: a fault in meshctl itself: {fields['error']} at {fields['where']}."
            StandardError().write(f"{text} Please report it with this line; the log has it too.\n".encode())
            return
    _Setup.former_hook(kind, error, trace)


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        journal.error("daemon.error", **error_fields(args.exc_value))
