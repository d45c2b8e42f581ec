"""Alerts of a real settings file, in this process, and what the log says of them."""

import logging
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

from meshctl.daemon.alerts import Alerts
from meshctl.daemon.waiting import FILE_NAME
from meshctl.journal.events import Alert, EventRecord, Journal
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings
from tests.site import Site, make_site

FAILURE = Alert(
    event="message.failed",
    at=datetime(2026, 11, 22, 9, 15, 2, 481000, tzinfo=UTC),
    about={
        "message_id": "20261122091502480113_7F3A9C",
        "file": "Zoë's letter.pdf",
        "code": "14",
        "text": "Not delivered.",
        "advice": "Ask the practice.",
    },
)


def numbered(number: int, event: str = "message.failed") -> Alert:
    """Return an alert that is told apart by a number."""
    return replace(FAILURE, event=event, about={"number": number})


class Log(logging.Handler):
    """Keeps what was said of alerts, and tells when something failed."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[dict[str, object]] = []
        self.sent: list[dict[str, object]] = []
        self.spoke = Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the fields that have a value."""
        assert isinstance(record, EventRecord)
        fields: dict[str, object] = {key: value for key, value in record.fields.items() if value is not None}
        if record.event == "daemon.alert_sent":
            self.sent.append(fields)
            return
        assert record.event == "daemon.alert_failed"
        self.failures.append(fields)
        self.spoke.set()


class Alerting:
    """The alerts of one mailbox; `open` makes them anew, as a start of the daemon does."""

    def __init__(self, root: Path) -> None:
        self.folder = root
        self.site: Site = make_site(root / "site")
        self.log = Log()
        self.alerts: Alerts | None = None

    @property
    def failed(self) -> int:
        """Return how many attempts have failed."""
        return self.alerts.failures.total() if self.alerts is not None else 0

    @property
    def file(self) -> Path:
        """Return where alerts wait."""
        return self.site.state / FILE_NAME

    def settings(self, **alerts: Any) -> Settings:
        """Return settings with these keys in [alerts]."""
        self.site.settle(alerts=alerts)
        return load_settings(self.site.settings_file, {})

    def open(self, *, log_level: int = logging.INFO, **alerts: Any) -> Alerts:
        """Begin as the daemon does, with these keys in [alerts]."""
        logger = logging.Logger("test", log_level)
        logger.addHandler(self.log)
        self.site.state.mkdir(exist_ok=True)
        self.alerts = Alerts(self.settings(**alerts), Journal(logger))
        self.alerts.open(self.file)
        return self.alerts

    def run(self, script: str, *, log_level: int = logging.INFO, **alerts: Any) -> Alerts:
        """Begin with a command that is a Python script; it knows this folder as `folder`."""
        path = self.folder / "alert.py"
        path.write_text(f"import json, os, sys, time\nfolder = {str(self.folder)!r}\n{script}", "utf-8")
        return self.open(log_level=log_level, command=[sys.executable, str(path)], **alerts)

    def close(self) -> None:
        """End what still runs."""
        if self.alerts is not None:
            self.alerts.close(5.0)
