"""The demo, as its user plays it."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)
def test_the_demo_plays_to_its_end(tmp_path: Path) -> None:
    """Every message comes to the end that the script gives it."""
    played = subprocess.run(
        [sys.executable, "-m", "meshctl", "demo", "--folder", str(tmp_path / "played")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert played.returncode == 0, played.stdout + played.stderr
    assert "Missing:" not in played.stdout
    assert "completed" in played.stdout
