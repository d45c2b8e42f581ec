"""What the checks are told: the settings, what time it is, and which folders there are.

Beyond what the settings themselves do, only `used_use_cases` looks at the file system.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path

from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import snapshot
from meshctl.settings.model import Settings


class Missing(Enum):
    """What it means when a folder is not there."""

    STOPS_US = auto()
    IS_MADE = auto()
    MAY_BE = auto()


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that meshctl works with: its name in findings, the setting it comes from, what we do there."""

    name: str
    setting: str
    path: Path
    writes: bool
    is_ours: bool
    missing: Missing


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One mailbox as it is set up. `now` is the wall clock's reading, UTC."""

    settings: Settings
    now: datetime

    def places(self) -> list[Place]:
        """Return the folders, those first without which nothing goes."""
        staging, mailbox = self.settings.staging, self.settings.mailbox
        reports = self.settings.reports
        found = [
            Place("outbox", "staging.outbox", staging.outbox, True, True, Missing.STOPS_US),
            Place("work", "staging.work", staging.work, True, True, Missing.IS_MADE),
            Place("rejected", "staging.rejected", staging.rejected, True, True, Missing.IS_MADE),
            Place("OUT", "mailbox.folder", mailbox.out_folder, True, False, Missing.STOPS_US),
            Place("IN", "mailbox.folder", mailbox.in_folder, True, False, Missing.STOPS_US),
            Place("SENT", "mailbox.folder", mailbox.sent_folder, False, False, Missing.MAY_BE),
            Place("FAILED", "mailbox.folder", mailbox.failed_folder, False, False, Missing.MAY_BE),
            Place("archive", "reports.archive", reports.archive, True, True, Missing.IS_MADE),
            Place("state", "state.folder", self.settings.state.folder, True, True, Missing.IS_MADE),
            Place("log", "log.file", self.settings.log.file.parent, True, True, Missing.IS_MADE),
        ]
        if reports.deliver is not None:
            found.append(Place("deliver", "reports.deliver", reports.deliver, True, False, Missing.STOPS_US))
        bridge = self.settings.bridge
        if bridge.environment is not None:
            found.append(Place("bridge", "bridge.work", bridge.work, True, True, Missing.IS_MADE))
        return found

    def place(self, name: str) -> Place:
        """Return the folder of this name."""
        return next(place for place in self.places() if place.name == name)


def used_use_cases(surroundings: Surroundings) -> set[str]:
    """Return the use cases that are in use: named in the settings, with a sub-folder, or in the ledger."""
    settings = surroundings.settings
    used = {name for name in settings.use_cases if (settings.staging.outbox / name).is_dir()}
    if settings.staging.default_use_case is not None:
        used.add(settings.staging.default_use_case)
    try:
        with snapshot(settings.state.folder) as connection:
            used.update(row[0] for row in connection.execute("SELECT DISTINCT use_case FROM messages"))
    except (LedgerError, OSError):
        # What is wrong with the ledger is a finding of its own.
        pass
    return used
