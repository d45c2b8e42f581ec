"""What a Windows service does once the service manager listens: the work of the daemon or the bridge."""

import sys

assert sys.platform == "win32"

import logging
import os
from pathlib import Path
from typing import Final

from meshctl.commands.bridge import connected_bridge
from meshctl.commands.run import make_daemon
from meshctl.daemon.wake_ups import Signals
from meshctl.errors import MeshctlError
from meshctl.journal.events import error_fields, event_and_fields, event_table, journal
from meshctl.journal.lines import logfmt_fields
from meshctl.journal.masking import escape_unprintable, mask_numbers
from meshctl.platform import event_log
from meshctl.platform.systemd import ServiceManager
from meshctl.settings.load import load_settings
from meshctl.terminal.output import os_error_text

_FAULT: Final = 3
_REPORT: Final = "This is a bug in meshctl; please report it."


class EventLog(logging.Handler):
    """Writes warnings and errors into the Event Log: service and mailbox, then the event as in the log."""

    def __init__(self, service: str) -> None:
        super().__init__(logging.WARNING)
        self._head = event_log.head(service)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, its text and advice as a person reads them."""
        event, fields = event_and_fields(record)
        others = {key: value for key, value in fields.items() if key not in {"text", "advice"}}
        texts = [str(fields[key]) for key in ("text", "advice") if fields.get(key)]
        lines = [escape_unprintable(mask_numbers(line)) for text in texts for line in text.splitlines()]
        entry = "\n".join([f"{self._head}: {event}{logfmt_fields(others)}", *lines])
        kind = event_log.ERROR if record.levelno >= logging.ERROR else event_log.WARNING
        event_log.report(kind, event_table()[event].number, entry)


def work(name: str, file: Path, signals: Signals, manager: ServiceManager, *, is_bridge: bool) -> int:
    """Do the work of the service `name` until it has to stop; return its exit code. Logs what ends it."""
    logging.getLogger().addHandler(EventLog(name))
    try:
        settings = load_settings(file, os.environ)
        if is_bridge:
            with connected_bridge(settings, signals, manager) as connected:
                connected.run()
        else:
            make_daemon(settings, signals, manager).run()
    except MeshctlError as error:
        return _failed(error, error.exit_code, str(error))
    except OSError as error:
        return _failed(error, MeshctlError.exit_code, os_error_text(error))
    except Exception as error:  # noqa: BLE001 - nobody else could tell of it
        return _failed(error, _FAULT, f"An unforeseen error ({type(error).__name__}).", _REPORT)
    return 0


def _failed(error: Exception, exit_code: int, text: str, advice: str | None = None) -> int:
    journal.error("daemon.failed", code=exit_code, text=text, advice=advice, **error_fields(error))
    return exit_code
