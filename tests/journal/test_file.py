"""The log file under rotation, logrotate, a full disk and withdrawn rights."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.journal.events import EventRecord, Fields
from meshctl.journal.log_file import LOOK_EVERY_SECONDS, MAX_WAITING_BYTES, LogFile
from tests.clock import FakeClock, stopped_clock
from tests.modes import has_mode

if sys.platform != "win32":
    import resource


@pytest.fixture
def clock() -> FakeClock:
    return stopped_clock()


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def log_file(path: Path, clock: FakeClock, rotate_bytes: int = 0, keep: int = 3) -> LogFile:
    return LogFile(path, rotate_bytes=rotate_bytes, keep=keep, line=_text, monotonic=clock.monotonic)


def _text(_at_seconds: float, _level: str, event: str, fields: Fields) -> str:
    return f"lost {fields['lines']}" if event == "daemon.log_gap" else str(fields["text"])


def write(log: LogFile, *lines: str) -> None:
    for line in lines:
        log.handle(EventRecord(logging.INFO, "message.queued", {"text": line}))


@pytest.mark.usefixtures("strict_umask")
def test_file_and_folder_are_private_whatever_the_umask(log_path: Path, clock: FakeClock) -> None:
    """The log is 0600 in a folder of 0700 even under a umask of 0."""
    write(log_file(log_path, clock), "one")

    assert has_mode(log_path, 0o600)
    assert has_mode(log_path.parent, 0o700)


def test_rotation_keeps_so_many_old_files_and_loses_no_line(log_path: Path, clock: FakeClock) -> None:
    """Lines move on from file to file in order; only what exceeds `keep` goes."""
    log = log_file(log_path, clock, rotate_bytes=10, keep=2)
    for number in range(4):
        write(log, f"line {number}..")

    assert log_path.read_text() == "line 3..\n"
    assert Path(f"{log_path}.1").read_text() == "line 2..\n"
    assert Path(f"{log_path}.2").read_text() == "line 1..\n"
    assert not Path(f"{log_path}.3").exists()


def test_keeping_no_old_file_begins_a_new_log(log_path: Path, clock: FakeClock) -> None:
    """With `keep` 0 the old lines go."""
    log = log_file(log_path, clock, rotate_bytes=10, keep=0)
    write(log, "line 1..")
    write(log, "line 2..")

    assert [entry.name for entry in log_path.parent.iterdir()] == ["meshctl.log"]
    assert log_path.read_text() == "line 2..\n"


def test_rotated_file_hands_its_mode_on(log_path: Path, clock: FakeClock) -> None:
    """A site that lets its log shipper read the log need not do so again after each rotation."""
    log = log_file(log_path, clock, rotate_bytes=10)
    write(log, "line 1..")
    log_path.chmod(0o640)
    write(log, "line 2..")

    assert has_mode(log_path, 0o640)


def test_external_logrotate_is_followed_within_a_second(log_path: Path, clock: FakeClock) -> None:
    """Once logrotate has moved the file, lines go to a new one under the old name."""
    log = log_file(log_path, clock)
    write(log, "one")
    log_path.rename(f"{log_path}.old")
    clock.ahead_seconds += LOOK_EVERY_SECONDS
    write(log, "two")

    assert log_path.read_text() == "two\n"
    assert Path(f"{log_path}.old").read_text() == "one\n"


def test_line_torn_by_a_kill_is_ended_before_the_next(log_path: Path, clock: FakeClock) -> None:
    """A process killed in a line does not spoil the first line of the next one."""
    log_path.parent.mkdir()
    log_path.write_bytes(b"whole\nto")
    write(log_file(log_path, clock), "next")

    assert log_path.read_text() == "whole\nto\nnext\n"


def test_missing_folder_is_told_once_and_lines_follow_later(
    tmp_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines wait while the log's folder is gone and are written, in order, once it is back."""
    path = tmp_path / "share" / "log" / "meshctl.log"
    log = log_file(path, clock)
    for _ in range(3):
        write(log, "one")
        clock.ahead_seconds += 60
    said = capsys.readouterr().err
    path.parent.parent.mkdir()
    write(log, "two")

    assert said == (
        f"meshctl: cannot write the log {path}: No such file or directory. "
        "Lines wait in memory until it can be written; free space or correct the folder's rights.\n"
    )
    assert path.read_text() == "one\none\none\ntwo\n"


def test_retries_have_pauses_between_them(tmp_path: Path, clock: FakeClock) -> None:
    """A log that cannot be written is not tried again with every line."""
    path = tmp_path / "log" / "meshctl.log"
    path.parent.write_text("in the way")
    log = log_file(path, clock)
    write(log, "one")
    path.parent.unlink()
    write(log, "two")

    assert not path.exists()

    clock.ahead_seconds += 1
    write(log, "three")

    assert path.read_text() == "one\ntwo\nthree\n"


def test_what_waits_is_written_at_the_end(tmp_path: Path, clock: FakeClock) -> None:
    """A process that ends before the pause is over writes its lines all the same, if it can by then."""
    blocked = tmp_path / "file"
    blocked.touch()
    log = log_file(blocked / "log", clock)
    write(log, "one")
    log.close()
    write(log, "two")
    blocked.unlink()

    log.close()

    assert (blocked / "log").read_bytes() == b"one\ntwo\n"


def test_what_exceeds_the_memory_bound_is_counted(tmp_path: Path, clock: FakeClock) -> None:
    """Lines lost while the log could not be written leave a line that says how many."""
    path = tmp_path / "share" / "log" / "meshctl.log"
    log = log_file(path, clock)
    write(log, "x" * (MAX_WAITING_BYTES - 1))
    write(log, "a", "b")
    path.parent.parent.mkdir()
    clock.ahead_seconds += 60
    write(log, "c")

    assert path.read_bytes().endswith(b"x\nlost 3\n")


def test_full_disk_tears_no_line(
    log_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """When space ends in the middle of a line, the rest of it follows once there is space again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = log_file(log_path, clock)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))
    try:
        write(log, "one")
        write(log, "two")
        short = log_path.read_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    clock.ahead_seconds += 60
    write(log, "three")

    assert short == b"one\ntw"
    assert log_path.read_bytes() == b"one\ntwo\nthree\n"
    assert "File too large" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_log_is_written_to_regular_files_only(log_path: Path, clock: FakeClock, kind: str) -> None:
    """A link or a pipe under the log's name is neither followed nor waited for."""
    log_path.parent.mkdir()
    target = log_path.parent.parent / "elsewhere"
    target.write_text("")
    if kind == "link":
        log_path.symlink_to(target)
    else:
        os.mkfifo(log_path)

    write(log_file(log_path, clock), "one")

    assert target.read_text() == ""


def test_folder_under_the_name_of_the_log_is_waited_away(
    log_path: Path, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder where the log should be is told, and lines wait until it is gone."""
    log_path.mkdir(parents=True)
    log = log_file(log_path, clock)
    write(log, "one")
    log_path.rmdir()
    clock.ahead_seconds += 60
    write(log, "two")

    assert f"cannot write the log {log_path}: " in capsys.readouterr().err
    assert log_path.read_bytes() == b"one\ntwo\n"


def test_rotation_that_fails_does_not_stop_the_log(log_path: Path, clock: FakeClock) -> None:
    """Where old files cannot be moved, the log grows on rather than falling silent."""
    log = log_file(log_path, clock, rotate_bytes=10, keep=1)
    (log_path.parent / "meshctl.log.1").mkdir(parents=True)
    (log_path.parent / "meshctl.log.1" / "in the way").touch()
    write(log, "line 1..")
    write(log, "line 2..")

    assert log_path.read_text() == "line 1..\nline 2..\n"


def test_fewer_old_files_to_keep_removes_the_others(log_path: Path, clock: FakeClock) -> None:
    log = log_file(log_path, clock, rotate_bytes=10, keep=3)
    write(log, *(f"line {number}.." for number in range(4)))
    log.close()
    write(log_file(log_path, clock, rotate_bytes=10, keep=1), "line 4..")

    assert sorted(path.name for path in log_path.parent.iterdir()) == ["meshctl.log", "meshctl.log.1"]


def test_file_that_cannot_even_be_closed_ends_no_thread(
    log_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logging raises into no caller: the line waits, and follows once the file can be opened again."""
    log = log_file(log_path, clock)
    write(log, "one")
    with monkeypatch.context() as broken:
        for name in ("write", "close"):
            broken.setattr(os, name, _stale)
        write(log, "two")
    clock.ahead_seconds += 60
    write(log, "three")

    assert log_path.read_text() == "one\ntwo\nthree\n"


def _stale(*_: object) -> int:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
