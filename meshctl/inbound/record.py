"""Writing evidence into the ledger, then telling log and alerts what it changed: one line a change of state.

The ledger comes first. A failure that it holds and that nobody may have heard of, because the process ended
right then, is told at the next start: better twice than never.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from meshctl.inbound.date_formats import DateFormats
from meshctl.journal.events import about_message
from meshctl.journal.format import FieldValue
from meshctl.ledger import reads
from meshctl.ledger.reads import Description
from meshctl.ledger.records import Reason
from meshctl.ledger.services import Services
from meshctl.ledger.writes import Change
from meshctl.mesh.states import Deadline, Evidence, State


class EvidenceEvent(StrEnum):
    """The log event of a piece of evidence itself, beside what it changes."""

    REPORT = "report.recorded"
    DELAY = "report.delayed"
    ACKNOWLEDGEMENT = "ack.recorded"


@dataclass(frozen=True, slots=True)
class FoundEvidence:
    """One piece of evidence about one message; `file` is the masked name of where it stood."""

    message_id: str
    evidence: Evidence
    said: EvidenceEvent | None = None
    file: str | None = None


class Recorder:
    """Records evidence for one mailbox."""

    def __init__(self, services: Services, date_formats: DateFormats) -> None:
        self._date_formats = date_formats
        self._ledger = services.ledger
        self._clock = services.clock
        self._journal = services.journal

    def record(self, pieces: Sequence[FoundEvidence]) -> list[Change | None]:
        """Record evidence in one transaction and tell what is new; None for a message that is unknown.

        Raises LedgerError or sqlite3.Error; then nothing of it is recorded.
        """
        if not pieces:
            return []
        changes = self._ledger.record_all(
            [(piece.message_id, piece.evidence) for piece in pieces],
            self._clock.now(),
            self._clock.steady(),
        )
        changed = [
            change.message_id
            for change in changes
            if change and (change.moved or change.failed or change.mended)
        ]
        known = reads.descriptions(self._ledger.connection, changed) if changed else {}
        with self._journal.batch():
            for piece, change in zip(pieces, changes, strict=True):
                self._log_piece(piece, change)
                if change is not None and change.message_id in known:
                    self._log_change(change, piece.evidence, known[change.message_id])
        failed = [piece for piece, change in zip(pieces, changes, strict=True) if change and change.failed]
        if any(piece.evidence.code == reads.WRONG_DEMOGRAPHICS for piece in failed):
            self._date_formats.log_doubts()
        if failed:
            self._ledger.told()
        return changes

    def mark_overdue(self, message_ids: Sequence[str], deadline: Deadline, text: str, advice: str) -> None:
        """Flag messages as overdue and tell of each."""
        self._ledger.mark_overdue(message_ids, deadline, self._clock.now(), text)
        known = reads.descriptions(self._ledger.connection, message_ids)
        with self._journal.batch():
            for message_id in message_ids:
                if message_id in known:
                    self._log_overdue(known[message_id], deadline, text, advice)
        self._ledger.told()

    def log_again(self, overdue_texts: Mapping[Deadline, tuple[str, str]]) -> None:
        """Log what an earlier run may have left untold; the texts are by deadline."""
        untold = self._ledger.untold()
        if not untold:
            return
        self._date_formats.log_doubts()
        with self._journal.batch():
            for description in reads.descriptions(self._ledger.connection, untold).values():
                if description.state is State.FAILED:
                    self._log_failed(description, description.reason)
                elif description.overdue is not None:
                    self._log_overdue(description, description.overdue, *overdue_texts[description.overdue])
        self._ledger.told()

    def _log_piece(self, piece: FoundEvidence, change: Change | None) -> None:
        if piece.said is None or change is None:
            return
        evidence = piece.evidence
        fields: dict[str, FieldValue] = {
            "message_id": piece.message_id,
            "by": evidence.event,
            "code": evidence.code,
            "text": evidence.text,
            "mesh_id": evidence.mesh_id,
            "sender": evidence.mailbox,
            "file": piece.file,
        }
        event = piece.said.value
        if not change.is_new:
            self._journal.debug(event, **fields, repeated=True)
        elif piece.said is EvidenceEvent.DELAY:
            self._journal.warning(event, **fields, advice=evidence.advice)
        else:
            self._journal.info(event, **fields)

    def _log_change(self, change: Change, evidence: Evidence, description: Description) -> None:
        if change.failed:
            reason = Reason(evidence.code, evidence.event, evidence.text, evidence.advice)
            self._log_failed(description, reason)
            return
        if change.moved:
            self._journal.info(
                f"message.{change.after.state.value}",
                message_id=change.message_id,
                by=evidence.event,
                code=evidence.code,
                mesh_id=description.mesh_id,
                assumed=True if change.after.assumed else None,
                took_s=self._took_seconds(description),
            )
        if change.mended:
            self._log_mended(change, evidence, description)

    def _log_failed(self, description: Description, reason: Reason) -> None:
        self._journal.tell(
            "message.failed",
            _about(description, reason.code),
            message_id=description.message_id,
            by=reason.event,
            code=reason.code,
            text=reason.text,
            advice=reason.advice,
            mesh_id=description.mesh_id,
            use_case=description.use_case,
            file=description.file_name,
            took_s=self._took_seconds(description),
        )

    def _log_overdue(self, description: Description, deadline: Deadline, text: str, advice: str) -> None:
        self._journal.tell(
            "message.overdue",
            _about(description, deadline),
            message_id=description.message_id,
            deadline=deadline,
            state=description.state.value,
            text=text,
            advice=advice,
            use_case=description.use_case,
            file=description.file_name,
        )

    def _log_mended(self, change: Change, evidence: Evidence, description: Description) -> None:
        text = (
            "The message that had counted as failed has arrived: its recipient has acknowledged it."
            if change.has_arrived_after_all
            else "What the overdue message was waiting for has come after all."
        )
        self._journal.tell(
            "message.mended",
            {
                **_about(description, change.overdue_before),
                "text": text,
                "advice": "Nothing to do.",
            },
            message_id=change.message_id,
            deadline=change.overdue_before,
            state=change.after.state.value,
            by=evidence.event,
            code=evidence.code,
        )

    def _took_seconds(self, description: Description) -> float | None:
        if description.queued_clock is None:
            return None
        return round(max(0.0, self._clock.steady() - description.queued_clock), 1)


def _about(message: Description, code: str | None) -> dict[str, object]:
    """Return what an alert about a message carries."""
    return about_message(message.message_id, message.use_case, message.workflow_id, message.file_name, code)
