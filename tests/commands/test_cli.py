"""The command line as a whole: help that is quick and complete, errors that are plain, exit codes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from meshctl import __version__
from meshctl.cli import cli
from tests.site import make_site

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "meshctl")
# No Windows program does without SYSTEMROOT.
_KEPT = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
ENVIRON = {**_KEPT, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
NAMES = cli.list_commands(click.Context(cli))


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(cli, ["-V"])

    assert (result.exit_code, result.output) == (0, f"meshctl, version {__version__}\n")


def test_help_lists_every_command() -> None:
    """Help names each command that there is, with a line about it, and the exit codes."""
    result = CliRunner().invoke(cli, ["--help"])

    assert result.exit_code == 0
    assert {"init", "use-cases"} <= set(NAMES)
    assert all(f"  {name}  " in result.output for name in NAMES)
    assert "Exit codes" in result.output


def test_help_loads_nothing_heavy() -> None:
    """Help is quick because neither commands nor pydantic, lxml, rich or watchdog are imported for it."""
    script = (
        "import sys; from meshctl.cli import cli; cli.main(['--help'], standalone_mode=False);"
        "heavy = {'pydantic', 'lxml', 'rich', 'watchdog', 'sqlite3', 'meshctl.settings.model'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )

    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRON, timeout=240
    )

    assert result.stderr == "[]\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(name: str) -> None:
    """Each command's help says what it does, with examples that name it and its exit codes."""
    result = CliRunner().invoke(cli, [name, "--help"])

    assert result.exit_code == 0
    assert f"Usage: cli {name} " in result.output
    assert re.search(rf"Examples?:\s+meshctl (-m \S+ )?{name}", result.output)
    assert re.search(r"Exit codes:|Exits with \d", result.output)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-x"], "meshctl: No such option '-x'.\nSee meshctl --help.\n"),
        (
            ["use-case"],
            ("meshctl: No such command 'use-case'. Did you mean use-cases?\nSee meshctl --help.\n"),
        ),
        (["zzz"], "meshctl: No such command 'zzz'.\nSee meshctl --help.\n"),
        (
            ["use-cases", "--xml"],
            "meshctl: No such option '--xml'.\nSee meshctl use-cases --help.\n",
        ),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_2(arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(cli, arguments, prog_name="meshctl")

    assert (result.exit_code, result.stdout, result.stderr) == (2, "", expected)


def test_no_arguments_show_the_help() -> None:
    """Called alone, meshctl shows its help and ends with 2."""
    result = CliRunner().invoke(cli, [], prog_name="meshctl")

    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: meshctl ")


def test_wrong_settings_end_with_2(tmp_path: Path) -> None:
    """A wrong settings file is told on stderr, after the program's name, and nothing goes to stdout."""
    file = tmp_path / "meshctl.toml"
    file.write_text("[mailbox]\n")

    result = CliRunner().invoke(cli, ["-c", str(file), "use-cases", "--json"])

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"meshctl: {file}: 2 settings are wrong:\n")


def test_the_file_may_come_from_the_environment(tmp_path: Path) -> None:
    """Without -c, $MESHCTL_CONFIG names the settings file."""
    file = tmp_path / "mine.toml"

    result = CliRunner(env={"MESHCTL_CONFIG": str(file)}).invoke(cli, ["use-cases"])

    assert result.exit_code == 2
    assert f"{file}: the settings cannot be read" in result.stderr


def test_a_reader_that_leaves_ends_quietly() -> None:
    """Output into a pipe that nobody reads ends without a word, with the code a shell gives SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        result = subprocess.run(
            [*COMMAND, "use-cases"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
            env=ENVIRON,
            timeout=240,
        )

    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    site.log_file.parent.mkdir(exist_ok=True)
    site.log_file.write_text("a line\n", encoding="utf-8")
    command = [*COMMAND, "-c", str(site.settings_file), "logs", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRON) as process:
        assert process.stdout is not None
        # It is under way once it has shown what there is.
        shown = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=240)

    assert shown.strip() == b"a line"
    assert (process.returncode, stderr.strip()) == (130, b"")


def test_a_refusal_of_the_system_is_one_line(tmp_path: Path) -> None:
    """What the operating system refuses comes as one line, without a traceback."""
    script = f'rmdir "$PWD" && "{sys.executable}" -m meshctl -c x use-cases'

    result = subprocess.run(
        ["/bin/sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, env=ENVIRON
    )

    assert (result.returncode, result.stderr) == (1, "meshctl: No such file or directory.\n")


def _unforeseen(**environ: str) -> str:
    script = (
        "import sys; from meshctl.cli import report_unexpected; sys.excepthook = report_unexpected\n"
        "def divide(nhs_number): raise ValueError(f'bad {nhs_number}')\n"
        "divide('9990000042')"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRON | environ,
        timeout=240,
    ).stderr


def test_an_unforeseen_error_shows_no_value() -> None:
    """An unforeseen error is told by kind and place, never with its text, which may quote a patient."""
    shown = _unforeseen()

    assert shown.startswith("meshctl: unexpected ValueError in <string>, line 2 (divide). ")
    assert len(shown.splitlines()) == 2
    assert "9990000042" not in shown


def test_debug_shows_the_whole_error() -> None:
    """MESHCTL_DEBUG=1 shows the traceback, for whoever asks for it."""
    assert "Traceback (most recent call last)" in _unforeseen(MESHCTL_DEBUG="1")
