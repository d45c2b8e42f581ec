"""`meshctl logs` on a real log."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshctl.cli import cli
from meshctl.journal.events import journal
from meshctl.journal.log_file import configure_log
from tests.journal.conftest import LogSettingsForTest

if sys.platform != "win32":
    import pty

FIRST, SECOND = "20261122091502480113_7F3A9C", "20261122091502480114_7F3A9D"


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "meshctl.toml"
    file.write_text('[mailbox]\nid = "X26TEST1"\nfolder = "mailbox"\n')
    return file


def logs(settings_file: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["-c", str(settings_file), "logs", *options])


@pytest.fixture
def some_log(log_path: Path) -> Path:
    configure_log(LogSettingsForTest(log_path, rotate_bytes=300, keep=9))
    journal.info("daemon.started")
    journal.info("message.queued", message_id=FIRST, file="a.pdf")
    journal.info("message.queued", message_id=SECOND, file="b.pdf")
    journal.warning("message.repeat", message_id=SECOND, repeat_of=FIRST)
    journal.error("message.failed", message_id=SECOND, code="EPL-154")
    return log_path


@pytest.mark.usefixtures("some_log")
def test_whole_log_is_shown_across_its_files(settings_file: Path, log_path: Path) -> None:
    """Without options, every line is shown as it stands in the log."""
    result = logs(settings_file)
    files = sorted(log_path.parent.iterdir(), reverse=True)

    assert len(files) > 1
    assert result.output == "".join(file.read_text() for file in files)


@pytest.mark.usefixtures("some_log")
@pytest.mark.parametrize(
    ("options", "events"),
    [
        (["--message", FIRST], ["message.queued", "message.repeat"]),
        (["--message", f"{FIRST}.ctl"], ["message.queued", "message.repeat"]),
        (["--level", "warning"], ["message.repeat", "message.failed"]),
        (["--level", "ERROR", "--message", FIRST], []),
    ],
)
def test_lines_are_chosen_by_message_and_level(
    settings_file: Path, options: list[str], events: list[str]
) -> None:
    """--message and --level leave only the lines that fit."""
    result = logs(settings_file, *options)

    assert result.exit_code == 0
    assert [line.split()[2] for line in result.output.splitlines()] == events


@pytest.mark.parametrize("has_folder", [True, False])
def test_no_log_is_said_plainly(settings_file: Path, log_path: Path, has_folder: bool) -> None:
    """Before the daemon has run there is nothing to show; that is said, and where the log would be."""
    if has_folder:
        log_path.parent.mkdir(exist_ok=True)

    result = logs(settings_file)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no log yet" in result.stderr
    assert str(log_path) in result.stderr


@pytest.mark.usefixtures("some_log", "london")
def test_times_are_local_ones_beside_how_long_ago(settings_file: Path, log_path: Path) -> None:
    """--times shows the zone's time with its milliseconds in place of UTC; the rest of the line stays."""
    log_path.write_text(f"2026-07-22T09:15:02.481Z INFO message.queued message_id={FIRST}\nno line of ours\n")

    first, second = logs(settings_file, "--times").stdout.splitlines()[-2:]

    shown = r"2026-07-22 10:15:02\.481 BST, (in )?\d+ \w+( ago)? INFO message\.queued message_id="
    assert re.match(shown, first)
    assert second == "no line of ours"


@pytest.mark.sampled(1)
@pytest.mark.usefixtures("some_log")
@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(
    settings_file: Path, no_colour: str, coloured: bool
) -> None:
    """On a terminal the level is coloured, unless NO_COLOR is set."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", closefd=True) as terminal:
        subprocess.run(
            [sys.executable, "-m", "meshctl", "-c", str(settings_file), "logs", "--level", "ERROR"],
            stdout=theirs,
            check=True,
            env={**os.environ, "NO_COLOR": no_colour},
        )
        os.close(theirs)
        shown = os.read(terminal.fileno(), 1000)

    assert (b"\x1b[31mERROR" in shown) is coloured


@pytest.mark.usefixtures("some_log")
def test_following_shows_new_lines_as_they_come(settings_file: Path) -> None:
    """-f shows the last lines, and then the next one when it is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "meshctl", "-c", str(settings_file), "logs", "-f", "--level", "ERROR"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        past = process.stdout.readline()
        journal.error("daemon.error", error="ValueError")
        new = process.stdout.readline()
        process.terminate()

    assert "message.failed" in past
    assert new.endswith("daemon.error error=ValueError\n")
