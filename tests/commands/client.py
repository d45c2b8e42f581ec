"""What the MESH Client does to a pair, as far as a test of a command needs it."""

from dataclasses import replace

from meshctl.mesh.control_file import StatusRecord, read_control_file, write_control_file
from tests.site import Site

MESH_ID = "20261122093000000000_ABCDEF"


def transfer(site: Site, stem: str, *, fail: bool = False) -> None:
    """Move a pair from OUT to SENT with MESH's id and a positive status, or to FAILED with a negative one."""
    folder = site.client_folder("FAILED" if fail else "SENT")
    control = read_control_file((site.out / f"{stem}.ctl").read_bytes())
    if fail:
        record = StatusRecord("20261122093000", "TRANSFER", "ERROR", "06", "Message could not be sent")
    else:
        record = StatusRecord("20261122093000", "TRANSFER", "SUCCESS", "00", "Transferred")
    told = replace(control, dts_id="" if fail else MESH_ID, status=record)
    (site.out / f"{stem}.dat").rename(folder / f"{stem}.dat")
    (site.out / f"{stem}.ctl").unlink()
    (folder / f".{stem}").write_bytes(write_control_file(told))
    (folder / f".{stem}").rename(folder / f"{stem}.ctl")
