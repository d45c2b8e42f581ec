"""Who holds the lock of a state folder, asked without touching it."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshctl.daemon.lock import (
    AlreadyRunningError,
    InstanceLock,
    ask_to_reload,
    describe_daemon,
    holder_process,
    seems_running,
)
from meshctl.errors import MeshctlError


def _holder(folder: Path, text: str) -> None:
    (folder / "holder").write_text(text)


def test_nobody_runs_where_nobody_wrote_himself_down(tmp_path: Path) -> None:
    """Before the first start, and after the daemon has ended, it does not seem to run."""
    before = seems_running(tmp_path)
    with InstanceLock(tmp_path):
        meanwhile = seems_running(tmp_path)

    assert (before, meanwhile, seems_running(tmp_path)) == (False, True, False)


def test_one_daemon_holds_a_state_folder(tmp_path: Path) -> None:
    """The second is told at once who holds it; it gets it when the first has let go."""
    with InstanceLock(tmp_path):
        with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} on"), InstanceLock(tmp_path):
            pass
        assert seems_running(tmp_path)

    with InstanceLock(tmp_path):
        pass


def test_who_holds_it_is_written_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that started on a full disk seems to run where the kernel lists who has a lock."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("meshctl.daemon.lock.replace_file", full)
        lock = InstanceLock(tmp_path)
        lock.hold()
    before, described, holder = seems_running(tmp_path), describe_daemon(tmp_path), holder_process(tmp_path)
    lock.note()

    if sys.platform == "linux":
        assert before
        assert described.startswith(f"running, process {os.getpid()} on ")
        assert holder == os.getpid()
    assert describe_daemon(tmp_path).endswith("Z")
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody remove a file that is locked")
@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_lock_whose_file_is_gone_is_not_held(tmp_path: Path, is_replaced: bool) -> None:
    """Another daemon would get it."""
    with InstanceLock(tmp_path) as lock:
        before = lock.is_held()
        (tmp_path / "lock").unlink()
        if is_replaced:
            (tmp_path / "lock").touch()

        assert (before, lock.is_held()) == (True, False)


def test_a_killed_daemon_does_not_seem_to_run(tmp_path: Path) -> None:
    """What a killed process wrote down is not believed once that process is gone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=240)
    _holder(tmp_path, f"process {ended.pid} on {socket.gethostname()} since 2026-11-22T09:15:02.481Z\n")

    assert not seems_running(tmp_path)


def test_a_daemon_elsewhere_is_believed_to_run(tmp_path: Path) -> None:
    """A process on another machine cannot be asked, and counts as running."""
    _holder(tmp_path, f"process {os.getpid()} on elsewhere since 2026-11-22T09:15:02.481Z\n")

    assert seems_running(tmp_path)


def test_an_unreadable_note_is_nobody(tmp_path: Path) -> None:
    """A note that does not name a process tells of nobody."""
    _holder(tmp_path, "process 0 on\n")

    assert not seems_running(tmp_path)


_WAITING = "import sys; print('up', flush=True); sys.stdin.read()"
_HOLDING = f"""
import sys
from pathlib import Path
from meshctl.daemon.lock import InstanceLock
with InstanceLock(Path(sys.argv[1])):
    {_WAITING}
"""


@contextmanager
def _started(program: str, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a program, from when it says that it is up, until the block ends."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only: signals")
def test_nobody_is_signalled_who_does_not_hold_the_lock(tmp_path: Path) -> None:
    """A note that names another process has it left alone, whoever wrote it."""
    with _started(_WAITING) as bystander, _started(_HOLDING, str(tmp_path)):
        note = f"process {bystander.pid} on {socket.gethostname()} since 2026-11-22T09:15:02.481Z"
        _holder(tmp_path, note)

        with pytest.raises(MeshctlError, match="cannot be asked from here"):
            ask_to_reload(tmp_path)

        assert bystander.poll() is None


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only: links, which need a privilege")
def test_who_holds_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A file that somebody has the name lead to stays as it is."""
    (tmp_path / "key").write_text("secret")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "holder").symlink_to(tmp_path / "key")

    with InstanceLock(tmp_path / "state"):
        assert seems_running(tmp_path / "state")

    assert (tmp_path / "key").read_text() == "secret"
