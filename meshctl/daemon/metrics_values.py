"""What the metrics tell at one moment, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshctl.inbound.client import ClientState
from meshctl.mesh.states import State
from meshctl.outbound.count import OutboxTally


@dataclass(frozen=True, slots=True)
class LedgerNumbers:
    """What the ledger tells; `oldest_queued_seconds` is None when no pair waits in OUT."""

    states: Mapping[State, int]
    overdue: int
    oldest_queued_seconds: float | None
    client: ClientState
    client_seen_at_seconds: float | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the metrics tell at one moment; None is what could not be read then."""

    mailbox: str
    turned_at_seconds: float
    blocked: Mapping[str, bool]
    alerts: Mapping[str, int]
    ledger: LedgerNumbers | None
    outbox: OutboxTally | None
    rejected_files: int | None
