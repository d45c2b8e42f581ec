"""IN: reports, acknowledgements, and what is for others.

A batch is read, matched, recorded in one transaction, told of, and only then archived or delivered. Whatever
interrupts it, the files that are still in IN go through the same again, and the ledger takes nothing twice.
An unmatched report stays, and is tried again when SENT teaches the MESH id that it gives. What cannot be read
or moved is set aside, and keeps no other back.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from meshctl.files import change
from meshctl.files.durable import takes_files
from meshctl.files.item_error import NOT_A_FILE_ADVICE, advice_on, is_general, reason_of
from meshctl.inbound.acknowledgement import (
    ReceivedAcknowledgement,
    UnreadableAcknowledgementError,
    read_acknowledgement,
)
from meshctl.inbound.answering import Answering
from meshctl.inbound.archive import Archive, finish_move, make_folder, move_in, payload_of
from meshctl.inbound.control_reader import (
    ControlKind,
    ControlReader,
    Read,
    Unread,
    UnreadReason,
    control_kind,
)
from meshctl.inbound.match import Decision, Doubt, Matcher, ReceivedReport
from meshctl.inbound.notices import Notices
from meshctl.inbound.record import EvidenceEvent, FoundEvidence, Recorder
from meshctl.inbound.report import evidence_of_report, is_delay, mesh_id_of
from meshctl.inbound.scan import GONE, FolderScan, NextLook
from meshctl.inbound.sent_failed import BATCH, LATER_SECONDS, SOON_SECONDS
from meshctl.inbound.set_aside import (
    ACKNOWLEDGEMENT_UNREADABLE,
    CONTENT_ADVICE,
    IMMOVABLE,
    NO_PAYLOAD_ADVICE,
    SET_ASIDE,
    UNREADABLE,
    UNUSABLE,
)
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.reads import Candidate
from meshctl.ledger.services import Services
from meshctl.mesh.address import is_mailbox_id
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.states import State
from meshctl.settings.model import Settings

# Outcomes as the ledger remembers them.
_ELSEWHERE = "elsewhere"
_DATA = "data"
_UNMATCHED = "unmatched"
# It may find its message yet, when SENT teaches the MESH id that it gives.
_UNMATCHED_WITH_MESH_ID = "unmatched:mesh_id"
_ACKNOWLEDGEMENT_UNMATCHED = "answer_unmatched"

_SOON = NextLook(again_seconds=SOON_SECONDS)


@dataclass(slots=True)
class _Batch:
    """What is to be done with a batch once all of it has been read."""

    reports: dict[str, ControlFile] = field(default_factory=dict)
    pieces: list[FoundEvidence] = field(default_factory=list)
    notes: list[Callable[[], None]] = field(default_factory=list)
    next_looks: dict[str, NextLook] = field(default_factory=dict)
    archived: list[str] = field(default_factory=list)
    delivered: dict[str, ControlFile] = field(default_factory=dict)
    answers: dict[str, Callable[[], None]] = field(default_factory=dict)


class InFolder:
    """The IN folder of one mailbox."""

    def __init__(
        self,
        settings: Settings,
        reader: ControlReader,
        recorder: Recorder,
        services: Services,
        full_look_seconds: float,
    ) -> None:
        self._services = services
        self._reader = reader
        self._recorder = recorder
        self._notices = Notices(services)
        self._matcher = Matcher(services, settings.mailbox.ods_code, settings.use_cases)
        self._answering = Answering(settings, services)
        self._archive = Archive(settings.reports.archive)
        self._keeps_unmatched = settings.reports.unmatched == "leave"
        self._deliver_to = None if settings.reports.deliver is None else str(settings.reports.deliver)
        self._mailbox_id = settings.mailbox.id
        use_cases = settings.use_cases.values()
        self._ack_workflow_ids = {workflow_id for one in use_cases for workflow_id in one.ack_workflow_ids}
        self._workflow_ids = {one.workflow_id for one in use_cases} | self._ack_workflow_ids
        self._unmatched: dict[str, list[str]] = {}
        self._polls = 0
        self.folder_scan = FolderScan(
            "IN",
            settings.mailbox,
            services,
            full_look_seconds,
            may_be_missing=False,
            is_open=self._is_open,
        )

    def work(self) -> None:
        """Deal with one batch. Raises OSError, LedgerError, sqlite3.Error."""
        names = self.folder_scan.batch(BATCH)
        if not names:
            return
        batch = _Batch()
        for name in names:
            try:
                self._sort(name, batch)
            except OSError as error:
                if is_general(error):
                    raise
                text = f"It, or the payload beside it, cannot be looked at: {reason_of(error)}."
                self._set_aside(name, text, advice_on(error), batch)
        self._match(batch)
        self._recorder.record(batch.pieces)
        self._answer(batch)
        with self._services.journal.batch():
            for note in batch.notes:
                note()
        # What was told is remembered before anything else can go wrong, so that it is not told again.
        self.folder_scan.note_outcomes(batch.next_looks)
        self._move_to_archive(batch.archived)
        self._deliver(batch.delivered)

    def _answer(self, batch: _Batch) -> None:
        """Answer responses that ask for it, before they are archived."""
        for name, answer in batch.answers.items():
            try:
                answer()
            except OSError as error:
                batch.archived.remove(name)
                text = f"The response that it asks for cannot be dropped: {reason_of(error)}."
                self._set_aside(name, text, advice_on(error), batch)

    def retry(self, mesh_id: str) -> None:
        """Try unmatched reports again that give this MESH id."""
        self.folder_scan.reopen(self._unmatched.pop(mesh_id, ()))

    def take_polls(self) -> int:
        """Return how many reports of the client about itself came since the last call."""
        polls, self._polls = self._polls, 0
        return polls

    def _is_open(self, outcome: str) -> bool:
        """True if a file with this outcome is looked at again after a restart."""
        if outcome == _DATA:
            return self._deliver_to is not None
        if outcome == _UNMATCHED:
            return not self._keeps_unmatched
        return outcome in SET_ASIDE or outcome.startswith(_UNMATCHED)

    def _sort(self, name: str, batch: _Batch) -> None:
        path = f"{self.folder_scan.folder}/{name}"
        found = self._reader.read(path)
        if isinstance(found, Unread):
            batch.next_looks[name] = self._judge_unread(name, found, batch)
            return
        control = found.control
        kind = control_kind(
            control, self._mailbox_id, self._ack_workflow_ids, lambda: payload_of(path) is not None
        )
        if kind is ControlKind.REPORT:
            batch.reports[name] = control
        elif kind is ControlKind.CLIENT:
            if self.folder_scan.outcome(name) != IMMOVABLE:
                self._polls += 1
                batch.notes.append(partial(self._notices.poll, control))
            batch.archived.append(name)
        elif kind is ControlKind.ACKNOWLEDGEMENT:
            self._take_acknowledgement(name, path, found, batch)
        elif kind is ControlKind.DATA and self._deliver_to is not None:
            self._take_data(name, path, found, batch, self._deliver_to)
        else:
            outcome, reason = (
                (_DATA, "data message") if kind is ControlKind.DATA else (_ELSEWHERE, "for another mailbox")
            )
            self._leave_to_others(name, control, outcome, reason, batch)

    def _judge_unread(self, name: str, found: Unread, batch: _Batch) -> NextLook:
        if found.why is UnreadReason.GONE:
            return GONE
        if found.why is UnreadReason.UNFINISHED:
            return _SOON
        if self.folder_scan.outcome(name) != UNREADABLE:
            batch.notes.append(partial(self._notices.unreadable, name, self.folder_scan.label, found))
        return NextLook(UNREADABLE, again_seconds=LATER_SECONDS)

    def _set_aside(self, name: str, text: str, advice: str, batch: _Batch) -> None:
        outcome = self.folder_scan.outcome(name)
        # Of a pair whose payload was moved, and whose control file cannot be, that has been said.
        if outcome not in (UNUSABLE, IMMOVABLE):
            batch.notes.append(partial(self._notices.set_aside, name, text, advice))
            outcome = UNUSABLE
        batch.next_looks[name] = NextLook(outcome, again_seconds=LATER_SECONDS)

    def _match(self, batch: _Batch) -> None:
        reports = [
            ReceivedReport(os.path.splitext(name)[0], control) for name, control in batch.reports.items()
        ]
        decisions = self._matcher.match_reports(reports) if reports else []
        for (name, control), decision in zip(batch.reports.items(), decisions, strict=True):
            if decision.message is None:
                self._leave_unmatched(name, control, decision, batch)
            elif decision.message.state is State.CLAIMED:
                batch.next_looks[name] = _SOON
            else:
                evidence = evidence_of_report(control, decision.message.workflow_id)
                said = EvidenceEvent.DELAY if is_delay(evidence) else EvidenceEvent.REPORT
                file = mask_file_name(name)
                batch.pieces.append(FoundEvidence(decision.message.message_id, evidence, said, file))
                batch.archived.append(name)

    def _leave_unmatched(self, name: str, control: ControlFile, decision: Decision, batch: _Batch) -> None:
        is_strange = bool(control.workflow_id) and control.workflow_id not in self._workflow_ids
        if is_strange and decision.doubt is not Doubt.CONTRADICTION:
            reason = "report for another application"
            self._leave_to_others(name, control, _ELSEWHERE, reason, batch)
            return
        outcome = self.folder_scan.outcome(name) or ""
        if outcome != IMMOVABLE and not outcome.startswith(_UNMATCHED):
            batch.notes.append(partial(self._notices.unmatched_report, name, control, decision))
        if not self._keeps_unmatched:
            batch.archived.append(name)
            return
        mesh_id = mesh_id_of(control)
        if mesh_id is None:
            batch.next_looks[name] = NextLook(_UNMATCHED)
            return
        batch.next_looks[name] = NextLook(_UNMATCHED_WITH_MESH_ID)
        self._unmatched.setdefault(mesh_id, []).append(name)

    def _take_acknowledgement(self, name: str, path: str, found: Read, batch: _Batch) -> None:
        payload = payload_of(path)
        if payload is None:
            if self._archive.finish_move(path):
                batch.next_looks[name] = GONE
            elif not self._reader.is_finished(path, found.changed_ns):
                batch.next_looks[name] = _SOON
            else:
                self._leave_unreadable(
                    name, "Its payload is missing.", NO_PAYLOAD_ADVICE, batch, LATER_SECONDS
                )
            return
        answer = self._read_acknowledgement(name, payload, batch)
        if answer is None:
            return
        decision = self._matcher.match_acknowledgement(answer, found.control)
        if decision.message is None:
            if self.folder_scan.outcome(name) != _ACKNOWLEDGEMENT_UNMATCHED:
                codes = ",".join(evidence.code for evidence in answer.evidence if evidence.code)
                tell = partial(self._notices.unmatched_acknowledgement, name, found.control, decision, codes)
                batch.notes.append(tell)
            batch.next_looks[name] = NextLook(_ACKNOWLEDGEMENT_UNMATCHED)
        elif decision.message.state is State.CLAIMED:
            batch.next_looks[name] = _SOON
        else:
            self._record_answer(name, found.control, answer, decision, decision.message, batch)
            batch.archived.append(name)

    def _record_answer(
        self,
        name: str,
        control: ControlFile,
        answer: ReceivedAcknowledgement,
        decision: Decision,
        message: Candidate,
        batch: _Batch,
    ) -> None:
        """Note what an acknowledgement proves of the message that it answers, and of copies of it."""
        sender = _sender(control)
        batch.pieces += evidence_of_answer(name, control, answer, decision, message)
        is_another = sender is not None and message.answered_by not in (None, sender)
        if is_another and message.to_mailbox is None and message.answered_by is not None:
            tell = partial(
                self._notices.other_mailbox, name, message.message_id, sender or "", message.answered_by
            )
            batch.notes.append(tell)
        if sender is not None and self._answering.wants(answer, message):
            batch.answers[name] = partial(self._answering.answer, answer, message, sender)
        if answer.unknown_codes:
            batch.notes.append(partial(self._notices.unknown_codes, name, message.message_id, answer))

    def _read_acknowledgement(self, name: str, payload: str, batch: _Batch) -> ReceivedAcknowledgement | None:
        """Return what a payload says; None, after noting what becomes of it, if it cannot be read."""
        try:
            return read_acknowledgement(payload)
        except UnreadableAcknowledgementError as error:
            if self._reader.is_finished(payload, _changed_ns(payload)):
                self._leave_unreadable(name, str(error), CONTENT_ADVICE, batch)
            else:
                batch.next_looks[name] = _SOON
        except OSError as error:
            if is_general(error):
                raise
            if isinstance(error, FileNotFoundError) or change.is_held_open(error):
                batch.next_looks[name] = _SOON
            else:
                reason = f"Its payload cannot be read: {reason_of(error)}."
                self._leave_unreadable(name, reason, advice_on(error), batch, LATER_SECONDS)
        return None

    def _leave_unreadable(
        self, name: str, reason: str, advice: str, batch: _Batch, again_seconds: float | None = None
    ) -> None:
        if self.folder_scan.outcome(name) != ACKNOWLEDGEMENT_UNREADABLE:
            batch.notes.append(partial(self._notices.unreadable_acknowledgement, name, reason, advice))
        batch.next_looks[name] = NextLook(ACKNOWLEDGEMENT_UNREADABLE, again_seconds)

    def _take_data(self, name: str, path: str, found: Read, batch: _Batch, folder: str) -> None:
        payload = payload_of(path)
        if payload is not None and _is_regular(payload):
            batch.delivered[name] = found.control
        elif payload is None and finish_move(path, folder):
            batch.next_looks[name] = GONE
            batch.notes.append(partial(self._notices.delivered, name, found.control))
        elif not self._reader.is_finished(path, found.changed_ns):
            batch.next_looks[name] = _SOON
        elif payload is None:
            self._set_aside(name, "Its payload is missing.", NO_PAYLOAD_ADVICE, batch)
        else:
            self._set_aside(name, "Its payload is no ordinary file.", NOT_A_FILE_ADVICE, batch)

    def _leave_to_others(
        self, name: str, control: ControlFile, outcome: str, reason: str, batch: _Batch
    ) -> None:
        if self.folder_scan.outcome(name) != outcome:
            batch.notes.append(partial(self._notices.received, name, control, reason))
        batch.next_looks[name] = NextLook(outcome)

    def _move_to_archive(self, names: list[str]) -> None:
        if not names:
            return
        self._move(names, self._archive.day(f"{self._services.clock.now():%Y-%m-%d}"))

    def _deliver(self, controls: dict[str, ControlFile]) -> None:
        if not controls or self._deliver_to is None:
            return
        make_folder(self._deliver_to)
        with self._services.journal.batch():
            self._move(controls, self._deliver_to, lambda name: self._notices.delivered(name, controls[name]))

    def _move(
        self, names: Collection[str], folder: str, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """Move files out of IN and tell of each; one that cannot be moved is set aside.

        Raises OSError when it is the folder that takes no more files.
        """
        moved, error_by_name = [], {}
        for name in names:
            path = f"{self.folder_scan.folder}/{name}"
            try:
                move_in(path, payload_of(path), folder)
            except OSError as error:
                if is_general(error) or not self._may_move_to(folder):
                    raise
                error_by_name[name] = error
            else:
                tell(name)
                moved.append(name)
        self.folder_scan.note_outcomes(dict.fromkeys(moved, GONE))
        for name, refused in error_by_name.items():
            if self.folder_scan.outcome(name) != IMMOVABLE:
                text = f"It cannot be moved out of IN: {reason_of(refused)}."
                self._notices.set_aside(name, text, advice_on(refused))
        immovable = NextLook(IMMOVABLE, again_seconds=LATER_SECONDS)
        self.folder_scan.note_outcomes(dict.fromkeys(error_by_name, immovable))

    def _may_move_to(self, folder: str) -> bool:
        return os.access(self.folder_scan.folder, os.W_OK | os.X_OK) and takes_files(folder)


def _sender(control: ControlFile) -> str | None:
    return control.from_dts.upper() if is_mailbox_id(control.from_dts.upper()) else None


def evidence_of_answer(
    name: str,
    control: ControlFile,
    answer: ReceivedAcknowledgement,
    decision: Decision,
    message: Candidate,
) -> Iterator[FoundEvidence]:
    """Yield what an acknowledgement proves of the message that it answers, and of copies of it."""
    for evidence in answer.evidence:
        told = replace(evidence, mailbox=_sender(control))
        yield FoundEvidence(message.message_id, told, EvidenceEvent.ACKNOWLEDGEMENT, mask_file_name(name))
        elsewhere = f"{evidence.text} It is recorded at {message.message_id}, which has the same content."
        for copy in decision.copies:
            yield FoundEvidence(copy.message_id, replace(told, text=elsewhere))


def _changed_ns(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
