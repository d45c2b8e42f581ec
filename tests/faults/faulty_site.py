"""A site whose folders can lie on small file systems, and a daemon that is watched in its trouble."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from meshctl.journal.lines import Entry
from meshctl.mesh.control_file import StatusRecord, write_control_file
from tests.payloads import pdf
from tests.site import Daemon, Site, sidecar

# One that owns nothing here; the tests' own user is root, whom modes do not bind.
SOMEBODY = 54321
# What the log rounds, and a line takes to be written.
_LOG_SECONDS = 0.2


@dataclass
class FaultySite(Site):
    """A site; `prefix` is a program that runs meshctl, such as setpriv.

    `disk` is the folder below which outbox and work folder lie, if it is not the site's own; `state_folder`
    is where ledger, lock and key are.
    """

    prefix: tuple[str, ...] = ()
    disk: str = ""
    state_folder: str = "state"

    @property
    def outbox(self) -> Path:
        """Return the staging folder."""
        return self.root / self.disk / "outbox"

    @property
    def work(self) -> Path:
        """Return the work folder."""
        return self.root / self.disk / ".work"

    @property
    def state(self) -> Path:
        """Return the folder of ledger, lock and key."""
        return self.root / self.state_folder

    def keep_state_in(self, folder: str) -> None:
        """Have ledger, lock and key in another folder."""
        self.state_folder = folder
        self.settle(**settings_for(state={"folder": folder}))

    def stage_on(self, disk: str, **staging: Any) -> None:
        """Have outbox and work folder below another folder."""
        self.disk = disk
        self.outbox.mkdir()
        self.work.mkdir()
        folders = {"outbox": str(self.outbox), "work": str(self.work)}
        self.settle(**settings_for(staging={**folders, **staging}))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs meshctl, by way of the prefix."""
        return [*self.prefix, *super().command(*arguments)]

    def drop(self, name: str) -> None:
        """Rename a letter that can be sent into the outbox, with its sidecar."""
        self.place(name, pdf(f"letter {name}"), sidecar=sidecar(local_id=f"our {name}"))

    def drop_bad(self, name: str) -> None:
        """Rename a file into the outbox that will be refused."""
        self.place(name, pdf(f"bad {name}"), sidecar=sidecar(use_case="unheard-of"))

    def prepare(self, *names: str) -> None:
        """Write letters under hidden names in the outbox, which `reveal` renames when there is no room."""
        for name in names:
            self.drop(f".{name}")

    def reveal(self) -> None:
        """Rename the letters that were prepared, their sidecars first; later than any rename before."""
        hidden = [each.path for each in self.dropped if each.path.name.startswith(".")]
        for path in hidden:
            for end in (".meta.json", ""):
                Path(f"{path}{end}").rename(path.with_name(path.name[1:] + end))
        self.dropped = [
            replace(each, path=each.path.with_name(each.path.name.removeprefix("."))) for each in self.dropped
        ]

    def report(self, stem: str) -> None:
        """Let a report come into IN that says that MESH has the message."""
        status = StatusRecord("20261122091502", "TRANSFER", "SUCCESS", "00", "Transfer to another client")
        control = replace(self.control(stem), address_type="ALL", message_type="Report", status=status)
        hidden = self.client_folder("IN") / f".{stem}"
        hidden.write_bytes(write_control_file(control))
        if self.prefix:
            os.chown(hidden, SOMEBODY, SOMEBODY)
        hidden.rename(hidden.with_name(f"{stem}-report.ctl"))

    def states(self) -> list[str]:
        """Return the states of all messages that the ledger holds, sorted."""
        return sorted(str(row["state"]) for row in self.messages().values())

    def blocked(self, part: str) -> list[str]:
        """Return what the log said stood in the way of one part of the work, each time that it said so."""
        return [line.values["text"] for line in self.events("daemon.blocked") if line.values["part"] == part]

    def unblocked(self, part: str) -> list[Entry]:
        """Return the lines that say that one part of the work goes on."""
        return [line for line in self.events("daemon.unblocked") if line.values["part"] == part]

    @contextmanager
    def running(self) -> Iterator[Daemon]:
        """Run the daemon while the block lasts; the block stops it, and judges how it ended."""
        daemon = self.start("run")
        try:
            daemon.wait_for_event("daemon.started")
            yield daemon
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.communicate()

    def as_somebody(self) -> None:
        """Let the daemon run as a user who owns the whole site, and is not root."""
        give_away(self.root)
        self.prefix = ("setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups")

    def _rename_in(self, target: Path, data: bytes) -> None:
        # Within the outbox, which may be a file system of its own.
        hidden = target.with_name(f".{target.name}.new")
        hidden.write_bytes(data)
        if self.prefix:
            os.chown(hidden, SOMEBODY, SOMEBODY)
        hidden.rename(target)


def give_away(folder: Path) -> None:
    """Give a folder and all that it holds to the user that the daemon runs as."""
    for path, _, files in os.walk(folder):
        for name in (".", *files):
            os.chown(os.path.join(path, name), SOMEBODY, SOMEBODY, follow_symlinks=False)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system on a folder while the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield folder
    finally:
        # A daemon that is being ended may still be looking around in it.
        mount("-l", str(folder), program="umount")


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """Let a folder be seen in a second place while the block lasts, also when the first is unmounted."""
    target.mkdir(exist_ok=True)
    mount("--bind", str(source), str(target))
    try:
        yield
    finally:
        mount("-l", str(target), program="umount")


def mount(*arguments: str, program: str = "mount") -> None:
    """Run mount or umount."""
    subprocess.run([program, *arguments], check=True, capture_output=True)


def can_mount() -> bool:
    """True if this process may mount file systems."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    # In a mount space of its own, so that nothing is left of the attempt.
    trial = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]  # noqa: S108 - hidden, not used
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs root, to mount small file systems")
needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to run the daemon as another user",
)


class Full:
    """A file system with no room left, until it is mended."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / ".filler"
        self.fill()

    def fill(self) -> None:
        """Take all the room there is."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def mend(self) -> None:
        """Give the room back."""
        self._filler.unlink()


def tries_again(site: FaultySite, daemon: Daemon, part: str) -> None:
    """Wait until a part of the work that is blocked was tried twice again, each time after its pause."""

    def attempts() -> list[Entry]:
        return [line for line in site.events("daemon.still_blocked") if line.values["part"] == part]

    known = len(attempts())
    daemon.wait_for(lambda: len(attempts()) >= known + 2, f"{part} to be tried again")
    for before, after in pairwise(attempts()[known:]):
        waited = datetime.fromisoformat(after.at) - datetime.fromisoformat(before.at)
        assert waited.total_seconds() > float(before.values["retry_seconds"]) - _LOG_SECONDS


def is_told_once(site: FaultySite, daemon: Daemon, part: str, said: str) -> None:
    """Wait until the log says what stands in the way, and see that further attempts do not say it again."""
    daemon.wait_for(lambda: site.blocked(part), f"{part} to be blocked")
    tries_again(site, daemon, part)
    assert len(site.blocked(part)) == 1, site.blocked(part)
    assert re.fullmatch(said, site.blocked(part)[0]), site.blocked(part)[0]


def goes_on(site: FaultySite, daemon: Daemon, part: str, pairs: int) -> None:
    """See that the part that was blocked goes on by itself, and that so many pairs are in OUT then."""
    daemon.wait_for(lambda: site.unblocked(part), f"{part} to go on")
    daemon.wait_for_pairs(pairs)


def settings_for(**sections: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return settings in which folders are looked through often and attempts are logged, changed as asked."""
    told: dict[str, Mapping[str, Any]] = {"staging": {"rescan_seconds": 0.5}, "log": {"level": "DEBUG"}}
    for name, values in sections.items():
        told[name] = {**told.get(name, {}), **values}
    return told
