"""`meshctl demo --sandbox`: letters from site to site over the sandbox, and their acknowledgements."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meshctl.journal.lines import parse_line
from meshctl.settings.load import load_settings
from meshctl.simulator import sandbox_demo
from tests.site import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "meshctl", "demo", "--sandbox", "--folder", str(folder)]


def _command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


def test_letters_are_acknowledged_over_the_sandbox(tmp_path: Path) -> None:
    """The demo ends with 0, every letter completed, through two bridges; it says where to look further."""
    folder = tmp_path / "played"

    played = subprocess.run(
        _command(folder), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False
    )

    assert (played.returncode, played.stderr) == (0, "")
    assert "5 completed" in played.stdout
    assert str(folder / "sender" / "log" / "bridge.log") in played.stdout
    for site, sent, received in (("sender", 5, 10), ("practice", 10, 5)):
        lines = (folder / site / "log" / "bridge.log").read_text(encoding="utf-8").split("\n")
        events = [parse_line(line).event for line in lines if line]
        assert (events.count("bridge.sent"), events.count("bridge.received")) == (sent, received)
    assert len(list((folder / "practice" / "filed").glob("*.dat"))) == 5


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Interrupted or ended, the demo ends sandbox, daemons and bridges with it."""
    folder, said = tmp_path / "played", tmp_path / "said"
    with (
        said.open("wb") as out,
        subprocess.Popen(_command(folder), stdin=subprocess.DEVNULL, stdout=out, stderr=out) as demo,
    ):
        try:
            log = folder / "sender" / "log" / "bridge.log"
            wait_until(lambda: demo.poll() is not None or log.exists(), "the sender's bridge")
            assert demo.poll() is None, said.read_text(encoding="utf-8")
            port = load_settings(folder / "sender" / "meshctl.toml", {}).bridge.environment
            demo.send_signal(number)
            ended = demo.wait(30)
        finally:
            demo.kill()

    assert ended == 130
    marks = (os.fsencode(folder), b"--port\0" + os.fsencode(str(port).rpartition(":")[2]))
    assert not [line for line in _command_lines() for mark in marks if mark in line]


def test_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *rest: None if name == 'mesh_sandbox' else find(name, *rest)\n"
    )

    played = subprocess.run(
        _command(tmp_path / "played"),
        env={**os.environ, "PYTHONPATH": str(tmp_path / "hide")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert (played.returncode, played.stderr) == (2, f"meshctl: {sandbox_demo.MISSING_SANDBOX}\n")
    assert not (tmp_path / "played").exists()
