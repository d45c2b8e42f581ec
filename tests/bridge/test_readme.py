"""The README's way over the MESH API, its lines run as they stand: sandbox, bridge, daemon, a letter."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from tests.bridge.servers import closed_port
from tests.readme_tables import BRIDGE_PAGE, ROOT, code_blocks, section

CHECKOUT = ROOT
_SECONDS = 240.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@contextmanager
def _terminal(script: str, environ: dict[str, str], said: Path) -> Iterator[None]:
    """Run what somebody types into a terminal, until the block ends; then end all of it."""
    with said.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-euc", script],
            cwd=CHECKOUT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_SECONDS)


def test_a_letter_is_delivered_and_acknowledged(tmp_path: Path) -> None:
    """With sandbox, bridge and daemon in three terminals, the letter ends as completed."""
    url = closed_port()
    told = section(BRIDGE_PAGE.read_text(encoding="utf-8"), "Try it against NHS England's sandbox")
    # What a test cannot share with others: the port, and folders with fixed names.
    told = told.replace("--port 8700", f"--port {url.rpartition(':')[2]}")
    told = re.sub(r"(?<= )/\w+/(?=sender|practice)", f"{tmp_path}/", told)
    told = told.replace("ENVIRONMENT=sandbox", f"ENVIRONMENT={url}")
    sandbox, folders, common, bridge, sender, practice = code_blocks(told, "sh")
    installing, serving = sandbox.splitlines()
    environ = _environ(tmp_path)

    assert installing.startswith("pip install '.[api]'")
    with _terminal(serving, environ, tmp_path / "sandbox.out"):
        _wait_for(url)
        assert _typed(folders, environ)[0] == 0
        with _terminal(common + bridge, environ, tmp_path / "bridge.out"):
            exit_code, shown = _typed(common + sender + practice, environ)

    assert exit_code == 0, shown
    assert "ward-7-discharge.xml: sent as" in shown
    assert re.search(r"^[0-9A-F]{32}\.dat$", shown, re.MULTILINE), shown
    assert re.search(r"completed .* ward-7-discharge\.xml", shown), shown


def _typed(script: str, environ: dict[str, str]) -> tuple[int, str]:
    """Type lines into a terminal and return the exit code and what was shown; nothing is left running."""
    with subprocess.Popen(
        ["bash", "-euc", script],
        cwd=CHECKOUT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            shown, _ = process.communicate(timeout=_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, shown


def _environ(folder: Path) -> dict[str, str]:
    """Return the environment of a newcomer whose virtual environment is active."""
    binaries = folder / "bin"
    binaries.mkdir()
    program = binaries / "meshctl"
    python = shlex.quote(sys.executable)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(CHECKOUT))} exec {python} -m meshctl "$@"\n')
    program.chmod(0o755)
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("MESHCTL_", "PYTHON"))
    }
    path = os.pathsep.join([str(binaries), str(Path(sys.executable).parent), inherited["PATH"]])
    return {**inherited, "PATH": path}


def _wait_for(url: str) -> None:
    ends_at = time.monotonic() + _SECONDS
    while True:
        try:
            requests.get(f"{url}/health", timeout=5).raise_for_status()
        except requests.ConnectionError:
            assert time.monotonic() < ends_at, "the sandbox does not start"
            time.sleep(0.1)
        else:
            return
