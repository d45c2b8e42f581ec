"""Large payloads through two bridges: byte for byte, in little memory, also when MESH goes away meanwhile."""

import hashlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bridge.sandbox import Sandbox, TestAuthority
from tests.bridge.whole_site import WholeSite, make_whole_site, peak_memory_bytes
from tests.site import STOP_SECONDS, wait_until

A, B = "X26ABC1", "X26ABC2"
MEGABYTE = 1_000_000
LONGEST_SECONDS = 300.0
MOST_MEMORY_BYTES = 90 * MEGABYTE

pytestmark = pytest.mark.timeout(300)
SLOW, LONG = pytest.mark.slow, [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of which nothing stays: pytest keeps those of several runs, and this is gigabytes."""
    yield tmp_path
    for path in tmp_path.iterdir():
        shutil.rmtree(path)


def digest_of(site: WholeSite) -> bytes:
    """Return the SHA-256 of the only payload in IN."""
    [path] = site.client_folder("IN").glob("*.dat")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@pytest.mark.parametrize(
    ("size_bytes", "compress", "has_tls"),
    [
        pytest.param(100 * MEGABYTE, False, True, id="100 MB, TLS", marks=SLOW),
        pytest.param(100 * MEGABYTE, True, False, id="100 MB, gzip", marks=SLOW),
        pytest.param(200 * MEGABYTE, False, True, id="200 MB, TLS", marks=LONG),
        pytest.param(200 * MEGABYTE, True, False, id="200 MB, gzip", marks=LONG),
        pytest.param(1000 * MEGABYTE, False, False, id="1 GB", marks=LONG),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_payload_in_little_memory(
    folder: Path, size_bytes: int, compress: bool, has_tls: bool
) -> None:
    """What A puts into OUT lies in B's IN as it was, and neither bridge ever held 90 MB of memory."""
    authority = TestAuthority(folder / "ca") if has_tls else None
    with Sandbox(folder / "sandbox", authority=authority) as sandbox:
        a = make_whole_site(folder / "a", sandbox, A, authority)
        b = make_whole_site(folder / "b", sandbox, B, authority)
        digest = a.put_large("large", size_bytes, to=B, compress=compress)
        with a.bridge() as sender, b.bridge() as receiver:
            wait_until(lambda: b.stems("IN"), "the payload at B", LONGEST_SECONDS)
            wait_until(lambda: a.stems("SENT"), "the pair in SENT")
            peaks = [peak_memory_bytes(process) for process in (sender, receiver)]

    assert digest_of(b) == digest
    print(f"peak memory: {peaks}")
    assert max(peaks) < MOST_MEMORY_BYTES


def sent_half(folder: Path) -> Callable[[], bool]:
    """Return what tells whether MESH has some chunks of a payload."""
    return lambda: (
        len([path for path in (folder / "sandbox" / "store").rglob("*") if path.stem.isdigit()]) > 5
    )


def received_half(folder: Path) -> Callable[[], bool]:
    """Return what tells whether B has some of a payload."""
    arriving = next((folder / "b" / "mailbox").iterdir()) / ".bridge" / "arriving"
    return lambda: any(path.stat().st_size > 5 * MEGABYTE for path in arriving.glob("*.dat"))


@SLOW
@pytest.mark.parametrize("half_done", [sent_half, received_half], ids=["upload", "download"])
def test_mesh_goes_away_and_comes_back(folder: Path, half_done: Callable[[Path], Callable[[], bool]]) -> None:
    """MESH that is cut off in the midst of a payload and comes back gets and gives it once, and whole."""
    with Sandbox(folder / "sandbox") as sandbox:
        a = make_whole_site(folder / "a", sandbox, A, chunk_bytes=MEGABYTE)
        b = make_whole_site(folder / "b", sandbox, B)
        # Compressed: of others mesh-sandbox forgets across a restart that they are not, and refuses the rest.
        digest = a.put_large("large", 60 * MEGABYTE, to=B, compress=True)
        with a.bridge(), b.bridge():
            wait_until(half_done(folder), "half of the payload")
            sandbox.stop()
            assert b.stems("IN") == []
            wait_until(lambda: b.bridge_events("bridge.delayed"), "B to notice")
            sandbox.start()
            wait_until(lambda: b.stems("IN"), "the payload at B", LONGEST_SECONDS)
            wait_until(lambda: a.stems("SENT"), "the pair in SENT")

        assert sandbox.inbox(B) == []
    assert digest_of(b) == digest
    assert a.stems("FAILED") == a.stems("OUT") == []


@SLOW
@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("half_done", [sent_half, received_half], ids=["upload", "download"])
def test_the_bridges_end_and_begin_again(
    folder: Path, half_done: Callable[[Path], Callable[[], bool]], is_killed: bool
) -> None:
    """Bridges that are stopped, within 5 s, or killed in the midst of a payload bring it once, and whole."""
    with Sandbox(folder / "sandbox") as sandbox:
        a = make_whole_site(folder / "a", sandbox, A, chunk_bytes=MEGABYTE)
        b = make_whole_site(folder / "b", sandbox, B)
        digest = a.put_large("large", 60 * MEGABYTE, to=B)
        bridges = [a.start("bridge"), b.start("bridge")]
        wait_until(half_done(folder), "half of the payload")
        # Before that, a signal ends it as it ends any program.
        wait_until(lambda: a.bridge_events("bridge.started") and b.bridge_events("bridge.started"), "both")
        for bridge in bridges:
            bridge.signal(signal.SIGKILL if is_killed else signal.SIGTERM)
        for bridge in bridges:
            bridge.process.wait(STOP_SECONDS)
        codes = [bridge.stop().exit_code for bridge in bridges]
        assert b.stems("IN") == []
        with a.bridge(), b.bridge():
            wait_until(lambda: b.stems("IN"), "the payload at B", LONGEST_SECONDS)
            wait_until(lambda: a.stems("SENT"), "the pair in SENT")

        assert sandbox.inbox(B) == []
    assert codes == [-signal.SIGKILL if is_killed else 0] * 2
    assert digest_of(b) == digest
    assert a.stems("FAILED") == a.stems("OUT") == []
