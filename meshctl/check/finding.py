"""What every check is given, the set-up of one mailbox, and what it returns: findings."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum, auto
from pathlib import Path
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


class Missing(Enum):
    """What it means when a folder does not exist."""

    STOPS_WORK = auto()
    IS_CREATED = auto()
    MAY_BE = auto()


@dataclass(frozen=True, slots=True)
class UsedFolder:
    """A folder that meshctl uses: its name in findings, the setting it comes from, and how it is used."""

    name: str
    setting: str
    path: Path
    writes: bool
    is_ours: bool
    missing: Missing


@dataclass(frozen=True, slots=True)
class Setup:
    """One mailbox as it is set up. `now` is the wall clock's reading, UTC."""

    settings: Settings
    now: datetime

    @property
    def option(self) -> str:
        """What stands between `meshctl` and a command that is to be about this mailbox."""
        return place_of(self.settings.file).option

    def places(self) -> list[UsedFolder]:
        """Return the folders, the indispensable ones first."""
        staging, mailbox = self.settings.staging, self.settings.mailbox
        reports, bridge = self.settings.reports, self.settings.bridge
        stops, created, may_be = Missing.STOPS_WORK, Missing.IS_CREATED, Missing.MAY_BE
        places = [
            UsedFolder("outbox", "staging.outbox", staging.outbox, True, True, stops),
            UsedFolder("work", "staging.work", staging.work, True, True, created),
            UsedFolder("rejected", "staging.rejected", staging.rejected, True, True, created),
            UsedFolder("OUT", "mailbox.folder", mailbox.out_folder, True, False, stops),
            UsedFolder("IN", "mailbox.folder", mailbox.in_folder, True, False, stops),
            UsedFolder("SENT", "mailbox.folder", mailbox.sent_folder, False, False, may_be),
            UsedFolder("FAILED", "mailbox.folder", mailbox.failed_folder, False, False, may_be),
            UsedFolder("archive", "reports.archive", reports.archive, True, True, created),
            UsedFolder("state", "state.folder", self.settings.state.folder, True, True, created),
            UsedFolder("log", "log.file", self.settings.log.file.parent, True, True, created),
        ]
        if reports.deliver is not None:
            places.append(UsedFolder("deliver", "reports.deliver", reports.deliver, True, False, stops))
        if bridge.environment is not None:
            places.append(UsedFolder("bridge", "bridge.work", self.settings.bridge_work, True, True, created))
        return places

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
