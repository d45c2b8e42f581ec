"""What a MESH Client leaves of messages that went out before: pairs it kept, reports, acknowledgements."""

from dataclasses import replace
from pathlib import Path

from meshctl.mesh.control_file import ControlFile, StatusRecord, write_control_file
from tests.inbound.inbound_site import ACKNOWLEDGEMENT_CONTROL, report_on
from tests.payloads import make_response_xml
from tests.site import MAILBOX_ID, Site

_MESH_ID = "20261122091512000001_ABCDE"


def keep(site: Site, stem: str, folder: str, *, number: int = 0) -> None:
    """Move a pair out of OUT, into SENT with its MESH id or into FAILED with an error."""
    control = site.control(stem)
    if folder == "SENT":
        status = StatusRecord("20261122091512", "TRANSFER", "SUCCESS", "00", "Transferred")
        control = replace(control, dts_id=f"{_MESH_ID}{number}", status=status)
    else:
        status = StatusRecord("20261122091512", "TRANSFER", "ERROR", "06", "No such recipient")
        control = replace(control, status=status)
    (site.out / f"{stem}.dat").rename(site.client_folder(folder) / f"{stem}.dat")
    _put(site.client_folder(folder) / f"{stem}.ctl", write_control_file(control))
    (site.out / f"{stem}.ctl").unlink()


def report(site: Site, stem: str, name: str, event: str, status: str, code: str, *, number: int) -> None:
    """Put a report on a message into IN."""
    control = report_on(stem, event, status, code, mesh_id=f"{_MESH_ID}{number}")
    _put(site.client_folder("IN") / f"{name}.ctl", write_control_file(control))


def acknowledge(site: Site, name: str, request_id: str) -> None:
    """Put a positive infrastructure acknowledgement into IN."""
    data = make_response_xml(request_id=request_id, codes=("20013",))
    _put_pair(site, name, ACKNOWLEDGEMENT_CONTROL, data)


def answer(site: Site, name: str, data: bytes) -> None:
    """Put an answer to a CDA document into IN."""
    _put_pair(site, name, replace(ACKNOWLEDGEMENT_CONTROL, workflow_id="TOC_DISCH_DMS_ACK"), data)


def send_to_us(site: Site, name: str, data: bytes) -> None:
    """Put a data message for somebody behind us into IN."""
    control = ControlFile(
        from_dts="P81001",
        to_dts=MAILBOX_ID,
        subject="",
        workflow_id="LOCAL_RESULTS",
        dts_id="20261122091512000009_ABCDEF",
        status=StatusRecord("20261122091512", "TRANSFER", "SUCCESS", "00", ""),
    )
    _put_pair(site, name, control, data)


def _put_pair(site: Site, name: str, control: ControlFile, data: bytes) -> None:
    _put(site.client_folder("IN") / f"{name}.dat", data)
    _put(site.client_folder("IN") / f"{name}.ctl", write_control_file(control))


def _put(path: Path, data: bytes) -> None:
    temporary = path.parent.parent / "TEMP" / path.name
    temporary.write_bytes(data)
    temporary.rename(path)
