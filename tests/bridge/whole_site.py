"""A site with daemon and bridge, both as real processes, whose mailbox is at a sandbox."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshctl.journal.lines import Entry, parse_line
from meshctl.mesh.control_file import ControlFile, write_control_file
from meshctl.settings.load import load_settings
from tests.bridge.sandbox import PASSWORD, SHARED_KEY, Sandbox, TestAuthority
from tests.site import Daemon, Finished, Site, make_site

_PIECE_BYTES = 1 << 20
# Quick, so that tests are.
_BRIDGE: Mapping[str, Any] = {"password": "env:MESH_PASSWORD", "shared_key": "env:MESH_KEY", "poll": "1s"}


@dataclass
class WholeSite(Site):
    """A site at a sandbox; its mailbox there is named by its settings, whatever the folder is called."""

    @property
    def bridge_log(self) -> Path:
        """Return the bridge's own log."""
        return self.root / "log" / "bridge.log"

    def bridge_once(self) -> Finished:
        """Run `bridge --once`, which must be able to do its work."""
        ended = self.meshctl("bridge", "--once")
        assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", ""), ended
        return ended

    @contextmanager
    def bridge(self) -> Iterator[Daemon]:
        """Run the bridge while the block lasts, from when it says that it has begun. It must end well."""
        with self.served_by("bridge", lambda: self.bridge_events("bridge.started")) as daemon:
            yield daemon

    @contextmanager
    def at_work(self) -> Iterator[tuple[Daemon, Daemon]]:
        """Run daemon and bridge while the block lasts."""
        with ExitStack() as stack:
            yield stack.enter_context(self.daemon()), stack.enter_context(self.bridge())

    def put_large(self, stem: str, size_bytes: int, *, to: str, compress: bool = False) -> bytes:
        """Put a pair into OUT whose payload is made a piece at a time; return its SHA-256."""
        digest = hashlib.sha256()
        hidden = self.out / f".{stem}"
        with hidden.open("wb") as file:
            for start in range(0, size_bytes, _PIECE_BYTES):
                # Hardly compressible, and never twice the same.
                piece = random.Random(start).randbytes(min(_PIECE_BYTES, size_bytes - start))
                digest.update(piece)
                file.write(piece)
        hidden.rename(self.out / f"{stem}.dat")
        sender = load_settings(self.settings_file, self.environ).mailbox.id
        control = ControlFile(
            from_dts=sender,
            to_dts=to,
            subject="",
            workflow_id="TEST",
            local_id=stem,
            compress=compress,
            is_compressed=compress,
        )
        hidden.write_bytes(write_control_file(control))
        hidden.rename(self.out / f"{stem}.ctl")
        return digest.digest()

    def bridge_events(self, event: str) -> list[Entry]:
        """Return the bridge's log lines of one event."""
        if not self.bridge_log.exists():
            return []
        lines = self.bridge_log.read_text(encoding="utf-8").split("\n")
        return [entry for entry in map(parse_line, filter(None, lines)) if entry.event == event]

    def states(self) -> list[str]:
        """Return the states of all messages, by message id."""
        return [str(row["state"]) for _, row in sorted(self.messages().items())]


def peak_memory_bytes(process: Daemon) -> int:
    """Return the most memory that a running process has held (VmHWM)."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    [peak] = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak[1]) * 1024


def make_whole_site(
    root: Path, sandbox: Sandbox, mailbox_id: str, authority: TestAuthority | None = None, **bridge: Any
) -> WholeSite:
    """Make a site whose bridge serves `mailbox_id` at the sandbox, over TLS if there is an authority."""
    # Their memory is measured, and is to hold no other's libraries.
    site = WholeSite(make_site(root).root, forks=False)
    site.environ |= {"MESH_PASSWORD": PASSWORD, "MESH_KEY": SHARED_KEY}
    bridge = {"environment": sandbox.url, **_BRIDGE, **bridge}
    if authority is not None:
        mine = authority.issue(mailbox_id)
        bridge["certificate"] = f"file:{mine.certificate}"
        bridge["private_key"] = f"file:{mine.private_key}"
        bridge["ca_bundle"] = f"file:{authority.ca}"
    site.settle(bridge=bridge, mailbox={"id": mailbox_id})
    return site
