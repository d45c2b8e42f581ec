"""Files that are moved, copied and replaced whole."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshctl.files import durable
from meshctl.platform import system
from tests.modes import has_mode


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("left_over", [None, b"half of an earlier attempt"])
def test_a_copy_is_complete_or_not_there(tmp_path: Path, left_over: bytes | None) -> None:
    """Content, mode and time are those of the source; what a crash left of a copy goes."""
    source, target, temporary = tmp_path / "a", tmp_path / "b", tmp_path / ".b"
    source.write_bytes(b"letter" * 1000)
    source.chmod(0o640)
    os.utime(source, ns=(1_000_000_000, 2_000_000_000))
    if left_over is not None:
        temporary.write_bytes(left_over)

    durable.copy_whole(str(source), str(target), str(temporary))

    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mtime_ns == 2_000_000_000
    assert has_mode(target, 0o640)
    assert _names(tmp_path) == {"a", "b"}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Whoever can put a link into a folder gets no copy of what it points to."""
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(OSError, match="link"):
        durable.copy_whole(str(tmp_path / "link"), str(tmp_path / "b"), str(tmp_path / ".b"))

    assert not (tmp_path / "b").exists()


def test_a_move_within_a_file_system_is_a_rename(tmp_path: Path) -> None:
    """It is the same file; not on Windows, where it would keep the access list of its first folder."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"letter")
    before = source.stat().st_ino

    durable.move(str(source), str(target), str(tmp_path / ".b"))

    assert (target.stat().st_ino == before, _names(tmp_path)) == (not system.KEEPS_LIST, {"b"})


def test_a_move_to_another_file_system_is_a_copy(tmp_path: Path) -> None:
    """The source goes once the copy is complete."""
    elsewhere = Path("/dev") / "shm"
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    target = elsewhere / f"meshctl-{tmp_path.name}-{os.getpid()}"
    source = tmp_path / "a"
    source.write_bytes(b"letter")
    try:
        durable.move(str(source), str(target), f"{target}.new")

        assert (target.read_bytes(), _names(tmp_path)) == (b"letter", set())
    finally:
        target.unlink(missing_ok=True)


def test_a_move_that_fails_leaves_the_source(tmp_path: Path) -> None:
    """What stands in the way is raised, and names the file."""
    source = tmp_path / "a"
    source.write_bytes(b"letter")

    with pytest.raises(OSError, match="gone") as raised:
        durable.move(str(source), str(tmp_path / "gone" / "b"), str(tmp_path / ".b"))

    assert raised.value.errno == errno.ENOENT
    assert source.read_bytes() == b"letter"


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_file_is_replaced_whole(tmp_path: Path, before: bytes | None) -> None:
    """The new content has the mode that was asked for, whatever was there."""
    path = tmp_path / "key"
    if before is not None:
        path.write_bytes(before)
    (tmp_path / "key.new").write_bytes(b"of a crash")

    durable.replace_whole(str(path), b"new", 0o600, str(tmp_path / "key.new"))

    assert path.read_bytes() == b"new"
    assert has_mode(path, 0o600)
    assert _names(tmp_path) == {"key"}


def test_a_replaced_file_has_its_content_and_its_rights(tmp_path: Path) -> None:
    """Whether there was one or not; nothing else is left in the folder."""
    for content in (b"first", b"second"):
        durable.replace_file(tmp_path / "page", content, 0o640)

        assert (tmp_path / "page").read_bytes() == content
        assert has_mode(tmp_path / "page", 0o640)
        assert _names(tmp_path) == {"page"}


def test_what_an_earlier_process_left_is_removed(tmp_path: Path) -> None:
    """And nothing that somebody else may have there."""
    for name in (".page.0123456789abcdef.tmp", ".other.0123456789abcdef.tmp", ".page.old.tmp"):
        (tmp_path / name).write_bytes(b"half")

    durable.replace_file(tmp_path / "page", b"metrics", 0o644)

    assert _names(tmp_path) == {"page", ".other.0123456789abcdef.tmp", ".page.old.tmp"}


def test_several_may_replace_a_file_at_once(tmp_path: Path) -> None:
    """Each takes what the others are writing for left over, and one of them still has the last word."""
    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(durable.replace_file, tmp_path / "page", b"%d" % n, 0o644) for n in range(200)]
    failed = [one for one in written if one.exception()]

    assert not failed
    assert _names(tmp_path) == {"page"}


@pytest.mark.parametrize("planted", ["page", ".page.%d.tmp"])
def test_nothing_is_written_through_a_link(tmp_path: Path, planted: str) -> None:
    """Whoever may write in the folder has no file of ours overwritten, and none opened to all."""
    (tmp_path / "key").write_bytes(b"secret")
    (tmp_path / "key").chmod(0o600)
    name = planted.replace("%d", str(os.getpid()))
    (tmp_path / name).symlink_to(tmp_path / "key")

    durable.replace_file(tmp_path / "page", b"metrics", 0o644)

    assert (tmp_path / "key").read_bytes() == b"secret"
    assert has_mode(tmp_path / "key", 0o600)
    assert (tmp_path / "page").read_bytes() == b"metrics"
    assert not (tmp_path / "page").is_symlink()
