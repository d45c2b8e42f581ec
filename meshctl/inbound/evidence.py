"""What a control file or an acknowledgement proves of its message.

A control file in SENT, FAILED or IN proves what its status record says. Free text of a file is never copied:
what people read is the table's meaning of the code.

Of an ITK3 acknowledgement the level is that of the code (prefix 1 and 2 infrastructure, 3 business), the sign
that of the table, for an unknown code that of `response.code`. In ITK3 an `ok` without a code says nothing of
a level: it is noted, and the acknowledgement is still awaited; in R4, which has no such codes, it says that
the message was processed, and so it counts, with a code that no table has. An error without a code is a
failure. Several codes are several pieces of evidence. An answer of ITK2 says itself what level it is of, and
whether it is positive; its codes say why not.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from meshctl.errors import Rejection
from meshctl.inbound.folders import fault_text
from meshctl.journal.masking import mask_numbers
from meshctl.ledger.keys import Keys
from meshctl.mesh.address import GP_PROVIDER
from meshctl.mesh.codes import (
    SUCCESS,
    CodeMeaning,
    Effect,
    explain_answer,
    explain_report,
    explain_response,
)
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.states import LEFT_OUT_EVENT, UNREADABLE_ID, Acknowledgement, Evidence, State
from meshctl.mesh.use_cases import Resolution, resolution_of
from meshctl.payload.facts import MessageFacts, MessageKind, ResponseFacts
from meshctl.payload.reader import read_payload
from meshctl.platform import system

_REPORT_REACHES = {
    Effect.COLLECTED: State.COLLECTED,
    Effect.TRANSFERRED: State.SENT,
    Effect.FAILED: State.FAILED,
    Effect.UNDELIVERED: State.FAILED,
}
# 20180808160418053343_B8CF9A, DTS-20101216101210-927652, dtsapp05-201301201947406678: all hold a time stamp.
# A DTSId of another kind, which might hold anything, is kept out of ledger and log.
_MESH_ID = re.compile(r"(?=(?:\D*\d){12})[A-Za-z0-9_.:-]{12,100}")
# mesh-sandbox gives 128 bits of chance in hex, in which ten digits may well follow each other.
_CHANCE_ID = re.compile(r"[0-9A-F]{32}")
# A control file may hold anything where an id belongs.
_WORKFLOW_ID = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_.-]{1,32}")

_DELAY = ("TRANSFER", "05")
# What MESH reports when it found no recipient.
_NO_RECIPIENT = frozenset({("SEND", "08"), ("SEND", "12"), ("SEND", "EPL-151")})

_REPORT_EVENT = "REPORT"

LEFT_OUT: Final = Evidence(
    LEFT_OUT_EVENT,
    State.COLLECTED,
    text="The pair left OUT: the MESH Client took it, unless somebody removed it.",
)
_FAILED_WITHOUT_RECORD = Evidence(
    "FAILED",
    State.FAILED,
    text="The MESH Client could not process the pair and put it into FAILED, without saying why.",
    advice="Look into the client's log, then send the message again.",
)


def mesh_id_of(control: ControlFile) -> str | None:
    """Return the MESH id that a control file gives, None without one that is fit to be kept."""
    dts_id = control.dts_id
    if _CHANCE_ID.fullmatch(dts_id):
        return dts_id
    return dts_id if _MESH_ID.fullmatch(dts_id) and mask_numbers(dts_id) == dts_id else None


def meaning_of(control: ControlFile) -> CodeMeaning | None:
    """Return what the status record says; None when there is none."""
    status = control.status
    return None if status is None else explain_report(status.event, status.status, status.status_code)


def is_delay(evidence: Evidence) -> bool:
    """True if the client says that it could not transfer the message yet (code 05)."""
    return evidence.reaches is None and (evidence.event, evidence.code) == _DELAY


def evidence_of_report(control: ControlFile, workflow_id: str | None) -> Evidence:
    """Return what a report proves. A delay, and a code without a meaning, is only noted.

    `workflow_id` is that of the message: reports may lack it.
    """
    meaning = meaning_of(control)
    if meaning is None:
        text = "A report without a StatusRecord, which says nothing about the message."
        return Evidence(_REPORT_EVENT, None, text=text, mesh_id=mesh_id_of(control))
    return _evidence_of_record(meaning, control, workflow_id)


def evidence_of_sent(control: ControlFile) -> Evidence:
    """Return what a control file in SENT proves: that MESH has it, unless its record says otherwise."""
    meaning = meaning_of(control)
    if meaning is None or not (meaning.event or meaning.status or meaning.code):
        text = "The MESH Client put the pair into SENT: MESH has the message."
        return Evidence("SENT", State.SENT, text=text, mesh_id=mesh_id_of(control))
    evidence = _evidence_of_record(meaning, control)
    if evidence.reaches is State.FAILED or meaning.effect is Effect.DELAYED:
        return evidence
    return replace(evidence, reaches=State.SENT)


def evidence_of_failed(control: ControlFile | None) -> Evidence:
    """Return what a file in FAILED proves: that the client gave up, for its record's reason if it has one.

    A file that cannot be read, None, is no less a failure.
    """
    if control is None:
        return _FAILED_WITHOUT_RECORD
    meaning = meaning_of(control)
    if meaning is not None and meaning.final:
        return _evidence_of_record(meaning, control)
    return replace(_FAILED_WITHOUT_RECORD, mesh_id=mesh_id_of(control))


def _evidence_of_record(
    meaning: CodeMeaning, control: ControlFile, workflow_id: str | None = None
) -> Evidence:
    return Evidence(
        event=meaning.event or _REPORT_EVENT,
        reaches=_REPORT_REACHES.get(meaning.effect),
        code=meaning.code or None,
        text=meaning.meaning,
        advice=meaning.advice + _lookup_advice(meaning, control, workflow_id or control.workflow_id),
        mesh_id=mesh_id_of(control),
    )


def _lookup_advice(meaning: CodeMeaning, control: ControlFile, workflow_id: str) -> str:
    """Return what to add where MESH may not look practices up at all for the message's workflow id."""
    by_lookup = not control.to_dts or control.to_dts.startswith(GP_PROVIDER)
    is_listed = resolution_of(workflow_id) is Resolution.LISTED
    if (meaning.event, meaning.code) not in _NO_RECIPIENT or not by_lookup or is_listed:
        return ""
    shown = workflow_id if _WORKFLOW_ID.fullmatch(workflow_id) else "this one"
    return (
        f" MESH's own list of workflow ids for endpoint lookup lacks {shown}, so MESH may not"
        " look practices up for it: name the practice's mailbox as to_mailbox;"
        " 'meshctl lookup ODS_CODE WORKFLOW_ID' finds it."
    )


UNREADABLE_IDENTIFIER: Final = "UNREADABLE-IN-ORIGINAL-MESSAGE"
"""The identifier from a recipient that could not read the id of the message (ITK3 response structure)."""

_RESPONSE_REACHES = {
    Effect.INFRASTRUCTURE_POSITIVE: State.RECEIVED,
    Effect.INFRASTRUCTURE_NEGATIVE: State.FAILED,
    Effect.BUSINESS_NEGATIVE: State.FAILED,
    Effect.FAILED: State.FAILED,
}
_POSITIVE = frozenset({Effect.INFRASTRUCTURE_POSITIVE, Effect.BUSINESS_POSITIVE})
_SIGNS = frozenset({"ok", "transient-error", "fatal-error"})
_URN = "urn:uuid:"
_PROCESSED = "The recipient's system has processed the message (ok), without a code of ITK3."
_PROCESSED_ANYHOW = "The recipient's system has processed the message (ok), with a code that no table has."
_INFERRED = (
    " It does not say which message it acknowledges; of those that may have reached its sender, only this one"
    " is not acknowledged."
)
_ASKS = " It asks for an infrastructure response of its own."


class UnreadableAcknowledgementError(Exception):
    """The payload is no acknowledgement; the text gives the reason and holds nothing of the payload."""


@dataclass(frozen=True, slots=True, repr=False)
class ReceivedAcknowledgement:
    """An acknowledgement: the id of the message that it is about, and its evidence.

    `unknown_codes` are those of ITK3 that no table has; `asks` if it wants an infrastructure response itself,
    to its `own_identifier`.
    """

    identifier: str
    evidence: tuple[Evidence, ...]
    unknown_codes: tuple[str, ...] = ()
    asks: bool = False
    own_identifier: str = ""
    kind: MessageKind = MessageKind.FHIR

    @property
    def is_negative(self) -> bool:
        """True if the recipient rejects the message, and says nothing else."""
        return all(one.reaches is State.FAILED for one in self.evidence)


def read_acknowledgement(path: str) -> ReceivedAcknowledgement:
    """Read the payload of an acknowledgement.

    Raises UnreadableAcknowledgementError if it is no acknowledgement, OSError if the system cannot read it.
    """
    try:
        facts = _facts(path)
    except Rejection as rejection:
        raise UnreadableAcknowledgementError(rejection.text) from None
    except (UnreadableAcknowledgementError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - one file never stops the others
        raise UnreadableAcknowledgementError(fault_text(error)) from None
    if facts is None or facts.response is None:
        raise UnreadableAcknowledgementError("Its payload is no ITK3 response, and no answer of ITK2.")
    response, asks = facts.response, "infrastructure" in (facts.acknowledgements or ())
    evidence = tuple(_evidence_of_response(response))
    if response.identifier == UNREADABLE_IDENTIFIER:
        evidence = tuple(replace(one, event=UNREADABLE_ID, text=f"{one.text}{_INFERRED}") for one in evidence)
    if asks:
        evidence = tuple(replace(one, text=f"{one.text}{_ASKS}") for one in evidence)
    # Those of ITK2 are often local: the sign is said beside them.
    codes = response.codes if response.level is None else ()
    meanings = [explain_response(code, response.response_code) for code in codes]
    unknown = tuple(meaning.code for meaning in meanings if not meaning.known)
    own_identifier = next(iter(facts.references), "")
    return ReceivedAcknowledgement(response.identifier, evidence, unknown, asks, own_identifier, facts.kind)


def _facts(path: str) -> MessageFacts | None:
    descriptor = system.open_file(path, system.READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableAcknowledgementError("Its payload is no ordinary file.")
        return read_payload(descriptor, status.st_size).facts
    finally:
        os.close(descriptor)


def _evidence_of_response(response: ResponseFacts) -> Iterator[Evidence]:
    """Yield what a response proves, a piece for each of its codes."""
    codes = tuple(dict.fromkeys(response.codes)) or ("",)
    if response.level is None:
        yield from (_evidence_of_code(code, response) for code in codes)
        return
    level = Acknowledgement(response.level)
    # One that is positive may give codes for further information.
    meanings = [explain_answer(level, response.response_code, code) for code in codes]
    yield from dict.fromkeys(map(_evidence_of_meaning, meanings))


def _evidence_of_meaning(meaning: CodeMeaning) -> Evidence:
    return Evidence(
        event=meaning.event,
        reaches=_RESPONSE_REACHES.get(meaning.effect),
        code=meaning.code or None,
        text=meaning.meaning,
        advice=meaning.advice,
        acknowledges=meaning.level if meaning.effect in _POSITIVE else None,
    )


def _evidence_of_code(code: str, response: ResponseFacts) -> Evidence:
    meaning = explain_response(code, response.response_code)
    evidence = _evidence_of_meaning(meaning)
    if meaning.effect is Effect.NOTE and meaning.status == SUCCESS and (code or response.is_r4):
        text = _PROCESSED_ANYHOW if code else _PROCESSED
        return replace(evidence, reaches=State.COMPLETED, text=text, advice="Nothing to do.")
    sign = response.response_code.strip().lower()
    if meaning.known and sign and (sign == "ok") is not (meaning.status == SUCCESS):
        shown = sign if sign in _SIGNS else "something else"
        return replace(evidence, text=f"{evidence.text} Its response.code says the opposite ({shown}).")
    return evidence


def reference_keys(identifier: str, keys: Keys) -> list[bytes]:
    """Return the keyed hashes that the request's id may have: systems change the case of a UUID."""
    bare = identifier[len(_URN) :] if identifier.lower().startswith(_URN) else identifier
    if not bare:
        return []
    spellings = (bare, bare.lower(), bare.upper(), identifier, f"{_URN}{bare}", f"{_URN}{bare.lower()}")
    return [keys.of(text) for text in dict.fromkeys(spellings)]
