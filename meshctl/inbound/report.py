"""What a control file in SENT, FAILED or IN proves of its message. Pure.

Free text of a file is never taken over: what people read is the table's meaning of the code.
"""

import re
from dataclasses import replace

from meshctl.journal.masking import mask_numbers
from meshctl.mesh.address import GP_PROVIDER
from meshctl.mesh.codes import CodeMeaning, Effect, explain_report
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.states import Evidence, State
from meshctl.mesh.use_cases import Resolution, resolution_of

_REACHES = {
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

_WORKFLOW_ID = re.compile(r"(?!.*[0-9]{7})[A-Za-z0-9_.-]{1,32}")

_DELAY = ("TRANSFER", "05")
# What MESH answers when it found no recipient.
_NO_RECIPIENT = frozenset({("SEND", "08"), ("SEND", "12"), ("SEND", "EPL-151")})

SENT_EVENT = "SENT"
FAILED_EVENT = "FAILED"
OUT_EVENT = "OUT"
REPORT_EVENT = "REPORT"

LEFT_OUT = Evidence(OUT_EVENT, State.COLLECTED, text="The pair left OUT: the MESH Client took it.")
FAILED_WITHOUT_RECORD = Evidence(
    FAILED_EVENT,
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


def evidence_of_report(control: ControlFile, workflow_id: str | None = None) -> Evidence:
    """Return what a report proves. A delay, and what nobody knows the meaning of, is only noted.

    `workflow_id` is that of the message, where it is known: reports may lack it.
    """
    mesh_id = mesh_id_of(control)
    meaning = meaning_of(control)
    if meaning is None:
        text = "A report without a StatusRecord, which says nothing about the message."
        return Evidence(REPORT_EVENT, None, text=text, mesh_id=mesh_id)
    return _evidence(meaning, control, workflow_id)


def evidence_of_sent(control: ControlFile) -> Evidence:
    """Return what a control file in SENT proves: that MESH has it, unless its record says otherwise."""
    mesh_id = mesh_id_of(control)
    meaning = meaning_of(control)
    if meaning is None or not (meaning.event or meaning.status or meaning.code):
        text = "The MESH Client put the pair into SENT: MESH has the message."
        return Evidence(SENT_EVENT, State.SENT, text=text, mesh_id=mesh_id)
    evidence = _evidence(meaning, control)
    if evidence.reaches is State.FAILED or meaning.effect is Effect.DELAYED:
        return evidence
    return replace(evidence, reaches=State.SENT)


def evidence_of_failed(control: ControlFile | None) -> Evidence:
    """Return what a file in FAILED proves: that the client gave up, for its record's reason if it has one."""
    if control is None:
        return FAILED_WITHOUT_RECORD
    mesh_id = mesh_id_of(control)
    meaning = meaning_of(control)
    if meaning is not None and meaning.final:
        return _evidence(meaning, control)
    return replace(FAILED_WITHOUT_RECORD, mesh_id=mesh_id)


def _evidence(meaning: CodeMeaning, control: ControlFile, workflow_id: str | None = None) -> Evidence:
    return Evidence(
        event=meaning.event or REPORT_EVENT,
        reaches=_REACHES.get(meaning.effect),
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
    return (
        f" MESH's own list of workflow ids for endpoint lookup lacks {_shown(workflow_id)}, so MESH may not"
        " look practices up for it: name the practice's mailbox as to_mailbox;"
        " 'meshctl lookup ODS_CODE WORKFLOW_ID' finds it."
    )


def _shown(workflow_id: str) -> str:
    # A control file may hold anything where an id belongs.
    return workflow_id if _WORKFLOW_ID.fullmatch(workflow_id) else "this one"
