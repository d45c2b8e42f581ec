"""Retention: messages whose story ended long ago leave the ledger, in steps that hold nothing up."""

from datetime import UTC, datetime, timedelta

from meshctl.ledger.opening import Books

_STEP = 500
_LOOK_EVERY_SECONDS = 3600.0


class Retention:
    """Removes final messages that have not changed for `keep_days`."""

    def __init__(self, keep_days: int, books: Books) -> None:
        self._keep = timedelta(days=keep_days)
        self._books = books
        self._next_look = float("-inf")
        self._removed = 0

    def work(self) -> None:
        """Take one step if there is one to take. Raises LedgerError, sqlite3.Error."""
        now = self._books.clock.monotonic()
        if now < self._next_look:
            return
        # The steady clock: one that was set forward by mistake must not empty the ledger.
        before = datetime.fromtimestamp(self._books.clock.steady(), UTC) - self._keep
        removed = self._books.ledger.remove_final(before, _STEP)
        self._removed += removed
        if removed == _STEP:
            return
        self._next_look = now + _LOOK_EVERY_SECONDS
        if self._removed:
            self._books.journal.info("daemon.retention", messages=self._removed, keep_days=self._keep.days)
            self._removed = 0

    @property
    def is_busy(self) -> bool:
        """True if there may be more to remove."""
        return self._books.clock.monotonic() >= self._next_look
