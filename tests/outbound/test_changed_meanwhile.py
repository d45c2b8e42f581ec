"""Files that change between the look at them and the move: what was looked at is what is sent, or nothing.

The kernel holds meshctl up at its first rename (strace's fault injection), so that the test has the time to
do what a writer or an attacker would do in that instant.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.invariants import check_invariants, link_content
from tests.payloads import make_bundle_xml, pdf
from tests.site import Dropped, Site, make_site, sidecar, wait_until

_HELD_UP_MICROSECONDS = 700_000
_STRACE = (
    "strace", "-qqq", "-o", "/dev/null", "-e", "trace=renameat", "-e",
    f"inject=renameat:delay_enter={_HELD_UP_MICROSECONDS}:when=1",
)  # fmt: skip


def _can_inject() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run([*_STRACE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_inject(), reason="needs a strace that can inject delays")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site in which meshctl has run: the next file that it moves is a letter's."""
    made = make_site(tmp_path / "site")
    (made.outbox / "send-document").mkdir()
    made.run_once()
    return made


def _run_while(site: Site, change: Callable[[], None]) -> None:
    """Run `run --once`, and change something once the first letter's folder is there, with nothing in it."""

    def when_open() -> None:
        letters = site.work / "letters"
        wait_until(lambda: letters.is_dir() and any(letters.iterdir()), "the letter's folder")
        change()

    changer = threading.Thread(target=when_open)
    changer.start()
    ended = site.meshctl("run", "--once", prefix=_STRACE)
    changer.join()
    assert (ended.exit_code, ended.stderr) == (0, "")


@pytest.mark.slow
def test_a_file_written_to_after_it_was_looked_at_is_looked_at_again(site: Site) -> None:
    """A file that changed before it was taken is put back, and sent as it is then."""
    old, new = make_bundle_xml(identifier="old"), make_bundle_xml(identifier="new!")
    target = site.place("letter.xml", old, folder="send-document")
    _run_while(site, lambda: _overwrite(target, new))
    site.run_once()
    assert site.sent_contents() == [new]
    check_invariants(site, [Dropped(target, new)])


@pytest.mark.slow
def test_a_file_swapped_for_a_link_is_not_followed(site: Site) -> None:
    """A file swapped for a symbolic link before it was taken is refused as a link."""
    secret = site.root / "secret.xml"
    secret.write_bytes(make_bundle_xml(identifier="secret"))
    secret.chmod(0o600)
    target = site.place("letter.xml", make_bundle_xml(identifier="swapped"), folder="send-document")

    def swap() -> None:
        target.unlink()
        target.symlink_to(secret)

    _run_while(site, swap)
    site.run_once()
    assert [each.content["code"] for each in site.explanations()] == ["not_a_file"]
    assert site.stems() == []
    assert (secret.stat().st_mode & 0o777, secret.read_bytes()) == (
        0o600,
        make_bundle_xml(identifier="secret"),
    )
    check_invariants(site, [Dropped(target, link_content(os.fspath(secret)))])


@pytest.mark.slow
def test_a_sidecar_that_changed_counts_as_it_is_then(site: Site) -> None:
    """A sidecar written anew before it was taken decides, not the one that had been read."""
    site.place("letter.pdf", pdf("letter"), sidecar=sidecar(to_mailbox="X26OLD1"))
    _run_while(site, lambda: site.place_sidecar("letter.pdf", sidecar(to_mailbox="X26NEW1")))
    site.run_once()
    assert [site.control(stem).to_dts for stem in site.stems()] == ["X26NEW1"]
    check_invariants(site)


@pytest.mark.slow
def test_a_file_withdrawn_in_the_last_moment_is_not_sent(site: Site) -> None:
    """A file that its owner takes away before it is taken leaves nothing behind."""
    target = site.place("letter.pdf", pdf("letter"), sidecar=sidecar())
    _run_while(site, target.unlink)
    site.run_once()
    assert (site.stems(), site.dropped.pop().path) == ([], target)


def _overwrite(target: Path, data: bytes) -> None:
    target.write_bytes(data)
