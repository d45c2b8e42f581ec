"""Write evidence into the ledger, then log and alert what it changed: one line a change of state.

The ledger comes first. A failure that is in the ledger and may not have been announced, because the process
ended right then, is announced at the next start: better twice than never.

Where every message of a workflow id fails with EPL-154, MESH may want the date of birth in its other form.
The form that each workflow id is sent with, and since when, is kept in the ledger, so that messages of an
earlier form do not count, and a doubt is announced once, also over restarts.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from meshctl.clock import instant, iso
from meshctl.inbound.evidence import ReceivedAcknowledgement
from meshctl.inbound.match import Decision
from meshctl.journal.events import FieldValue, about_message
from meshctl.journal.masking import mask_file_name
from meshctl.ledger import reads
from meshctl.ledger.reads import Description
from meshctl.ledger.records import Reason
from meshctl.ledger.services import Services
from meshctl.ledger.writes import Change
from meshctl.mesh.address import DateOfBirthFormat, is_mailbox_id
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.states import Deadline, Evidence, State
from meshctl.mesh.use_cases import UseCase
from meshctl.outbound.withdrawal import log_late


class EvidenceEvent(StrEnum):
    """The log event of a piece of evidence itself, beside what it changes."""

    REPORT = "report.recorded"
    DELAY = "report.delayed"
    ACKNOWLEDGEMENT = "ack.recorded"


@dataclass(frozen=True, slots=True)
class FoundEvidence:
    """One piece of evidence about one message; `file` is the masked name of the file that held it."""

    message_id: str
    evidence: Evidence
    event: EvidenceEvent | None = None
    file: str | None = None


def sender_of(control: ControlFile) -> str | None:
    """Return the mailbox that a file came from, None if it does not name one."""
    sender = control.from_dts.upper()
    return sender if is_mailbox_id(sender) else None


def found_in_acknowledgement(
    name: str, control: ControlFile, acknowledgement: ReceivedAcknowledgement, decision: Decision
) -> Iterator[FoundEvidence]:
    """Yield what an acknowledgement proves of the message that it is about, if any, and of copies of that."""
    message = decision.message
    if message is None:
        return
    for one in acknowledgement.evidence:
        evidence = replace(one, mailbox=sender_of(control))
        file = mask_file_name(name)
        yield FoundEvidence(message.message_id, evidence, EvidenceEvent.ACKNOWLEDGEMENT, file)
        elsewhere = f"{one.text} It is recorded at {message.message_id}, which has the same content."
        for copy in decision.copies:
            yield FoundEvidence(copy.message_id, replace(evidence, text=elsewhere))


class Recorder:
    """Records evidence for one mailbox."""

    def __init__(self, services: Services, use_cases: Mapping[str, UseCase]) -> None:
        self._date_formats = DateFormats(use_cases, services)
        self._services = services
        self._ledger = services.ledger
        self._clock = services.clock
        self._journal = services.journal

    def record(self, pieces: Sequence[FoundEvidence]) -> list[Change | None]:
        """Record evidence in one transaction and announce what is new; None for a message that it lacks.

        Raises LedgerError or sqlite3.Error; then nothing of it is recorded.
        """
        if not pieces:
            return []
        changes = self._ledger.record(
            [(piece.message_id, piece.evidence) for piece in pieces],
            self._clock.now(),
            self._clock.steady(),
        )
        changed = [one.message_id for one in changes if one and (one.moved or one.failed or one.cleared)]
        described = reads.descriptions(self._ledger.connection, changed) if changed else {}
        with self._journal.batch():
            for piece, change in zip(pieces, changes, strict=True):
                if change is not None:
                    self._log_piece(piece, is_new=change.is_new)
                    if change.message_id in described:
                        self._log_change(change, piece.evidence, described[change.message_id])
        failed = [piece for piece, change in zip(pieces, changes, strict=True) if change and change.failed]
        if any(piece.evidence.code == reads.WRONG_DEMOGRAPHICS for piece in failed):
            self._date_formats.announce_doubts()
        if failed:
            self._ledger.announced()
        return changes

    def mark_overdue(self, message_ids: Sequence[str], deadline: Deadline, text: str, advice: str) -> None:
        """Flag messages as overdue and announce each."""
        self._ledger.mark_overdue(message_ids, deadline, self._clock.now(), text)
        with self._journal.batch():
            for description in reads.descriptions(self._ledger.connection, message_ids).values():
                self._log_overdue(description, deadline, text, advice)
        self._ledger.announced()

    def announce_again(self, overdue_texts: Mapping[Deadline, tuple[str, str]]) -> None:
        """Announce what an earlier run may have left unannounced; text and advice are by deadline."""
        unannounced = self._ledger.unannounced()
        if not unannounced:
            return
        self._date_formats.announce_doubts()
        with self._journal.batch():
            for description in reads.descriptions(self._ledger.connection, unannounced).values():
                if description.state is State.FAILED:
                    self._log_failed(description, description.reason)
                elif description.overdue is not None:
                    self._log_overdue(description, description.overdue, *overdue_texts[description.overdue])
        self._ledger.announced()

    def _log_piece(self, piece: FoundEvidence, *, is_new: bool) -> None:
        if piece.event is None:
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
        if not is_new:
            self._journal.debug(piece.event, **fields, repeated=True)
        elif piece.event is EvidenceEvent.DELAY:
            self._journal.warning(piece.event, **fields, advice=evidence.advice)
        else:
            self._journal.info(piece.event, **fields)

    def _log_change(self, change: Change, evidence: Evidence, description: Description) -> None:
        if change.before.is_withdrawn and not change.after.is_withdrawn:
            log_late(self._services, change.message_id, description.use_case, description.file_name)
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
        if change.cleared and not change.before.is_withdrawn:
            self._log_cleared(change, evidence, description)

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

    def _log_cleared(self, change: Change, evidence: Evidence, description: Description) -> None:
        text = (
            "The message that had counted as failed has arrived: its recipient has acknowledged it."
            if change.has_arrived_after_all
            else "What the overdue message was waiting for has come after all."
        )
        about = _about(description, change.overdue_before)
        self._journal.tell(
            "message.mended",
            {**about, "text": text, "advice": "Nothing to do."},
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


DATE_FORMATS_FACT: Final = "date_of_birth_formats"
"""The ledger's fact about the formats: a JSON object, a key for each workflow id."""

FAILURES_FOR_A_DOUBT: Final = 3
"""So many failures, and no success, are more than wrong demographics explain."""


@dataclass(frozen=True, slots=True)
class DateFormat:
    """The format in force for a workflow id, when it was set, and whether a doubt was announced."""

    use_case: str
    format: DateOfBirthFormat
    set_at: datetime
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class FormatDoubt:
    """A workflow id under which messages failed with EPL-154 and none was accepted."""

    workflow_id: str
    date_format: DateFormat
    failures: int

    @property
    def text(self) -> str:
        """What is wrong, for a person."""
        return (
            f"{self.failures} messages under {self.workflow_id} failed with EPL-154, and none was accepted,"
            f" since the date of birth is written {self.date_format.format}: MESH may want the other form."
        )

    @property
    def advice(self) -> str:
        """What to try."""
        other = next(one for one in DateOfBirthFormat if one is not self.date_format.format)
        return (
            f'If the demographics are right, set date_of_birth_format = "{other}" in'
            f" [use_cases.{self.date_format.use_case}], reload the settings, and send the messages again with"
            " meshctl resend."
        )


def format_doubts(connection: sqlite3.Connection) -> list[FormatDoubt]:
    """Return the workflow ids whose format MESH seems not to take. Raises sqlite3.Error."""
    doubts = []
    for workflow_id, kept in _kept(reads.fact(connection, DATE_FORMATS_FACT)).items():
        failures = reads.count_wrong_demographics(connection, workflow_id, kept.set_at)
        if failures >= FAILURES_FOR_A_DOUBT and not reads.was_accepted(connection, workflow_id, kept.set_at):
            doubts.append(FormatDoubt(workflow_id, kept, failures))
    return doubts


class DateFormats:
    """The formats of one mailbox. Making it notes in the ledger which are new; raises sqlite3.Error."""

    def __init__(self, use_cases: Mapping[str, UseCase], services: Services) -> None:
        self._services = services
        kept = _kept(services.ledger.fact(DATE_FORMATS_FACT))
        now = services.clock.now()
        in_force: dict[str, DateFormat] = {}
        for use_case in use_cases.values():
            before = kept.get(use_case.workflow_id)
            is_same = before is not None and before.format is use_case.date_of_birth_format
            made = DateFormat(use_case.name, use_case.date_of_birth_format, now)
            in_force.setdefault(use_case.workflow_id, before if before is not None and is_same else made)
        if in_force != kept:
            self._keep(in_force)

    def announce_doubts(self) -> None:
        """Log and alert, once for each format, those that MESH seems not to take."""
        for doubt in format_doubts(self._services.ledger.connection):
            if not doubt.date_format.is_told:
                self._announce(doubt)

    def _announce(self, doubt: FormatDoubt) -> None:
        use_case = doubt.date_format.use_case
        self._services.journal.tell(
            "routing.format_doubtful",
            about_message(None, use_case, doubt.workflow_id, None, reads.WRONG_DEMOGRAPHICS),
            workflow_id=doubt.workflow_id,
            use_case=use_case,
            format=doubt.date_format.format.value,
            failures=doubt.failures,
            text=doubt.text,
            advice=doubt.advice,
        )
        # Announced first: a kill in between announces it twice, which is better than never.
        kept = _kept(self._services.ledger.fact(DATE_FORMATS_FACT))
        self._keep({**kept, doubt.workflow_id: replace(doubt.date_format, is_told=True)})

    def _keep(self, formats: Mapping[str, DateFormat]) -> None:
        value = json.dumps(
            {workflow_id: {**asdict(one), "set_at": iso(one.set_at)} for workflow_id, one in formats.items()}
        )
        self._services.ledger.set_fact(DATE_FORMATS_FACT, value)


def _kept(value: str | None) -> dict[str, DateFormat]:
    try:
        return {
            workflow_id: DateFormat(
                str(one["use_case"]),
                DateOfBirthFormat(one["format"]),
                instant(str(one["set_at"])),
                is_told=bool(one["is_told"]),
            )
            for workflow_id, one in json.loads(value or "{}").items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        # A fact in another form than ours: counting begins again.
        return {}
