"""Fifty messages a second into a mailbox whose daemon and client are killed, stopped and started at random.

At the end everything is left to settle, and what must hold is checked: each file once, ledger and folders
agree. Prints what was done and how memory and open files of the longest-lived daemon went.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tests.benchmarks.letters import letter
from tests.invariants import check_invariants
from tests.payloads import pdf
from tests.site import Dropped, Site, make_site, sidecar, wait_until

_PER_SECOND = 50
_SIMULATOR_SPEED = "10"
_SETTLE_SECONDS = 120.0


@dataclass
class Program:
    """One of the two programs, which is killed and started again."""

    command: list[str]
    site: Site
    process: "subprocess.Popen[bytes] | None" = None
    starts: int = 0

    def start(self) -> None:
        """Start it, its output into a file beside the site."""
        self.starts += 1
        with (self.site.root / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=self.site.process_environ(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone does not mind."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, number: signal.Signals) -> None:
        """End it and wait."""
        self.send(number)
        if self.process is not None:
            self.process.wait(timeout=20)


@dataclass
class Dropper:
    """Drops files of every kind: renamed in, written slowly, with sidecars first or last, and bad ones."""

    site: Site
    chance: random.Random
    number: int = 0
    slow: list[tuple[BinaryIO, bytes]] = field(default_factory=list)
    later: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def drop(self) -> None:
        """Drop one file."""
        self.number += 1
        kind = self.chance.random()
        name, data = f"letter-{self.number}.xml", letter(self.number, 6000)
        if kind < 0.7:
            self.site.place(name, data, folder="send-document")
        elif kind < 0.8:
            path = self.site.target(name, "send-document")
            # Held open between writes, as a copying program does, however long this machine makes it wait.
            self.slow.append((path.open("wb"), data))
            self.site.dropped.append(Dropped(path, data))
        elif kind < 0.9:
            said = sidecar()
            first = self.chance.random() < 0.5
            opaque = pdf(f"letter {self.number}")
            self.site.place(f"{self.number}.pdf", opaque, sidecar=said if first else None)
            if not first:
                self.later.append((f"{self.number}.pdf", said))
        else:
            self.site.place(f"bad-{self.number}.xml", b"<Bundle>" + str(self.number).encode())

    def go_on(self) -> None:
        """Write some more of the slow files, and the sidecars that come last."""
        still: list[tuple[BinaryIO, bytes]] = []
        for file, data in self.slow:
            file.write(data[:1500])
            file.flush()
            if data[1500:]:
                still.append((file, data[1500:]))
            else:
                file.close()
        self.slow = still
        for name, said in self.later:
            self.site.place_sidecar(name, said)
        self.later = []


def main() -> int:
    """Run the soak; return 0 when everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")
    site = make_site(
        Path(tempfile.mkdtemp(prefix="meshctl-soak-", dir=chosen.folder)),
        staging={"quiet_seconds": 1.0, "rescan_seconds": 1.0, "sidecar_wait_seconds": 60.0},
        log={"rotate_bytes": 1 << 30},
    )
    (site.outbox / "send-document").mkdir()
    daemon = Program(site.command("run"), site)
    client = Program(site.command("simulate", "--speed", _SIMULATOR_SPEED, "--test-mailbox"), site)
    chance = random.Random(chosen.seed)
    dropper = Dropper(site, chance)
    daemon.start()
    client.start()
    sizes = _trouble(chosen.minutes * 60, chance, dropper, daemon, client)
    _settle(site, dropper, daemon, client)
    check_invariants(site, settled=False)
    daemon.end(signal.SIGTERM)
    client.end(signal.SIGTERM)
    check_invariants(site)
    wrongly = [path.name for path in site.rejected.iterdir() if not path.name.startswith("bad-")]
    assert not wrongly, f"good files were refused: {wrongly[:5]}"
    report = {
        "files": dropper.number,
        "daemon_starts": daemon.starts,
        "client_starts": client.starts,
        "resident_kib_and_open_files": sizes[:: max(1, len(sizes) // 12)],
        "states": json.loads(site.meshctl("status", "--json").stdout)["states"],
    }
    print(json.dumps(report, indent=2))
    print("nothing lost, nothing doubled, ledger and folders agree")
    return 0


def _trouble(
    seconds: float, chance: random.Random, dropper: Dropper, daemon: Program, client: Program
) -> list[tuple[int, int]]:
    """Drop files at a steady rate and make trouble every few seconds; return the daemon's sizes."""
    started = time.monotonic()
    next_trouble, next_look = started + 3, started + 1
    stopped: tuple[Program, float] | None = None
    sizes: list[tuple[int, int]] = []
    while (now := time.monotonic()) < started + seconds:
        due = int((now - started) * _PER_SECOND)
        while dropper.number < due:
            dropper.drop()
        if now >= next_look:
            dropper.go_on()
            sizes += _sizes(daemon)
            next_look = now + 0.3
        if stopped is not None and now >= stopped[1]:
            stopped[0].send(signal.SIGCONT)
            stopped = None
        if now >= next_trouble and stopped is None:
            victim = chance.choice((daemon, daemon, client))
            if chance.random() < 0.3:
                victim.send(signal.SIGSTOP)
                stopped = (victim, now + chance.uniform(0.5, 3))
            else:
                victim.end(signal.SIGKILL)
                victim.start()
            next_trouble = now + chance.uniform(1.5, 5)
        time.sleep(0.01)
    if stopped is not None:
        stopped[0].send(signal.SIGCONT)
    return sizes


def _settle(site: Site, dropper: Dropper, daemon: Program, client: Program) -> None:
    while dropper.slow or dropper.later:
        dropper.go_on()
    for program in (daemon, client):
        if program.process is None or program.process.poll() is not None:
            program.start()
    wait_until(lambda: _is_settled(site), "everything to settle", _SETTLE_SECONDS)


def _is_settled(site: Site) -> bool:
    left = [name for _, _, names in os.walk(site.outbox) for name in names]
    letters = list((site.work / "letters").iterdir())
    return not left and not letters and not any(site.out.iterdir())


def _sizes(program: Program) -> list[tuple[int, int]]:
    """Return the resident size in KiB and the number of open files of a program that runs."""
    if program.process is None:
        return []
    folder = Path(f"/proc/{program.process.pid}")
    try:
        status = (folder / "status").read_text()
        descriptors = len(os.listdir(folder / "fd"))
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return []
    return [(int(line.split()[1]), descriptors)]


if __name__ == "__main__":
    sys.exit(main())
