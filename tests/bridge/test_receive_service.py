"""The receiving side of the whole bridge, as a service: obstacles are told once, kills do no harm."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.mesh.control_file import ControlFile, write_control_file
from tests.bridge.sandbox import Sandbox
from tests.bridge.whole_site import WholeSite, make_whole_site
from tests.faults.faulty_site import Full, mounted, needs_mounts
from tests.site import wait_until

A, B = "X26ABC1", "X26ABC2"
CHUNK_BYTES = 2000


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox with nothing in it."""
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


def send(sandbox: Sandbox, payload: bytes) -> str:
    """Send a message to B, past all bridges."""
    with sandbox.client(A) as client:
        return str(client.send_message(B, payload, workflow_id="TEST"))


def told(site: WholeSite, event: str) -> list[str]:
    """Return what the bridge's log said about receiving, with one kind of event."""
    lines = [line.values for line in site.bridge_events(event)]
    return [line.get("text", "") for line in lines if line.get("part") == "receiving"]


@pytest.mark.slow
def test_a_missing_inbox_is_logged_once(tmp_path: Path, sandbox: Sandbox) -> None:
    """Without IN the bridge says so once, keeps trying and makes none; with it what waits arrives."""
    site = make_whole_site(tmp_path / "b", sandbox, B)
    site.environ["MESHCTL_LOG__LEVEL"] = "DEBUG"
    inbox = site.client_folder("IN")
    inbox.rmdir()
    message_id = send(sandbox, b"a letter")

    with site.bridge():
        wait_until(lambda: len(site.bridge_events("bridge.still_blocked")) >= 2, "two further attempts")
        assert len(told(site, "bridge.blocked")) == 1
        assert not inbox.exists()
        inbox.mkdir()
        wait_until(lambda: site.stems("IN") == [message_id], "the message")
        wait_until(lambda: told(site, "bridge.unblocked"), "the all-clear")

    [text] = told(site, "bridge.blocked")
    assert str(inbox) in text
    assert sandbox.inbox(B) == []


@needs_mounts
@pytest.mark.slow
def test_a_full_disk_is_logged_once(tmp_path: Path, sandbox: Sandbox) -> None:
    """With the mailbox's disk full nothing is acknowledged; with room again the message arrives."""
    with mounted(tmp_path / "b", "size=2m"):
        site = make_whole_site(tmp_path / "b", sandbox, B)
        payload = random.Random(1).randbytes(600_000)
        with site.bridge():
            full = Full(site.root)
            message_id = send(sandbox, payload)
            wait_until(lambda: told(site, "bridge.blocked"), "the obstacle to be told")
            assert sandbox.inbox(B) == [message_id]
            assert site.stems("IN") == []
            full.mend()
            wait_until(lambda: site.stems("IN") == [message_id], "the message")

        [text] = told(site, "bridge.blocked")
        assert "No space left on device" in text
        assert site.payload(message_id, "IN") == payload
        assert sandbox.inbox(B) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("count", "kills"),
    [pytest.param(16, 8, marks=pytest.mark.slow), pytest.param(40, 25, marks=pytest.mark.long)],
)
def test_killed_again_and_again(tmp_path: Path, sandbox: Sandbox, count: int, kills: int) -> None:
    """Bridges at both ends, killed at any moments while letters flow, bring each letter exactly once."""
    a = make_whole_site(tmp_path / "a", sandbox, A, chunk_bytes=CHUNK_BYTES)
    b = make_whole_site(tmp_path / "b", sandbox, B)
    letters = {f"letter {number} {'x' * (number % 4) * CHUNK_BYTES}".encode() for number in range(count)}
    chance, waiting, arrived = random.Random(20261122), sorted(letters), Counter[bytes]()

    for _ in range(kills):
        for number in range(len(waiting))[:2]:
            put(a, f"letter-{len(waiting)}-{number}", waiting.pop())
        bridges = [a.start("bridge"), b.start("bridge")]
        pause_seconds = chance.uniform(0.5, 2.2)
        with pytest.raises(AssertionError):
            wait_until(lambda: False, "the moment of the kill", pause_seconds)
        for bridge in bridges:
            bridge.process.kill()
            bridge.stop()
        take_away(b, arrived)
    with a.bridge(), b.bridge():
        wait_until(lambda: not a.stems("OUT") and len(a.stems("SENT")) == count, "all letters sent")
        wait_until(lambda: not sandbox.inbox(B), "all letters received")
    take_away(b, arrived)

    assert arrived == Counter(letters)
    assert a.stems("FAILED") == []


def put(site: WholeSite, stem: str, payload: bytes) -> None:
    """Put a pair into OUT, as the daemon does; its local id is its own."""
    control = ControlFile(from_dts=A, to_dts=B, subject="", workflow_id="TEST", local_id=stem)
    hidden = site.out / f".{stem}"
    for ending, data in ((".dat", payload), (".ctl", write_control_file(control))):
        hidden.write_bytes(data)
        hidden.rename(site.out / f"{stem}{ending}")


def take_away(site: WholeSite, arrived: Counter[bytes]) -> None:
    """Take every complete message out of IN, as another application does."""
    for stem in site.stems("IN"):
        arrived[site.payload(stem, "IN")] += 1
        for ending in (".dat", ".ctl"):
            (site.client_folder("IN") / f"{stem}{ending}").unlink()
