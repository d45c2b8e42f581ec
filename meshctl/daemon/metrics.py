"""Keeping the metrics file up to date: `[metrics] textfile`, for node_exporter's textfile collector.

The file is written after turns of the daemon, so an old `meshctl_last_turn_timestamp_seconds` tells that the
daemon hangs or is gone. It is always whole. Nothing here raises or holds the daemon up for long: a monitor
that cannot be told must not keep a letter from being sent.
"""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from meshctl.daemon.metrics_values import LedgerNumbers, Numbers
from meshctl.daemon.retry import RetriedParts
from meshctl.files.durable import replace_file
from meshctl.inbound.client import CLIENT_FACT, client_view
from meshctl.journal.events import Journal, event_table
from meshctl.ledger import reads
from meshctl.outbound.count import OutboxTally, count_rejected, tally_outbox
from meshctl.settings.model import Settings

ALERT_EVENTS: Final = tuple(
    kind.name for kind in event_table().values() if kind.alert and not kind.name.startswith("bridge.")
)
"""Every event of the daemon that is an alert; each is counted from 0, so that the first one shows."""

_EVERY_SECONDS: Final = 2.0
# A file that takes long to write, over a full outbox say, is written less often: 2 % of the time at most.
_REST_FACTOR: Final = 50
# Others read it: the collector runs as a user of its own, and no patient data is in it.
_MODE: Final = 0o644

Result = TypeVar("Result")


class Metrics:
    """The metrics of one mailbox under one set of settings; without `[metrics] textfile` nothing is done."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._settings = settings
        self._file: Path | None = settings.metrics.textfile
        self._journal = journal
        self._alerts = Counter(dict.fromkeys(ALERT_EVENTS, 0))
        self._not_before = float("-inf")
        self._problem: str | None = None

    def count_alert(self, event: str) -> None:
        """Count one alert."""
        self._alerts[event] += 1

    def turned(
        self, connection: sqlite3.Connection | None, parts: RetriedParts, *, at_once: bool = False
    ) -> None:
        """Write the file after a turn, unless that was done a moment ago; `connection` is the ledger's."""
        began = time.monotonic()
        if self._file is None or (began < self._not_before and not at_once):
            return
        problem = None
        try:
            replace_file(self._file, self._text(connection, parts), _MODE)
        except OSError as error:
            problem = os.strerror(error.errno or 0)
        self._tell(self._file, problem)
        now = time.monotonic()
        self._not_before = now + max(_EVERY_SECONDS, (now - began) * _REST_FACTOR)

    def retire(self, successor: Settings) -> None:
        """Write no more; remove the file if other settings have it elsewhere, as nobody would renew it."""
        if self._file is not None and self._file != successor.metrics.textfile:
            with suppress(OSError):
                self._file.unlink()
        self._file = None

    def _text(self, connection: sqlite3.Connection | None, parts: RetriedParts) -> bytes:
        # prometheus-client takes memory and time to load, which only a daemon that needs it spends.
        from meshctl.daemon.metrics_text import metrics_text  # noqa: PLC0415

        return metrics_text(
            Numbers(
                mailbox=self._settings.mailbox.id,
                turned_at_seconds=time.time(),
                blocked={
                    "outbound": parts.outbound.obstacle is not None,
                    "inbound": parts.inbound.obstacle is not None,
                    "ledger": parts.ledger.obstacle is not None,
                },
                alerts=self._alerts,
                ledger=None if connection is None else _if_readable(lambda: _ledger_numbers(connection)),
                outbox=_if_readable(lambda: self._outbox(connection)),
                rejected_files=_if_readable(lambda: count_rejected(self._settings.staging.rejected)),
            )
        )

    def _outbox(self, connection: sqlite3.Connection | None) -> OutboxTally:
        set_aside = () if connection is None else reads.set_aside(connection)
        return tally_outbox(self._settings, time.time(), set_aside)

    def _tell(self, file: Path, problem: str | None) -> None:
        if problem is not None and problem != self._problem:
            self._journal.warning(
                "daemon.metrics_failed",
                text=f"The metrics cannot be written to {file}: {problem}.",
                advice="Let meshctl's user write to that folder, also in the unit (ReadWritePaths), or change"
                " textfile in [metrics].",
            )
        self._problem = problem


def _ledger_numbers(connection: sqlite3.Connection) -> LedgerNumbers:
    view = client_view(reads.fact(connection, CLIENT_FACT))
    return LedgerNumbers(
        states=reads.counts_by_state(connection),
        overdue=reads.count_overdue(connection),
        oldest_queued_seconds=reads.oldest_queued_seconds(connection, time.time()),
        client=view.state,
        client_seen_at_seconds=None if view.last_seen is None else view.last_seen.timestamp(),
    )


def _if_readable(read: Callable[[], Result]) -> Result | None:
    """Return what is read, None while it cannot be; why, the daemon's own work tells."""
    try:
        return read()
    except (OSError, sqlite3.Error):
        return None
