"""Disks without room: each folder in turn, all at once, without inodes, over quota."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.answers import acknowledge
from tests.faults.conftest import make_faulty_site
from tests.faults.faulty_site import Full, goes_on, is_told_once, mounted, needs_mounts
from tests.invariants import check_invariants
from tests.payloads import make_bundle_xml
from tests.site import sidecar

pytestmark = [needs_mounts, pytest.mark.slow]

_MAILBOX = "mailbox/X26ABC1"
_ROOMY = "size=8m"


class Disks:
    """File systems of their own for some folders of a site."""

    def __init__(self, stack: ExitStack, root: Path) -> None:
        self._stack = stack
        self._root = root

    def lay(self, **sizes: str) -> None:
        """Mount file systems; `site` is the root of the site, the others are below it, `__` for a slash."""
        for name, options in sizes.items():
            below = name.replace("__", "/").replace("mailbox", _MAILBOX)
            self._stack.enter_context(mounted(self._root if name == "site" else self._root / below, options))


@pytest.fixture
def disks(root: Path) -> Iterator[Disks]:
    """Small file systems, unmounted at the end."""
    with ExitStack() as stack:
        yield Disks(stack, root / "site")


def test_out(disks: Disks, root: Path) -> None:
    """With OUT's disk full nothing half is ever in OUT, and what was dropped is sent once there is room."""
    disks.lay(mailbox__OUT="size=64k")
    site = make_faulty_site(root / "site")
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        full = Full(site.out)
        site.drop("during.pdf")
        is_told_once(site, daemon, "outbound", f"No space left on device: {site.out}")
        assert len(site.stems()) == 1
        full.mend()
        goes_on(site, daemon, "outbound", 2)
    check_invariants(site)


def test_out_without_inodes(disks: Disks, root: Path) -> None:
    """A disk that has room but no inode left for OUT is told in the same words."""
    disks.lay(mailbox__OUT="size=1m,nr_inodes=6")
    site = make_faulty_site(root / "site")
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        others = [site.out / f"theirs-{number}" for number in range(3)]
        for path in others:
            path.touch()
        site.drop("during.pdf")
        is_told_once(site, daemon, "outbound", f"No space left on device: {site.out}")
        for path in others:
            path.unlink()
        goes_on(site, daemon, "outbound", 2)
    check_invariants(site)


def test_outbox_work_folder_and_out(disks: Disks, root: Path) -> None:
    """With the disk of outbox and OUT full no control file can be written, and no file is lost."""
    disks.lay(site="size=128k", state=_ROOMY, log=_ROOMY)
    site = make_faulty_site(root / "site")
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        site.prepare("during.pdf")
        full = Full(site.root)
        site.reveal()
        is_told_once(site, daemon, "outbound", f"No space left on device: ({site.work}|{site.out}).*")
        full.mend()
        goes_on(site, daemon, "outbound", 2)
    check_invariants(site)


def test_state(disks: Disks, root: Path) -> None:
    """With the ledger's disk full nothing is handed over, since it could not be written down."""
    disks.lay(state="size=512k")
    site = make_faulty_site(root / "site")
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        full = Full(site.state)
        for number in range(100):
            site.drop(f"during-{number}.pdf")
        is_told_once(
            site,
            daemon,
            "outbound",
            f"The ledger in {site.state} cannot be used: database or disk is full",
        )
        handed_over = len(site.stems())
        assert handed_over < 101
        full.mend()
        goes_on(site, daemon, "outbound", 101)
    check_invariants(site)


def test_rejected(disks: Disks, root: Path) -> None:
    """With the disk of `rejected/` full a refused file is neither lost nor left without its explanation."""
    disks.lay(rejected="size=32k")
    site = make_faulty_site(root / "site")
    with site.daemon() as daemon:
        full = Full(site.rejected)
        site.drop_bad("during.pdf")
        is_told_once(site, daemon, "outbound", f"No space left on device: {site.rejected}")
        full.mend()
        goes_on(site, daemon, "outbound", 0)
        daemon.wait_for_event("message.rejected")
    assert [each.content["code"] for each in site.explanations()] == ["use_case_unknown"]
    check_invariants(site)


def test_archive(disks: Disks, root: Path) -> None:
    """With the archive's disk full reports stay in IN, read but once, and letters go out all the same."""
    disks.lay(archive="size=32k")
    site = make_faulty_site(root / "site")
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        full = Full(site.root / "archive")
        site.report(site.stems()[0])
        is_told_once(site, daemon, "inbound", f"No space left on device: {site.root}/archive.*")
        site.drop("during.pdf")
        daemon.wait_for_pairs(2)
        assert not site.blocked("outbound")
        full.mend()
        goes_on(site, daemon, "inbound", 2)
        daemon.wait_for(lambda: not list(site.client_folder("IN").iterdir()), "IN to be empty")
    assert site.states() == ["queued", "sent"]
    assert len(site.events("message.sent")) == 1
    check_invariants(site)


def test_archive_without_room_for_one(disks: Disks, root: Path) -> None:
    """An acknowledgement that the disk has no room for is set aside, leaves nothing there, stops no other."""
    disks.lay(archive="size=96k")
    site = make_faulty_site(root / "site")
    site.place("letter.xml", make_bundle_xml(), sidecar=sidecar(local_id="our letter"))
    site.run_once()
    acknowledge(site, "large", "0bcb5098-ce5a-4a85-a547-2574f90310e4")
    with (site.client_folder("IN") / "large.dat").open("ab") as file:
        file.write(b" " * 200_000)
    site.report(site.stems()[0])
    site.run_once()
    archive = site.root / "archive"
    assert [path.suffix for path in archive.rglob("*.*") if path.is_file() and path.suffix] == [".ctl"]
    assert sorted(path.name for path in site.client_folder("IN").iterdir()) == ["large.ctl", "large.dat"]
    (told,) = site.events("file.set_aside")
    assert told.values["text"] == "It cannot be moved out of IN: No space left on device."
    assert site.states() == ["received"]
    check_invariants(site)


def test_log(disks: Disks, root: Path) -> None:
    """With the log's disk full messages go out all the same, and their lines follow when there is room."""
    disks.lay(log="size=32k")
    site = make_faulty_site(root / "site")
    with site.running() as daemon:
        full = Full(site.log_file.parent)
        for number in range(60):
            site.drop(f"during-{number}.pdf")
        daemon.wait_for_pairs(60)
        daemon.wait_for_turns(5)
        full.mend()
        site.drop("after.pdf")
        daemon.wait_for_pairs(61)
        ended = daemon.stop()
    assert ended.exit_code == 0
    assert ended.stderr == (
        f"meshctl: cannot write the log {site.log_file}: No space left on device. "
        "Lines wait in memory until it can be written; free space or correct the folder's rights.\n"
    )
    assert len(site.events("message.queued")) == 61
    assert {line.values["part"] for line in site.events("daemon.blocked")} == {"log"}
    check_invariants(site)


def test_everything_on_one_disk(disks: Disks, root: Path) -> None:
    """With all folders on one full disk the daemon waits; afterwards log, ledger and folders are whole."""
    disks.lay(site="size=1m")
    site = make_faulty_site(root / "site")
    with site.running() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        site.prepare(*(f"during-{number}.pdf" for number in range(30)))
        full = Full(site.root)
        site.reveal()
        daemon.wait_for_turns(8)
        full.mend()
        daemon.wait_for_pairs(31)
        ended = daemon.stop()
    assert ended.exit_code == 0
    assert len(site.blocked("outbound")) <= 2
    check_invariants(site)


def test_the_first_start(disks: Disks, root: Path) -> None:
    """A daemon that finds a full disk is said to run, and reload and check say nothing that is wrong."""
    disks.lay(state="size=2m")
    site = make_faulty_site(root / "site")
    full = Full(site.state)
    with site.daemon(started=False) as daemon:
        daemon.wait_for_event("daemon.blocked")
        status, check = site.meshctl("status"), site.meshctl("check")
        full.mend()
        daemon.wait_for_event("daemon.started")
    assert f"running, process {daemon.process.pid} on" in status.stdout
    assert "although there is a ledger" not in check.stdout


def test_send(disks: Disks, root: Path, tmp_path: Path) -> None:
    """A person is told where there is no room, and what to do; nothing half is left."""
    disks.lay(outbox="size=64k")
    site = make_faulty_site(root / "site")
    letter = tmp_path / "letter.xml"
    letter.write_bytes(make_bundle_xml())
    full = Full(site.outbox)
    before = sorted(site.outbox.iterdir())
    ended = site.meshctl("send", str(letter), "--use-case", "send-document")
    assert ended.exit_code == 1
    assert f"There is no room for the file in {site.outbox}" in ended.stderr
    assert "Free space there" in ended.stderr
    assert sorted(site.outbox.iterdir()) == before
    full.mend()
