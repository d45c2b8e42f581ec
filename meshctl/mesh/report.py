"""Reports: how the MESH Client writes one, and which errors MESH will report on a control file. Pure.

`expected_errors` never promises that MESH accepts a file: mailboxes, workflow registrations and PDS are not
in it.
"""

import re
from datetime import date

from meshctl.errors import Rejection
from meshctl.mesh.address import GP_PROVIDER, split_gp_provider
from meshctl.mesh.codes import ERROR, CodeMeaning, explain_report
from meshctl.mesh.control_file import (
    MAX_CHARACTERS,
    ControlFile,
    StatusRecord,
    write_control_file,
)
from meshctl.mesh.patient import NhsNumberCheck, check_nhs_number

_REPORT = "Report"


def write_report(about: ControlFile | None, mailbox_id: str, dts_id: str, status: StatusRecord) -> bytes:
    """Return a report on a message of a mailbox.

    `about` is None for one whose control file cannot be read, or for a report on the client itself; `dts_id`
    is empty before MESH has given the message an id. Raises ControlFileError where the message itself is not
    what a control file can be.
    """
    told = about or ControlFile(from_dts=mailbox_id, to_dts=mailbox_id, subject="", workflow_id="")
    return write_control_file(
        ControlFile(
            address_type="ALL",
            message_type=_REPORT,
            from_dts=told.from_dts,
            to_dts=told.to_dts,
            subject=told.subject,
            local_id=told.local_id,
            workflow_id=told.workflow_id,
            process_id=told.process_id,
            dts_id=dts_id,
            compress=None,
            allow_chunking=None,
            encrypted=None,
            is_compressed=None,
            status=status,
        )
    )


_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})?")
_EIGHT_DIGITS = re.compile(r"[0-9]{8}")


def expected_errors(control: ControlFile) -> list[CodeMeaning]:
    """Return the errors that MESH will report about a message with this control file, by code.

    The version of the document in Version, as the GP Connect 2.x guides want it, passes.
    """
    codes = []
    if not control.from_dts:
        codes.append("07")
    codes.extend(_recipient_errors(control.to_dts))
    if _VERSION.fullmatch(control.version) is None:
        codes.append("09")
    if control.message_type.lower() != "data":
        codes.append("11")
    if not 0 < len(control.workflow_id) <= MAX_CHARACTERS["WorkflowId"]:
        codes.append("17")
    return [explain_report("SEND", ERROR, code) for code in sorted(codes)]


def _recipient_errors(to_dts: str) -> list[str]:
    if to_dts and not to_dts.startswith(GP_PROVIDER):
        return []
    parts = split_gp_provider(to_dts)
    if parts is None:
        return ["08"]
    nhs_number, date_of_birth, surname = parts
    codes = []
    try:
        check_nhs_number(nhs_number, NhsNumberCheck.MOD11)
    except Rejection:
        codes.append("EPL-152")
    if not surname or not _is_date(date_of_birth):
        codes.append("EPL-154")
    return codes


def _is_date(text: str) -> bool:
    """True if `text` is a date in either of the formats that documents prescribe."""
    if _EIGHT_DIGITS.fullmatch(text) is None:
        return False
    day_first = f"{text[4:]}-{text[2:4]}-{text[:2]}"
    year_first = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return any(_exists(written) for written in (day_first, year_first))


def _exists(written: str) -> bool:
    try:
        date.fromisoformat(written)
    except ValueError:
        return False
    return True
