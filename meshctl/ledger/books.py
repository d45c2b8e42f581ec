"""What every worker of the daemon writes with: the ledger, its keyed hashes, the clock and the log."""

from dataclasses import dataclass

from meshctl.clock import Clock
from meshctl.journal.events import Journal
from meshctl.ledger.keys import Keys
from meshctl.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Books:
    """The books of one mailbox, kept by one daemon."""

    ledger: Ledger
    keys: Keys
    clock: Clock
    journal: Journal
