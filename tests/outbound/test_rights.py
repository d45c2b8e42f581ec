"""Whose the dropped files are, and who may read what is in OUT."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.invariants import check_invariants
from tests.site import Site, make_site, sidecar

_ANOTHER = 65534
# Root without its powers is a user like any other, who may be told apart from the owner of a file.
_POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def _can_be_powerless() -> bool:
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run([*_POWERLESS, "true"], capture_output=True, check=False).returncode == 0


needs_root = pytest.mark.skipif(not _can_be_powerless(), reason="needs root, to make files of another user")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site."""
    return make_site(tmp_path / "site")


def _modes(site: Site) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in site.out.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_files_in_out_have_the_configured_mode(site: Site, umask: int) -> None:
    """Both files of a pair have the mode of the settings, whatever they had and whatever the umask."""
    site.settle(mailbox={"file_mode": "0644"})
    site.place("private.pdf", b"private", sidecar=sidecar()).chmod(0o600)
    site.place("open.pdf", b"open", sidecar=sidecar()).chmod(0o777)
    before = os.umask(umask)
    try:
        site.run_once()
    finally:
        os.umask(before)
    assert _modes(site) == {0o644}
    private = [
        site.state,
        site.log_file.parent,
        site.state / "ledger.sqlite",
        site.state / "key",
        site.log_file,
    ]
    assert [oct(path.stat().st_mode & 0o077) for path in private] == ["0o0"] * len(private)


@needs_root
def test_another_users_file_is_sent_as_a_copy_of_ours(site: Site) -> None:
    """Another user's file, whose mode only they may change, is sent, and keeps no other from being sent."""
    theirs = site.place("theirs.pdf", b"theirs", sidecar=sidecar())
    theirs.chmod(0o444)
    os.chown(theirs, _ANOTHER, _ANOTHER)
    site.place("ours.pdf", b"ours", sidecar=sidecar())
    ended = site.meshctl("run", "--once", prefix=_POWERLESS)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert sorted(site.sent_contents()) == [b"ours", b"theirs"]
    assert {path.stat().st_uid for path in site.out.iterdir()} == {0}
    assert _modes(site) == {0o640}
    check_invariants(site)


@needs_root
def test_a_file_that_may_not_be_read_is_refused(site: Site) -> None:
    """A file that we may not read is refused, with the remedy, and others are sent."""
    theirs = site.place("theirs.pdf", b"theirs", sidecar=sidecar())
    theirs.chmod(0o400)
    os.chown(theirs, _ANOTHER, _ANOTHER)
    site.place("ours.pdf", b"ours", sidecar=sidecar())
    ended = site.meshctl("run", "--once", prefix=_POWERLESS)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert site.sent_contents() == [b"ours"]
    assert [each.content["code"] for each in site.explanations()] == ["file_unreadable"]
    check_invariants(site)


@needs_root
def test_a_file_that_cannot_be_moved_holds_up_nobody_else(site: Site) -> None:
    """A file that we may read and not take away stays with its sidecar, is told of, and others are sent."""
    theirs = site.place("theirs.pdf", b"theirs", sidecar=sidecar())
    os.chown(theirs, _ANOTHER, _ANOTHER)
    site.place("ours.pdf", b"ours", sidecar=sidecar())
    # Of others' files in a folder with the sticky bit, only its owner may dispose.
    os.chown(site.outbox, _ANOTHER, 0)
    site.outbox.chmod(0o1770)
    ended = site.meshctl("run", "--once", prefix=_POWERLESS)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert site.sent_contents() == [b"ours"]
    assert {path.name for path in site.outbox.iterdir()} == {"theirs.pdf", "theirs.pdf.meta.json"}
    told = [(line.values["file"], line.values["reason"]) for line in site.events("file.ignored")]
    assert told == [("theirs.pdf", "Operation not permitted")]
    check_invariants(site)


@needs_root
def test_an_outbox_that_may_not_be_written_to_blocks(site: Site) -> None:
    """An outbox from which nothing can be taken is an obstacle, not a fault of the files in it."""
    site.place("ours.pdf", b"ours", sidecar=sidecar())
    os.chown(site.outbox, _ANOTHER, _ANOTHER)
    site.outbox.chmod(0o755)
    ended = site.meshctl("run", "--once", prefix=_POWERLESS)
    assert ended.exit_code == 1
    assert ended.stderr.startswith("meshctl: Permission denied: ")
    check_invariants(site, settled=False)


@needs_root
def test_what_an_interrupted_copy_left_is_removed(site: Site) -> None:
    """A copy that a crash left half made is removed at the next start; the file itself is sent."""
    site.run_once()
    (site.work / "copies" / "left").write_bytes(b"thei")
    theirs = site.place("theirs.pdf", b"theirs", sidecar=sidecar())
    os.chown(theirs, _ANOTHER, _ANOTHER)
    ended = site.meshctl("run", "--once", prefix=_POWERLESS)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert site.sent_contents() == [b"theirs"]
    check_invariants(site)
