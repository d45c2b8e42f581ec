"""The bridge as users run it, killed again and again while it works off a backlog."""

import random
import time
from pathlib import Path
from typing import Final

import pytest

from tests.bridge.bridged_site import bridged_site
from tests.bridge.mailbox import arrived
from tests.bridge.sandbox import Sandbox
from tests.site import wait_until

_SEED: Final = 20261122


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("letters", "kills"),
    [pytest.param(30, 6, marks=pytest.mark.slow), pytest.param(60, 12, marks=pytest.mark.long)],
)
def test_a_backlog_is_sent_once_whatever_the_kills(tmp_path: Path, letters: int, kills: int) -> None:
    """SIGKILL at random moments of a real run: every letter arrives once, and every pair is in SENT."""
    chance = random.Random(_SEED)
    payloads = {
        f"letter-{number:02}": chance.randbytes(chance.choice([100, 5_000_000])) for number in range(letters)
    }
    with Sandbox(tmp_path / "sandbox") as sandbox:
        site = bridged_site(tmp_path / "site", sandbox.url, timeout="2s", chunk_bytes=2_000_000)
        for stem, data in payloads.items():
            site.put(stem, data)
        killed_amid = 0

        for _ in range(kills):
            connections = len(site.events("bridge.connected")) + 1
            bridge = site.start("bridge")
            bridge.wait_for_event("bridge.connected", connections)
            time.sleep(chance.uniform(0, 0.5))
            bridge.process.kill()
            bridge.process.communicate()
            killed_amid += any((site.out.parent / ".bridge" / "uploads").iterdir())
        with site.bridge():
            wait_until(lambda: len(site.stems("SENT")) == letters, "all letters in SENT")

        assert killed_amid > kills // 3
        assert sorted(arrived(sandbox)) == sorted(payloads.values())
        assert {stem: site.payload(stem, "SENT") for stem in site.stems("SENT")} == payloads
        assert list(site.client_folder("FAILED").iterdir()) == []
