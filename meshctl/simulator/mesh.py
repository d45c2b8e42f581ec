"""MESH, simulated: checks, endpoint lookup, delivery, and when practices acknowledge, as the rules say.

Pure: it decides what becomes of a pair and what comes back about it, and when, and writes nothing. Where no
rule says otherwise, all goes well. Every id is derived from its message, so that the same pair judged again,
as after a kill, gets the same names.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from meshctl.files.client_folders import PairOutcome, TakenPair
from meshctl.files.reading import is_general, open_regular
from meshctl.mesh.address import DateOfBirthFormat, Patient, gp_provider, split_gp_provider
from meshctl.mesh.codes import ERROR, SUCCESS, CodeMeaning, explain_report, explain_response
from meshctl.mesh.control_file import (
    ControlFile,
    ControlFileError,
    StatusRecord,
    expected_errors,
    write_control_file,
    write_report,
)
from meshctl.mesh.states import Acknowledgement
from meshctl.mesh.use_cases import PayloadForm, UseCase
from meshctl.payload.facts import MessageFacts
from meshctl.settings.client_config import ClientConfig
from meshctl.simulator.practice import POSITIVE, Request, acknowledgement, arrived, meaning_of, stamp
from meshctl.simulator.rules import NEVER, REQUESTED, ClientRules, PatientRule, Rule, Rules, error_named

# The mailbox of a practice that only endpoint lookup knows.
_SOME_PRACTICE: Final = "STANDIN1"
_NOW: Final = timedelta(0)
_ID_PLACES: Final = {"identifier": 0, "bundle_id": 1, "header_id": 2}
_UNDELIVERED: Final = "14"
_UNREADABLE: Final = "10009"

ReadFacts = Callable[[], MessageFacts | None]


def _status(meaning: CodeMeaning, at_seconds: float) -> StatusRecord:
    return StatusRecord(
        stamp(at_seconds), meaning.event, meaning.status, meaning.code, description=meaning.meaning
    )


def _mesh_id(seed: str, at_seconds: float) -> str:
    """Return a message id as MESH would give it at an instant; the same seed gives the same id."""
    digest = hashlib.sha256(seed.encode(errors="surrogateescape")).hexdigest()
    return f"{datetime.fromtimestamp(at_seconds, UTC):%Y%m%d%H%M%S%f}_{digest[:6].upper()}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that comes into IN under `stem` at `due_at` (seconds from 1970); `text` is for people."""

    due_at: float
    stem: str
    control: bytes
    payload: bytes | str | None
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a pair, and at `finish_at`; `control` None leaves its control file as it is."""

    outcome: PairOutcome
    control: bytes | None
    finish_at: float
    arrivals: list[Arrival]
    text: str


class _Course:
    """What happens to `pair`, taken at `taken_at`, at `speed` times real time."""

    def __init__(
        self, pair: TakenPair, control: ControlFile | None, mailbox_id: str, taken_at: float, speed: float
    ) -> None:
        self._pair = pair
        self._control = control
        self._mailbox_id = mailbox_id
        self._taken_at = taken_at
        self._speed = speed
        self._arrivals: list[Arrival] = []
        self.mesh_id = self._id("message")

    def report(self, meaning: CodeMeaning, after: timedelta, *, times: int = 1, with_id: bool = True) -> None:
        """Let a report come; `with_id` false before MESH has given the message an id."""
        due_at, mesh_id = self._at(after), self.mesh_id if with_id else ""
        control = write_report(self._control, self._mailbox_id, mesh_id, _status(meaning, due_at))
        for time in range(times):
            stem = self._id(f"{meaning.label} {after} {time}")
            self._arrivals.append(Arrival(due_at, stem, control, None, f"report {meaning.label}"))

    def acknowledgement(self, request: Request, meaning: CodeMeaning, after: timedelta, times: int) -> None:
        """Let the practice acknowledge with a code."""
        due_at = self._at(after)
        for time in range(times):
            stem = self._id(f"acknowledgement {meaning.code} {time}")
            control, payload = acknowledgement(request, meaning, stem, due_at)
            text = f"acknowledgement {meaning.code}"
            self._arrivals.append(Arrival(due_at, stem, control, payload, text))

    def to_ourselves(self, control: ControlFile, after: timedelta) -> None:
        """Let the message arrive in the IN that it came from."""
        due_at = self._at(after)
        text = "message to ourselves"
        received = arrived(control, self.mesh_id, due_at)
        self._arrivals.append(Arrival(due_at, self.mesh_id, received, self._pair.data, text))

    def failed(self, meaning: CodeMeaning) -> Verdict:
        """Return that the pair goes to FAILED."""
        try:
            control = self._final(meaning, "", _NOW)
        except ControlFileError:
            control = None
        text = f"to FAILED, {meaning.label}"
        return Verdict(PairOutcome.FAILED, control, self._taken_at, self._arrivals, text)

    def sent(self, after: timedelta) -> Verdict:
        """Return that the pair goes to SENT. Raises ControlFileError if there can be no such control file."""
        control = self._final(explain_report("TRANSFER", SUCCESS, "00"), self.mesh_id, after)
        text = f"to SENT as {self.mesh_id}" + (f", in {after}" if after else "")
        return Verdict(PairOutcome.SENT, control, self._at(after), self._arrivals, text)

    def _final(self, meaning: CodeMeaning, dts_id: str, after: timedelta) -> bytes | None:
        if self._control is None:
            return None
        status = _status(meaning, self._at(after))
        return write_control_file(replace(self._control, dts_id=dts_id, status=status))

    def _at(self, after: timedelta) -> float:
        return self._taken_at + after.total_seconds() / self._speed

    def _id(self, seed: str) -> str:
        return _mesh_id(f"{self._pair.fingerprint} {seed}", self._pair.put_at)


@dataclass(frozen=True)
class Flags:
    """The settings of the MESH Client; the defaults are a typical site's."""

    save_sent: bool = True
    collect_report: bool = True
    transfer_report: bool = False
    delay_report: bool = False
    poll_report: bool = False


def flags_in_force(rules: ClientRules, client: ClientConfig | None) -> Flags:
    """Return the flags that the rules give, else meshclient.cfg, else a typical site."""
    flags = Flags()
    for source in (client, rules):
        given = {name: getattr(source, name, None) for name in vars(flags)}
        flags = replace(flags, **{name: value for name, value in given.items() if value is not None})
    return flags


class SimulatedMesh:
    """MESH and the practices, for one mailbox, at `speed` times real time."""

    def __init__(
        self, mailbox_id: str, use_cases: Mapping[str, UseCase], rules: Rules, flags: Flags, speed: float
    ) -> None:
        self._mailbox_id = mailbox_id
        self._ack_workflow_ids = {
            row.workflow_id: row.ack_workflow_id for row in use_cases.values() if row.ack_workflow_id
        }
        self._document_workflow_ids = {
            row.workflow_id for row in use_cases.values() if row.payload is PayloadForm.ITK3_DOCUMENT
        }
        self._rules = rules
        self._patients = {patient.nhs_number: patient for patient in rules.patients}
        self._flags = flags
        self._speed = speed

    @property
    def save_sent(self) -> bool:
        """True if the MESH Client keeps in SENT what was sent."""
        return self._flags.save_sent

    @property
    def pick_up_seconds(self) -> float:
        """Return how old a control file must be before its pair is taken."""
        return self._rules.timing.pick_up.total_seconds() / self._speed

    @property
    def poll_seconds(self) -> float | None:
        """Return how often a poll is reported; None if none is."""
        return self._rules.timing.poll.total_seconds() / self._speed if self._flags.poll_report else None

    def judge(
        self, pair: TakenPair, control: ControlFile | None, read_facts: ReadFacts, taken_at: float
    ) -> Verdict:
        """Return what becomes of a pair taken at `taken_at`; `control` is None if it cannot be read.

        `read_facts` reads the payload, and is called only where an acknowledgement depends on it.
        """
        course = _Course(pair, control, self._mailbox_id, taken_at, self._speed)
        if control is None:
            return self._fail(course, explain_report("COLLECT", ERROR, "01"))
        if not _can_be_read(pair.data):
            return self._fail(course, explain_report("COLLECT", ERROR, "02"))
        errors = expected_errors(control)
        if control.from_dts != self._mailbox_id:
            errors.insert(0, explain_report("SEND", ERROR, "07"))
        if errors:
            return self._fail(course, errors[0])
        try:
            return self._transfer(course, pair, control, read_facts)
        except ControlFileError:
            # A value that no control file can hold, although this one did.
            course = _Course(pair, None, self._mailbox_id, taken_at, self._speed)
            return self._fail(course, explain_report("TRANSFER", ERROR, "06"))

    def poll_report(self, now: float) -> Arrival:
        """Return the report of a poll that went well."""
        meaning = explain_report("RECEIVE", SUCCESS, "00")
        control = write_report(None, self._mailbox_id, "", _status(meaning, now))
        return Arrival(now, _mesh_id(f"poll {now}", now), control, None, f"report {meaning.label}")

    def _transfer(
        self, course: _Course, pair: TakenPair, control: ControlFile, read_facts: ReadFacts
    ) -> Verdict:
        address = split_gp_provider(control.to_dts)
        rule = self._rules.rule_for(
            nhs_number=address[0] if address else "",
            workflow_id=control.workflow_id,
            to_mailbox="" if address else control.to_dts,
            file=pair.stem,
        )
        patient = self._patients.get(address[0]) if address else None
        error = error_named(rule.error) if rule.error else _lookup_error(control.to_dts, patient)
        if error is not None and (rule.at_once or error.event != "SEND"):
            return self._fail(course, error)
        if self._flags.collect_report:
            course.report(explain_report("COLLECT", SUCCESS, "00"), _NOW, with_id=False)
        timing = self._rules.timing
        if self._flags.delay_report:
            for attempt in range(rule.delays):
                delay = explain_report("TRANSFER", SUCCESS, "05")
                course.report(delay, attempt * timing.retry, with_id=False)
        after = rule.delays * timing.retry
        if self._flags.transfer_report:
            course.report(explain_report("TRANSFER", SUCCESS, "00"), after, times=rule.times)
        if error is not None:
            late = timing.undelivered if error.code == _UNDELIVERED else timing.send_error
            course.report(error, after + late, times=rule.times)
        else:
            if rule.infrastructure_ack != NEVER or rule.business_ack != NEVER:
                practice = _practice(control, patient)
                self._acknowledge(course, control, rule, practice, read_facts(), after)
            if control.to_dts == self._mailbox_id:
                course.to_ourselves(control, after)
        return course.sent(after)

    def _fail(self, course: _Course, meaning: CodeMeaning) -> Verdict:
        reported = {"COLLECT": self._flags.collect_report, "TRANSFER": self._flags.transfer_report}
        if reported.get(meaning.event, False):
            course.report(meaning, _NOW, with_id=False)
        return course.failed(meaning)

    def _acknowledge(
        self,
        course: _Course,
        control: ControlFile,
        rule: Rule,
        practice: str,
        facts: MessageFacts | None,
        after: timedelta,
    ) -> None:
        """Let the acknowledgements come that the rule and the message ask for."""
        timing = self._rules.timing
        workflow_id = self._ack_workflow_ids.get(control.workflow_id, f"{control.workflow_id}_ACK"[:32])
        if facts is None and control.workflow_id in self._document_workflow_ids:
            # The practice's system cannot read it, and has no id but MESH's to name it by.
            request = Request(course.mesh_id, practice, control.from_dts, workflow_id)
            unreadable = explain_response(_UNREADABLE)
            course.acknowledgement(request, unreadable, after + timing.infrastructure_ack, 1)
            return
        # Only a message has the ids that an acknowledgement refers to.
        if facts is None or not facts.references:
            return
        place = min(_ID_PLACES[rule.answers_name], len(facts.references) - 1)
        request = Request(facts.references[place], practice, control.from_dts, workflow_id, facts.kind)
        meaning = _meaning(Acknowledgement.INFRASTRUCTURE, rule.infrastructure_ack, facts)
        if meaning is not None:
            wait = rule.infrastructure_ack_after or timing.infrastructure_ack
            course.acknowledgement(request, meaning, after + wait, rule.times)
            if rule.business_ack == REQUESTED and meaning.status == ERROR:
                # What did not get through the first level never reaches the second.
                return
        meaning = _meaning(Acknowledgement.BUSINESS, rule.business_ack, facts)
        if meaning is not None:
            wait = rule.business_ack_after or timing.business_ack
            course.acknowledgement(request, meaning, after + wait, rule.times)


def _meaning(level: Acknowledgement, wanted: str, facts: MessageFacts) -> CodeMeaning | None:
    """Return what to acknowledge with at a level; None for no acknowledgement."""
    if wanted == NEVER or (wanted == REQUESTED and level not in (facts.acknowledgements or ())):
        return None
    code = POSITIVE[facts.kind][level] if wanted == REQUESTED else wanted
    return meaning_of(facts.kind, level, code)


def _can_be_read(path: str) -> bool:
    """True for a file that may be read, and is no link."""
    try:
        with open_regular(path):
            return True
    except OSError as error:
        if is_general(error):
            raise
        return False


def _practice(control: ControlFile, patient: PatientRule | None) -> str:
    if split_gp_provider(control.to_dts) is None:
        return control.to_dts
    return patient.practices[0] if patient and patient.practices else _SOME_PRACTICE


def _lookup_error(to_dts: str, patient: PatientRule | None) -> CodeMeaning | None:
    """Look a patient up as PDS would; one whom the rules do not list is found."""
    if patient is None:
        return None
    surname = to_dts.rpartition("_")[2]
    listed = Patient(patient.nhs_number, patient.date_of_birth, surname)
    if surname.casefold() != patient.surname.casefold() or to_dts not in {
        gp_provider(listed, written) for written in DateOfBirthFormat
    }:
        return explain_report("SEND", ERROR, "EPL-154")
    if len(patient.practices) == 1:
        return None
    return explain_report("SEND", ERROR, "EPL-150" if patient.practices else "EPL-151")
