"""Folders removed and made again, made read-only, forbidden; a share that goes away and comes back."""

import shutil
import subprocess
from collections.abc import Callable
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
    tries_again,
)
from tests.invariants import check_invariants
from tests.payloads import pdf
from tests.site import Daemon, drop_backlog, sidecar

pytestmark = pytest.mark.slow

Finder = Callable[[FaultySite], Path]
_OUTBOUND: dict[str, Finder] = {
    "OUT": lambda site: site.out,
    "outbox": lambda site: site.outbox,
    "mailbox": lambda site: site.out.parent,
}
_MADE_AGAIN: dict[str, Finder] = {
    "work": lambda site: site.work,
    "rejected": lambda site: site.rejected,
    "log": lambda site: site.log_file.parent,
}


def _first_letter(site: FaultySite, daemon: Daemon) -> None:
    site.drop("before.pdf")
    daemon.wait_for_pairs(1)
    # Until the turn is over, too.
    daemon.wait_for(lambda: not list(site.work.glob("letters/*")), "the letter's folder to be removed")


@pytest.mark.parametrize("find", _OUTBOUND.values(), ids=list(_OUTBOUND))
def test_moved_away_and_back(site: FaultySite, find: Finder) -> None:
    """Without OUT, the outbox or the whole mailbox nothing is taken, and all goes on when it is back."""
    folder, away = find(site), site.root / "away"
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        folder.rename(away)
        missing = site.out if folder == site.out.parent else folder
        if folder != site.outbox:
            site.drop("during.pdf")
        is_told_once(site, daemon, "outbound", f"No such file or directory: {missing}")
        away.rename(folder)
        if folder == site.outbox:
            site.drop("during.pdf")
        goes_on(site, daemon, "outbound", 2)
    assert not site.events("message.payload_missing")
    check_invariants(site)


def test_out_removed_and_made_again(site: FaultySite) -> None:
    """Pairs that went with OUT are told of as missing, not taken for collected; the new OUT is used."""
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        daemon.wait_for(lambda: "queued" in site.states(), "the first letter to be queued")
        daemon.wait_for_turns(2)
        site.out.rename(site.root / "gone")
        site.drop("during.pdf")
        is_told_once(site, daemon, "outbound", f"No such file or directory: {site.out}")
        site.out.mkdir()
        goes_on(site, daemon, "outbound", 1)
        daemon.wait_for_event("message.payload_missing")
        daemon.wait_for_turns(2)
    assert site.states() == ["queued", "queued"]
    assert [line.values["messages"] for line in site.events("message.payload_missing")] == ["1"]


def test_out_away_in_a_backlog(site: FaultySite) -> None:
    """OUT taken away in the middle of a batch leaves nothing behind in the work folder."""
    total = 1500
    drop_backlog(site, total)
    away = site.root / "away"
    with site.daemon() as daemon:
        daemon.wait_for_pairs(100)
        site.out.rename(away)
        is_told_once(site, daemon, "outbound", f"No such file or directory: {site.out}")
        away.rename(site.out)
        goes_on(site, daemon, "outbound", total)
        daemon.wait_for(lambda: site.states() == ["queued"] * total, "all to be queued")
    check_invariants(site)


def test_outbox_removed_and_made_again(site: FaultySite) -> None:
    """After the outbox was made again files in it are taken, also at once by events."""
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        shutil.rmtree(site.outbox)
        is_told_once(site, daemon, "outbound", f"No such file or directory: {site.outbox}")
        site.outbox.mkdir()
        goes_on(site, daemon, "outbound", 1)
        site.drop("after.pdf")
        daemon.wait_for_pairs(2)
    check_invariants(site)


@pytest.mark.parametrize("find", _MADE_AGAIN.values(), ids=list(_MADE_AGAIN))
def test_a_folder_of_ours_is_made_again(site: FaultySite, find: Finder) -> None:
    """Work folder, `rejected/` and log folder are ours: removed, they are made again without ado."""
    folder = find(site)
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        folder.rename(site.root / "away")
        daemon.wait_for_turns(3)
        site.drop("during.pdf")
        daemon.wait_for_pairs(2)
        # The log looks once a second whether its file is still there: the first lines may be elsewhere.
        for number in range(1, 500):
            if site.events("message.rejected"):
                break
            site.drop_bad(f"bad-{number}.pdf")
            _wait_for_explanations(site, daemon, number)
    assert site.events("message.rejected")
    assert not site.events("daemon.blocked")
    check_invariants(site)


def _wait_for_explanations(site: FaultySite, daemon: Daemon, count: int) -> None:
    daemon.wait_for(lambda: len(site.explanations()) >= count, f"{count} explanations")


def test_in_away_keeps_nobody_from_sending(site: FaultySite) -> None:
    """Without IN the inbound part waits, the outbound one sends; a report that comes later is read."""
    folder, away = site.client_folder("IN"), site.root / "away"
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        folder.rename(away)
        is_told_once(site, daemon, "inbound", f"No such file or directory: {folder}")
        site.drop("during.pdf")
        daemon.wait_for_pairs(2)
        assert not site.blocked("outbound")
        away.rename(folder)
        daemon.wait_for(lambda: site.unblocked("inbound"), "the inbound part to go on")
        site.report(site.stems()[0])
        daemon.wait_for(lambda: "sent" in site.states(), "the report to be read")
    check_invariants(site)


@needs_mounts
def test_mailbox_share_away_and_back(root: Path) -> None:
    """With the mailbox's share unmounted nothing counts as collected, and no file is lost."""
    share, kept = root / "site" / "mailbox", root / "kept"
    with mounted(share, "size=4m"), bound(share, kept):
        site = make_faulty_site(root / "site")
        with site.daemon() as daemon:
            _first_letter(site, daemon)
            daemon.wait_for_turns(2)
            mount("-l", str(share), program="umount")
            is_told_once(site, daemon, "outbound", f"No such file or directory: {site.out}")
            site.drop("during.pdf")
            daemon.wait_for_turns(2)
            assert site.states() == ["queued"]
            mount("--bind", str(kept), str(share))
            goes_on(site, daemon, "outbound", 2)
            daemon.wait_for_turns(2)
            assert site.states() == ["queued", "queued"]
        check_invariants(site)


_READ_ONLY: dict[str, tuple[Finder, str]] = {
    "OUT": (lambda site: site.out, "outbound"),
    "rejected": (lambda site: site.rejected, "outbound"),
    "archive": (lambda site: site.root / "archive", "inbound"),
}


@needs_mounts
@pytest.mark.parametrize("name", _READ_ONLY)
def test_remounted_read_only(root: Path, name: str) -> None:
    """A file system that turns read-only is named; once it can be written to, everything is as if not."""
    find, part = _READ_ONLY[name]
    folder = find(FaultySite(root / "site"))
    with mounted(folder, "size=4m"):
        site = make_faulty_site(root / "site")
        with site.daemon() as daemon:
            _first_letter(site, daemon)
            mount("-o", "remount,ro", str(folder))
            if name == "OUT":
                site.drop("during.pdf")
            elif name == "rejected":
                site.drop_bad("bad.pdf")
            else:
                site.report(site.stems()[0])
            is_told_once(site, daemon, part, f"Read-only file system: {folder}.*")
            mount("-o", "remount,rw", str(folder))
            goes_on(site, daemon, part, 2 if name == "OUT" else 1)
        check_invariants(site)


@needs_mounts
def test_outbox_remounted_read_only(root: Path) -> None:
    """With outbox and work folder read-only files stay in the outbox until they can be claimed."""
    disk = root / "site" / "disk"
    with mounted(disk, "size=4m"):
        site = make_faulty_site(root / "site")
        site.stage_on("disk", quiet_seconds=2.0)
        with site.daemon() as daemon:
            _first_letter(site, daemon)
            # Written in place, it counts as complete only when the disk has turned read-only.
            site.write("during.pdf", pdf("during"), sidecar=sidecar())
            mount("-o", "remount,ro", str(disk))
            is_told_once(site, daemon, "outbound", f"Read-only file system: {site.work}.*")
            mount("-o", "remount,rw", str(disk))
            goes_on(site, daemon, "outbound", 2)
        check_invariants(site)


@needs_mounts
def test_what_was_sent_is_seen_on_a_disk_that_is_read_only(root: Path) -> None:
    """And a command that would write says what is wrong with it."""
    with mounted(root / "site", "size=8m,mode=0755"):
        site = make_faulty_site(root / "site")
        site.place("letter.pdf", pdf("letter"), sidecar=sidecar())
        site.run_once()
        mount("-o", "remount,ro", str(root / "site"))
        listed = site.meshctl("list")
        sent = site.meshctl(
            "send", str(site.root / "meshctl.toml"), "--to-mailbox=X26ABC2", "--use-case=online-consultation"
        )
        mount("-o", "remount,rw", str(root / "site"))

    assert "letter.pdf" in listed.stdout
    assert "mounted read-only" in sent.stderr


_FORBIDDEN: dict[str, tuple[Finder, int, str]] = {
    "OUT": (lambda site: site.out, 0o555, "outbound"),
    "outbox": (lambda site: site.outbox, 0o555, "outbound"),
    "outbox unreadable": (lambda site: site.outbox, 0o000, "outbound"),
    "work": (lambda site: site.work, 0o000, "outbound"),
    "rejected": (lambda site: site.rejected, 0o555, "outbound"),
    "IN": (lambda site: site.client_folder("IN"), 0o000, "inbound"),
    "archive": (lambda site: site.root / "archive", 0o555, "inbound"),
}


@needs_root
@pytest.mark.parametrize("name", _FORBIDDEN)
def test_rights_withdrawn(site: FaultySite, name: str) -> None:
    """A folder whose rights were withdrawn is named; given back, everything goes on."""
    find, mode, part = _FORBIDDEN[name]
    folder = find(site)
    site.as_somebody()
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        before = folder.stat().st_mode
        folder.chmod(mode)
        if name == "rejected":
            site.drop_bad("during.pdf")
        elif name == "archive":
            site.report(site.stems()[0])
        else:
            site.drop("during.pdf")
        is_told_once(site, daemon, part, f"Permission denied: {folder}.*")
        folder.chmod(before)
        goes_on(site, daemon, part, 1)
        if name not in {"rejected", "archive"}:
            daemon.wait_for_pairs(2)
    check_invariants(site)


def test_files_that_come_while_blocked_cost_nothing(site: FaultySite) -> None:
    """While OUT is away each file that is dropped is no reason to look through a full outbox again."""
    away = site.root / "away"
    others = [site.outbox / f".theirs-{number}" for number in range(20_000)]
    for path in others:
        path.touch()
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        site.out.rename(away)
        site.drop("during.pdf")
        is_told_once(site, daemon, "outbound", f"No such file or directory: {site.out}")
        for number in range(200):
            site.drop(f"during-{number}.pdf")
        tries_again(site, daemon, "outbound")
        for path in others:
            path.unlink()
        away.rename(site.out)
        goes_on(site, daemon, "outbound", 202)
    check_invariants(site)


@needs_mounts
def test_share_mounted_again_is_heard_again(root: Path) -> None:
    """An outbox whose share was mounted again in the blink of an eye is watched again, not only looked at."""
    disk, other = root / "site" / "disk", root / "other"
    with mounted(disk, "size=4m,mode=755"), mounted(other, "size=4m,mode=755"):
        site = make_faulty_site(root / "site")
        site.stage_on("disk", rescan_seconds=3600.0)
        shutil.copytree(disk, other, dirs_exist_ok=True)
        with site.daemon() as daemon:
            _first_letter(site, daemon)
            # The daemon has folders open for the length of a turn, and this letter's may not be over yet.
            daemon.wait_for(lambda: _is_unmounted(disk), "the share to be unmounted")
            mount("--bind", str(other), str(disk))
            daemon.wait_for(lambda: daemon.is_watching(site.outbox), "a watch on the new outbox")
            site.drop("heard.pdf")
            # Sooner than it would be found in the folder.
            daemon.wait_for_pairs(2)
        check_invariants(site)


def _is_unmounted(disk: Path) -> bool:
    """Unmount a disk; False while somebody has something on it open."""
    try:
        mount(str(disk), program="umount")
    except subprocess.CalledProcessError:
        return False
    return True


@needs_root
def test_one_sub_folder_without_rights_keeps_nobody_else(site: FaultySite) -> None:
    """A use case's folder that may not be read is named; letters in the others go out meanwhile."""
    shut, other = site.outbox / "consultation-report", site.outbox / "send-document"
    for folder in (shut, other):
        folder.mkdir()
    site.as_somebody()
    with site.daemon() as daemon:
        _first_letter(site, daemon)
        site.place("in-shut.pdf", pdf("in shut"), folder=shut.name, sidecar=sidecar(use_case=None))
        daemon.wait_for_pairs(2)
        shut.chmod(0)
        daemon.wait_for_event("file.set_aside")
        site.place("in-other.pdf", pdf("in other"), folder=other.name, sidecar=sidecar(use_case=None))
        daemon.wait_for_pairs(3)
        shut.chmod(0o700)
        site.place("in-shut-again.pdf", pdf("again"), folder=shut.name, sidecar=sidecar(use_case=None))
        daemon.wait_for_pairs(4)
    [told] = site.events("file.set_aside")
    assert (told.values["file"], told.values["text"]) == (
        shut.name,
        "The use-case folder cannot be used: Permission denied.",
    )
    check_invariants(site)


@needs_root
def test_started_with_a_ledger_that_cannot_be_written(site: FaultySite) -> None:
    """A daemon that may only read its ledger says so, sends nothing that it could not note, and recovers."""
    site.as_somebody()
    site.drop("before.pdf")
    site.run_once()
    files = list(site.state.glob("ledger*"))
    for path in files:
        path.chmod(0o400)
    site.state.chmod(0o500)
    with site.daemon(started=False) as daemon:
        site.drop("during.pdf")
        is_told_once(site, daemon, "ledger", f"Permission denied: {site.state}")
        assert len(site.stems()) == 1
        site.state.chmod(0o700)
        for path in files:
            path.chmod(0o600)
        goes_on(site, daemon, "ledger", 2)
    check_invariants(site)
