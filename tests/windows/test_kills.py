"""The daemon ended by TerminateProcess, at any moment: nothing is lost, doubled or half."""

import random
from pathlib import Path

import pytest

from tests.invariants import check_invariants
from tests.site import Daemon, Site, make_site
from tests.windows.letters import drop_backlog


@pytest.mark.timeout(600)
def test_four_kills(tmp_path: Path) -> None:
    """A drop of 200 letters, and the daemon is killed four times while it sends them."""
    _kill(make_site(tmp_path / "site"), 200, 4, random.Random(20261127))


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_fifty_drops(tmp_path: Path) -> None:
    """Fifty drops of 500 letters, in each of which the daemon is killed until all are sent."""
    chance = random.Random(20261128)
    for number in range(50):
        _kill(make_site(tmp_path / f"site-{number}"), 500, chance.randrange(1, 4), chance)


def _kill(site: Site, letters: int, kills: int, chance: random.Random) -> None:
    drop_backlog(site, letters)
    for _ in range(kills):
        daemon = site.start("run")
        _wait_for_a_moment(site, daemon, letters, chance)
        daemon.process.kill()
        daemon.process.communicate()
        check_invariants(site, settled=False)
    with site.daemon() as daemon:
        daemon.wait_for_pairs(letters)
    check_invariants(site)


def _wait_for_a_moment(site: Site, daemon: Daemon, letters: int, chance: random.Random) -> None:
    """Return in the start, at the first claim, or some pairs on."""
    moment = chance.choice(("start", "claim", "pairs", "pairs"))
    lines = len(site.log())
    if moment == "start":
        daemon.wait_for(lambda: len(site.log()) > lines, "a line of the log")
    elif moment == "claim":
        daemon.wait_for(lambda: any(site.work.glob("*/*")) or len(site.stems()) >= letters, "a claim")
    else:
        wanted = min(len(site.stems()) + chance.randrange(1, letters // 5), letters)
        daemon.wait_for(lambda: len(site.stems()) >= wanted, f"{wanted} pairs")
