"""What MESH and the practices write: ITK3 acknowledgements, messages as they arrive, records of codes. Pure.

Every id is derived from what it belongs to, so that the same answer made twice, as after a kill, is the same.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from meshctl.mesh.codes import SUCCESS, CodeMeaning
from meshctl.mesh.control_file import ControlFile, StatusRecord, write_control_file
from meshctl.payload.itk3 import ResponseIds, write_response

# Who answers for a practice that only endpoint lookup knows.
SOME_PRACTICE = "STANDIN1"
_ARRIVED = "Transferred to recipient mailbox"


@dataclass(frozen=True, slots=True)
class Request:
    """What an acknowledgement needs to know of the message that it answers."""

    request_id: str
    practice: str
    requester: str
    ack_workflow_id: str


def mesh_id(seed: str, at_seconds: float) -> str:
    """Return a message id as MESH would give it at an instant; the same seed gives the same id."""
    at = datetime.fromtimestamp(at_seconds, UTC)
    return (
        f"{at:%Y%m%d%H%M%S%f}_{hashlib.sha256(seed.encode(errors='surrogateescape')).hexdigest()[:6].upper()}"
    )


def status_record(meaning: CodeMeaning, at_seconds: float) -> StatusRecord:
    """Return the record of a code, as a report or a file in SENT or FAILED carries it."""
    return StatusRecord(
        date_time=f"{datetime.fromtimestamp(at_seconds, UTC):%Y%m%d%H%M%S}",
        event=meaning.event,
        status=meaning.status,
        status_code=meaning.code,
        description=meaning.meaning,
    )


def with_status(control: ControlFile, dts_id: str, status: StatusRecord) -> bytes:
    """Return a message's own control file as it is in SENT or FAILED.

    Raises ControlFileError where the message itself is not what a control file can be.
    """
    return write_control_file(replace(control, dts_id=dts_id, status=status))


def arrived(control: ControlFile, dts_id: str, at_seconds: float) -> bytes:
    """Return the control file of a message as its recipient finds it in IN."""
    moment = f"{datetime.fromtimestamp(at_seconds, UTC):%Y%m%d%H%M%S}"
    status = StatusRecord(moment, "TRANSFER", SUCCESS, "00", _ARRIVED)
    return write_control_file(replace(control, address_type="ALL", dts_id=dts_id, status=status))


def acknowledgement(
    request: Request, meaning: CodeMeaning, dts_id: str, at_seconds: float
) -> tuple[bytes, bytes]:
    """Return the control file and the FHIR message of an ITK3 acknowledgement (event ITK008M)."""
    text = write_response(
        ResponseIds.of(dts_id),
        meaning,
        identifier=request.request_id,
        endpoint=request.practice,
        at=datetime.fromtimestamp(at_seconds, UTC),
    )
    control = ControlFile(
        from_dts=request.practice,
        to_dts=request.requester,
        subject="",
        workflow_id=request.ack_workflow_id,
    )
    return arrived(control, dts_id, at_seconds), text
