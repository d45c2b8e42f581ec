"""Disks that fail when data are to be made durable: quota, full after all, broken; told by fsync alone."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash.strace import obstacle
from tests.faults.faulty_site import FaultySite, goes_on, is_told_once
from tests.invariants import check_invariants
from tests.site import Daemon, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")]

# A few files are synced one by one, many at once by their file system.
_FEW, _MANY = 1, 20


@contextmanager
def failing(daemon: Daemon, calls: str, error: int) -> Iterator[None]:
    """Let system calls of a daemon fail while the block lasts."""
    inject = f"inject={calls}:error={errno.errorcode[error]}"
    command = ["strace", "-f", "-qqq", "-o", os.devnull, "-e", inject, "-p", str(daemon.process.pid)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as tracer:
        status = Path(f"/proc/{daemon.process.pid}/status")
        wait_until(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), "strace to attach")
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)


@pytest.mark.parametrize("letters", [_FEW, _MANY])
@pytest.mark.parametrize("error", [errno.EDQUOT, errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_nothing_is_shown_that_is_not_durable(site: FaultySite, error: int, letters: int) -> None:
    """While fsync fails no control file appears in OUT; afterwards each letter is sent once."""
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        with failing(daemon, "fsync,syncfs", error):
            site.prepare(*(f"{number}.pdf" for number in range(letters)))
            site.reveal()
            is_told_once(site, daemon, "outbound", f"{os.strerror(error)}: {site.root}/.*")
            assert len(site.stems()) == 1
        goes_on(site, daemon, "outbound", 1 + letters)
    check_invariants(site)


@pytest.mark.parametrize("error", [errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
def test_ledger_that_cannot_be_made_durable(site: FaultySite, error: int) -> None:
    """While the ledger's disk fails nothing is handed over; it is opened again until it can be used."""
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        daemon.wait_for(lambda: site.states() == ["queued"], "the first letter to be queued")
        with failing(daemon, "fdatasync", error):
            site.drop("during.pdf")
            daemon.wait_for_event("daemon.blocked")
            daemon.wait_for_turns(5)
            assert len(site.stems()) == 1
        goes_on(site, daemon, "outbound", 2)
    (told,) = site.blocked("outbound")
    assert told.startswith(f"The ledger in {site.state} cannot be used: ")
    assert not site.events("daemon.ledger_damaged")
    assert not site.events("daemon.ledger_gone")
    check_invariants(site)


@pytest.mark.skipif(sys.platform != "linux", reason="needs strace")
def test_a_disk_that_fails_while_a_file_is_read(site: FaultySite) -> None:
    """A file that the disk cannot give back is told of and left where it is; nobody waits for it."""
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        with failing(daemon, "pread64", errno.EIO):
            site.drop("unlucky.pdf")
            daemon.wait_for_event("file.set_aside")
            assert len(site.stems()) == 1
        # What was touched is tried at once, and not only after a minute.
        os.utime(site.outbox / "unlucky.pdf")
        site.drop("later.pdf")
        daemon.wait_for_pairs(3)
    assert len(site.events("file.set_aside")) == 1
    assert not site.explanations()
    check_invariants(site)
