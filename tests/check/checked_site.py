"""A healthy set-up to break: real folders, owned and looked at by a user without privileges."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import meshctl
from meshctl.check.all_checks import run_checks
from meshctl.check.finding import Finding
from meshctl.daemon.lock import InstanceLock
from meshctl.journal.events import journal
from meshctl.ledger.records import NewMessage
from meshctl.ledger.services import Services, open_services
from meshctl.settings.load import load_settings
from tests.check.access import let_in
from tests.site import Site, make_site

NOBODY = 65534
IS_ROOT = sys.platform != "win32" and os.getuid() == 0
# A program that everybody may run, and nobody change.
_PROGRAM = sys.executable if sys.platform == "win32" else "/bin/true"
_BEFORE = datetime(2026, 11, 22, 9, 15, tzinfo=UTC)
OLD_STEM = "20261122091502480113_7F3A9C"
CLIENT_FLAGS: Mapping[str, str] = {
    "CollectReport": "Y",
    "DelayReport": "N",
    "TransferReport": "N",
    "PollReport": "N",
    "SaveSent": "Y",
}
_CLIENT_CONFIG = """<MESHConfig>
<LogPath>{log}</LogPath><PollPeriod>{poll_seconds}</PollPeriod>
<Client><ClientIdentity>X26ABC1</ClientIdentity><InterfaceRoot>{root}</InterfaceRoot>{flags}</Client>
</MESHConfig>
"""


class CheckedSite:
    """One set-up. As made it is healthy: the MESH Client is known, the daemon has run and runs."""

    def __init__(self, root: Path, undo: ExitStack) -> None:
        self.undo = undo
        self.site: Site = make_site(root / "site")
        self.client_config = root / "meshclient.cfg"
        self.client_log = root / "client-log" / "mesh.log"
        self.client_log.parent.mkdir()
        self.client_log.touch()
        self.sections: dict[str, dict[str, Any]] = {
            "mailbox": {"client_config": str(self.client_config)},
            "alerts": {"command": [_PROGRAM]},
        }
        self.set_client()
        self.set_settings()
        self.site.log_file.touch(0o600)
        self.services: Services = open_services(self.site.state, "X26ABC1", journal)
        self._lock = ExitStack()
        self._lock.enter_context(InstanceLock(self.site.state))
        undo.callback(self.stop)
        # What Wine makes is open to everybody, whatever the folder above it says.
        for path in (self.site.state, self.site.state / "key", self.site.log_file):
            let_in(path)

    def set_client(self, poll_seconds: int = 1800, root: Path | None = None, **flags: str) -> None:
        """Write the MESH Client's settings, healthy but for what is given."""
        told = {**CLIENT_FLAGS, **flags}
        self.client_config.write_text(
            _CLIENT_CONFIG.format(
                log=self.client_log.parent,
                poll_seconds=poll_seconds,
                root=root or self.mailbox,
                flags="".join(f"<{flag}>{value}</{flag}>" for flag, value in told.items()),
            )
        )
        let_in(self.client_config)

    def set_settings(self, **sections: Mapping[str, Any]) -> None:
        """Write our settings, healthy but for what is given; a None takes a key out."""
        for name, values in sections.items():
            self.sections.setdefault(name, {}).update(values)
        known = {
            name: {key: value for key, value in values.items() if value is not None}
            for name, values in self.sections.items()
        }
        self.site.settle(**known)

    @property
    def mailbox(self) -> Path:
        """Return the folder that holds IN and OUT."""
        return self.site.out.parent

    def stop(self) -> None:
        """Let the daemon's lock go and close the ledger."""
        self._lock.close()
        self.services.ledger.close()

    def enter(
        self,
        message_id: str,
        use_case: str,
        at: datetime = _BEFORE,
        *,
        workflow_id: str = "W",
    ) -> None:
        """Put a message into the ledger."""
        row = NewMessage(message_id, "a.pdf", 1, None, at, use_case=use_case, workflow_id=workflow_id)
        self.services.ledger.enter([row])

    def put_pair(self) -> None:
        """Put a pair into OUT."""
        for end in (".dat", ".ctl"):
            (self.site.out / f"{OLD_STEM}{end}").write_text("x")

    def make_use_case_folder(self, mode: int) -> None:
        """Make a sub-folder of the outbox named after a use case."""
        folder = self.site.outbox / "send-document"
        folder.mkdir()
        folder.chmod(mode)

    def findings(self, now: datetime | None = None) -> list[Finding]:
        """Run every check."""
        return run_checks(load_settings(self.site.settings_file, {}), now or datetime.now(UTC))

    def failing(self, now: datetime | None = None) -> dict[str, Finding]:
        """Return what is not in order, by name."""
        return {finding.name: finding for finding in self.findings(now) if not finding.ok}

    def mount(self, folder: Path, *arguments: str) -> None:
        """Mount something on a folder until the test ends; skip the test where that is not allowed."""
        with privileged():
            done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"this machine does not let us mount: {done.stderr.decode().strip()}")
        self.undo.callback(_unmount, folder)


@contextmanager
def user(user_id: int) -> Iterator[None]:
    """Be another user while the block lasts, with the rights of that user alone; only for root."""
    before, groups = os.geteuid(), os.getgroups()
    os.seteuid(0)
    os.setgroups([])
    os.setegid(user_id)
    os.seteuid(user_id)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before)
        os.setgroups(groups)
        os.seteuid(before)


@contextmanager
def privileged() -> Iterator[None]:
    """Be root while the block lasts; skip the test where the tests are not run by root."""
    if not IS_ROOT:
        pytest.skip("needs root")
    with user(0):
        yield


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be a user whom permissions mean something to."""
    if not IS_ROOT:
        yield
        return
    with user(NOBODY):
        if not os.access(meshctl.__file__, os.R_OK, effective_ids=True):
            pytest.skip("this checkout lies where only root can read it")
        yield


@contextmanager
def checked(*, as_root: bool = False) -> Iterator[CheckedSite]:
    """Make a healthy set-up, as a user without privileges, in a folder that this user can reach."""
    with nullcontext() if as_root else unprivileged():
        root = Path(tempfile.mkdtemp())
        try:
            with ExitStack() as undo:
                yield CheckedSite(root, undo)
        finally:
            with privileged() if IS_ROOT else nullcontext():
                for folder, _, _ in os.walk(root):
                    Path(folder).chmod(0o700)
                shutil.rmtree(root)


def _unmount(folder: Path) -> None:
    with privileged():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
