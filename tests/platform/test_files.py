"""Names that are given, taken and removed, on a real folder."""

import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from meshctl.files import durable
from meshctl.files.folder import Folder
from meshctl.platform import system
from tests.windows.holder import held


def test_a_new_name_replaces_nothing(tmp_path: Path) -> None:
    """With a name that is taken both files stay; with a new one the file has it alone."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")

    with pytest.raises(FileExistsError):
        system.rename_new(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"a", b"b"]

    system.rename_new(str(tmp_path / "a"), str(tmp_path / "c"))
    assert (tmp_path / "c").read_bytes() == b"a"
    assert not (tmp_path / "a").exists()


def test_a_new_file_takes_no_name_that_is_there(tmp_path: Path) -> None:
    """Not that of a file, nor that of a link, which could lead anywhere."""
    (tmp_path / "file").write_bytes(b"somebody's")
    if sys.platform != "win32":
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    taken = [path.name for path in tmp_path.iterdir()]

    with Folder(str(tmp_path)) as folder:
        for name in taken:
            with pytest.raises(FileExistsError):
                folder.open(name, system.CREATE, 0o600)

    assert (tmp_path / "file").read_bytes() == b"somebody's"
    assert not (tmp_path / "elsewhere").exists()


def test_a_rename_replaces(tmp_path: Path) -> None:
    """On every system, as POSIX does it."""
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")

    system.rename(tmp_path / "a", tmp_path / "b")

    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_bytes() == b"new"


def test_what_is_not_there_need_not_be_removed(tmp_path: Path) -> None:
    """A file goes, once; a folder is no file."""
    (tmp_path / "a").touch()

    system.unlink_if_there(tmp_path / "a")
    system.unlink_if_there(tmp_path / "a")

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match=r"."):
        system.unlink_if_there(tmp_path)


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows refuses to rename what is open")
@pytest.mark.parametrize("held", ["source", "target"])
def test_it_waits_for_who_has_a_file_open(tmp_path: Path, held: str) -> None:
    """A reader that lets go in time delays a rename; one that does not makes it fail, with nothing done."""
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old")
    with (tmp_path / held).open("rb"), pytest.raises(PermissionError):
        system.rename(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"old"

    reader = (tmp_path / held).open("rb")
    threading.Timer(0.2, reader.close).start()
    system.rename(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere a file that is read-only can be removed")
def test_a_read_only_file_is_replaced_synced_and_removed(tmp_path: Path) -> None:
    """The attribute comes with files from a CD or a share, and forbids nothing to us."""
    for name in ("source", "target", "gone"):
        (tmp_path / name).write_bytes(name.encode())
        (tmp_path / name).chmod(0o400)

    durable.sync_file(tmp_path / "source")
    (tmp_path / "source").chmod(0o400)
    system.rename(tmp_path / "source", tmp_path / "target")
    system.unlink(tmp_path / "gone")

    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target").read_bytes() == b"source"


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows keeps others from an open file")
def test_it_opens_what_somebody_lets_go_of(tmp_path: Path) -> None:
    """A file that is held for a moment is waited for; one that is held for long is said to be."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with held(path), pytest.raises(PermissionError) as caught:
        system.open_file(path, os.O_RDONLY)
    assert system.is_held_open(caught.value)

    with ExitStack() as hold:
        hold.enter_context(held(path))
        threading.Timer(0.2, hold.pop_all().close).start()
        descriptor = system.open_file(path, os.O_RDONLY)
    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)
