"""Processes that are stopped, started twice or killed; an outbox with very many files."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.faulty_site import FaultySite
from tests.invariants import check_invariants
from tests.site import Daemon, drop_backlog, wait_until


@pytest.mark.slow
def test_started_twice_at_once(site: FaultySite) -> None:
    """Of two daemons started in the same instant one works; the other says who is there, and ends with 1."""
    first, second = site.start("run"), site.start("run")
    try:
        wait_until(lambda: _ended(first) or _ended(second), "one of them to end")
        loser, winner = (first, second) if _ended(first) else (second, first)
        site.drop("letter.pdf")
        winner.wait_for_pairs(1)
        out, error = loser.process.communicate()
        assert (loser.process.returncode, out) == (1, b"")
        assert f"Another meshctl already works on {site.state}" in error.decode()
        assert winner.stop().exit_code == 0
    finally:
        for daemon in (first, second):
            daemon.process.kill()
            daemon.process.communicate()
    assert len(site.events("daemon.started")) == 1
    check_invariants(site)


def _ended(daemon: Daemon) -> bool:
    return daemon.process.poll() is not None


@pytest.mark.slow
def test_stopped_for_a_while(site: FaultySite) -> None:
    """A daemon that was held (SIGSTOP) takes up what came meanwhile, and blames neither clock nor client."""
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        daemon.signal(signal.SIGSTOP)
        for number in range(50):
            site.drop(f"during-{number}.pdf")
        time.sleep(3.0)
        assert len(site.stems()) <= 2
        daemon.signal(signal.SIGCONT)
        daemon.wait_for_pairs(51)
        daemon.wait_for_turns(2)
    assert not site.events("daemon.clock_jumped")
    assert not site.events("daemon.blocked")
    check_invariants(site)


@pytest.mark.slow
def test_stand_in_killed_again_and_again(site: FaultySite) -> None:
    """A client that is killed at any moment makes the daemon neither lose nor double nor mistake anything."""
    total = 120
    with site.daemon() as daemon:
        for number in range(total):
            site.drop(f"{number:03}.pdf")
        for pause in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            client = site.start("simulate", "--speed", "10000", "--test-mailbox")
            time.sleep(pause)
            client.process.kill()
            client.process.communicate()
        client = site.start("simulate", "--speed", "10000", "--test-mailbox")
        try:
            daemon.wait_for(
                lambda: (
                    len(site.states()) == total and set(site.states()) <= {"completed", "sent", "received"}
                ),
                "all messages to arrive",
                40.0,
            )
        finally:
            client.process.terminate()
            client.process.communicate()
        daemon.wait_for_turns(2)
    assert not site.events("daemon.blocked")
    assert not site.events("message.failed")
    check_invariants(site)


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(10_000, marks=pytest.mark.slow),
        pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_very_many_files(site: FaultySite, files: int) -> None:
    """An outbox with so many files is worked off; the first pair comes at once, memory is bounded."""
    drop_backlog(site, files)
    site.forks = False
    with site.daemon() as daemon:
        daemon.wait_for_pairs(1)
        daemon.wait_for(lambda: _is_empty(site.outbox / "send-document"), "an empty outbox", 600.0)
        daemon.wait_for(lambda: not _backlog_left(site), "every pair in OUT")
        daemon.wait_for_turns(6)
        assert _peak_mib(daemon) < 300
    assert not site.events("daemon.blocked")
    check_invariants(site)


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _backlog_left(site: FaultySite) -> list[Path]:
    return list((site.work / "letters").iterdir())


def _peak_mib(daemon: Daemon) -> int:
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
