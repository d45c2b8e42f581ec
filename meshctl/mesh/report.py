"""Reports: the control files without a payload in which a MESH Client says what became of a message. Pure."""

from meshctl.mesh.control_file import ControlFile, StatusRecord, write_control_file

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
