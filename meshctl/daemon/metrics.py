"""The metrics file of `[metrics] textfile`, in Prometheus' format, for node_exporter's textfile collector.

The file is written after turns of the daemon, so an old `meshctl_last_turn_timestamp_seconds` shows that the
daemon hangs or is gone. It is always whole. Nothing here raises or holds the daemon up for long: monitoring
must not keep a letter from being sent. No patient data: every value is a number, every label one of a short
list.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final, NamedTuple

from meshctl import __version__
from meshctl.clock import now
from meshctl.daemon.alerts import Alerts
from meshctl.daemon.obstacles import METRICS_PART, Obstacle, read_bridge_obstacles
from meshctl.daemon.problems import folders_of, problem_of
from meshctl.daemon.retry import RetriedParts
from meshctl.daemon.waiting import FILE_NAME, read_waiting
from meshctl.files.durable import replace_file
from meshctl.inbound.client import CLIENT_FACT, ClientState, client_view
from meshctl.journal.events import Journal, event_table
from meshctl.ledger import reads
from meshctl.outbound.tally import count_rejected, tally_letters
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


class _Gauge(NamedTuple):
    """One metric without its prefix `meshctl_`: a value for each value of `label`, or one without a label."""

    name: str
    meaning: str
    values: Mapping[str, float] | float
    label: str = ""


class Metrics:
    """The metrics of one mailbox under one set of settings; without `[metrics] textfile` nothing is done."""

    def __init__(self, settings: Settings, journal: Journal, alerts: Alerts) -> None:
        self._settings = settings
        self._file: Path | None = settings.metrics.textfile
        self._journal = journal
        self._alerts = alerts
        self._not_before = float("-inf")
        self._obstacle: Obstacle | None = None
        self._has_reloaded = True

    def note_reload_failed(self) -> None:
        """Note that the settings were read again and are wrong; right ones come with metrics of their own."""
        self._has_reloaded = False
        self._not_before = float("-inf")

    def turned(
        self, connection: sqlite3.Connection | None, parts: RetriedParts, *, at_once: bool = False
    ) -> None:
        """Write the file after a turn, unless that was done a moment ago; `connection` is the ledger's."""
        began = time.monotonic()
        if self._file is None or (began < self._not_before and not at_once):
            return
        try:
            replace_file(self._file, self._text(connection, parts), _MODE)
        except OSError as error:
            self._tell(error)
        else:
            self._obstacle = None
        ended = time.monotonic()
        self._not_before = ended + max(_EVERY_SECONDS, (ended - began) * _REST_FACTOR)

    def obstacles(self) -> list[Obstacle]:
        """Return what keeps the file from being written, if something does."""
        return [] if self._obstacle is None else [self._obstacle]

    def retire(self, successor: Settings) -> None:
        """Write no more; remove the file if other settings have it elsewhere: it would go stale."""
        if self._file is not None and self._file != successor.metrics.textfile:
            with suppress(OSError):
                self._file.unlink()
        self._file = self._obstacle = None

    def _text(self, connection: sqlite3.Connection | None, parts: RetriedParts) -> bytes:
        # It takes memory and time to load, which only a daemon that needs it spends.
        import prometheus_client as prometheus  # noqa: PLC0415

        prometheus.disable_created_metrics()
        registry, mailbox = prometheus.CollectorRegistry(), self._settings.mailbox.id
        meaning = "Alerts since the daemon started, by event."
        alerts = prometheus.Counter("meshctl_alerts", meaning, ("mailbox", "event"), registry=registry)
        for event in ALERT_EVENTS:
            alerts.labels(mailbox, event).inc(self._alerts.counts[event])
        meaning = "Failed attempts to send alerts since the daemon started, by channel."
        failures = prometheus.Counter(
            "meshctl_alerts_failed", meaning, ("mailbox", "channel"), registry=registry
        )
        for channel, count in self._alerts.failures.items():
            failures.labels(mailbox, channel).inc(count)
        for name, meaning, values, label in self._gauges(connection, parts):
            labels = ("mailbox", label) if label else ("mailbox",)
            gauge = prometheus.Gauge(f"meshctl_{name}", meaning, labels, registry=registry)
            if isinstance(values, Mapping):
                for value, number in values.items():
                    gauge.labels(mailbox, value).set(number)
            else:
                gauge.labels(mailbox).set(values)
        return prometheus.generate_latest(registry)

    def _gauges(self, connection: sqlite3.Connection | None, parts: RetriedParts) -> Iterator[_Gauge]:
        """Yield the metrics that can be read now; why others cannot, the daemon's own work logs."""
        seconds = now().timestamp()
        yield _Gauge("info", "The version of the daemon.", {__version__: 1}, "version")
        yield _Gauge(
            "last_turn_timestamp_seconds", "When the daemon last went through its work, Unix time.", seconds
        )
        waiting = self._alerts.count_waiting()
        blocked = {part.name: int(bool(part.obstacles())) for part in parts.each}
        if self._settings.bridge.environment is not None:
            # It is a process of its own, and leaves notes.
            with suppress(OSError, ValueError, sqlite3.Error):
                waiting += len(read_waiting(self._settings.bridge_work / FILE_NAME)[0])
            with suppress(OSError):
                met = read_bridge_obstacles(self._settings)
                blocked["bridge"] = int(any(not each.is_warning for each in met))
        yield _Gauge("alerts_waiting", "Alerts of daemon and bridge that have not been sent yet.", waiting)
        yield _Gauge("blocked", "1 while something blocks that part of the work.", blocked, "part")
        yield _Gauge(
            "reload_failed",
            "1 while the settings that were last read again are wrong, and older ones are in force.",
            int(not self._has_reloaded),
        )
        with suppress(OSError, sqlite3.Error):
            outbox = asdict(tally_letters(self._settings, seconds, connection))
            yield _Gauge("outbox_files", "Dropped files without a state yet, by status.", outbox, "status")
        with suppress(OSError):
            rejected = count_rejected(self._settings.staging.rejected)
            yield _Gauge("rejected_files", "Rejected files in rejected/.", rejected)
        if connection is not None:
            with suppress(sqlite3.Error):
                yield from _ledger_gauges(connection, seconds)

    def _tell(self, error: OSError) -> None:
        problem = problem_of(error, folders_of(self._settings))
        text = f"The metrics cannot be written: {problem.text}"
        if self._obstacle is not None and self._obstacle.text == text:
            return
        advice = f"{problem.advice or ''} Or change textfile in [metrics].".lstrip()
        self._obstacle = Obstacle(METRICS_PART, text, advice, now(), is_warning=True)
        self._journal.warning("daemon.metrics_failed", text=f"{text}.", advice=advice)


def _ledger_gauges(connection: sqlite3.Connection, now_seconds: float) -> Sequence[_Gauge]:
    """Return what the ledger says. Raises sqlite3.Error."""
    client = client_view(reads.fact(connection, CLIENT_FACT))
    states = {state.value: count for state, count in reads.counts_by_state(connection).items()}
    gauges = [
        _Gauge("messages", "Messages in the ledger, by state.", states, "state"),
        _Gauge("overdue_messages", "Messages that have missed a deadline.", reads.count_overdue(connection)),
        _Gauge(
            "oldest_queued_seconds",
            "For how long the oldest pair has waited in OUT; 0 when none does.",
            reads.oldest_queued_seconds(connection, now_seconds) or 0.0,
        ),
        _Gauge(
            "client_state",
            "1 for the state that the MESH Client is in.",
            {state.value: int(client.state is state) for state in ClientState},
            "state",
        ),
    ]
    if client.last_seen is not None:
        gauges.append(
            _Gauge(
                "client_last_seen_timestamp_seconds",
                "When the MESH Client last showed a sign of life, Unix time.",
                client.last_seen.timestamp(),
            )
        )
    return gauges
