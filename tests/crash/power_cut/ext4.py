"""A real power cut: an ext4 file system in a file, shut down under a running meshctl without writing its log.

EXT4_IOC_SHUTDOWN stops a file system on the spot: what had not reached the disk never will. Meanwhile a
neighbour syncs a file of its own without pause, as other programs do, which carries names to the disk ahead
of contents: the case in which a program that does not sync loses.
"""

import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.crash.judgement import Fates, Tally, Verdict, Wrong, fates, judge, judge_visible
from tests.crash.variants import QUICK_SETTINGS, drop_mixed
from tests.site import Site, make_site

# linux/fs/ext4/ext4.h: _IOR('X', 125, __u32), and the flag that leaves the log unwritten.
_SHUTDOWN = 0x8004587D
_WITHOUT_LOG = 2
_IMAGE_BYTES = 96 << 20
_RUN_SECONDS = 240.0
_STRACE_WITHOUT_SYNCS = ("strace", "-f", "-qqq", "-o", "/dev/null", "-e", "inject=fsync,syncfs:retval=0")


def obstacle() -> str | None:
    """Return why this machine cannot do it; None when it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a loop mount needs Linux and root"
    found = subprocess.run(["which", "mkfs.ext4", "losetup"], capture_output=True, check=False)
    if found.returncode != 0:
        return "mkfs.ext4 or losetup is missing: apt-get install e2fsprogs mount"
    return None


@dataclass
class Volume:
    """An ext4 file system in a file, and where it is mounted."""

    image: Path
    folder: Path

    def make(self) -> None:
        """Make it and mount it. Raises CalledProcessError where loop mounts are not allowed."""
        with self.image.open("wb") as image:
            image.truncate(_IMAGE_BYTES)
        _call("mkfs.ext4", "-q", "-F", str(self.image))
        self.folder.mkdir(exist_ok=True)
        self.mount()

    def mount(self) -> None:
        """Mount it, whereby ext4 replays its log.

        A copy of it: another test's mount namespace may still hold what was cut; then nothing is replayed.
        """
        copied = self.image.with_suffix(".copied")
        _call("cp", "--sparse=always", str(self.image), str(copied))
        copied.replace(self.image)
        _call("mount", "-o", "loop", str(self.image), str(self.folder))

    def unmount(self) -> None:
        """Unmount it, once what was killed on it has ended."""
        deadline = time.monotonic() + _RUN_SECONDS
        while True:
            try:
                return _call("umount", str(self.folder))
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def cut_power(self) -> None:
        """Stop it, here and now."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Make durable what has been dropped."""
        _call("sync", "-f", str(self.folder))


def cut_for_real(folder: Path, rounds: int, seed: int, *, without_syncs: bool = False) -> Tally:
    """Cut the power so often while a run is under way, recover each time, and judge."""
    chance = random.Random(seed)
    tally = Tally("without syncs" if without_syncs else "ext4")
    with _volume(folder) as volume:
        site = _prepare(volume)
        run_seconds = _run(volume, site, None, without_syncs=without_syncs)
        expected = fates(site, None)
    for number in range(rounds):
        with _volume(folder) as volume:
            site = _prepare(volume)
            _run(volume, site, chance.random() * run_seconds, without_syncs=without_syncs)
            shown = len(site.stems())
            volume.unmount()
            volume.mount()
            where = f"round {number}, {shown} control files shown"
            tally.note(where, judge_visible(site) or _recover(site, expected))
    return tally


def _prepare(volume: Volume) -> Site:
    """Make a site with a ledger, and drop files, all of it durable."""
    site = make_site(volume.folder / "site", **QUICK_SETTINGS)
    site.run_once()
    drop_mixed(site)
    volume.sync()
    return site


def _recover(site: Site, expected: Fates) -> Verdict:
    for _ in range(2):
        ended = site.meshctl("run", "--once")
        if (ended.exit_code, ended.stderr) != (0, ""):
            return [(Wrong.DISAGREEING, f"the run ended with {ended.exit_code}: {ended.stderr}")]
    return [(wrong, text) for wrong, text in judge(site, None, expected) if wrong is not Wrong.SILENT]


def _run(volume: Volume, site: Site, cut_after_seconds: float | None, *, without_syncs: bool) -> float:
    """Run meshctl, and cut the power so long after its first letter; return how long it held letters."""
    command = [*(_STRACE_WITHOUT_SYNCS if without_syncs else ()), *site.command("run", "--once")]
    with (
        subprocess.Popen(
            command,
            env=site.process_environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
        _neighbour(volume.folder),
    ):
        waiting = len(list(site.outbox.iterdir()))
        deadline = time.monotonic() + _RUN_SECONDS
        while len(list(site.outbox.iterdir())) == waiting and process.poll() is None:
            assert time.monotonic() < deadline, "the run did not begin"
        began_at = time.monotonic()
        if cut_after_seconds is not None:
            time.sleep(cut_after_seconds)
            volume.cut_power()
            # With what strace traces, which would outlive it and keep the volume busy. Without its disk it
            # may have ended by itself.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            while any((site.work / "letters").iterdir()):
                assert time.monotonic() < deadline, "the run did not end"
        held_seconds = time.monotonic() - began_at
        process.wait(_RUN_SECONDS)
    return held_seconds


@contextmanager
def _neighbour(folder: Path) -> Iterator[None]:
    """Write and sync a file of another program's while the block runs."""
    ended = threading.Event()

    def write() -> None:
        with suppress(OSError):
            descriptor = os.open(folder / "neighbour", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                while not ended.is_set():
                    os.write(descriptor, b"line\n")
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


@contextmanager
def _volume(folder: Path) -> Iterator[Volume]:
    volume = Volume(folder / "image", folder / "mounted")
    volume.make()
    try:
        yield volume
    finally:
        volume.unmount()
        volume.image.unlink()


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_RUN_SECONDS)
