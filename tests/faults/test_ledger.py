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
from tests.site import STOP_SECONDS, Daemon

pytestmark = pytest.mark.slow

_MANY = 400


def _ledger(site: FaultySite) -> Path:
    return site.state / "ledger.sqlite"


@contextmanager
def _locked(site: FaultySite, how: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(_ledger(site), isolation_level=None)) as connection:
        connection.execute(f"BEGIN {how}")
        connection.execute("SELECT count(*) FROM messages").fetchone()
        yield connection


def _first_letter(site: FaultySite, daemon: Daemon) -> None:
    site.drop("before.pdf")
    daemon.wait_for_pairs(1)
    daemon.wait_for(lambda: site.states() == ["queued"], "the first letter to be queued")


def test_locked_by_a_writer(site: FaultySite) -> None:
    """While another program keeps the ledger locked the daemon waits; afterwards it goes on by itself."""
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        with _locked(site, "IMMEDIATE"):
            site.drop("during.pdf")
            is_told_once(
                site, daemon, "outbound", f"The ledger in {site.state} cannot be used: database is locked"
            )
            assert len(site.stems()) == 1
        goes_on(site, daemon, "outbound", 2)
    check_invariants(site)


def test_locked_by_a_reader(site: FaultySite) -> None:
    """A program that reads the ledger for a long time, a back-up say, is in nobody's way."""
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        with _locked(site, "DEFERRED"):
            site.drop("during.pdf")
            daemon.wait_for_pairs(2)
            daemon.wait_for_turns(5)
    assert not site.events("daemon.blocked")
    check_invariants(site)


def test_stopped_while_the_ledger_is_locked(site: FaultySite) -> None:
    """A daemon that waits for a locked ledger stops within 5 s, and what it had in hand is not lost."""
    with site.running() as daemon:
        _first_letter(site, daemon)
        with _locked(site, "EXCLUSIVE"):
            site.drop("during.pdf")
            daemon.wait_for_event("daemon.blocked")
            assert daemon.stop(STOP_SECONDS).exit_code == 0
    site.run_once()
    assert len(site.stems()) == 2
    check_invariants(site)


def test_damaged_while_running(site: FaultySite) -> None:
    """A ledger that is overwritten is told of, kept aside and made again of what the folders prove."""
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        for path in site.state.glob("ledger.sqlite*"):
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.write(os.urandom(size))
        site.drop("during.pdf")
        daemon.wait_for_event("daemon.ledger_damaged")
        daemon.wait_for_event("daemon.ledger_rebuilt")
        daemon.wait_for_pairs(2)
        daemon.wait_for_turns(5)
    (damaged,) = site.events("daemon.ledger_damaged")
    assert (site.state / damaged.values["kept_as"]).stat().st_size > 0
    assert len(site.blocked("outbound")) <= 1
    check_invariants(site)


@pytest.mark.parametrize("arguments", [("run",), ("run", "--once")], ids=" ".join)
def test_damaged_in_its_depth_before_the_start(site: FaultySite, arguments: tuple[str, ...]) -> None:
    """Damage that shows only when a page is read is found, and the ledger made again all the same."""
    for number in range(_MANY):
        site.drop(f"{number:04}.pdf")
    site.run_once()
    with _ledger(site).open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(_ledger(site).stat().st_size - 3 * 4096))
    site.drop("after.pdf")
    if arguments == ("run",):
        with site.daemon() as daemon:
            daemon.wait_for_pairs(_MANY + 1)
            daemon.wait_for(lambda: len(site.messages()) == _MANY + 1, "the new ledger")
            daemon.wait_for_turns(2)
    else:
        site.run_once()
    assert len(site.events("daemon.ledger_damaged")) == 1
    assert site.events("daemon.ledger_rebuilt")[0].values["messages"] == str(_MANY)
    check_invariants(site)


def test_state_folder_removed(site: FaultySite) -> None:
    """The state folder removed, lock and all, is made again, and a second daemon still finds it taken."""
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        site.state.rename(site.root / "gone")
        daemon.wait_for_event("daemon.ledger_rebuilt")
        site.drop("after.pdf")
        daemon.wait_for_pairs(2)
        second = site.meshctl("run", "--once")
        assert (second.exit_code, second.stdout) == (1, "")
        assert "Another meshctl already works on" in second.stderr
        assert str(daemon.process.pid) in second.stderr
        daemon.wait_for_turns(5)
    assert len(site.events("daemon.ledger_gone")) == 1
    check_invariants(site)


def test_lock_removed(site: FaultySite) -> None:
    """A lock file that somebody removed is made again before another daemon could start."""
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        (site.state / "lock").unlink()
        daemon.wait_for_event("daemon.ledger_gone")
        daemon.wait_for((site.state / "lock").exists, "the lock")
        assert site.meshctl("run", "--once").exit_code == 1
        site.drop("after.pdf")
        daemon.wait_for_pairs(2)
    check_invariants(site)


def test_replaced_by_an_older_one(site: FaultySite) -> None:
    """A ledger restored from a back-up under the daemon learns of what was sent since from the folders."""
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        with closing(sqlite3.connect(_ledger(site))) as live:
            live.execute("VACUUM INTO ?", (str(site.root / "backup"),))
        site.drop("since.pdf")
        daemon.wait_for_pairs(2)
        daemon.wait_for(lambda: site.states() == ["queued", "queued"], "both to be queued")
        for end in ("-wal", "-shm"):
            Path(f"{_ledger(site)}{end}").unlink()
        (site.root / "backup").rename(_ledger(site))
        daemon.wait_for_event("daemon.ledger_completed")
        site.drop("after.pdf")
        daemon.wait_for_pairs(3)
    assert site.events("daemon.ledger_completed")[0].values["messages"] == "1"
    check_invariants(site)


def test_key_removed_while_running(site: FaultySite) -> None:
    """A key that is lost while the daemon runs is written again: nothing hashed with it is lost."""
    key = site.state / "key"
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        before = key.read_bytes()
        key.unlink()
        daemon.wait_for_event("daemon.key_restored")
        daemon.wait_for_turns(2)
    assert key.read_bytes() == before
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(site.events("daemon.key_restored")) == 1
    found = site.meshctl("find", "--nhs-number", "9990000042", "--json")
    assert found.exit_code == 0
    assert site.stems()[0] in found.stdout
    check_invariants(site)


@needs_mounts
def test_state_share_away_and_back(root: Path) -> None:
    """With the ledger's disk unmounted a new ledger serves; the old one learns later what it missed."""
    state, kept = root / "site" / "state", root / "kept"
    with mounted(state, "size=8m,mode=700"), bound(state, kept):
        site = make_faulty_site(root / "site")
        with site.daemon() as daemon:
            _first_letter(site, daemon)
            mount("-l", str(state), program="umount")
            daemon.wait_for_event("daemon.ledger_rebuilt")
            site.drop("during.pdf")
            daemon.wait_for_pairs(2)
            daemon.wait_for(lambda: site.states() == ["queued", "queued"], "both to be queued")
            mount("--bind", str(kept), str(state))
            daemon.wait_for_event("daemon.ledger_completed")
            site.drop("after.pdf")
            daemon.wait_for_pairs(3)
            daemon.wait_for_turns(5)
        (rebuilt,) = site.events("daemon.ledger_rebuilt")
        (completed,) = site.events("daemon.ledger_completed")
        assert rebuilt.values["messages"] == completed.values["messages"] == "1"
        check_invariants(site)


@needs_mounts
def test_parent_of_the_state_folder_away(root: Path) -> None:
    """A state folder whose share is away is not made on the disk below; the daemon waits for it."""
    share = root / "site" / "share"
    with mounted(share, "size=8m,mode=755"):
        site = make_faulty_site(root / "site")
        deep = share / "deep"
        deep.mkdir()
        site.keep_state_in("share/deep/state")
        with site.daemon() as daemon:
            _first_letter(site, daemon)
            deep.rename(share / "away")
            is_told_once(site, daemon, "ledger", f"No such file or directory: {site.state}")
            site.drop("during.pdf")
            daemon.wait_for_turns(2)
            assert len(site.stems()) == 1
            (share / "away").rename(deep)
            goes_on(site, daemon, "ledger", 2)
        assert not site.events("daemon.ledger_rebuilt")
        check_invariants(site)


@needs_root
def test_rights_on_the_state_folder_withdrawn(site: FaultySite) -> None:
    """A daemon that may no longer enter its state folder goes on, or waits, but never begins a new ledger."""
    site.as_somebody()
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        site.state.chmod(0)
        site.drop("during.pdf")
        daemon.wait_for_turns(5)
        site.state.chmod(0o700)
        daemon.wait_for_pairs(2)
    assert not site.events("daemon.ledger_gone")
    check_invariants(site)
