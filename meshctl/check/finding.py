"""What every check is given, the set-up of one mailbox, and what it returns: findings."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import snapshot
from meshctl.settings.mailboxes import place_of
from meshctl.settings.model import Settings

MOST_LISTED = 10

_T = TypeVar("_T")


class Severity(StrEnum):
    """How much a finding matters: nothing works, something will go wrong, good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. A finding that is `ok` has the severity info and needs no advice."""

    name: str
    ok: bool
    severity: Severity
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Finding:
    """Return a passing finding."""
    return Finding(name, True, Severity.INFO, text)


def error(name: str, text: str, advice: str) -> Finding:
    """Return an error: messages cannot pass, may be lost sight of, or may be seen by others."""
    return Finding(name, False, Severity.ERROR, text, advice)


def warning(name: str, text: str, advice: str) -> Finding:
    """Return a warning: something will go wrong one day, or the set-up is unwise."""
    return Finding(name, False, Severity.WARNING, text, advice)


def note(name: str, text: str, advice: str) -> Finding:
    """Return a note: worth knowing, and may be intended."""
    return Finding(name, False, Severity.INFO, text, advice)


def any_error(findings: list[Finding]) -> bool:
    """True if an error is among the findings."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """Write at most ten items for a person, and how many more there are."""
    more = len(items) - MOST_LISTED
    return separator.join(items[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class Setup:
    """One mailbox as it is set up. `now` is the wall clock's reading, UTC."""

    settings: Settings
    now: datetime

    @property
    def option(self) -> str:
        """What stands between `meshctl` and a command that is to be about this mailbox."""
        return place_of(self.settings.file).option

    def from_ledger(self, read: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Return what `read` finds in the ledger; None if unreadable, which is a finding of its own."""
        try:
            with snapshot(self.settings.state.folder) as connection:
                return read(connection)
        except (LedgerError, OSError):
            return None

    def used_use_cases(self) -> set[str]:
        """Return the use cases that are in use: the default, those with a sub-folder or in the ledger."""
        staging = self.settings.staging
        used = {name for name in self.settings.use_cases if (staging.outbox / name).is_dir()}
        if staging.default_use_case is not None:
            used.add(staging.default_use_case)
        return used | (self.from_ledger(_use_cases_of_messages) or set())


def _use_cases_of_messages(connection: sqlite3.Connection) -> set[str]:
    return {
        row[0]
        for row in connection.execute("SELECT DISTINCT use_case FROM messages WHERE use_case IS NOT NULL")
    }
