"""Limits of the system: inotify watches and instances, open files, processes."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.faulty_site import FaultySite
from tests.invariants import check_invariants
from tests.site import Daemon, drop_backlog

pytestmark = pytest.mark.slow

# A user namespace has inotify limits of its own, so that nobody else on this computer is troubled.
_OWN_LIMITS = ("unshare", "--user", "--map-root-user", "sh", "-c")
_LIMITS = ("max_inotify_watches", "max_inotify_instances")


def _can_limit() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    attempt = [*_OWN_LIMITS, f"echo 100 > /proc/sys/user/{_LIMITS[0]}"]
    return subprocess.run(attempt, capture_output=True, check=False).returncode == 0


needs_limits = pytest.mark.skipif(not _can_limit(), reason="needs user namespaces with limits of their own")


def _limit(daemon: Daemon, name: str, number: int) -> None:
    inside = ["nsenter", "--user", "--preserve-credentials", f"--target={daemon.process.pid}"]
    subprocess.run([*inside, "sh", "-c", f"echo {number} > /proc/sys/user/{name}"], check=True)


@needs_limits
@pytest.mark.parametrize("name", _LIMITS)
def test_no_inotify_to_be_had(site: FaultySite, name: str) -> None:
    """Without inotify the daemon says so once, with the remedy, and finds files by looking."""
    site.prefix = (*_OWN_LIMITS, f'echo 0 > /proc/sys/user/{name}; exec "$@"', "sh")
    with site.daemon() as daemon:
        daemon.wait_for_event("daemon.watch_lost")
        site.drop("found.pdf")
        daemon.wait_for_pairs(1)
        daemon.wait_for_turns(5)
        assert len(site.events("daemon.watch_lost")) == 1
        _limit(daemon, name, 1000)
        daemon.wait_for_event("daemon.watch_restored")
        daemon.wait_for_watches(4)
        site.drop("heard.pdf")
        daemon.wait_for_pairs(2)
    (lost,) = site.events("daemon.watch_lost")
    assert lost.level == "WARNING"
    assert lost.values["text"] in {"No space left on device", "Too many open files"}
    assert "fs.inotify.max_user_watches" in lost.values["advice"]
    check_invariants(site)


def _set_open_files(daemon: Daemon, spare: int) -> None:
    """Let the daemon open so many files more than it has open now."""
    numbers = [int(path.name) for path in Path(f"/proc/{daemon.process.pid}/fd").iterdir()]
    free = sorted(set(range(max(numbers) + spare + 2)) - set(numbers))
    # A limit is on the number of a new descriptor, so it is the first of those that shall not be had.
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (free[spare], 4096))


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit(2)")
@pytest.mark.parametrize("spare", [0, 1, 2])
def test_no_more_open_files(site: FaultySite, spare: int) -> None:
    """At the limit of open files no letter is refused for it; the daemon says so once, and goes on later."""
    with site.daemon() as daemon:
        site.drop("before.pdf")
        daemon.wait_for_pairs(1)
        daemon.wait_for_turns(2)
        _set_open_files(daemon, spare)
        for number in range(5):
            site.drop(f"during-{number}.pdf")
        daemon.wait_for_turns(8)
        _set_open_files(daemon, 1000)
        daemon.wait_for_pairs(6)
    for part in ("outbound", "inbound"):
        assert len(site.blocked(part)) <= 1
        assert all(text == "Too many open files" for text in site.blocked(part))
    assert not site.explanations()
    assert not site.events("file.ignored")
    check_invariants(site)


def test_long_names_in_a_backlog(site: FaultySite) -> None:
    """A backlog of files whose names are as long as a name may be is worked off."""
    drop_backlog(site, 4000, prefix="long-name-" * 22)
    with site.daemon() as daemon:
        daemon.wait_for_pairs(4000)
    assert not site.events("daemon.blocked")
    check_invariants(site)
