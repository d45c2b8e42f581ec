"""A large message is written beside all other work."""

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.outbound.pair import LARGE_BYTES
from tests.invariants import check_invariants
from tests.outbound.cases import sparse
from tests.payloads import pdf
from tests.site import Dropped, Site, make_site, sidecar

SIZE = LARGE_BYTES + 5_000_000
SAID = sidecar(to_mailbox="X26ABC2")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site on which a large file waits with its sidecar."""
    made = make_site(tmp_path / "site")
    made.place_sidecar("large.bin", SAID)
    sparse(made.outbox / ".large.bin", SIZE)
    (made.outbox / ".large.bin").rename(made.outbox / "large.bin")
    return made


def test_a_large_file_is_sent_whole(site: Site) -> None:
    """`run --once` waits for it; others go before."""
    site.place("small.pdf", pdf("small"), sidecar=sidecar())
    site.run_once()

    sizes = [(site.out / f"{stem}.dat").stat().st_size for stem in site.stems()]
    assert sorted(sizes) == [len(pdf("small")), SIZE]
    queued = [line.values["file"] for line in site.events("message.queued")]
    assert queued == ["small.pdf", "large.bin"]


def test_a_stop_does_not_wait_for_it(site: Site) -> None:
    """What was written is removed by the next start, which sends it."""
    with site.daemon() as daemon:
        daemon.wait_for(lambda: list(site.out.glob(".*.part")) or site.stems(), "the copy to begin")
        daemon.signal(signal.SIGTERM)
        daemon.process.wait(timeout=240)
    site.run_once()

    assert [(site.out / f"{stem}.dat").stat().st_size for stem in site.stems()] == [SIZE]
    assert not list(site.out.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("is_it", [True, False], ids=["this file", "another file"])
def test_a_described_one_is_compared_as_it_is_written(site: Site, is_it: bool) -> None:
    """A SHA-256 that a sidecar gives is never passed over, however large the file."""
    digest = hashlib.sha256(bytes(SIZE)).hexdigest()
    said = {**SAID, "sha256": digest if is_it else digest[::-1], "size_bytes": SIZE}
    (site.outbox / "large.bin.meta.json").write_text(json.dumps(said))
    site.run_once()

    assert len(site.stems()) == is_it
    assert [line.values["code"] for line in site.events("message.rejected")] == (
        [] if is_it else ["payload_differs"]
    )
    assert not list(site.out.glob(".*"))


@pytest.fixture
def little_room(site: Site) -> Iterator[None]:
    """OUT on a disk that has room for the file, and none for the reserve."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE + 1_000_000}", "none", str(site.out)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this machine does not let us mount: {done.stderr.decode().strip()}")
    yield
    subprocess.run(["umount", "--lazy", str(site.out)], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("little_room")
def test_one_that_finds_no_room_stays(site: Site) -> None:
    """It is set aside, with its sidecar beside it; a small one goes."""
    site.place("small.pdf", pdf("small"), sidecar=sidecar())
    site.run_once()

    assert site.sent_contents() == [pdf("small")]
    [told] = site.events("file.set_aside")
    assert told.values["file"] == "large.bin"
    assert "the message needs 72.1 MB, and 67.1 MB stay in reserve" in told.values["text"]
    site.dropped.append(Dropped(site.outbox, (site.outbox / "large.bin").read_bytes()))
    assert os.path.lexists(site.outbox / "large.bin.meta.json")
    check_invariants(site, settled=False)
