"""What keeps one half of the work from going on: said once, tried again with growing pauses.

A full disk, a missing folder or a locked ledger is an obstacle that somebody will mend; the daemon
neither ends nor spins. An exception that nobody foresaw is treated alike, so that one bad turn does not
stop the rest.
"""

import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from meshctl.clock import Clock
from meshctl.errors import MeshctlError
from meshctl.journal.events import Journal, error_fields
from meshctl.journal.masking import mask_file_name

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0

Result = TypeVar("Result")


class Attempts:
    """Runs one half of the work (`name`: outbound, inbound) and keeps count of what stands in its way."""

    def __init__(self, name: str, clock: Clock, journal: Journal) -> None:
        self._name = name
        self._clock = clock
        self._journal = journal
        self._pause = 0.0
        self._not_before = 0.0
        self.obstacle: str | None = None

    def run(self, work: Callable[[], Result]) -> Result | None:
        """Do the work unless it is too early to try again; None when it was not done."""
        if self._clock.monotonic() < self._not_before:
            return None
        try:
            result = work()
        except (OSError, sqlite3.Error, MeshctlError) as error:
            self._note(describe(error))
            return None
        except Exception as error:  # noqa: BLE001 - the one place where the unforeseen is caught
            self._journal.error("daemon.error", half=self._name, **error_fields(error))
            self._note(f"an unforeseen error ({type(error).__name__})")
            return None
        if self.obstacle is not None:
            self._journal.info("daemon.unblocked", half=self._name)
        self.obstacle = None
        self._pause = 0.0
        self._not_before = 0.0
        return result

    @property
    def pause_seconds(self) -> float | None:
        """Return how long to wait before the next attempt; None when nothing is in the way."""
        if self.obstacle is None:
            return None
        return max(0.0, self._not_before - self._clock.monotonic())

    def _note(self, obstacle: str) -> None:
        if obstacle != self.obstacle:
            self._journal.error("daemon.blocked", half=self._name, text=obstacle)
        self.obstacle = obstacle
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        self._not_before = self._clock.monotonic() + self._pause


def describe(error: Exception) -> str:
    """Return what is wrong and where, for a person; file names are masked."""
    if isinstance(error, OSError) and error.errno is not None:
        where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        folder, name = os.path.split(where)
        place = f"{mask_file_name(folder)}{os.sep}{mask_file_name(name)}" if where else ""
        return f"{os.strerror(error.errno)}: {place}" if place else os.strerror(error.errno)
    if isinstance(error, sqlite3.Error):
        # SQLite's own texts name tables, never values.
        return f"The ledger cannot be used: {error}"
    return str(error)
