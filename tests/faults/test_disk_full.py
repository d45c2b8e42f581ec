"""Disks without room: each folder in turn, all at once, without inodes, over quota."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.conftest import make_faulty_site
from tests.faults.faulty_site import Full, goes_on, is_told_once, mounted, needs_mounts
from tests.invariants import check_invariants

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
    ground = make_faulty_site(root / "site")
    with ground.daemon() as daemon:
        ground.drop("before.pdf")
        daemon.wait_for_pairs(1)
        full = Full(ground.out)
        ground.drop("during.pdf")
        is_told_once(ground, daemon, "outbound", f"No space left on device: {ground.out}")
        assert len(ground.stems()) == 1
        full.mend()
        goes_on(ground, daemon, "outbound", 2)
    check_invariants(ground)


def test_out_without_inodes(disks: Disks, root: Path) -> None:
    """A disk that has room but no inode left for OUT is told in the same words."""
    disks.lay(mailbox__OUT="size=1m,nr_inodes=6")
    ground = make_faulty_site(root / "site")
    with ground.daemon() as daemon:
        ground.drop("before.pdf")
        daemon.wait_for_pairs(1)
        others = [ground.out / f"theirs-{number}" for number in range(3)]
        for path in others:
            path.touch()
        ground.drop("during.pdf")
        is_told_once(ground, daemon, "outbound", f"No space left on device: {ground.out}")
        for path in others:
            path.unlink()
        goes_on(ground, daemon, "outbound", 2)
    check_invariants(ground)


def test_outbox_work_folder_and_out(disks: Disks, root: Path) -> None:
    """With the disk of outbox and OUT full no control file can be written, and no file is lost."""
    disks.lay(site="size=128k", state=_ROOMY, log=_ROOMY)
    ground = make_faulty_site(root / "site")
    with ground.daemon() as daemon:
        ground.drop("before.pdf")
        daemon.wait_for_pairs(1)
        ground.prepare("during.pdf")
        full = Full(ground.root)
        ground.reveal()
        is_told_once(ground, daemon, "outbound", f"No space left on device: {ground.work}/ready")
        full.mend()
        goes_on(ground, daemon, "outbound", 2)
    check_invariants(ground)


def test_state(disks: Disks, root: Path) -> None:
    """With the ledger's disk full nothing is handed over, since it could not be written down."""
    disks.lay(state="size=512k")
    ground = make_faulty_site(root / "site")
    with ground.daemon() as daemon:
        ground.drop("before.pdf")
        daemon.wait_for_pairs(1)
        full = Full(ground.state)
        for number in range(100):
            ground.drop(f"during-{number}.pdf")
        is_told_once(
            ground,
            daemon,
            "outbound",
            f"The ledger in {ground.state} cannot be used: database or disk is full",
        )
        handed_over = len(ground.stems())
        assert handed_over < 101
        full.mend()
        goes_on(ground, daemon, "outbound", 101)
    check_invariants(ground)


def test_rejected(disks: Disks, root: Path) -> None:
    """With the disk of `rejected/` full a refused file is neither lost nor left without its explanation."""
    disks.lay(rejected="size=32k")
    ground = make_faulty_site(root / "site")
    with ground.daemon() as daemon:
        full = Full(ground.rejected)
        ground.drop_bad("during.pdf")
        is_told_once(ground, daemon, "outbound", f"No space left on device: {ground.rejected}")
        full.mend()
        goes_on(ground, daemon, "outbound", 0)
        daemon.wait_for_event("message.rejected")
    assert [each.content["code"] for each in ground.explanations()] == ["use_case_unknown"]
    check_invariants(ground)


def test_archive(disks: Disks, root: Path) -> None:
    """With the archive's disk full reports stay in IN, read but once, and letters go out all the same."""
    disks.lay(archive="size=32k")
    ground = make_faulty_site(root / "site")
    with ground.daemon() as daemon:
        ground.drop("before.pdf")
        daemon.wait_for_pairs(1)
        full = Full(ground.root / "archive")
        ground.report(ground.stems()[0])
        is_told_once(ground, daemon, "inbound", f"No space left on device: {ground.root}/archive.*")
        ground.drop("during.pdf")
        daemon.wait_for_pairs(2)
        assert not ground.blocked("outbound")
        full.mend()
        goes_on(ground, daemon, "inbound", 2)
        daemon.wait_for(lambda: not list(ground.client_folder("IN").iterdir()), "IN to be empty")
    assert ground.states() == ["queued", "sent"]
    assert len(ground.events("message.sent")) == 1
    check_invariants(ground)


def test_log(disks: Disks, root: Path) -> None:
    """With the log's disk full messages go out all the same, and their lines follow when there is room."""
    disks.lay(log="size=32k")
    ground = make_faulty_site(root / "site")
    with ground.running() as daemon:
        full = Full(ground.log_file.parent)
        for number in range(60):
            ground.drop(f"during-{number}.pdf")
        daemon.wait_for_pairs(60)
        daemon.wait_for_turns(5)
        full.mend()
        ground.drop("after.pdf")
        daemon.wait_for_pairs(61)
        ended = daemon.stop()
    assert ended.exit_code == 0
    assert ended.stderr == (
        f"meshctl: cannot write the log {ground.log_file}: No space left on device. "
        "Lines wait in memory until it can be written; free space or mend the folder's rights.\n"
    )
    assert len(ground.events("message.queued")) == 61
    assert not ground.events("daemon.blocked")
    check_invariants(ground)


def test_everything_on_one_disk(disks: Disks, root: Path) -> None:
    """With all folders on one full disk the daemon waits; afterwards log, ledger and folders are whole."""
    disks.lay(site="size=1m")
    ground = make_faulty_site(root / "site")
    with ground.running() as daemon:
        ground.drop("before.pdf")
        daemon.wait_for_pairs(1)
        ground.prepare(*(f"during-{number}.pdf" for number in range(30)))
        full = Full(ground.root)
        ground.reveal()
        daemon.wait_for_turns(8)
        full.mend()
        daemon.wait_for_pairs(31, 60.0)
        ended = daemon.stop()
    assert ended.exit_code == 0
    assert len(ground.blocked("outbound")) <= 2
    check_invariants(ground)
