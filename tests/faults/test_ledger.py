"""The ledger locked, damaged, removed, replaced; the lock and the key gone; the state folder out of reach."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import make_faulty_site
from tests.faults.faulty_site import (
    FaultySite,
    bound,
    goes_on,
    is_told_once,
    mount,
    mounted,
    needs_mounts,
    needs_root,
)
from tests.invariants import check_invariants
from tests.site import Daemon

pytestmark = pytest.mark.slow

_MANY = 400


def _ledger(ground: FaultySite) -> Path:
    return ground.state / "ledger.sqlite"


@contextmanager
def _locked(ground: FaultySite, how: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(_ledger(ground), isolation_level=None)) as connection:
        connection.execute(f"BEGIN {how}")
        connection.execute("SELECT count(*) FROM messages").fetchone()
        yield connection


def _first_letter(ground: FaultySite, daemon: Daemon) -> None:
    ground.drop("before.pdf")
    daemon.wait_for_pairs(1)
    daemon.wait_for(lambda: ground.states() == ["queued"], "the first letter to be queued")


def test_locked_by_a_writer(ground: FaultySite) -> None:
    """While another program keeps the ledger locked the daemon waits; afterwards it goes on by itself."""
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        with _locked(ground, "IMMEDIATE"):
            ground.drop("during.pdf")
            is_told_once(
                ground, daemon, "outbound", f"The ledger in {ground.state} cannot be used: database is locked"
            )
            assert len(ground.stems()) == 1
        goes_on(ground, daemon, "outbound", 2)
    check_invariants(ground)


def test_locked_by_a_reader(ground: FaultySite) -> None:
    """A program that reads the ledger for a long time, a back-up say, is in nobody's way."""
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        with _locked(ground, "DEFERRED"):
            ground.drop("during.pdf")
            daemon.wait_for_pairs(2)
            daemon.wait_for_turns(5)
    assert not ground.events("daemon.blocked")
    check_invariants(ground)


def test_stopped_while_the_ledger_is_locked(ground: FaultySite) -> None:
    """A daemon that waits for a locked ledger stops within 5 s, and what it had in hand is not lost."""
    with ground.running() as daemon:
        _first_letter(ground, daemon)
        with _locked(ground, "EXCLUSIVE"):
            ground.drop("during.pdf")
            daemon.wait_for_event("daemon.blocked")
            assert daemon.stop(5.0).exit_code == 0
    ground.run_once()
    assert len(ground.stems()) == 2
    check_invariants(ground)


def test_damaged_while_running(ground: FaultySite) -> None:
    """A ledger that is overwritten is told of, kept aside and made anew of what the folders prove."""
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        for path in ground.state.glob("ledger.sqlite*"):
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.write(os.urandom(size))
        ground.drop("during.pdf")
        daemon.wait_for_event("daemon.ledger_damaged")
        daemon.wait_for_event("daemon.ledger_rebuilt")
        daemon.wait_for_pairs(2, 40.0)
        daemon.wait_for_turns(5)
    (damaged,) = ground.events("daemon.ledger_damaged")
    assert (ground.state / damaged.values["kept_as"]).stat().st_size > 0
    assert len(ground.blocked("outbound")) <= 1
    check_invariants(ground)


@pytest.mark.parametrize("arguments", [("run",), ("run", "--once")], ids=" ".join)
def test_damaged_in_its_depth_before_the_start(ground: FaultySite, arguments: tuple[str, ...]) -> None:
    """Damage that shows only when a page is read is found, and the ledger made anew all the same."""
    for number in range(_MANY):
        ground.drop(f"{number:04}.pdf")
    ground.run_once()
    with _ledger(ground).open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(_ledger(ground).stat().st_size - 3 * 4096))
    ground.drop("after.pdf")
    if arguments == ("run",):
        with ground.daemon() as daemon:
            daemon.wait_for_pairs(_MANY + 1, 40.0)
            daemon.wait_for(lambda: len(ground.messages()) == _MANY + 1, "the new ledger")
            daemon.wait_for_turns(2)
    else:
        ground.run_once()
    assert len(ground.events("daemon.ledger_damaged")) == 1
    assert ground.events("daemon.ledger_rebuilt")[0].values["messages"] == str(_MANY)
    check_invariants(ground)


def test_state_folder_removed(ground: FaultySite) -> None:
    """The state folder removed, lock and all, is made again, and a second daemon still finds it taken."""
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        ground.state.rename(ground.root / "gone")
        daemon.wait_for_event("daemon.ledger_rebuilt")
        ground.drop("after.pdf")
        daemon.wait_for_pairs(2)
        second = ground.meshctl("run", "--once")
        assert (second.exit_code, second.stdout) == (1, "")
        assert "Another meshctl already works on" in second.stderr
        assert str(daemon.process.pid) in second.stderr
        daemon.wait_for_turns(5)
    assert len(ground.events("daemon.ledger_gone")) == 1
    check_invariants(ground)


def test_lock_removed(ground: FaultySite) -> None:
    """A lock file that somebody removed is made again before another daemon could start."""
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        (ground.state / "lock").unlink()
        daemon.wait_for_event("daemon.ledger_gone")
        daemon.wait_for((ground.state / "lock").exists, "the lock")
        assert ground.meshctl("run", "--once").exit_code == 1
        ground.drop("after.pdf")
        daemon.wait_for_pairs(2)
    check_invariants(ground)


def test_replaced_by_an_older_one(ground: FaultySite) -> None:
    """A ledger restored from a back-up under the daemon learns of what was sent since from the folders."""
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        with closing(sqlite3.connect(_ledger(ground))) as live:
            live.execute("VACUUM INTO ?", (str(ground.root / "backup"),))
        ground.drop("since.pdf")
        daemon.wait_for_pairs(2)
        daemon.wait_for(lambda: ground.states() == ["queued", "queued"], "both to be queued")
        for end in ("-wal", "-shm"):
            Path(f"{_ledger(ground)}{end}").unlink()
        (ground.root / "backup").rename(_ledger(ground))
        daemon.wait_for_event("daemon.ledger_rebuilt")
        ground.drop("after.pdf")
        daemon.wait_for_pairs(3)
    assert ground.events("daemon.ledger_rebuilt")[0].values["messages"] == "1"
    check_invariants(ground)


def test_key_removed_while_running(ground: FaultySite) -> None:
    """A key that is lost while the daemon runs is written again: nothing hashed with it is lost."""
    key = ground.state / "key"
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        before = key.read_bytes()
        key.unlink()
        daemon.wait_for_event("daemon.key_restored")
        daemon.wait_for_turns(2)
    assert key.read_bytes() == before
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(ground.events("daemon.key_restored")) == 1
    found = ground.meshctl("find", "--nhs-number", "9990000042", "--json")
    assert found.exit_code == 0
    assert ground.stems()[0] in found.stdout
    check_invariants(ground)


@needs_mounts
def test_state_share_away_and_back(root: Path) -> None:
    """With the ledger's disk unmounted a new ledger serves; the old one learns later what it missed."""
    state, kept = root / "site" / "state", root / "kept"
    with mounted(state, "size=8m,mode=700"), bound(state, kept):
        ground = make_faulty_site(root / "site")
        with ground.daemon() as daemon:
            _first_letter(ground, daemon)
            mount("-l", str(state), program="umount")
            daemon.wait_for_event("daemon.ledger_rebuilt")
            ground.drop("during.pdf")
            daemon.wait_for_pairs(2)
            daemon.wait_for(lambda: ground.states() == ["queued", "queued"], "both to be queued")
            mount("--bind", str(kept), str(state))
            daemon.wait_for_event("daemon.ledger_rebuilt", 2)
            ground.drop("after.pdf")
            daemon.wait_for_pairs(3)
            daemon.wait_for_turns(5)
        assert [line.values["messages"] for line in ground.events("daemon.ledger_rebuilt")] == ["1", "1"]
        check_invariants(ground)


@needs_mounts
def test_parent_of_the_state_folder_away(root: Path) -> None:
    """A state folder whose share is away is not made on the disk below; the daemon waits for it."""
    share = root / "site" / "share"
    with mounted(share, "size=8m,mode=755"):
        ground = make_faulty_site(root / "site")
        deep = share / "deep"
        deep.mkdir()
        ground.keep_state_in("share/deep/state")
        with ground.daemon() as daemon:
            _first_letter(ground, daemon)
            deep.rename(share / "away")
            is_told_once(ground, daemon, "ledger", f"No such file or directory: {ground.state}")
            ground.drop("during.pdf")
            daemon.wait_for_turns(2)
            assert len(ground.stems()) == 1
            (share / "away").rename(deep)
            goes_on(ground, daemon, "ledger", 2)
        assert not ground.events("daemon.ledger_rebuilt")
        check_invariants(ground)


@needs_root
def test_rights_on_the_state_folder_withdrawn(ground: FaultySite) -> None:
    """A daemon that may no longer enter its state folder goes on, or waits, but never begins a new ledger."""
    ground.as_somebody()
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        ground.state.chmod(0)
        ground.drop("during.pdf")
        daemon.wait_for_turns(5)
        ground.state.chmod(0o700)
        daemon.wait_for_pairs(2, 40.0)
    assert not ground.events("daemon.ledger_gone")
    check_invariants(ground)
