"""A site whose mailbox the bridge serves, over a sandbox: the real `meshctl bridge` as a process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshctl.journal.lines import Entry
from meshctl.mesh.control_file import ControlFile, write_control_file
from tests.bridge.sandbox import PASSWORD, SHARED_KEY
from tests.site import MAILBOX_ID, Daemon, Site, make_site, wait_until

WORKFLOW = "TEST_WORKFLOW"


class BridgedSite(Site):
    """A site with [bridge]; its log is the bridge's."""

    @property
    def log_file(self) -> Path:
        """Return the log of the bridge."""
        return self.root / "log" / "bridge.log"

    def put(self, stem: str, data: bytes, *, to: str = "X26ABC2", **told: Any) -> None:
        """Put a pair into OUT as the daemon does: payload first, control file last, by rename."""
        given: dict[str, Any] = {"subject": "a letter", "workflow_id": WORKFLOW, "local_id": stem, **told}
        control = ControlFile(from_dts=MAILBOX_ID, to_dts=to, **given)
        for suffix, content in ((".dat", data), (".ctl", write_control_file(control))):
            (self.out / f".{stem}{suffix}").write_bytes(content)
            (self.out / f".{stem}{suffix}").rename(self.out / f"{stem}{suffix}")

    def said(self) -> list[Entry]:
        """Return the lines of the bridge's log that are its own."""
        return [entry for entry in self.log() if entry.event.startswith("bridge.")]

    @contextmanager
    def bridge(self) -> Iterator[Daemon]:
        """Run the bridge while the block lasts, from when it says that it has begun; it must end well."""
        with self.served_by("bridge", lambda: self.events("bridge.started")) as daemon:
            yield daemon


def bridged_site(root: Path, url: str, **bridge: Any) -> BridgedSite:
    """Make a site whose bridge is set up for the MESH at `url`, and quick."""
    made = make_site(root)
    site = BridgedSite(made.root, environ={"MESH_PASSWORD": PASSWORD, "MESH_KEY": SHARED_KEY})
    told = {
        "environment": url,
        "password": "env:MESH_PASSWORD",
        "shared_key": "env:MESH_KEY",
        "poll": "1s",
        "timeout": "5s",
    }
    site.settle(bridge={**told, **bridge})
    return site


def wait_for_file(path: Path) -> None:
    """Return once a file is there."""
    wait_until(lambda: os.path.exists(path), f"{path.name} in {path.parent.name}")
