"""A crash, and a next run that finds the mailbox on another mount: the service's, say, and then a shell's.

Under systemd the mailbox is a mount of its own, so payloads are copied; started by hand afterwards they are
moved. What the one had begun the other has to finish.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.crash.strace import obstacle
from tests.faults.conftest import make_faulty_site
from tests.faults.faulty_site import FaultySite, mount, needs_mounts
from tests.invariants import check_invariants

pytestmark = [
    needs_mounts,
    pytest.mark.skipif(obstacle() is not None, reason=obstacle() or ""),
]

_LETTERS = 3
_KILLED = -9


@contextmanager
def _own_mount(site: FaultySite, *, wanted: bool) -> Iterator[None]:
    mailbox = str(site.out.parent)
    if wanted:
        mount("--bind", mailbox, mailbox)
    try:
        yield
    finally:
        if wanted:
            mount("-l", mailbox, program="umount")


@pytest.mark.parametrize(
    "every",
    [
        # No divisor of the number of letters, so that each of their steps is met.
        pytest.param(4, marks=pytest.mark.slow, id="every fourth"),
        pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(300)], id="each"),
    ],
)
@pytest.mark.parametrize("call", ["rename", "unlink", "sync"])
@pytest.mark.parametrize("own_mount_first", [True, False], ids=["copied, then moved", "moved, then copied"])
def test_another_mount_after_a_crash(root: Path, call: str, own_mount_first: bool, every: int) -> None:
    """Killed at such calls, and run again on other mounts, meshctl neither loses nor doubles a letter."""
    for number in count(1, every):
        site = make_faulty_site(root / f"site{number}")
        for each in range(_LETTERS):
            site.drop(f"{each}.pdf")
        kill = ("strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"inject=/{call}:signal=KILL:when={number}")
        with _own_mount(site, wanted=own_mount_first):
            ended = site.meshctl("run", "--once", prefix=kill)
        if ended.exit_code == 0:
            break
        assert ended.exit_code == _KILLED
        with _own_mount(site, wanted=not own_mount_first):
            site.run_once()
        assert len(site.stems()) == _LETTERS
        check_invariants(site)
    assert number > _LETTERS
