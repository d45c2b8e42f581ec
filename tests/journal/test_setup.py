"""From `journal.info(...)` to the file, the system's journal and uncaught exceptions."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from meshctl.journal.events import journal
from meshctl.journal.log_file import configure_log, release_log
from tests.journal.conftest import LogSettingsForTest

PROLOGUE = """
import sys
from pathlib import Path
from tests.journal.conftest import LogSettingsForTest
from meshctl.journal.events import journal
from meshctl.journal.log_file import configure_log
configure_log(LogSettingsForTest(Path(sys.argv[1])))
"""


def run_python(script: str, log_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROLOGUE + script, str(log_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environ},
    )


def test_what_was_said_before_configuration_is_written_first(log_path: Path) -> None:
    """Early events reach the log, at or above its level."""
    journal.info("daemon.started", version="1")
    journal.debug("bridge.uploading")
    configure_log(LogSettingsForTest(log_path))
    journal.info("daemon.stopped")

    assert [line.split(" ", 1)[1] for line in log_path.read_text().splitlines()] == [
        "INFO daemon.started version=1",
        "INFO daemon.stopped",
    ]


def test_level_decides_what_is_written(log_path: Path) -> None:
    """With level WARNING, INFO stays out."""
    configure_log(LogSettingsForTest(log_path, level="WARNING"))
    journal.info("daemon.started")
    journal.warning("message.rejected", file="a")

    assert log_path.read_text().endswith("Z WARNING message.rejected file=a\n")
    assert log_path.read_text().count("\n") == 1


def test_json_format_is_one_object_a_line(log_path: Path) -> None:
    """With format json, each line is an object."""
    configure_log(LogSettingsForTest(log_path, format="json"))
    journal.info("message.queued", size=1)

    assert json.loads(log_path.read_text())["size"] == 1


def test_batch_is_written_at_its_end(log_path: Path) -> None:
    """Within a batch nothing is written; at its end everything is."""
    configure_log(LogSettingsForTest(log_path))
    with journal.batch():
        for _ in range(64):
            journal.info("message.queued")
        written_within = log_path.exists()

    assert not written_within
    assert log_path.read_text().count("\n") == 64


def test_batch_that_fails_is_written_too(log_path: Path) -> None:
    """What was said before an error ended the batch is not lost."""
    configure_log(LogSettingsForTest(log_path))

    def fail_in_a_batch() -> None:
        with journal.batch():
            journal.info("message.queued")
            raise KeyError

    with pytest.raises(KeyError):
        fail_in_a_batch()

    assert log_path.read_text().count("\n") == 1


def test_configuring_again_leaves_the_former_file(log_path: Path, tmp_path: Path) -> None:
    """After a reload with another file, each event is written once, to the new one."""
    configure_log(LogSettingsForTest(log_path))
    journal.info("daemon.started")
    configure_log(LogSettingsForTest(tmp_path / "other" / "new.log"))
    journal.info("daemon.reloaded")

    assert log_path.read_text().count("\n") == 1
    assert (tmp_path / "other" / "new.log").read_text().count("\n") == 1


def test_library_record_is_reduced_to_its_name_and_place(log_path: Path) -> None:
    """What a library says may quote paths and data, so none of its text is logged."""
    configure_log(LogSettingsForTest(log_path))
    try:
        int("Smith")
    except ValueError:
        logging.getLogger("watchdog.observers").exception("lost %s", "/outbox/Smith.pdf")
    line = log_path.read_text()

    assert " ERROR daemon.library logger=watchdog.observers where=test_setup:" in line
    assert "error=ValueError" in line
    assert "Smith" not in line


def test_library_record_before_configuration_is_not_printed(
    capsys: pytest.CaptureFixture[str], log_path: Path
) -> None:
    """A library's early warning does not reach the terminal by logging's last resort."""
    logging.getLogger("watchdog").warning("cannot watch %s", "/outbox/Smith")
    configure_log(LogSettingsForTest(log_path))

    assert capsys.readouterr().err == ""
    assert "daemon.library" in log_path.read_text()


def test_uncaught_exception_is_logged_by_type_and_place_only(log_path: Path) -> None:
    """A fault that nobody caught leaves no value in the log or on the terminal."""
    done = run_python("def f():\n    raise ValueError('Smith 999 000 0042')\nf()", log_path)

    assert done.returncode == 1
    assert "ERROR daemon.error error=ValueError where=__main__:" in log_path.read_text()
    assert done.stderr.startswith("meshctl: a fault in meshctl itself: ValueError at __main__:")
    assert "Smith" not in done.stderr + log_path.read_text()


def test_uncaught_exception_in_a_thread_is_logged_too(log_path: Path) -> None:
    """A fault in a thread of ours does not go to stderr with its values."""
    script = """
import threading
thread = threading.Thread(target=int, args=("Smith",))
thread.start()
thread.join()
"""
    done = run_python(script, log_path)

    assert "daemon.error error=ValueError" in log_path.read_text()
    assert done.stderr == ""


def test_released_log_gives_the_hooks_back(log_path: Path) -> None:
    before = sys.excepthook, threading.excepthook
    configure_log(LogSettingsForTest(log_path))
    configure_log(LogSettingsForTest(log_path))
    release_log()

    assert (sys.excepthook, threading.excepthook) == before


def test_under_systemd_lines_go_to_the_journal_with_their_priority(log_path: Path) -> None:
    """Where our stderr is journald's stream, events go there as well, without a time of their own."""
    script = """
import os
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
configure_log(LogSettingsForTest(Path(sys.argv[1])))
journal.info("daemon.started")
journal.warning("message.rejected", file="a b")
journal.error("daemon.error")
"""
    done = run_python(script, log_path)

    assert done.stderr == '<6>daemon.started\n<4>message.rejected file="a b"\n<3>daemon.error\n'
    assert log_path.read_text().count("\n") == 3


def test_inherited_journal_variable_alone_prints_nothing(log_path: Path) -> None:
    """A child of a service whose stderr goes elsewhere does not print its log there."""
    done = run_python('journal.info("daemon.started")', log_path, JOURNAL_STREAM="1:2")

    assert done.stderr == ""


def test_terminal_gets_the_lines_when_asked_for(log_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon run by hand shows its log."""
    configure_log(LogSettingsForTest(log_path), to_terminal=True)
    journal.info("daemon.started")

    assert capsys.readouterr().err == log_path.read_text()


def test_threads_write_whole_lines(log_path: Path) -> None:
    """Lines of several threads do not mix."""
    configure_log(LogSettingsForTest(log_path, rotate_bytes=4000, keep=99))

    def say() -> None:
        for number in range(200):
            journal.info("message.queued", number=number)

    threads = [threading.Thread(target=say) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    release_log()
    lines = [line for path in log_path.parent.iterdir() for line in path.read_text().splitlines()]

    assert len(lines) == 800
    assert all("Z INFO message.queued number=" in line for line in lines)
