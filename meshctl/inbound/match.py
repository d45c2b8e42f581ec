"""Decide what a control file in IN is, and which message it is about: never a guess.

A report names its message by up to three ids. Those that point to a message must all point to the same one;
an id that points to none counts for nothing. So does a LocalId that is an ODS code, however many messages
have it (GP Connect wants the same code on all of them). `Matcher` asks the ledger for candidates; the
decisions are pure. Other applications share mailboxes: what belongs to them is left to them.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from functools import partial

from meshctl.inbound.evidence import (
    UNREADABLE_IDENTIFIER,
    ReceivedAcknowledgement,
    meaning_of,
    mesh_id_of,
    reference_keys,
)
from meshctl.inbound.folders import payload_of
from meshctl.ledger import reads
from meshctl.ledger.reads import Candidate
from meshctl.ledger.services import Services
from meshctl.mesh.codes import FROM_RECIPIENT, Effect
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.states import AT_MESH, State
from meshctl.mesh.use_cases import UseCase
from meshctl.settings.model import Settings

MOST_CANDIDATES = 5
"""At most so many candidates are named where a match would be a guess."""

# Organisation and site codes of the Organisation Data Service.
_ODS_SHAPE = re.compile(r"(?=[A-Z0-9]*[A-Z])[A-Z0-9]{3,8}", re.IGNORECASE)


class Doubt(StrEnum):
    """Why no message is named; the value is the text for people."""

    UNKNOWN = "None of its ids belongs to a message."
    SEVERAL = "Several messages bear its LocalId."
    ODS_CODE = "Its LocalId is an ODS code, which many messages share."
    WORKFLOW = "Its LocalId belongs to a message of another workflow."
    CONTRADICTION = "Its ids belong to different messages."
    UNKNOWN_REFERENCE = "No message bears the id that it acknowledges."
    UNREADABLE_REFERENCE = "Its sender could not read the id of the message that it acknowledges."
    OTHER_WORKFLOW = "It came under a workflow id that acknowledgements of the message do not have."
    OTHER_MAILBOX = "It came from a mailbox to which the message did not go."
    NO_MAILBOX = "It does not say which mailbox it came from, and the message went to a certain one."
    SEVERAL_REFERENCES = "Several messages bear the id that it acknowledges."


@dataclass(frozen=True, slots=True)
class Identification:
    """What a report's ids found in the ledger.

    `mesh_id` is the report's own; `local_id_identifies` if its LocalId can mean one message.
    """

    mesh_id: str | None
    workflow_id: str
    local_id_key: bytes | None
    by_mesh_id: Sequence[Candidate]
    by_stem: Candidate | None
    by_local_id: Sequence[Candidate]
    local_id_identifies: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """The message, or the doubt and the candidates there were.

    `copies` are earlier messages with the same content, which an acknowledgement of `message` is about, too.
    """

    message: Candidate | None
    doubt: Doubt | None = None
    candidates: tuple[str, ...] = ()
    copies: tuple[Candidate, ...] = ()


def may_identify(local_id: str, own_ods_code: str | None, template: str | None) -> bool:
    """True if a LocalId can distinguish one message from another; `template` is that of its use case."""
    if own_ods_code is not None and local_id.casefold() == own_ods_code.casefold():
        return False
    holds_ods_code = template is not None and "{ods_code}" in template and "{message_id}" not in template
    return not (holds_ods_code and _ODS_SHAPE.fullmatch(local_id))


def decide_report(found: Identification) -> Decision:
    """Return the one message that a report is about."""
    named = {one.message_id: one for one in (*found.by_mesh_id, *_just(found.by_stem))}
    if len(named) > 1:
        return _undecided(Doubt.CONTRADICTION, named.values())
    if not named:
        return _decide_by_local_id(found)
    message = next(iter(named.values()))
    others = found.by_local_id if found.local_id_identifies else ()
    names_another = bool(others) and message.local_id_key != found.local_id_key
    if names_another or _bears_other_mesh_id(message, found):
        return _undecided(Doubt.CONTRADICTION, [message, *others])
    return Decision(message)


def decide_acknowledgement(
    candidates: Sequence[Candidate], doubt_of: Callable[[Candidate], Doubt | None]
) -> Decision:
    """Return the one message whose payload bears the id that an acknowledgement is about.

    `doubt_of` says why it cannot be about a message although that has the id: such a message never matches,
    and if there is no other, its doubt is the answer. The same payload sent again has the same ids. What
    never arrived cannot have been acknowledged, so it gives way where there is another. What went to the
    mailbox by its name does not: what went to a practice by endpoint lookup gives way to that, unless one of
    the two sends the other again. Of a chain of messages, each of which sends the one before it again, the
    newest at MESH was acknowledged.
    """
    if not candidates:
        return Decision(None, Doubt.UNKNOWN_REFERENCE)
    fitting = [one for one in candidates if doubt_of(one) is None]
    if not fitting:
        return _undecided(doubt_of(candidates[0]) or Doubt.UNKNOWN_REFERENCE, candidates)
    fitting = _addressed(fitting)
    arrived = fitting if len(fitting) == 1 else [one for one in fitting if not _never_arrived(one)]
    if len(arrived) == 1:
        return Decision(arrived[0])
    if not arrived or not _is_chain(fitting):
        return _undecided(Doubt.SEVERAL_REFERENCES, fitting)
    at_mesh = [one for one in arrived if one.state in AT_MESH]
    newest = max(at_mesh or arrived, key=lambda one: one.message_id)
    return Decision(newest, copies=tuple(one for one in at_mesh if one is not newest))


def _addressed(fitting: Sequence[Candidate]) -> list[Candidate]:
    """Return the messages that went to the mailbox by its name, and those resent; all where none did."""
    named = [one for one in fitting if one.to_mailbox is not None]
    ids, resent = {one.message_id for one in named}, {one.resend_of for one in named}
    return [
        one
        for one in fitting
        if not named or one.to_mailbox is not None or one.message_id in resent or one.resend_of in ids
    ]


def _is_chain(messages: Sequence[Candidate]) -> bool:
    """True if each message but the first sends again, or repeats, another of them."""
    ids = {one.message_id for one in messages}
    first = [one for one in messages if one.resend_of not in ids and one.repeat_of not in ids]
    return len(first) == 1


def _decide_by_local_id(found: Identification) -> Decision:
    if not found.by_local_id:
        return Decision(None, Doubt.UNKNOWN)
    if not found.local_id_identifies:
        return _undecided(Doubt.ODS_CODE, found.by_local_id)
    if len(found.by_local_id) > 1:
        return _undecided(Doubt.SEVERAL, found.by_local_id)
    message = found.by_local_id[0]
    # A LocalId is the host's own, so another application may use the same one for something else.
    if found.workflow_id and message.workflow_id and found.workflow_id != message.workflow_id:
        return _undecided(Doubt.WORKFLOW, [message])
    if _bears_other_mesh_id(message, found):
        return _undecided(Doubt.CONTRADICTION, [message])
    return Decision(message)


def _bears_other_mesh_id(message: Candidate, found: Identification) -> bool:
    return found.mesh_id is not None and message.mesh_id not in (None, found.mesh_id)


def _never_arrived(message: Candidate) -> bool:
    return message.state is State.FAILED and message.failed_by not in FROM_RECIPIENT


def _just(candidate: Candidate | None) -> tuple[Candidate, ...]:
    return () if candidate is None else (candidate,)


def _undecided(doubt: Doubt, candidates: Iterable[Candidate]) -> Decision:
    ids = sorted({one.message_id for one in candidates})
    return Decision(None, doubt, tuple(ids[:MOST_CANDIDATES]))


class ControlKind(Enum):
    """What a control file in IN is."""

    REPORT = auto()
    """A report on a message that left this mailbox."""
    CLIENT = auto()
    """A report of the client about itself."""
    ACKNOWLEDGEMENT = auto()
    """A data message under a workflow id that acknowledgements of our messages come back under."""
    DATA = auto()
    """Any other data message for this mailbox."""
    ELSEWHERE = auto()
    """Something for another mailbox."""


@dataclass(frozen=True, slots=True, repr=False)
class ReceivedReport:
    """A report in IN or the archive: its file's stem, and its control file."""

    stem: str
    control: ControlFile


class Matcher:
    """Decides for one mailbox what control files are, and matches them."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._connection = services.ledger.connection
        self._keys = services.keys
        self._mailbox_id = settings.mailbox.id.casefold()
        self._ods_code = settings.mailbox.ods_code
        self._use_cases = settings.use_cases
        use_cases = settings.use_cases.values()
        self._ack_workflow_ids = {workflow_id for one in use_cases for workflow_id in one.ack_workflow_ids}
        self._workflow_ids = self._ack_workflow_ids | {one.workflow_id for one in use_cases}

    def kind_of(self, control: ControlFile, path: str) -> ControlKind:
        """Return what a control file is. Raises OSError when it depends on a payload that cannot be seen."""
        sender, recipient = control.from_dts.casefold(), control.to_dts.casefold()
        if self._is_report(control, path):
            if self._mailbox_id not in (sender, recipient) and sender and recipient:
                return ControlKind.ELSEWHERE
            meaning = meaning_of(control)
            is_client = meaning is not None and meaning.effect is Effect.CLIENT
            return ControlKind.CLIENT if is_client else ControlKind.REPORT
        if recipient not in ("", self._mailbox_id):
            return ControlKind.ELSEWHERE
        is_acknowledgement = control.workflow_id in self._ack_workflow_ids
        return ControlKind.ACKNOWLEDGEMENT if is_acknowledgement else ControlKind.DATA

    def _is_report(self, control: ControlFile, path: str) -> bool:
        if control.is_report:
            return True
        if control.status is None:
            return False
        # A message that arrived has a record of its transfer as well, but it has a payload and came to us.
        is_data = control.message_type.lower() == "data"
        is_own = control.from_dts.casefold() == self._mailbox_id
        return (not is_data or is_own) and payload_of(path) is None

    def is_strange(self, workflow_id: str) -> bool:
        """True if no use case has this workflow id, neither for messages nor for acknowledgements."""
        return bool(workflow_id) and workflow_id not in self._workflow_ids

    def match_reports(self, reports: Sequence[ReceivedReport]) -> list[Decision]:
        """Return a decision for each report; one may give the MESH id by which another finds its message."""
        found = self._identifications(reports)
        decisions = [decide_report(one) for one in found]
        message_by_mesh_id = {
            one.mesh_id: decision.message
            for one, decision in zip(found, decisions, strict=True)
            if decision.message is not None and one.mesh_id is not None
        }
        for number, (one, decision) in enumerate(zip(found, decisions, strict=True)):
            if decision.message is None and not one.by_mesh_id and one.mesh_id in message_by_mesh_id:
                decisions[number] = decide_report(replace(one, by_mesh_id=[message_by_mesh_id[one.mesh_id]]))
        return decisions

    def match_acknowledgement(self, found: ReceivedAcknowledgement, control: ControlFile) -> Decision:
        """Return a decision for an acknowledgement, by the id it gives and the control file it came with."""
        if found.identifier == UNREADABLE_IDENTIFIER:
            return self._match_unreadable(control, is_negative=found.is_negative)
        keys = reference_keys(found.identifier, self._keys)
        candidates = reads.by_reference(self._connection, keys, MOST_CANDIDATES + 1)
        return decide_acknowledgement(candidates, partial(self._doubt_of, control))

    def _match_unreadable(self, control: ControlFile, *, is_negative: bool) -> Decision:
        """Return the one message that its recipient may have got and not read, if it can be only one.

        A recipient that could not read the id cannot have taken the message: only a rejection is trusted.
        """
        use_cases = self._use_cases.values()
        asked = {one.workflow_id for one in use_cases if control.workflow_id in one.ack_workflow_ids}
        found = reads.unacknowledged(self._connection, asked, control.from_dts, MOST_CANDIDATES + 1)
        found = [one for one in found if self._doubt_of(control, one) is None]
        is_certain = is_negative and len(found) == 1
        return Decision(found[0]) if is_certain else _undecided(Doubt.UNREADABLE_REFERENCE, found)

    def _doubt_of(self, control: ControlFile, message: Candidate) -> Doubt | None:
        """Return why an acknowledgement cannot be trusted about a message whose id it gives."""
        use_cases = self._use_cases_of(message)
        if not any(control.workflow_id in one.ack_workflow_ids for one in use_cases):
            return Doubt.OTHER_WORKFLOW
        if message.to_mailbox is None:
            # By endpoint lookup it may have gone to any practice.
            return None
        if not control.from_dts:
            return Doubt.NO_MAILBOX
        senders = {message.to_mailbox.casefold()}
        senders |= {mailbox.casefold() for one in use_cases for mailbox in one.ack_from}
        return None if control.from_dts.casefold() in senders else Doubt.OTHER_MAILBOX

    def _use_cases_of(self, message: Candidate) -> list[UseCase]:
        own = self._use_cases.get(message.use_case or "")
        if own is not None:
            return [own]
        # A ledger that was rebuilt has the workflow id alone.
        return [one for one in self._use_cases.values() if one.workflow_id == message.workflow_id]

    def _identifications(self, reports: Sequence[ReceivedReport]) -> list[Identification]:
        mesh_ids = [mesh_id_of(report.control) for report in reports]
        by_mesh_id = reads.by_mesh_id(self._connection, {one for one in mesh_ids if one is not None})
        by_stem = reads.by_message_id(self._connection, {report.stem for report in reports})
        by_local_id: dict[str, list[Candidate]] = {}
        found = []
        for report, mesh_id in zip(reports, mesh_ids, strict=True):
            local_id = report.control.local_id
            key = self._keys.of(local_id) if local_id else None
            if key is not None and local_id not in by_local_id:
                by_local_id[local_id] = reads.by_local_id(self._connection, key, MOST_CANDIDATES + 1)
            bearers = by_local_id.get(local_id, [])
            found.append(
                Identification(
                    mesh_id=mesh_id,
                    workflow_id=report.control.workflow_id,
                    local_id_key=key,
                    by_mesh_id=by_mesh_id.get(mesh_id, []) if mesh_id is not None else [],
                    by_stem=by_stem.get(report.stem),
                    by_local_id=bearers,
                    local_id_identifies=all(self._identifies(local_id, bearer) for bearer in bearers),
                )
            )
        return found

    def _identifies(self, local_id: str, bearer: Candidate) -> bool:
        use_case = self._use_cases.get(bearer.use_case or "")
        return may_identify(local_id, self._ods_code, use_case.local_id if use_case else None)
