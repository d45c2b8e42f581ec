"""Reading the archive again, for a ledger that was lost or put back from a back-up.

What `complete` enters into a ledger has the state that the client's folders prove. The answers that came
since lie in the archive, by the day they were recorded. They are matched and recorded as when they came, a
batch a turn; nothing is moved, and the ledger takes nothing twice.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from meshctl.inbound.acknowledgement import UnreadableAcknowledgementError, read_acknowledgement
from meshctl.inbound.archive import payload_of
from meshctl.inbound.control_reader import ControlKind, ControlReader, Read, control_kind
from meshctl.inbound.in_folder import evidence_of_answer
from meshctl.inbound.match import Matcher, ReceivedReport
from meshctl.inbound.record import EvidenceEvent, FoundEvidence, Recorder
from meshctl.inbound.report import evidence_of_report
from meshctl.inbound.sent_failed import BATCH
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.records import ARCHIVE_FROM_FACT
from meshctl.ledger.services import Services
from meshctl.mesh.control_file import ControlFile
from meshctl.settings.model import Settings


class ArchiveReading:
    """Reads the archive of one mailbox again, where the ledger's fact says so."""

    def __init__(
        self, settings: Settings, reader: ControlReader, recorder: Recorder, services: Services
    ) -> None:
        self._archive = settings.reports.archive
        self._mailbox_id = settings.mailbox.id
        use_cases = settings.use_cases.values()
        self._ack_workflow_ids = {workflow_id for one in use_cases for workflow_id in one.ack_workflow_ids}
        self._reader = reader
        self._recorder = recorder
        self._services = services
        self._matcher = Matcher(services, settings.mailbox.ods_code, settings.use_cases)
        self._left: Iterator[Path] | None = None
        self._read = 0
        self.is_busy = bool(services.ledger.fact(ARCHIVE_FROM_FACT))

    def work(self) -> None:
        """Read one batch, if there is any. Raises OSError, LedgerError, sqlite3.Error."""
        if not self.is_busy:
            return
        if self._left is None:
            self._left = _controls(self._archive, self._services.ledger.fact(ARCHIVE_FROM_FACT) or "")
        batch = list(islice(self._left, BATCH))
        self._recorder.record(list(self._evidence(batch)))
        self._read += len(batch)
        if len(batch) < BATCH:
            self._services.ledger.set_fact(ARCHIVE_FROM_FACT, "")
            self.is_busy = False
            if self._read:
                self._services.journal.info("daemon.archive_reread", files=self._read)

    def _evidence(self, paths: list[Path]) -> Iterator[FoundEvidence]:
        reports = []
        for path in paths:
            found = self._reader.read(str(path))
            if not isinstance(found, Read):
                continue
            kind = self._kind_of(str(path), found.control)
            if kind is ControlKind.REPORT:
                reports.append(ReceivedReport(path.stem, found.control))
            elif kind is ControlKind.ACKNOWLEDGEMENT and (payload := payload_of(str(path))) is not None:
                yield from self._answer(path.name, payload, found)
        for report, decision in zip(reports, self._matcher.match_reports(reports), strict=True):
            if decision.message is not None:
                evidence = evidence_of_report(report.control, decision.message.workflow_id)
                file = mask_file_name(f"{report.stem}.ctl")
                yield FoundEvidence(decision.message.message_id, evidence, EvidenceEvent.REPORT, file)

    def _kind_of(self, path: str, control: ControlFile) -> ControlKind:
        return control_kind(
            control, self._mailbox_id, self._ack_workflow_ids, lambda: payload_of(path) is not None
        )

    def _answer(self, name: str, payload: str, found: Read) -> Iterator[FoundEvidence]:
        try:
            answer = read_acknowledgement(payload)
        except (UnreadableAcknowledgementError, OSError):
            return
        decision = self._matcher.match_acknowledgement(answer, found.control)
        if decision.message is not None:
            yield from evidence_of_answer(name, found.control, answer, decision, decision.message)


def _controls(archive: Path, first_day: str) -> Iterator[Path]:
    """Yield the control files of a day and those after it, in the order in which the days came."""
    for day in sorted(archive.glob("[0-9]*/[0-9]*/[0-9]*")):
        if "-".join(day.parts[-3:]) >= first_day:
            yield from sorted(path for path in day.iterdir() if path.suffix.lower() == ".ctl")
