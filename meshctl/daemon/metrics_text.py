"""The metrics of one mailbox, in Prometheus' text format: their names, meanings and values.

Importing this loads prometheus-client, so only a daemon that is to write metrics does. No patient data: every
value is a number, and every label one of a short list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from meshctl import __version__
from meshctl.daemon.metrics_values import LedgerNumbers, Numbers
from meshctl.inbound.client import ClientState

_MAILBOX: Final = "mailbox"


def metrics_text(numbers: Numbers) -> bytes:
    """Return the metrics as a file for node_exporter's textfile collector."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(numbers))
    return generate_latest(registry)


class _Families(Collector):
    """Hands the metrics of one moment to the registry."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """Return every family of metrics that has a value."""
        numbers = self._numbers
        mailbox = numbers.mailbox
        yield _gauge(mailbox, "info", "The version of the daemon.", {__version__: 1}, "version")
        yield _one(
            mailbox,
            "last_turn_timestamp_seconds",
            "When the daemon last went through its work, Unix time.",
            numbers.turned_at_seconds,
        )
        yield _gauge(
            mailbox,
            "blocked",
            "1 while something stands in the way of that part of the work.",
            dict(numbers.blocked),
            "part",
        )
        alerts = CounterMetricFamily(
            "meshctl_alerts", "Alerts since the daemon began, by event.", labels=(_MAILBOX, "event")
        )
        for event, count in numbers.alerts.items():
            alerts.add_metric((mailbox, event), count)
        yield alerts
        if numbers.outbox is not None:
            outbox = asdict(numbers.outbox)
            yield _gauge(mailbox, "outbox_files", "Files in the outbox, by status.", outbox, "status")
        if numbers.rejected_files is not None:
            yield _one(mailbox, "rejected_files", "Refused files in rejected/.", numbers.rejected_files)
        if numbers.ledger is not None:
            yield from _ledger_families(mailbox, numbers.ledger)


def _ledger_families(mailbox: str, ledger: LedgerNumbers) -> Iterator[Metric]:
    states = {state.value: count for state, count in ledger.states.items()}
    yield _gauge(mailbox, "messages", "Messages in the ledger, by state.", states, "state")
    yield _one(mailbox, "overdue_messages", "Messages that have missed a deadline.", ledger.overdue)
    yield _one(
        mailbox,
        "oldest_queued_seconds",
        "For how long the oldest pair has waited in OUT; 0 when none does.",
        ledger.oldest_queued_seconds or 0.0,
    )
    states_of_client = {state.value: int(ledger.client is state) for state in ClientState}
    yield _gauge(
        mailbox, "client_state", "1 for the state that the MESH Client is in.", states_of_client, "state"
    )
    if ledger.client_seen_at_seconds is not None:
        yield _one(
            mailbox,
            "client_last_seen_timestamp_seconds",
            "When the MESH Client last showed a sign of life, Unix time.",
            ledger.client_seen_at_seconds,
        )


def _gauge(mailbox: str, name: str, meaning: str, values: Mapping[str, float], label: str) -> Metric:
    family = GaugeMetricFamily(f"meshctl_{name}", meaning, labels=(_MAILBOX, label))
    for value, number in values.items():
        family.add_metric((mailbox, value), number)
    return family


def _one(mailbox: str, name: str, meaning: str, value: float) -> Metric:
    family = GaugeMetricFamily(f"meshctl_{name}", meaning, labels=(_MAILBOX,))
    family.add_metric((mailbox,), value)
    return family
