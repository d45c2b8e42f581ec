"""The archive: control files and payloads moved out of IN, and read again for a ledger that lacks them.

Files are moved whole, and nothing is overwritten. The payload goes first and the control file last, so
whoever reads the target never finds a control file without its payload. A crash in between leaves the control
file in IN, where it is found again, and its payload in the target, where `finish_move` finds it. A name that
is taken gets a number, unless the very same content is there already.

A ledger that was rebuilt or restored from a back-up has the state that the client's folders prove. The
reports and acknowledgements that came since are in the archive, by the day they were recorded. They are
matched and recorded as when they came, a batch a turn; nothing is moved, and the ledger takes nothing twice.

How far the archive was written is in the ledger: its last day, and how many control files that day has. At
each start it is compared with the folders, so a ledger is known to be the older one also where it lacks
nothing but answers.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, count, islice
from pathlib import Path
from typing import NamedTuple

from meshctl.files import durable
from meshctl.files.reading import is_same_content, is_there
from meshctl.inbound.evidence import (
    UnreadableAcknowledgementError,
    evidence_of_report,
    read_acknowledgement,
)
from meshctl.inbound.folders import BATCH, PAYLOAD_ENDS, ControlReader, Read, payload_of
from meshctl.inbound.match import ControlKind, Matcher, ReceivedReport
from meshctl.inbound.record import EvidenceEvent, FoundEvidence, Recorder, found_in_acknowledgement
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.records import ARCHIVE_FROM_FACT, ARCHIVED_FACT
from meshctl.ledger.services import Services
from meshctl.ledger.writes import Ledger
from meshctl.platform import system

_FOLDER_MODE = 0o750
_DAYS = "[0-9]*/[0-9]*/[0-9]*"


def make_folder(folder: str) -> None:
    """Make a folder if it is missing, durably. Raises OSError."""
    durable.make_folders(folder, _FOLDER_MODE)


def move_in(control_path: str, payload_path: str | None, folder: str) -> None:
    """Move a control file, and first its payload if it has one, into a folder that exists. Raises OSError.

    A file that somebody else has taken meanwhile is passed over.
    """
    sources = [path for path in (payload_path, control_path) if path is not None]
    for number in _numbers():
        targets = [_numbered(source, number, folder) for source in sources]
        moves = [(source, target, is_there(target)) for source, target in zip(sources, targets, strict=True)]
        if all(not taken or is_same_content(source, target) for source, target, taken in moves):
            for source, target, taken in moves:
                with suppress(FileNotFoundError):
                    # The same content is there: a move was cut short after its copy, or the file came again.
                    system.unlink(source) if taken else _move(source, target)
            return


def finish_move(control_path: str, folder: str) -> bool:
    """Move a control file after its payload, if a crash left that alone in the folder; return whether it did.

    Raises OSError.
    """
    for number in _numbers():
        target = _numbered(control_path, number, folder)
        if payload_of(target) is None:
            return False
        if not is_there(target):
            with suppress(FileNotFoundError):
                _move(control_path, target)
            return True
        if is_same_content(control_path, target):
            # From another file system: the crash came between the copy and the removal of the original.
            system.unlink_if_there(control_path)
            return True
    return False


def _numbers() -> Iterator[str]:
    return chain([""], (f".{number}" for number in count(2)))


def _numbered(path: str, number: str, folder: str) -> str:
    stem, end = os.path.splitext(os.path.basename(path))
    return f"{folder}/{stem}{number}{end}"


def _move(source: str, target: str) -> None:
    durable.move(source, target, durable.hidden(target))


class Archive:
    """`archive/YYYY/MM/DD/`: reports and acknowledgements that were ours, by the day they were recorded."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: _Extent | None = None
        self._is_compared = False

    def day(self, day: str) -> str:
        """Return the folder of a day, given as `YYYY-MM-DD`, and make it if it is missing. Raises OSError."""
        folder = f"{self._root}/{day.replace('-', '/')}"
        make_folder(folder)
        return folder

    def finish_move(self, control_path: str) -> bool:
        """Finish what a crash left partly archived, on whatever day that was; return whether there was any.

        Raises OSError.
        """
        days = sorted(self._root.glob(_DAYS), reverse=True)
        return any(finish_move(control_path, str(day)) for day in days)

    def extent(self) -> "_Extent":
        """Return the last day that has control files, and how many."""
        for day in sorted(self._root.glob(_DAYS), reverse=True):
            if count := len(_controls(day)):
                return _Extent("-".join(day.parts[-3:]), count)
        return _NOTHING

    def note_written(self, ledger: Ledger, day: str, files: int) -> None:
        """Keep in the ledger that so many control files more are in the archive. Raises sqlite3.Error."""
        if not self._is_compared:
            # What an older ledger lacks would not be seen any more.
            return
        if self._written is None or self._written.day != day:
            self._written = self.extent()
        else:
            self._written = _Extent(day, self._written.files + files)
        ledger.set_fact(ARCHIVED_FACT, json.dumps(self._written))

    def note_read(self, ledger: Ledger) -> None:
        """Keep in the ledger that it knows all that is in the archive. Raises OSError, sqlite3.Error."""
        self._written = self.extent()
        ledger.set_fact(ARCHIVED_FACT, json.dumps(self._written))
        ledger.set_fact(ARCHIVE_FROM_FACT, "")

    def is_ahead_of(self, ledger: Ledger) -> str | None:
        """Return the first day of which the ledger may lack something; None if it knows of all."""
        try:
            known = _Extent(*json.loads(ledger.fact(ARCHIVED_FACT) or "[]"))
        except (ValueError, TypeError):
            known = _NOTHING
        is_ahead = self.extent() > known
        self._is_compared = True
        return known.day if is_ahead else None

    def controls(self, first_day: str) -> Iterator[Path]:
        """Yield the control files of a day and those after it, in the order in which the days came."""
        for day in sorted(self._root.glob(_DAYS)):
            if "-".join(day.parts[-3:]) >= first_day:
                yield from _controls(day)


class _Extent(NamedTuple):
    """How far an archive goes: its last day, as `YYYY-MM-DD`, and how many control files that has."""

    day: str
    files: int


_NOTHING = _Extent("0001-01-01", 0)


def _controls(day: Path) -> list[Path]:
    return sorted(path for path in day.iterdir() if path.suffix in PAYLOAD_ENDS)


class ArchiveReading:
    """Reads an archive again from the day on that the ledger's fact gives, if it gives one."""

    def __init__(
        self,
        archive: Archive,
        reader: ControlReader,
        matcher: Matcher,
        recorder: Recorder,
        services: Services,
    ) -> None:
        self._archive = archive
        self._reader = reader
        self._matcher = matcher
        self._recorder = recorder
        self._services = services
        self._first_day = services.ledger.fact(ARCHIVE_FROM_FACT) or ""
        self._is_compared = False
        self._left = archive.controls(self._first_day)
        self._count = 0

    def _note_if_ahead(self) -> None:
        """Read again what an older ledger that was put back lacks. Raises OSError, sqlite3.Error."""
        ahead = self._archive.is_ahead_of(self._services.ledger)
        if ahead is not None:
            self._first_day = min(self._first_day or ahead, ahead)
            self._left = self._archive.controls(self._first_day)
            # Kept before the archive grows, after which it would not be seen any more.
            self._services.ledger.set_fact(ARCHIVE_FROM_FACT, self._first_day)

    @property
    def is_busy(self) -> bool:
        """True if there is more to read."""
        return bool(self._first_day)

    def work(self) -> None:
        """Read one batch, if there is any.

        Raises OSError, LedgerError or sqlite3.Error; the next call then begins from the first day.
        """
        if not self._is_compared:
            self._note_if_ahead()
            self._is_compared = True
        if not self._first_day:
            return
        try:
            batch = list(islice(self._left, BATCH))
            self._recorder.record(list(self._evidence(batch)))
            self._count += len(batch)
            if len(batch) < BATCH:
                self._archive.note_read(self._services.ledger)
        except Exception:
            self._left, self._count = self._archive.controls(self._first_day), 0
            raise
        if len(batch) < BATCH:
            self._first_day = ""
            if self._count:
                self._services.journal.info("daemon.archive_reread", files=self._count)

    def _evidence(self, paths: Sequence[Path]) -> Iterator[FoundEvidence]:
        reports = []
        for path in paths:
            found = self._reader.read(str(path))
            if not isinstance(found, Read):
                continue
            kind = self._matcher.kind_of(found.control, str(path))
            if kind is ControlKind.REPORT:
                reports.append(ReceivedReport(path.stem, found.control))
            elif kind is ControlKind.ACKNOWLEDGEMENT:
                yield from self._acknowledged(path, found)
        for report, decision in zip(reports, self._matcher.match_reports(reports), strict=True):
            if decision.message is not None:
                evidence = evidence_of_report(report.control, decision.message.workflow_id)
                file = mask_file_name(f"{report.stem}.ctl")
                yield FoundEvidence(decision.message.message_id, evidence, EvidenceEvent.REPORT, file)

    def _acknowledged(self, path: Path, found: Read) -> Iterator[FoundEvidence]:
        payload = payload_of(str(path))
        if payload is None:
            return
        try:
            acknowledgement = read_acknowledgement(payload)
        except (UnreadableAcknowledgementError, OSError):
            return
        decision = self._matcher.match_acknowledgement(acknowledgement, found.control)
        yield from found_in_acknowledgement(path.name, found.control, acknowledgement, decision)
