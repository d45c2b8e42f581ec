"""The log file under rotation, logrotate, a full disk and withdrawn rights."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.journal.file import CHECK_SECONDS, MAX_WAITING_BYTES, LogFile
from tests.modes import has_mode

if sys.platform != "win32":
    import resource


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now_seconds = 100.0

    def __call__(self) -> float:
        """Return the seconds shown."""
        return self.now_seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def log_file(path: Path, clock: Clock, rotate_bytes: int = 0, keep: int = 3) -> LogFile:
    return LogFile(
        path,
        rotate_bytes=rotate_bytes,
        keep=keep,
        gap_line=lambda lines: b"lost %d\n" % lines,
        monotonic=clock,
    )


@pytest.mark.usefixtures("strict_umask")
def test_file_and_folder_are_private_whatever_the_umask(log_path: Path, clock: Clock) -> None:
    """The log is 0600 in a folder of 0700 even under a umask of 0."""
    log_file(log_path, clock).write(b"one\n")

    assert has_mode(log_path, 0o600)
    assert has_mode(log_path.parent, 0o700)


def test_rotation_keeps_so_many_old_files_and_loses_no_line(log_path: Path, clock: Clock) -> None:
    """Lines move on from file to file in order; only what exceeds `keep` goes."""
    log = log_file(log_path, clock, rotate_bytes=10, keep=2)
    for number in range(4):
        log.write(b"line %d..\n" % number)

    assert log_path.read_text() == "line 3..\n"
    assert Path(f"{log_path}.1").read_text() == "line 2..\n"
    assert Path(f"{log_path}.2").read_text() == "line 1..\n"
    assert not Path(f"{log_path}.3").exists()


def test_keeping_no_old_file_begins_the_log_anew(log_path: Path, clock: Clock) -> None:
    """With `keep` 0 the old lines go."""
    log = log_file(log_path, clock, rotate_bytes=10, keep=0)
    log.write(b"line 1..\n")
    log.write(b"line 2..\n")

    assert [entry.name for entry in log_path.parent.iterdir()] == ["meshctl.log"]
    assert log_path.read_text() == "line 2..\n"


def test_rotated_file_hands_its_mode_on(log_path: Path, clock: Clock) -> None:
    """A site that lets its log shipper read the log need not do so again after each rotation."""
    log = log_file(log_path, clock, rotate_bytes=10)
    log.write(b"line 1..\n")
    log_path.chmod(0o640)
    log.write(b"line 2..\n")

    assert has_mode(log_path, 0o640)


def test_external_logrotate_is_followed_within_a_second(log_path: Path, clock: Clock) -> None:
    """Once logrotate has moved the file, lines go to a new one under the old name."""
    log = log_file(log_path, clock)
    log.write(b"one\n")
    log_path.rename(f"{log_path}.old")
    clock.now_seconds += CHECK_SECONDS
    log.write(b"two\n")

    assert log_path.read_text() == "two\n"
    assert Path(f"{log_path}.old").read_text() == "one\n"


def test_reopening_takes_effect_with_the_next_line(log_path: Path, clock: Clock) -> None:
    """A signal after rotation need not wait for the next look at the folder."""
    log = log_file(log_path, clock)
    log.write(b"one\n")
    log_path.unlink()
    log.reopen()
    log.write(b"two\n")

    assert log_path.read_text() == "two\n"


def test_line_torn_by_a_kill_is_ended_before_the_next(log_path: Path, clock: Clock) -> None:
    """A process killed in a line does not spoil the first line of the next one."""
    log_path.parent.mkdir()
    log_path.write_bytes(b"whole\nto")
    log_file(log_path, clock).write(b"next\n")

    assert log_path.read_text() == "whole\nto\nnext\n"


def test_missing_folder_is_told_once_and_lines_follow_later(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines wait while the log's folder is gone and are written, in order, once it is back."""
    path = tmp_path / "share" / "log" / "meshctl.log"
    log = log_file(path, clock)
    for _ in range(3):
        log.write(b"one\n")
        clock.now_seconds += 60
    said = capsys.readouterr().err
    path.parent.parent.mkdir()
    log.write(b"two\n")

    assert said == (
        f"meshctl: cannot write the log {path}: No such file or directory. "
        "Lines wait in memory until it can be written; free space or mend the folder's rights.\n"
    )
    assert path.read_text() == "one\none\none\ntwo\n"


def test_retries_have_pauses_between_them(tmp_path: Path, clock: Clock) -> None:
    """A log that cannot be written is not tried again with every line."""
    path = tmp_path / "log" / "meshctl.log"
    path.parent.write_text("in the way")
    log = log_file(path, clock)
    log.write(b"one\n")
    path.parent.unlink()
    log.write(b"two\n")

    assert not path.exists()

    clock.now_seconds += 1
    log.write(b"three\n")

    assert path.read_text() == "one\ntwo\nthree\n"


def test_what_waits_is_written_at_the_end(tmp_path: Path, clock: Clock) -> None:
    """A process that ends before the pause is over writes its lines all the same, if it can by then."""
    blocked = tmp_path / "file"
    blocked.touch()
    log = log_file(blocked / "log", clock)
    log.write(b"one\n")
    log.close()
    log.write(b"two\n")
    blocked.unlink()

    log.close()

    assert (blocked / "log").read_bytes() == b"one\ntwo\n"


def test_what_exceeds_the_memory_bound_is_counted(tmp_path: Path, clock: Clock) -> None:
    """Lines lost while the log could not be written leave a line that says how many."""
    path = tmp_path / "share" / "log" / "meshctl.log"
    log = log_file(path, clock)
    log.write(b"x" * (MAX_WAITING_BYTES - 1) + b"\n")
    log.write(b"a\nb\n")
    path.parent.parent.mkdir()
    clock.now_seconds += 60
    log.write(b"c\n")

    assert path.read_bytes().endswith(b"x\nlost 3\n")


def test_full_disk_tears_no_line(log_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """When space ends in the middle of a line, the rest of it follows once there is space again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = log_file(log_path, clock)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))
    try:
        log.write(b"one\n")
        log.write(b"two\n")
        short = log_path.read_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    clock.now_seconds += 60
    log.write(b"three\n")

    assert short == b"one\ntw"
    assert log_path.read_bytes() == b"one\ntwo\nthree\n"
    assert "File too large" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_log_is_written_to_regular_files_only(log_path: Path, clock: Clock, kind: str) -> None:
    """A link or a pipe under the log's name is neither followed nor waited for."""
    log_path.parent.mkdir()
    target = log_path.parent.parent / "elsewhere"
    target.write_text("")
    if kind == "link":
        log_path.symlink_to(target)
    else:
        os.mkfifo(log_path)

    log_file(log_path, clock).write(b"one\n")

    assert target.read_text() == ""


def test_folder_under_the_name_of_the_log_is_waited_away(
    log_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder where the log should be is told, and lines wait until it is gone."""
    log_path.mkdir(parents=True)
    log = log_file(log_path, clock)
    log.write(b"one\n")
    log_path.rmdir()
    clock.now_seconds += 60
    log.write(b"two\n")

    assert f"cannot write the log {log_path}: " in capsys.readouterr().err
    assert log_path.read_bytes() == b"one\ntwo\n"


def test_rotation_that_fails_does_not_stop_the_log(log_path: Path, clock: Clock) -> None:
    """Where old files cannot be moved, the log grows on rather than falling silent."""
    log = log_file(log_path, clock, rotate_bytes=10, keep=1)
    (log_path.parent / "meshctl.log.1").mkdir(parents=True)
    (log_path.parent / "meshctl.log.1" / "in the way").touch()
    log.write(b"line 1..\n")
    log.write(b"line 2..\n")

    assert log_path.read_text() == "line 1..\nline 2..\n"
