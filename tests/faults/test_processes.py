"""Processes that are stopped, started twice or killed; an outbox with very many files."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.faulty_site import FaultySite, drop_backlog
from tests.invariants import check_invariants
from tests.site import Daemon, wait_until


@pytest.mark.slow
def test_started_twice_at_once(ground: FaultySite) -> None:
    """Of two daemons started in the same instant one works; the other says who is there, and ends with 1."""
    first, second = ground.start("run"), ground.start("run")
    try:
        wait_until(lambda: _ended(first) or _ended(second), "one of them to end")
        loser, winner = (first, second) if _ended(first) else (second, first)
        ground.drop("letter.pdf")
        winner.wait_for_pairs(1)
        out, error = loser.process.communicate()
        assert (loser.process.returncode, out) == (1, b"")
        assert f"Another meshctl already works on {ground.state}" in error.decode()
        assert winner.stop().exit_code == 0
    finally:
        for daemon in (first, second):
            daemon.process.kill()
            daemon.process.communicate()
    assert len(ground.events("daemon.started")) == 1
    check_invariants(ground)


def _ended(daemon: Daemon) -> bool:
    return daemon.process.poll() is not None


@pytest.mark.slow
def test_stopped_for_a_while(ground: FaultySite) -> None:
    """A daemon that was held (SIGSTOP) takes up what came meanwhile, and blames neither clock nor client."""
    with ground.daemon() as daemon:
        ground.drop("before.pdf")
        daemon.wait_for_pairs(1)
        daemon.signal(signal.SIGSTOP)
        for number in range(50):
            ground.drop(f"during-{number}.pdf")
        time.sleep(3.0)
        assert len(ground.stems()) <= 2
        daemon.signal(signal.SIGCONT)
        daemon.wait_for_pairs(51)
        daemon.wait_for_turns(2)
    assert not ground.events("daemon.clock_jumped")
    assert not ground.events("daemon.blocked")
    check_invariants(ground)


@pytest.mark.slow
def test_stand_in_killed_again_and_again(ground: FaultySite) -> None:
    """A client that is killed at any moment makes the daemon neither lose nor double nor mistake anything."""
    total = 120
    with ground.daemon() as daemon:
        for number in range(total):
            ground.drop(f"{number:03}.pdf")
        for pause in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            client = ground.start("simulate", "--speed", "10000", "--test-mailbox")
            time.sleep(pause)
            client.process.kill()
            client.process.communicate()
        client = ground.start("simulate", "--speed", "10000", "--test-mailbox")
        try:
            daemon.wait_for(
                lambda: (
                    len(ground.states()) == total
                    and set(ground.states()) <= {"completed", "sent", "received"}
                ),
                "all messages to arrive",
                40.0,
            )
        finally:
            client.process.terminate()
            client.process.communicate()
        daemon.wait_for_turns(2)
    assert not ground.events("daemon.blocked")
    assert not ground.events("message.failed")
    check_invariants(ground)


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(10_000, marks=pytest.mark.slow),
        pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_very_many_files(ground: FaultySite, files: int) -> None:
    """An outbox with so many files is worked off; the first pair comes at once, memory is bounded."""
    drop_backlog(ground, files)
    with ground.daemon() as daemon:
        daemon.wait_for_pairs(1)
        daemon.wait_for(lambda: _is_empty(ground.outbox / "send-document"), "an empty outbox", 600.0)
        daemon.wait_for(lambda: not _backlog_left(ground), "every pair in OUT")
        daemon.wait_for_turns(6)
        assert _peak_mib(daemon) < 300
    assert not ground.events("daemon.blocked")
    check_invariants(ground)


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _backlog_left(ground: FaultySite) -> list[Path]:
    return [path for path in ground.work.rglob("*") if path.parent != ground.work]


def _peak_mib(daemon: Daemon) -> int:
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
