"""Ten thousand files at once, and five minutes of all that can go wrong."""

import random
import time
from pathlib import Path

import pytest

from tests.invariants import check_invariants
from tests.site import make_site
from tests.windows.holder import held_open
from tests.windows.letters import drop_backlog, letter

_FILES = 10_000
_SOAK_SECONDS = 300.0
_SHARE_WAITED_FOR = 0.02


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ten_thousand_files(tmp_path: Path) -> None:
    """Each is in OUT once."""
    site = make_site(tmp_path / "site")
    drop_backlog(site, _FILES)

    with site.daemon() as daemon:
        daemon.wait_for_pairs(_FILES, 1000)

    check_invariants(site)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_soak(tmp_path: Path) -> None:
    """For five minutes letters come, the daemon is killed again and again, and files are held open."""
    site = make_site(tmp_path / "site", staging={"default_use_case": "send-document", "rescan_seconds": 1.0})
    chance, number = random.Random(20261127), 0
    until = time.monotonic() + _SOAK_SECONDS
    with held_open(site):
        while time.monotonic() < until:
            daemon = site.start("run")
            for _ in range(chance.randrange(20, 400)):
                number += 1
                site.place(f"{number}.xml", letter(number))
                if chance.random() < _SHARE_WAITED_FOR:
                    daemon.wait_for_pairs(chance.randrange(number))
            daemon.process.kill()
            daemon.process.communicate()
    with site.daemon() as daemon:
        daemon.wait_for_pairs(number, 300)

    check_invariants(site)
    assert not site.events("daemon.error")
