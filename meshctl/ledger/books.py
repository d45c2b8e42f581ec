"""What every worker of the daemon writes with: ledger, keyed hashes, clock, log, and whom to alert."""

from collections.abc import Callable
from dataclasses import dataclass

from meshctl.clock import Clock
from meshctl.journal.events import Journal
from meshctl.ledger.keys import Keys
from meshctl.ledger.ledger import Ledger

Alert = Callable[[dict[str, object]], None]
"""Takes one event, as the alert command gets it on its standard input."""


def ignore(event: dict[str, object]) -> None:
    """Alert nobody."""
    del event


@dataclass(frozen=True, slots=True)
class Books:
    """The books of one mailbox, kept by one daemon."""

    ledger: Ledger
    keys: Keys
    clock: Clock
    journal: Journal
    alert: Alert = ignore
