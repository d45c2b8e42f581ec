"""Who holds the lock of a state folder, asked without touching it."""

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from meshctl.process.lock import seems_running, single_instance


def _holder(folder: Path, text: str) -> None:
    (folder / "holder").write_text(text)


def test_nobody_runs_where_nobody_wrote_himself_down(tmp_path: Path) -> None:
    """Before the first start, and after the daemon has ended, it does not seem to run."""
    before = seems_running(tmp_path)
    with single_instance(tmp_path, datetime(2026, 11, 22, 9, 15, tzinfo=UTC)):
        meanwhile = seems_running(tmp_path)

    assert (before, meanwhile, seems_running(tmp_path)) == (False, True, False)


def test_a_killed_daemon_does_not_seem_to_run(tmp_path: Path) -> None:
    """What a killed process wrote down is not believed once that process is gone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=30)
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
