"""Asking whether somebody still writes to a file: what Linux and Windows can tell, and of whose files."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import meshctl
from meshctl.files.reading import is_being_written, open_named
from meshctl.platform import system
from tests import no_files

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")
_US, _DROPPER, _WRITER = "65533", "65534", "65532"
# What the shipped unit gives the daemon.
_WITH_CAP_LEASE = ("--inh-caps=-all,+lease", "--ambient-caps=-all,+lease", "--bounding-set=-all,+lease")
_ASK = "import sys; from meshctl.files import reading; print(reading.is_being_written(sys.argv[1]))"


@linux
def test_a_file_that_is_open_for_writing_is_told(tmp_path: Path) -> None:
    """While a writer has it open, that is known; once he has closed it, it is not."""
    path = tmp_path / "letter.pdf"

    with path.open("wb"):
        assert is_being_written(str(path))

    assert not is_being_written(str(path))


@linux
def test_what_a_share_says_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS and SMB refuse leases on files that nobody writes to, so there a refusal keeps no file waiting."""
    path = tmp_path / "letter.pdf"
    device = path.parent.stat().st_dev
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(system, "MOUNT_TABLE", table)

    with path.open("wb"):
        told = {}
        for kind in ("ext4", "nfs4", "cifs"):
            table.write_text(f"40 22 {os.major(device)}:{os.minor(device)} / /x rw - {kind} server:/x rw\n")
            told[kind] = is_being_written(str(path))

    assert told == {"ext4": True, "nfs4": None, "cifs": None}


@pytest.fixture(name="shared")
def _folder_for_all() -> Iterator[Path]:
    """Make a folder that every user can work in, with a copy of our code."""
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(Path(meshctl.__file__).parent, folder / "meshctl")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (folder / "outbox").mkdir()
        (folder / "outbox").chmod(0o777)
        yield folder
    finally:
        shutil.rmtree(folder)


def _as_user(user: str, *powers: str) -> tuple[str, ...]:
    return ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *powers, "--no-new-privs")


def _python() -> str:
    """Return a Python that every user can run; ours may lie in the home of root."""
    for python in (sys.executable, "/usr/bin/python3"):
        tried = [*_as_user(_US), python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("there is no Python here that another user can run")


@linux
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setpriv") is None or os.getuid() != 0, reason="needs root and setpriv")
def test_cap_lease_tells_of_other_users_writers(shared: Path) -> None:
    """What the unit gives the daemon has it wait for a file of one user that another has open."""
    path = shared / "outbox" / "letter.pdf"
    path.touch()
    path.chmod(0o666)
    os.chown(path, int(_DROPPER), int(_DROPPER))
    python = _python()

    def says(*powers: str) -> str:
        asking = [*_as_user(_US, *powers), python, "-c", _ASK, str(path)]
        return subprocess.run(asking, cwd=shared, capture_output=True, text=True, check=True).stdout.strip()

    writing = [*_as_user(_WRITER), "sh", "-c", 'exec 3>>"$1"; echo open; cat', "sh", str(path)]
    with subprocess.Popen(writing, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"open\n"
        written = says(*_WITH_CAP_LEASE), says()
        writer.communicate(b"")

    assert written == ("True", "None")
    assert says(*_WITH_CAP_LEASE) == "False"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("make", [no_files.fifo, no_files.bound_socket, no_files.folder])
def test_what_a_person_names_must_be_a_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Nothing else is waited for or read, not even where a link leads to it."""
    make(tmp_path / "there")
    (tmp_path / "link").symlink_to("there")

    for name in ("there", "link"):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            open_named(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links are for administrators here")
def test_a_link_to_a_file_is_what_a_person_may_name(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"content")
    (tmp_path / "link").symlink_to("there")

    with open_named(tmp_path / "link") as file:
        assert file.read() == b"content"
