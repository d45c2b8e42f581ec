"""IN: reports, acknowledgements, and what is for others.

A batch is read, matched, recorded in one transaction, logged, and only then archived or delivered. Whatever
interrupts it, the files that are still in IN go through the same again, and the ledger takes nothing twice.
An unmatched report stays, and is tried again when SENT gives the MESH id that it names. A file that cannot be
read or moved is set aside, and keeps no other back.
"""

import json
import os
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from meshctl.files.durable import takes_files
from meshctl.files.reading import NOT_A_FILE_ADVICE, advice_on, is_general, reason_of
from meshctl.inbound.archive import Archive, finish_move, make_folder, move_in
from meshctl.inbound.evidence import (
    ReceivedAcknowledgement,
    UnreadableAcknowledgementError,
    evidence_of_report,
    is_delay,
    mesh_id_of,
    read_acknowledgement,
    reference_keys,
)
from meshctl.inbound.folders import (
    CONTENT_ADVICE,
    GONE,
    LATER_SECONDS,
    NO_PAYLOAD_ADVICE,
    SOON,
    ControlReader,
    FolderScan,
    NextLook,
    Read,
    Unread,
    UnreadReason,
    payload_of,
)
from meshctl.inbound.match import ControlKind, Decision, Doubt, Matcher, ReceivedReport
from meshctl.inbound.notices import Notices
from meshctl.inbound.record import (
    EvidenceEvent,
    FoundEvidence,
    Recorder,
    found_in_acknowledgement,
    sender_of,
)
from meshctl.journal.masking import mask_file_name
from meshctl.ledger import reads
from meshctl.ledger.reads import Candidate
from meshctl.ledger.records import SET_ASIDE, Outcome
from meshctl.ledger.services import Services
from meshctl.mesh.codes import explain_answer, explain_response
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.states import Acknowledgement, State
from meshctl.outbound.drop import Dropper
from meshctl.outbound.names import NameRules
from meshctl.payload.facts import MessageKind
from meshctl.payload.itk2_answer import BUSINESS_SERVICE, write_answer
from meshctl.payload.itk3 import ResponseIds, write_response
from meshctl.platform import system
from meshctl.settings.model import Settings

# A report with one of these has been logged as unmatched, or was matched.
_UNMATCHED = frozenset({Outcome.UNMATCHED, Outcome.UNMATCHED_WITH_MESH_ID, Outcome.IMMOVABLE})

Step = Callable[[], None]
"""Something to log or do once the evidence of a batch is recorded."""


@dataclass(slots=True)
class _Batch:
    """What is to be done with a batch once all of it has been read."""

    reports: dict[str, ControlFile] = field(default_factory=dict)
    pieces: list[FoundEvidence] = field(default_factory=list)
    notices: list[Step] = field(default_factory=list)
    responses: dict[str, Step] = field(default_factory=dict)
    next_looks: dict[str, NextLook] = field(default_factory=dict)
    archived: list[str] = field(default_factory=list)
    delivered: dict[str, ControlFile] = field(default_factory=dict)
    # Of a message that the ledger has no acknowledgement of: which mailbox sent the first of this batch.
    answered_by: dict[str, str] = field(default_factory=dict)


class InFolder:
    """The IN folder of one mailbox."""

    def __init__(
        self,
        settings: Settings,
        reader: ControlReader,
        matcher: Matcher,
        archive: Archive,
        recorder: Recorder,
        services: Services,
    ) -> None:
        self._reader = reader
        self._matcher = matcher
        self._archive = archive
        self._recorder = recorder
        self._services = services
        self._notices = Notices(services)
        self._responses = Responses(settings, services)
        self._deliver_to = None if settings.reports.deliver is None else str(settings.reports.deliver)
        self._keeps_unmatched = settings.reports.unmatched == "leave"
        self._unmatched: dict[str, list[str]] = {}
        self.scan = FolderScan("IN", settings, services, self._open_outcomes())

    def work(self) -> None:
        """Deal with one batch. Raises OSError, LedgerError, sqlite3.Error."""
        names = self.scan.batch()
        if not names:
            return
        batch = _Batch()
        for name in names:
            try:
                self._sort(name, batch)
            except OSError as error:
                if is_general(error):
                    raise
                text = f"It, or the payload beside it, cannot be accessed: {reason_of(error)}."
                self._set_aside(batch, name, text, advice_on(error))
        self._match(batch)
        self._recorder.record(batch.pieces)
        self._respond(batch)
        with self._services.journal.batch():
            for notice in batch.notices:
                notice()
        # What was logged is remembered before anything else can go wrong, so that it is not logged again.
        self.scan.note(batch.next_looks)
        self._move_to_archive(batch.archived)
        self._deliver(batch.delivered)

    def reopen(self, mesh_ids: Iterable[str]) -> None:
        """Try unmatched reports again that give one of these MESH ids."""
        for mesh_id in mesh_ids:
            self.scan.reopen(self._unmatched.pop(mesh_id, ()))

    def _open_outcomes(self) -> set[str]:
        """Return the outcomes of files that are looked at again after a restart."""
        found: set[str] = {*SET_ASIDE, Outcome.UNMATCHED_WITH_MESH_ID}
        if self._deliver_to is not None:
            found.add(Outcome.DATA)
        if not self._keeps_unmatched:
            found.add(Outcome.UNMATCHED)
        return found

    def _sort(self, name: str, batch: _Batch) -> None:
        path = f"{self.scan.folder}/{name}"
        found = self._reader.read(path)
        if isinstance(found, Unread):
            self._judge_unread(batch, name, found)
            return
        control = found.control
        kind = self._matcher.kind_of(control, path)
        if kind is ControlKind.REPORT:
            batch.reports[name] = control
        elif kind is ControlKind.CLIENT:
            if self.scan.outcome(name) != Outcome.IMMOVABLE:
                batch.notices.append(partial(self._notices.poll, control))
            batch.archived.append(name)
        elif kind is ControlKind.ACKNOWLEDGEMENT:
            self._sort_acknowledgement(batch, name, path, found)
        elif kind is ControlKind.ELSEWHERE:
            received = partial(self._notices.received, name, control, "for another mailbox")
            self._leave(batch, name, Outcome.ELSEWHERE, received)
        elif self._deliver_to is None:
            received = partial(self._notices.received, name, control, "data message")
            self._leave(batch, name, Outcome.DATA, received)
        else:
            self._sort_data(batch, name, path, found, self._deliver_to)

    def _leave(
        self, batch: _Batch, name: str, outcome: Outcome, notice: Step, again_seconds: float | None = None
    ) -> None:
        """Leave a file where it is, and log it unless that was done."""
        self._log_once(batch, name, notice, {outcome})
        batch.next_looks[name] = NextLook(outcome, again_seconds)

    def _log_once(self, batch: _Batch, name: str, notice: Step, outcomes: Collection[Outcome]) -> None:
        """Log a file unless its outcome is one of these, with which it was logged before."""
        if self.scan.outcome(name) not in outcomes:
            batch.notices.append(notice)

    def _judge_unread(self, batch: _Batch, name: str, found: Unread) -> None:
        if found.why is UnreadReason.GONE:
            batch.next_looks[name] = GONE
        elif found.why is UnreadReason.UNFINISHED:
            batch.next_looks[name] = SOON
        else:
            notice = partial(self._notices.unreadable, name, self.scan.label, found)
            self._leave(batch, name, Outcome.UNREADABLE, notice, LATER_SECONDS)

    def _set_aside(self, batch: _Batch, name: str, text: str, advice: str) -> None:
        # A pair whose payload was moved, and whose control file cannot be, stays immovable, which was logged.
        is_immovable = self.scan.outcome(name) == Outcome.IMMOVABLE
        outcome = Outcome.IMMOVABLE if is_immovable else Outcome.UNUSABLE
        self._leave(batch, name, outcome, partial(self._notices.set_aside, name, text, advice), LATER_SECONDS)

    def _match(self, batch: _Batch) -> None:
        reports = [
            ReceivedReport(os.path.splitext(name)[0], control) for name, control in batch.reports.items()
        ]
        decisions = self._matcher.match_reports(reports) if reports else []
        for (name, control), decision in zip(batch.reports.items(), decisions, strict=True):
            if decision.message is None:
                self._leave_unmatched(batch, name, control, decision)
            elif decision.message.state is State.CLAIMED:
                batch.next_looks[name] = SOON
            else:
                evidence = evidence_of_report(control, decision.message.workflow_id)
                event = EvidenceEvent.DELAY if is_delay(evidence) else EvidenceEvent.REPORT
                file = mask_file_name(name)
                batch.pieces.append(FoundEvidence(decision.message.message_id, evidence, event, file))
                batch.archived.append(name)

    def _leave_unmatched(self, batch: _Batch, name: str, control: ControlFile, decision: Decision) -> None:
        if self._matcher.is_strange(control.workflow_id) and decision.doubt is not Doubt.CONTRADICTION:
            received = partial(self._notices.received, name, control, "report for another application")
            self._leave(batch, name, Outcome.ELSEWHERE, received)
            return
        mesh_id = mesh_id_of(control)
        notice = partial(self._notices.unmatched_report, name, control, decision)
        self._log_once(batch, name, notice, _UNMATCHED)
        if not self._keeps_unmatched:
            batch.archived.append(name)
        elif mesh_id is None:
            batch.next_looks[name] = NextLook(Outcome.UNMATCHED)
        else:
            batch.next_looks[name] = NextLook(Outcome.UNMATCHED_WITH_MESH_ID)
            self._unmatched.setdefault(mesh_id, []).append(name)

    def _sort_acknowledgement(self, batch: _Batch, name: str, path: str, found: Read) -> None:
        payload = payload_of(path)
        if payload is None:
            if self._archive.finish_move(path):
                batch.next_looks[name] = GONE
            elif not self._reader.is_finished(path, found.changed_ns):
                batch.next_looks[name] = SOON
            else:
                text = "Its payload is missing."
                self._leave_unreadable(batch, name, text, NO_PAYLOAD_ADVICE, LATER_SECONDS)
            return
        acknowledgement = self._read_acknowledgement(batch, name, payload)
        if acknowledgement is None:
            return
        decision = self._matcher.match_acknowledgement(acknowledgement, found.control)
        if decision.message is None:
            codes = ",".join(one.code for one in acknowledgement.evidence if one.code)
            notice = partial(self._notices.unmatched_acknowledgement, name, found.control, decision, codes)
            self._leave(batch, name, Outcome.ACKNOWLEDGEMENT_UNMATCHED, notice)
        elif decision.message.state is State.CLAIMED:
            batch.next_looks[name] = SOON
        else:
            batch.pieces += found_in_acknowledgement(name, found.control, acknowledgement, decision)
            self._follow_up(batch, name, sender_of(found.control), acknowledgement, decision.message)
            batch.archived.append(name)

    def _follow_up(
        self,
        batch: _Batch,
        name: str,
        sender: str | None,
        acknowledgement: ReceivedAcknowledgement,
        message: Candidate,
    ) -> None:
        """Note what else an acknowledgement of a message calls for: log lines, and a response."""
        before = message.answered_by
        if before is None and sender is not None:
            before = batch.answered_by.setdefault(message.message_id, sender)
        if sender is not None and before not in (None, sender) and message.to_mailbox is None:
            notice = partial(self._notices.other_mailbox, name, message.message_id, sender, before or "")
            batch.notices.append(notice)
        if sender is not None and self._responses.are_wanted(acknowledgement, message):
            batch.responses[name] = partial(self._responses.drop, acknowledgement, message, sender)
        if acknowledgement.unknown_codes:
            notice = partial(self._notices.unknown_codes, name, message.message_id, acknowledgement)
            batch.notices.append(notice)

    def _read_acknowledgement(self, batch: _Batch, name: str, payload: str) -> ReceivedAcknowledgement | None:
        """Return an acknowledgement; None, after noting what becomes of it, if it cannot be read."""
        try:
            return read_acknowledgement(payload)
        except UnreadableAcknowledgementError as error:
            if self._reader.is_finished(payload, _changed_ns(payload)):
                self._leave_unreadable(batch, name, str(error), CONTENT_ADVICE)
            else:
                batch.next_looks[name] = SOON
        except OSError as error:
            if is_general(error):
                raise
            if isinstance(error, FileNotFoundError) or system.is_held_open(error):
                batch.next_looks[name] = SOON
            else:
                reason = f"Its payload cannot be read: {reason_of(error)}."
                self._leave_unreadable(batch, name, reason, advice_on(error), LATER_SECONDS)
        return None

    def _leave_unreadable(
        self, batch: _Batch, name: str, reason: str, advice: str, again_seconds: float | None = None
    ) -> None:
        notice = partial(self._notices.unreadable_acknowledgement, name, reason, advice)
        self._leave(batch, name, Outcome.ACKNOWLEDGEMENT_UNREADABLE, notice, again_seconds)

    def _respond(self, batch: _Batch) -> None:
        """Respond to acknowledgements that ask for it, before they are archived."""
        for name, drop in batch.responses.items():
            try:
                drop()
            except OSError as error:
                batch.archived.remove(name)
                text = f"The response that it asks for cannot be dropped: {reason_of(error)}."
                self._set_aside(batch, name, text, advice_on(error))

    def _sort_data(self, batch: _Batch, name: str, path: str, found: Read, folder: str) -> None:
        payload = payload_of(path)
        if payload is not None and _is_regular(payload):
            batch.delivered[name] = found.control
        elif payload is None and finish_move(path, folder):
            batch.next_looks[name] = GONE
            batch.notices.append(partial(self._notices.delivered, name, found.control))
        elif not self._reader.is_finished(path, found.changed_ns):
            batch.next_looks[name] = SOON
        elif payload is None:
            self._set_aside(batch, name, "Its payload is missing.", NO_PAYLOAD_ADVICE)
        else:
            self._set_aside(batch, name, "Its payload is no ordinary file.", NOT_A_FILE_ADVICE)

    def _move_to_archive(self, names: list[str]) -> None:
        if names:
            day = f"{self._services.clock.now():%Y-%m-%d}"
            moved = self._move(names, self._archive.day(day))
            self._archive.note_written(self._services.ledger, day, moved)

    def _deliver(self, controls: dict[str, ControlFile]) -> None:
        if not controls or self._deliver_to is None:
            return
        make_folder(self._deliver_to)
        with self._services.journal.batch():
            self._move(controls, self._deliver_to, lambda name: self._notices.delivered(name, controls[name]))

    def _move(self, names: Collection[str], folder: str, log: Callable[[str], None] = lambda _: None) -> int:
        """Move files out of IN and log each; return how many. One that cannot be moved is set aside.

        Raises OSError when it is the folder that takes no more files.
        """
        moved, error_by_name = [], {}
        for name in names:
            path = f"{self.scan.folder}/{name}"
            try:
                move_in(path, payload_of(path), folder)
            except OSError as error:
                if is_general(error) or not self._may_move_to(folder):
                    raise
                error_by_name[name] = error
            else:
                log(name)
                moved.append(name)
        self.scan.note(dict.fromkeys(moved, GONE))
        for name, obstacle in error_by_name.items():
            if self.scan.outcome(name) != Outcome.IMMOVABLE:
                text = f"It cannot be moved out of IN: {reason_of(obstacle)}."
                self._notices.set_aside(name, text, advice_on(obstacle))
        immovable = NextLook(Outcome.IMMOVABLE, again_seconds=LATER_SECONDS)
        self.scan.note(dict.fromkeys(error_by_name, immovable))
        return len(moved)

    def _may_move_to(self, folder: str) -> bool:
        return os.access(self.scan.folder, os.W_OK | os.X_OK) and takes_files(folder)


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


_RECEIVED: Final = explain_response("20013")
_TAKEN: Final = explain_answer(Acknowledgement.INFRASTRUCTURE, "OK")
_SUBJECT: Final = "Infrastructure acknowledgement"


class Responses:
    """Our infrastructure responses to acknowledgements that ask for one (ITK3 "Full Acknowledgement"; ITK2).

    GP Connect does not ask for one. Where a use case has `answer_responses`, our response is dropped into the
    outbox like any letter, with a sidecar that names the mailbox it goes to, and goes out under the
    acknowledgement id.

    The response is made of the acknowledgement alone, and so is its name. It is dropped before the
    acknowledgement is archived: after a kill in between the outbox has it already, or the ledger has it, and
    it is not dropped again.
    """

    def __init__(self, settings: Settings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._names = NameRules(settings.staging)

    def are_wanted(self, acknowledgement: ReceivedAcknowledgement, message: Candidate) -> bool:
        """True if an acknowledgement asks for a response, and the use case of its message gives one."""
        use_case = self._settings.use_cases.get(message.use_case or "")
        is_asked = acknowledgement.asks and bool(acknowledgement.own_identifier)
        return is_asked and use_case is not None and use_case.answer_responses

    def drop(self, acknowledgement: ReceivedAcknowledgement, message: Candidate, mailbox_id: str) -> None:
        """Drop the response to an acknowledgement from a mailbox, unless that was done. Raises OSError."""
        # The ids, and so the name, must stay the same for one acknowledgement. Some senders of ITK2 give all
        # of theirs one tracking id.
        is_itk2 = acknowledgement.kind is MessageKind.ITK2
        about = f" about {acknowledgement.identifier}" if is_itk2 else ""
        ids = ResponseIds.of(f"answer to {acknowledgement.own_identifier}{about}")
        name = f"response-{ids.bundle}.xml"
        outbox = self._settings.staging.outbox
        keys = reference_keys(ids.bundle, self._services.keys)
        if reads.by_reference(self._services.ledger.connection, keys, 1) or os.path.lexists(outbox / name):
            return
        at = self._services.clock.now()
        if is_itk2:
            tracking_id = acknowledgement.own_identifier
            data = write_answer(ids, _TAKEN, tracking_id=tracking_id, service=BUSINESS_SERVICE, at=at)
        else:
            data = write_response(
                ids,
                _RECEIVED,
                identifier=acknowledgement.own_identifier,
                endpoint=self._settings.mailbox.id,
                ods_code=self._settings.mailbox.ods_code,
                at=at,
            )
        sidecar = {"use_case": message.use_case, "to_mailbox": mailbox_id, "subject": _SUBJECT}
        Dropper(str(outbox), self._names).drop_data(data, name, json.dumps(sidecar).encode())
        self._services.journal.info(
            "ack.answered", message_id=message.message_id, recipient=mailbox_id, file=name
        )
