"""A mailbox with a simulator that is ten million times as fast as real time."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshctl.mesh.control_file import ControlFile, read_control_file, write_control_file
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings
from meshctl.simulator.mesh import SimulatedMesh, flags_in_force
from meshctl.simulator.rules import load_rules
from meshctl.simulator.service import Simulator, make_mailbox_folders
from tests.payloads import make_bundle_xml, pdf, synthetic_nhs_number

MAILBOX = "X26TEST1"
NHS_NUMBER = synthetic_nhs_number(4)
PRACTICE = f"GPPROVIDER_{NHS_NUMBER}_14022001_Smith"
FASTEST = 10_000_000.0
LONGEST_WAIT_SECONDS = 240.0

MESSAGE = ControlFile(
    from_dts=MAILBOX,
    to_dts=PRACTICE,
    subject="Letter for Mr Brian Smith",
    workflow_id="GPCONNECT_SEND_DOCUMENT",
    local_id="GP0001",
)


@dataclass
class SimulatedMailbox:
    """A mailbox and what stands in for MESH there."""

    settings: Settings
    folder: Path
    rules: Path | None = None
    said: list[str] = field(default_factory=list)

    @classmethod
    def at(cls, folder: Path) -> "SimulatedMailbox":
        """Make a mailbox under `folder`."""
        folder.mkdir(exist_ok=True)
        file = folder / "meshctl.toml"
        file.write_text(f'[mailbox]\nid = "{MAILBOX}"\nfolder = "mailbox"\n')
        settings = load_settings(file, {})
        make_mailbox_folders(settings.mailbox)
        return cls(settings, folder)

    def put(
        self, stem: str, control: ControlFile | bytes = MESSAGE, data: bytes | None = pdf("a letter")
    ) -> None:
        """Put a pair into OUT, as a sender does; `data` None leaves the payload out."""
        out = self.settings.mailbox.out_folder
        if data is not None:
            (out / f"{stem}.dat").write_bytes(data)
        content = control if isinstance(control, bytes) else write_control_file(control)
        path = out / f"{stem}.ctl"
        path.write_bytes(content)
        # Old enough to be taken at once, whatever the speed.
        written_at = time.time() - 10
        os.utime(path, (written_at, written_at))

    def put_itk3(
        self, stem: str, control: ControlFile = MESSAGE, *, bus: bool = True, inf: bool = True
    ) -> None:
        """Put an ITK3 message into OUT, which asks for both acknowledgements unless told otherwise."""
        self.put(stem, control, make_bundle_xml(business_ack=bus, infrastructure_ack=inf))

    def write_rules(self, text: str) -> None:
        """Give the simulator rules; `pick_up` is as short as it can be anyway."""
        self.rules = self.folder / "rules.toml"
        self.rules.write_text(text)

    def start(self, speed: float = FASTEST) -> Simulator:
        """Start the simulator, as a process that finds what another left."""
        rules = load_rules(self.rules)
        flags = flags_in_force(rules.client, self.settings.mailbox.client)
        mesh = SimulatedMesh(MAILBOX, self.settings.use_cases, rules, flags, speed)
        return Simulator(self.settings.mailbox, mesh, self.said.append)

    def run(self) -> None:
        """Let the simulator work until nothing is left to do."""
        finish(self.start())

    def names(self, folder: str) -> list[str]:
        """Return the names in IN, OUT, SENT or FAILED."""
        return sorted(path.name for path in (self.settings.mailbox.folder / folder).iterdir())

    def control(self, folder: str, stem: str) -> ControlFile:
        """Read a control file of the mailbox."""
        return read_control_file((self.settings.mailbox.folder / folder / f"{stem}.ctl").read_bytes())

    def arrived(self) -> list[tuple[ControlFile, bytes | None]]:
        """Return the control files in IN by their names, each with its payload if it has one."""
        inbox = self.settings.mailbox.in_folder
        found = []
        for path in sorted(inbox.glob("*.ctl")):
            data = path.with_suffix(".dat")
            found.append((read_control_file(path.read_bytes()), data.read_bytes() if data.exists() else None))
        return found

    def reports(self) -> list[str]:
        """Return event, status and code of each report in IN."""
        return sorted(
            f"{control.status.event} {control.status.status} {control.status.status_code}"
            for control, data in self.arrived()
            if control.status is not None and data is None
        )


def finish(simulator: Simulator) -> None:
    """Step until nothing is outstanding."""
    until = time.monotonic() + LONGEST_WAIT_SECONDS
    while simulator.step() or simulator.outstanding:
        assert time.monotonic() < until, "the simulator does not come to an end"


@pytest.fixture
def simulated(tmp_path: Path) -> SimulatedMailbox:
    return SimulatedMailbox.at(tmp_path)
