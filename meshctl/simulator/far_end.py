"""MESH and the practices: checks, endpoint lookup, delivery, acknowledgements, as the rules want them.

Decides and writes nothing; knows no folders. What is not said in a rule goes well.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from meshctl.files.client_folders import TakenPair
from meshctl.mesh.address import DateOfBirthFormat, Patient, gp_provider, split_gp_provider
from meshctl.mesh.codes import ERROR, SUCCESS, CodeMeaning, explain_report, explain_response
from meshctl.mesh.control_file import ControlFile, ControlFileError, expected_errors, write_report
from meshctl.mesh.states import Acknowledgement
from meshctl.mesh.use_cases import PayloadForm, UseCase
from meshctl.payload.facts import MessageFacts
from meshctl.settings.client_config import ClientConfig
from meshctl.simulator import answers
from meshctl.simulator.rules import NEVER, REQUESTED, ClientRules, PatientRule, Rule, Rules, error_named
from meshctl.simulator.story import NOW, FarEndAnswer, Story, Verdict

_POSITIVE: Final = {Acknowledgement.INFRASTRUCTURE: "20013", Acknowledgement.BUSINESS: "30001"}
_ID_PLACES: Final = {"identifier": 0, "bundle_id": 1, "header_id": 2}
_UNDELIVERED: Final = "14"
_UNREADABLE: Final = "10009"

ReadFacts = Callable[[], MessageFacts | None]


@dataclass(frozen=True)
class Flags:
    """What the MESH Client is set to do; the defaults are a typical site's."""

    save_sent: bool = True
    collect_report: bool = True
    transfer_report: bool = False
    delay_report: bool = False
    poll_report: bool = False


def flags_in_force(rules: ClientRules, client: ClientConfig | None) -> Flags:
    """Return the flags that the rules give, else meshclient.cfg, else a typical site."""
    flags = Flags()
    for source in (client, rules):
        known = {name: getattr(source, name, None) for name in vars(flags)}
        flags = replace(flags, **{name: value for name, value in known.items() if value is not None})
    return flags


class FarEnd:
    """The far end of one mailbox; `speed` is how much faster than life it is."""

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

    def judge(
        self, pair: TakenPair, control: ControlFile | None, read_facts: ReadFacts, taken_at: float
    ) -> Verdict:
        """Return what becomes of a pair taken at `taken_at`; `control` is None if it cannot be read.

        `read_facts` reads the payload, and is called only where an answer depends on it.
        """
        story = Story(pair, control, self._mailbox_id, taken_at, self._speed)
        if control is None:
            return self._fail(story, explain_report("COLLECT", ERROR, "01"))
        if os.path.islink(pair.data) or not os.path.isfile(pair.data):
            return self._fail(story, explain_report("COLLECT", ERROR, "02"))
        errors = expected_errors(control)
        if control.from_dts != self._mailbox_id:
            errors.insert(0, explain_report("SEND", ERROR, "07"))
        if errors:
            return self._fail(story, errors[0])
        try:
            return self._transfer(story, pair, control, read_facts)
        except ControlFileError:
            # A value that no control file can carry, although this one did.
            return self._fail(Story(pair, None, self._mailbox_id, taken_at, self._speed), _malformed())

    def poll_report(self, now: float) -> FarEndAnswer:
        """Return the report of a poll that went well."""
        meaning = explain_report("RECEIVE", SUCCESS, "00")
        control = write_report(None, self._mailbox_id, "", answers.status_record(meaning, now))
        return FarEndAnswer(
            now, answers.mesh_id(f"poll {now}", now), control, None, f"report {meaning.label}"
        )

    def _transfer(
        self, story: Story, pair: TakenPair, control: ControlFile, read_facts: ReadFacts
    ) -> Verdict:
        parts = split_gp_provider(control.to_dts)
        rule = self._rules.rule_for(
            nhs_number=parts[0] if parts else "",
            workflow_id=control.workflow_id,
            to_mailbox="" if parts else control.to_dts,
            file=pair.stem,
        )
        patient = self._patients.get(parts[0]) if parts else None
        error = error_named(rule.error) if rule.error else _lookup_error(control.to_dts, patient)
        if error is not None and (rule.at_once or error.event != "SEND"):
            return self._fail(story, error)
        if self._flags.collect_report:
            story.report(explain_report("COLLECT", SUCCESS, "00"), NOW, with_id=False)
        after = self._delay(story, rule)
        if self._flags.transfer_report:
            story.report(explain_report("TRANSFER", SUCCESS, "00"), after, times=rule.times)
        if error is not None:
            timing = self._rules.timing
            late = timing.undelivered if error.code == _UNDELIVERED else timing.send_error
            story.report(error, after + late, times=rule.times)
        else:
            self._acknowledge(story, control, rule, patient, read_facts, after)
            if control.to_dts == self._mailbox_id:
                story.arrival(control, after)
        return story.sent(after)

    def _fail(self, story: Story, meaning: CodeMeaning) -> Verdict:
        wanted = {"COLLECT": self._flags.collect_report, "TRANSFER": self._flags.transfer_report}
        if wanted.get(meaning.event, False):
            story.report(meaning, NOW, with_id=False)
        return story.failed(meaning)

    def _request(self, request_id: str, control: ControlFile, patient: PatientRule | None) -> answers.Request:
        return answers.Request(
            request_id=request_id,
            practice=_practice(control, patient),
            requester=control.from_dts,
            ack_workflow_id=self._ack_workflow_ids.get(
                control.workflow_id, f"{control.workflow_id}_ACK"[:32]
            ),
        )

    def _delay(self, story: Story, rule: Rule) -> timedelta:
        """Return how long the transfer takes, with a report of each attempt that failed."""
        retry = self._rules.timing.retry
        if self._flags.delay_report:
            for attempt in range(rule.delays):
                story.report(explain_report("TRANSFER", SUCCESS, "05"), attempt * retry, with_id=False)
        return rule.delays * retry

    def _acknowledge(
        self,
        story: Story,
        control: ControlFile,
        rule: Rule,
        patient: PatientRule | None,
        read_facts: ReadFacts,
        after: timedelta,
    ) -> None:
        if rule.infrastructure_ack == rule.business_ack == NEVER:
            return
        facts = read_facts()
        if facts is None and control.workflow_id in self._document_workflow_ids:
            # A practice's system cannot read it, and has no id but MESH's to say which it is.
            request = self._request(story.mesh_id, control, patient)
            story.acknowledgement(request, _UNREADABLE, after + self._rules.timing.infrastructure_ack, 1)
            return
        # Only an ITK3 message has the ids that an acknowledgement refers to.
        if facts is None or not facts.references:
            return
        place = min(_ID_PLACES[rule.answers_name], len(facts.references) - 1)
        request = self._request(facts.references[place], control, patient)
        requested = facts.acknowledgements or ()
        timing = self._rules.timing
        code = _code(Acknowledgement.INFRASTRUCTURE, rule.infrastructure_ack, requested)
        if code is not None:
            wait = rule.infrastructure_ack_after or timing.infrastructure_ack
            story.acknowledgement(request, code, after + wait, rule.times)
            if rule.business_ack == REQUESTED and explain_response(code).status == ERROR:
                # What did not get through the first level never reaches the second.
                return
        code = _code(Acknowledgement.BUSINESS, rule.business_ack, requested)
        if code is not None:
            story.acknowledgement(
                request, code, after + (rule.business_ack_after or timing.business_ack), rule.times
            )


def _code(level: Acknowledgement, wanted: str, requested: tuple[str, ...]) -> str | None:
    """Return the ITK3 code to answer with at a level, None for no answer."""
    if wanted == REQUESTED:
        return _POSITIVE[level] if level in requested else None
    return None if wanted == NEVER else wanted


def _practice(control: ControlFile, patient: PatientRule | None) -> str:
    if split_gp_provider(control.to_dts) is None:
        return control.to_dts
    return patient.practices[0] if patient and patient.practices else answers.SOME_PRACTICE


def _lookup_error(to_dts: str, patient: PatientRule | None) -> CodeMeaning | None:
    """Look a patient up as PDS would; one whom the rules do not list is found."""
    if patient is None:
        return None
    surname = to_dts.rpartition("_")[2]
    known = Patient(patient.nhs_number, patient.date_of_birth, surname)
    if surname.casefold() != patient.surname.casefold() or to_dts not in {
        gp_provider(known, written) for written in DateOfBirthFormat
    }:
        return explain_report("SEND", ERROR, "EPL-154")
    if len(patient.practices) == 1:
        return None
    return explain_report("SEND", ERROR, "EPL-150" if patient.practices else "EPL-151")


def _malformed() -> CodeMeaning:
    return explain_report("TRANSFER", ERROR, "06")
