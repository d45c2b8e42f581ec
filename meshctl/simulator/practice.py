"""What a practice's system answers: in ITK3 to FHIR messages, in ITK2 to CDA documents. Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from meshctl.mesh.codes import SUCCESS, CodeMeaning, explain_answer, explain_response
from meshctl.mesh.control_file import ControlFile, StatusRecord, write_control_file
from meshctl.mesh.states import Acknowledgement
from meshctl.payload.facts import MessageKind
from meshctl.payload.itk2_answer import CDA_SERVICE, write_answer
from meshctl.payload.itk3 import ResponseIds, write_response

POSITIVE: Final = {
    MessageKind.FHIR: {Acknowledgement.INFRASTRUCTURE: "20013", Acknowledgement.BUSINESS: "30001"},
    MessageKind.ITK2: {Acknowledgement.INFRASTRUCTURE: "OK", Acknowledgement.BUSINESS: "AA"},
}
"""The codes with which a message that arrives well is acknowledged."""

_NEGATIVE: Final = {Acknowledgement.INFRASTRUCTURE: "FAILURE", Acknowledgement.BUSINESS: "AE"}
_ODS_CODE: Final = "Y99998"


@dataclass(frozen=True, slots=True)
class Request:
    """What an acknowledgement needs to know of the message that it is about."""

    request_id: str
    practice: str
    requester: str
    ack_workflow_id: str
    kind: MessageKind = MessageKind.FHIR


def meaning_of(kind: MessageKind, level: Acknowledgement, code: str) -> CodeMeaning:
    """Return what an acknowledgement with a code says; of ITK2, a code is a word of its own or an error's."""
    if kind is MessageKind.FHIR:
        return explain_response(code)
    answer = explain_answer(level, code)
    if answer.known:
        return answer
    is_positive = explain_response(code).status == SUCCESS
    return explain_answer(level, POSITIVE[kind][level] if is_positive else _NEGATIVE[level], code)


def acknowledgement(
    request: Request, meaning: CodeMeaning, dts_id: str, at_seconds: float
) -> tuple[bytes, bytes]:
    """Return the control file and the message of an acknowledgement."""
    ids, at = ResponseIds.of(dts_id), datetime.fromtimestamp(at_seconds, UTC)
    if request.kind is MessageKind.ITK2:
        message = write_answer(ids, meaning, tracking_id=request.request_id, service=CDA_SERVICE, at=at)
    else:
        message = write_response(
            ids,
            meaning,
            identifier=request.request_id,
            endpoint=request.practice,
            ods_code=_ODS_CODE,
            at=at,
        )
    control = ControlFile(
        from_dts=request.practice,
        to_dts=request.requester,
        subject="",
        workflow_id=request.ack_workflow_id,
    )
    return arrived(control, dts_id, at_seconds), message


def arrived(control: ControlFile, dts_id: str, at_seconds: float) -> bytes:
    """Return the control file of a message as its recipient finds it in IN."""
    status = StatusRecord.arrived(stamp(at_seconds))
    return write_control_file(replace(control, address_type="ALL", dts_id=dts_id, status=status))


def stamp(at_seconds: float) -> str:
    """Return an instant as a status record has it."""
    return f"{datetime.fromtimestamp(at_seconds, UTC):%Y%m%d%H%M%S}"
