"""Folders removed and made again, made read-only, forbidden; a share that goes away and comes back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import make_faulty_site
from tests.faults.faulty_site import (
    FaultySite,
    bound,
    drop_backlog,
    goes_on,
    is_told_once,
    mount,
    mounted,
    needs_mounts,
    needs_root,
    tries_again,
)
from tests.invariants import check_invariants
from tests.site import Daemon, sidecar

pytestmark = pytest.mark.slow

Finder = Callable[[FaultySite], Path]
_OUTBOUND: dict[str, Finder] = {
    "OUT": lambda ground: ground.out,
    "outbox": lambda ground: ground.outbox,
    "mailbox": lambda ground: ground.out.parent,
}
_MADE_AGAIN: dict[str, Finder] = {
    "work": lambda ground: ground.work,
    "rejected": lambda ground: ground.rejected,
    "log": lambda ground: ground.log_file.parent,
}


def _first_letter(ground: FaultySite, daemon: Daemon) -> None:
    ground.drop("before.pdf")
    daemon.wait_for_pairs(1)
    # Until the batch is closed, too.
    daemon.wait_for(lambda: not list(ground.work.glob("claims/*")), "the claim to be closed")


@pytest.mark.parametrize("find", _OUTBOUND.values(), ids=list(_OUTBOUND))
def test_moved_away_and_back(ground: FaultySite, find: Finder) -> None:
    """Without OUT, the outbox or the whole mailbox nothing is taken, and all goes on when it is back."""
    folder, away = find(ground), ground.root / "away"
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        folder.rename(away)
        missing = ground.out if folder == ground.out.parent else folder
        if folder != ground.outbox:
            ground.drop("during.pdf")
        is_told_once(ground, daemon, "outbound", f"No such file or directory: {missing}")
        away.rename(folder)
        if folder == ground.outbox:
            ground.drop("during.pdf")
        goes_on(ground, daemon, "outbound", 2)
    assert not ground.events("message.payload_missing")
    check_invariants(ground)


def test_out_removed_and_made_anew(ground: FaultySite) -> None:
    """Pairs that went with OUT are told of as missing, not taken for collected; the new OUT is used."""
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        daemon.wait_for(lambda: "queued" in ground.states(), "the first letter to be queued")
        daemon.wait_for_turns(2)
        ground.out.rename(ground.root / "gone")
        ground.drop("during.pdf")
        is_told_once(ground, daemon, "outbound", f"No such file or directory: {ground.out}")
        ground.out.mkdir()
        goes_on(ground, daemon, "outbound", 1)
        daemon.wait_for_event("message.payload_missing")
        daemon.wait_for_turns(2)
    assert ground.states() == ["queued", "queued"]
    assert [line.values["messages"] for line in ground.events("message.payload_missing")] == ["1"]


def test_out_away_in_a_backlog(ground: FaultySite) -> None:
    """OUT taken away in the middle of a batch leaves nothing behind in the work folder."""
    total = 1500
    drop_backlog(ground, total)
    away = ground.root / "away"
    with ground.daemon() as daemon:
        daemon.wait_for_pairs(100)
        ground.out.rename(away)
        is_told_once(ground, daemon, "outbound", f"No such file or directory: {ground.out}")
        away.rename(ground.out)
        goes_on(ground, daemon, "outbound", total)
        daemon.wait_for(lambda: ground.states() == ["queued"] * total, "all to be queued")
    check_invariants(ground)


def test_outbox_removed_and_made_anew(ground: FaultySite) -> None:
    """After the outbox was made anew files in it are taken, also at once by events."""
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        for path in ground.outbox.iterdir():
            path.rmdir()
        ground.outbox.rmdir()
        is_told_once(ground, daemon, "outbound", f"No such file or directory: {ground.outbox}")
        ground.outbox.mkdir()
        goes_on(ground, daemon, "outbound", 1)
        ground.drop("after.pdf")
        daemon.wait_for_pairs(2)
    check_invariants(ground)


@pytest.mark.parametrize("find", _MADE_AGAIN.values(), ids=list(_MADE_AGAIN))
def test_a_folder_of_ours_is_made_again(ground: FaultySite, find: Finder) -> None:
    """Work folder, `rejected/` and log folder are ours: removed, they are made again without ado."""
    folder = find(ground)
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        folder.rename(ground.root / "away")
        daemon.wait_for_turns(3)
        ground.drop("during.pdf")
        ground.drop_bad("bad.pdf")
        daemon.wait_for_pairs(2)
        daemon.wait_for_event("message.rejected")
    assert not ground.events("daemon.blocked")
    check_invariants(ground)


def test_in_away_keeps_nobody_from_sending(ground: FaultySite) -> None:
    """Without IN the inbound part waits, the outbound one sends; a report that comes later is read."""
    folder, away = ground.client_folder("IN"), ground.root / "away"
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        folder.rename(away)
        is_told_once(ground, daemon, "inbound", f"No such file or directory: {folder}")
        ground.drop("during.pdf")
        daemon.wait_for_pairs(2)
        assert not ground.blocked("outbound")
        away.rename(folder)
        daemon.wait_for(lambda: ground.unblocked("inbound"), "the inbound part to go on", 40.0)
        ground.report(ground.stems()[0])
        daemon.wait_for(lambda: "sent" in ground.states(), "the report to be read")
    check_invariants(ground)


@needs_mounts
def test_mailbox_share_away_and_back(root: Path) -> None:
    """With the mailbox's share unmounted nothing counts as collected, and no file is lost."""
    share, kept = root / "site" / "mailbox", root / "kept"
    with mounted(share, "size=4m"), bound(share, kept):
        ground = make_faulty_site(root / "site")
        with ground.daemon() as daemon:
            _first_letter(ground, daemon)
            daemon.wait_for_turns(2)
            mount("-l", str(share), program="umount")
            is_told_once(ground, daemon, "outbound", f"No such file or directory: {ground.out}")
            ground.drop("during.pdf")
            daemon.wait_for_turns(2)
            assert ground.states() == ["queued"]
            mount("--bind", str(kept), str(share))
            goes_on(ground, daemon, "outbound", 2)
            daemon.wait_for_turns(2)
            assert ground.states() == ["queued", "queued"]
        check_invariants(ground)


_READ_ONLY: dict[str, tuple[Finder, str]] = {
    "OUT": (lambda ground: ground.out, "outbound"),
    "rejected": (lambda ground: ground.rejected, "outbound"),
    "archive": (lambda ground: ground.root / "archive", "inbound"),
}


@needs_mounts
@pytest.mark.parametrize("name", _READ_ONLY)
def test_remounted_read_only(root: Path, name: str) -> None:
    """A file system that turns read-only is named; once it can be written to, everything is as if not."""
    find, part = _READ_ONLY[name]
    folder = find(FaultySite(root / "site"))
    with mounted(folder, "size=4m"):
        ground = make_faulty_site(root / "site")
        with ground.daemon() as daemon:
            _first_letter(ground, daemon)
            mount("-o", "remount,ro", str(folder))
            if name == "OUT":
                ground.drop("during.pdf")
            elif name == "rejected":
                ground.drop_bad("bad.pdf")
            else:
                ground.report(ground.stems()[0])
            is_told_once(ground, daemon, part, f"Read-only file system: {folder}.*")
            mount("-o", "remount,rw", str(folder))
            goes_on(ground, daemon, part, 2 if name == "OUT" else 1)
        check_invariants(ground)


@needs_mounts
def test_outbox_remounted_read_only(root: Path) -> None:
    """With outbox and work folder read-only files stay in the outbox until they can be claimed."""
    disk = root / "site" / "disk"
    with mounted(disk, "size=4m"):
        ground = make_faulty_site(root / "site")
        ground.stage_on("disk", quiet_seconds=2.0)
        with ground.daemon() as daemon:
            _first_letter(ground, daemon)
            # Written in place, it counts as complete only when the disk has turned read-only.
            ground.write("during.pdf", b"during", sidecar=sidecar())
            mount("-o", "remount,ro", str(disk))
            is_told_once(ground, daemon, "outbound", f"Read-only file system: {ground.work}/claims")
            mount("-o", "remount,rw", str(disk))
            goes_on(ground, daemon, "outbound", 2)
        check_invariants(ground)


_FORBIDDEN: dict[str, tuple[Finder, int, str]] = {
    "OUT": (lambda ground: ground.out, 0o555, "outbound"),
    "outbox": (lambda ground: ground.outbox, 0o555, "outbound"),
    "outbox unreadable": (lambda ground: ground.outbox, 0o000, "outbound"),
    "work": (lambda ground: ground.work, 0o000, "outbound"),
    "rejected": (lambda ground: ground.rejected, 0o555, "outbound"),
    "IN": (lambda ground: ground.client_folder("IN"), 0o000, "inbound"),
    "archive": (lambda ground: ground.root / "archive", 0o555, "inbound"),
}


@needs_root
@pytest.mark.parametrize("name", _FORBIDDEN)
def test_rights_withdrawn(ground: FaultySite, name: str) -> None:
    """A folder whose rights were withdrawn is named; given back, everything goes on."""
    find, mode, part = _FORBIDDEN[name]
    folder = find(ground)
    ground.as_somebody()
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        before = folder.stat().st_mode
        folder.chmod(mode)
        if name == "rejected":
            ground.drop_bad("during.pdf")
        elif name == "archive":
            ground.report(ground.stems()[0])
        else:
            ground.drop("during.pdf")
        is_told_once(ground, daemon, part, f"Permission denied: {folder}.*")
        folder.chmod(before)
        goes_on(ground, daemon, part, 1)
        if name not in {"rejected", "archive"}:
            daemon.wait_for_pairs(2)
    check_invariants(ground)


def test_files_that_come_while_blocked_cost_nothing(ground: FaultySite) -> None:
    """While OUT is away each file that is dropped is no reason to look through a full outbox again."""
    away = ground.root / "away"
    others = [ground.outbox / f".theirs-{number}" for number in range(20_000)]
    for path in others:
        path.touch()
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        ground.out.rename(away)
        ground.drop("during.pdf")
        is_told_once(ground, daemon, "outbound", f"No such file or directory: {ground.out}")
        for number in range(200):
            ground.drop(f"during-{number}.pdf")
        tries_again(ground, daemon, "outbound")
        for path in others:
            path.unlink()
        away.rename(ground.out)
        goes_on(ground, daemon, "outbound", 202)
    check_invariants(ground)


@needs_mounts
def test_share_mounted_anew_is_heard_again(root: Path) -> None:
    """An outbox whose share was mounted anew in the blink of an eye is watched again, not only looked at."""
    disk, other = root / "site" / "disk", root / "other"
    with mounted(disk, "size=4m,mode=755"), mounted(other, "size=4m,mode=755"):
        ground = make_faulty_site(root / "site")
        ground.stage_on("disk", rescan_seconds=8.0)
        shutil.copytree(disk, other, dirs_exist_ok=True)
        with ground.daemon() as daemon:
            _first_letter(ground, daemon)
            mount(str(disk), program="umount")
            mount("--bind", str(other), str(disk))
            daemon.wait_for(lambda: daemon.is_watching(ground.outbox), "a watch on the new outbox")
            ground.drop("heard.pdf")
            # Sooner than it would be found.
            daemon.wait_for_pairs(2, 5.0)
        check_invariants(ground)


@needs_root
def test_one_sub_folder_without_rights_keeps_nobody_else(ground: FaultySite) -> None:
    """A use case's folder that may not be read is named; letters in the others go out meanwhile."""
    shut, other = ground.outbox / "consultation-report", ground.outbox / "send-document"
    for folder in (shut, other):
        folder.mkdir()
    ground.as_somebody()
    with ground.daemon() as daemon:
        _first_letter(ground, daemon)
        ground.place("in-shut.pdf", b"in shut", folder=shut.name, sidecar=sidecar(use_case=None))
        daemon.wait_for_pairs(2)
        shut.chmod(0)
        is_told_once(ground, daemon, "outbound", f"Permission denied: {shut}")
        ground.place("in-other.pdf", b"in other", folder=other.name, sidecar=sidecar(use_case=None))
        daemon.wait_for_pairs(3, 40.0)
        shut.chmod(0o700)
        goes_on(ground, daemon, "outbound", 3)
    check_invariants(ground)


@needs_root
def test_started_with_a_ledger_that_cannot_be_written(ground: FaultySite) -> None:
    """A daemon that may only read its ledger says so, sends nothing that it could not note, and recovers."""
    ground.as_somebody()
    ground.drop("before.pdf")
    ground.run_once()
    files = list(ground.state.glob("ledger*"))
    for path in files:
        path.chmod(0o400)
    ground.state.chmod(0o500)
    with ground.daemon(started=False) as daemon:
        ground.drop("during.pdf")
        is_told_once(ground, daemon, "ledger", f"Permission denied: {ground.state}")
        assert len(ground.stems()) == 1
        ground.state.chmod(0o700)
        for path in files:
            path.chmod(0o600)
        goes_on(ground, daemon, "ledger", 2)
    check_invariants(ground)
