"""`meshctl explain`: a control file, a report or a code in plain words. Needs no settings, writes nothing.

What identifies a patient (To_DTS, Subject) is described, not shown, because the output ends up in tickets.
"""

from pathlib import Path

import click

from meshctl.errors import MeshctlError
from meshctl.inbound.evidence import UnreadableAcknowledgementError, read_acknowledgement
from meshctl.journal.masking import mask_file_name
from meshctl.mesh.address import GP_PROVIDER
from meshctl.mesh.codes import CodeMeaning, explain_report, find_code
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, expected_errors, read_control_file
from meshctl.mesh.use_cases import shipped_use_cases


@click.command
@click.argument("what", nargs=-1, required=True, metavar="FILE.ctl|CODE")
def command(what: tuple[str, ...]) -> None:
    """Explain what a control file, a report or a code means, and what to do.

    Examples: meshctl explain EPL-154; meshctl explain SEND 17; meshctl explain itk 20013;
    meshctl explain mailbox/GP0001/IN/20261122091502480113_7F3A9C.ctl

    Exits with 1 when the file cannot be read or the code is unknown.
    """
    text = " ".join(what)
    is_file = text.lower().endswith(".ctl")
    click.echo("\n".join(_explain_file(Path(text)) if is_file else _explain_code(text)))


def _explain_code(text: str) -> list[str]:
    meanings = find_code(text)
    if not meanings:
        raise MeshctlError(
            "This is neither a control file nor a code that meshctl knows."
            " Give a file that ends in .ctl, or a code of a report or an acknowledgement: 14, EPL-154, 20013."
        )
    return [line for meaning in meanings for line in _describe(meaning)]


def _explain_file(path: Path) -> list[str]:
    control = read_control_file(_read(path))
    lines = [_kind(control), *_fields(control), *_acknowledgement(path)]
    if control.status is not None:
        status = control.status
        return [*lines, *_describe(explain_report(status.event, status.status, status.status_code))]
    if control.is_report:
        return [*lines, "It has no StatusRecord, so it says nothing about the message."]
    errors = expected_errors(control)
    if not errors:
        return [*lines, "MESH would not reject it."]
    return [
        *lines,
        "MESH will reject it:",
        *(line for error in errors for line in _describe(error)),
    ]


def _acknowledgement(control_path: Path) -> list[str]:
    """Return what the payload beside a control file says, if it is an acknowledgement."""
    payload = control_path.with_suffix(".dat")
    try:
        acknowledgement = read_acknowledgement(str(payload)) if payload.is_file() else None
    except (UnreadableAcknowledgementError, OSError):
        return []
    if acknowledgement is None:
        return []
    lines = ["  Its payload is an acknowledgement (ITK3 response):"]
    for one in acknowledgement.evidence:
        lines += [f"    ITK3 {one.code or 'without a code'}", f"      {one.text}", f"      {one.advice}"]
    return lines


def _read(path: Path) -> bytes:
    try:
        # Opening a FIFO would block.
        if path.exists() and not path.is_file():
            raise MeshctlError("This is not a regular file. Give a control file (.ctl).")
        with path.open("rb") as file:
            # One byte more than is ever parsed, so that the reader sees that it is too large.
            return file.read(CONTROL_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise MeshctlError(f"The control file cannot be read: {error.strerror}.") from None


def _kind(control: ControlFile) -> str:
    if control.is_report:
        return "A report on a message."
    if control.status is not None:
        return "A message with its status, as the MESH Client puts it into SENT or IN."
    if control.dts_id:
        return "A message that MESH has accepted."
    return "A message that is still to be sent."


def _fields(control: ControlFile) -> list[str]:
    rows = (
        ("From", mask_file_name(control.from_dts)),
        ("To", _recipient(control.to_dts)),
        ("Workflow", _workflow(control.workflow_id)),
        ("Subject", f"{len(control.subject)} characters, not shown" if control.subject else ""),
        ("Local id", mask_file_name(control.local_id)),
        ("MESH id", mask_file_name(control.dts_id)),
        ("At", mask_file_name(control.status.date_time) if control.status is not None else ""),
    )
    return [f"  {name:<9} {value or '(none)'}" for name, value in rows if value or name in ("From", "To")]


def _recipient(to_dts: str) -> str:
    if to_dts.startswith(GP_PROVIDER):
        return "the patient's registered practice, by endpoint lookup (the patient is not shown)"
    return mask_file_name(to_dts)


def _workflow(workflow_id: str) -> str:
    for use_case in shipped_use_cases().values():
        if workflow_id == use_case.workflow_id:
            return f"{workflow_id}: {use_case.name}"
        if workflow_id in use_case.ack_workflow_ids:
            return f"{workflow_id}: acknowledgement of {use_case.name}"
    return f"{mask_file_name(workflow_id)}: not in meshctl's table" if workflow_id else ""


def _describe(meaning: CodeMeaning) -> list[str]:
    return [
        meaning.label or "A status record without event, status and code",
        f"  {meaning.meaning}",
        *(["  Final: the message's state will not change."] if meaning.final else []),
        f"  {meaning.advice}",
    ]
