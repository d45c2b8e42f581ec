"""Files between a mailbox and a work folder on another file system: each is in one place, and shown once."""

import os
import sys
from pathlib import Path

import pytest

from meshctl.files.carrying import Claims, is_to_be_shown, put, show_once

CLAIMED = ".meshctl-taken"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="two file systems are made on Linux alone")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """OUT, of a mailbox on the one file system."""
    folder = tmp_path / "OUT"
    folder.mkdir()
    return folder


@pytest.fixture
def claims(out: Path, other_file_system: Path) -> Claims:
    """What takes from OUT to a folder on the other file system."""
    return Claims(str(out), str(other_file_system))


def test_what_is_taken_is_gone_from_out(claims: Claims, out: Path, other_file_system: Path) -> None:
    """With its content, its mode and its time, and nothing is left in OUT."""
    (out / "one.ctl").write_bytes(b"control")
    (out / "one.ctl").chmod(0o640)
    os.utime(out / "one.ctl", ns=(1, 1_700_000_000_123_456_789))

    assert claims.take("one.ctl")

    taken = other_file_system / "one.ctl"
    assert taken.read_bytes() == b"control"
    assert (taken.stat().st_mode & 0o777, taken.stat().st_mtime_ns) == (0o640, 1_700_000_000_123_456_789)
    assert list(out.iterdir()) == []
    assert [path.name for path in other_file_system.iterdir()] == ["one.ctl"]


def test_what_is_not_there_is_not_taken(claims: Claims, out: Path) -> None:
    assert not claims.take("one.ctl")
    assert list(out.iterdir()) == []


def test_a_name_as_long_as_can_be(claims: Claims, out: Path, other_file_system: Path) -> None:
    name = "x" * 251 + ".ctl"
    (out / name).touch()

    assert claims.take(name)
    put(str(other_file_system / name), str(out / name))

    assert [path.name for path in out.iterdir()] == [name]


@pytest.mark.parametrize("is_copied", [False, True])
def test_a_claim_that_a_kill_left(
    claims: Claims, out: Path, other_file_system: Path, is_copied: bool
) -> None:
    """It is ours: copied unless it was, and removed."""
    (out / CLAIMED).mkdir(0o700)
    (out / CLAIMED / "one.ctl").write_bytes(b"claimed")
    (other_file_system / ".copy").write_bytes(b"hal")
    if is_copied:
        (other_file_system / "one.ctl").write_bytes(b"copied")

    claims.settle(())

    assert (other_file_system / "one.ctl").read_bytes() == (b"copied" if is_copied else b"claimed")
    assert list(out.iterdir()) == []


def test_a_claim_of_a_pair_that_is_decided_upon(claims: Claims, out: Path, other_file_system: Path) -> None:
    """Taken again, it would be sent twice."""
    (out / CLAIMED).mkdir(0o700)
    (out / CLAIMED / "one.ctl").touch()

    claims.settle({"one"})

    assert list(out.iterdir()) == list(other_file_system.iterdir()) == []


def test_nothing_goes_through_a_link(claims: Claims, out: Path, tmp_path: Path) -> None:
    """Where somebody has the folder of what we took lead elsewhere, nothing is put there."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "theirs.ctl").touch()
    (out / CLAIMED).symlink_to(elsewhere)
    (out / "one.ctl").touch()

    claims.settle(())
    with pytest.raises(NotADirectoryError):
        claims.take("one.ctl")

    assert (out / "one.ctl").exists()
    assert [path.name for path in elsewhere.iterdir()] == ["theirs.ctl"]


def test_a_file_in_the_way_keeps_nothing_from_being_finished(claims: Claims, out: Path) -> None:
    """Where nothing need be copied, nobody looks at it again."""
    (out / CLAIMED).touch()

    claims.settle(())

    assert (out / CLAIMED).is_file()


def test_a_link_in_out_is_not_taken(claims: Claims, out: Path, tmp_path: Path) -> None:
    """It cannot be copied, and stops no other."""
    (tmp_path / "secret").write_text("secret")
    (out / "one.dat").symlink_to(tmp_path / "secret")

    assert not claims.take("one.dat")
    assert (out / "one.dat").is_symlink()


def test_what_is_shown_is_shown_once(out: Path, other_file_system: Path) -> None:
    source, target = other_file_system / "one.ctl", out / "one.ctl"
    source.write_bytes(b"control")

    show_once(str(source), str(target))

    assert target.read_bytes() == b"control"
    target.unlink()
    assert not is_to_be_shown(str(source), str(target))
    with pytest.raises(FileNotFoundError):
        show_once(str(source), str(target))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("is_removed", [False, True])
def test_what_a_kill_kept_from_being_shown(out: Path, other_file_system: Path, is_removed: bool) -> None:
    """While the source is there the copy may be half; without, the copy is what there is."""
    source, target = other_file_system / "one.ctl", out / "one.ctl"
    source.write_bytes(b"control")
    show_once(str(source), str(out / "one.ctl"))
    (hidden,) = _hidden_names(out, other_file_system)
    target.unlink()
    (out / hidden).write_bytes(b"control" if is_removed else b"con")
    if not is_removed:
        source.write_bytes(b"control")

    assert is_to_be_shown(str(source), str(target))
    show_once(str(source), str(target))

    assert target.read_bytes() == b"control"
    assert [path.name for path in out.iterdir()] == ["one.ctl"]
    assert not source.exists()


def _hidden_names(out: Path, other: Path) -> list[str]:
    """Return under which name a copy to OUT/one.ctl begins, by having its last step fail."""
    source, target = other / "one.ctl", out / "one.ctl"
    target.unlink()
    target.mkdir()
    (target / "file").touch()
    source.touch()
    with pytest.raises(OSError, match="directory"):
        show_once(str(source), str(target))
    (target / "file").unlink()
    target.rmdir()
    target.touch()
    return [path.name for path in out.iterdir() if path.name.startswith(".meshctl-")]
