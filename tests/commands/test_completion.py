"""Completion in the shell: the lines of the README, in the shells themselves where they are installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme_tables import ROOT, SERVER_PAGE, section

ROWS = dict(
    re.findall(
        r"^\| (bash|zsh|fish) \| .* \| `(.*)` \|$",
        section(SERVER_PAGE.read_text(encoding="utf-8"), "Completion in the shell"),
        re.MULTILINE,
    )
)
# What a shell is asked, after the line of the README, to show that the completion is in force.
PROOFS = {
    "bash": 'COMP_WORDS=(meshctl st); COMP_CWORD=1; _meshctl_completion meshctl; echo "${COMPREPLY[@]}"',
    "zsh": "echo $_comps[meshctl]",
    "fish": "complete -C 'meshctl st'",
}
EXPECTED = {"bash": "status", "zsh": "_meshctl_completion", "fish": "status"}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment in which `meshctl` is a program on the path."""
    program = tmp_path / "bin" / "meshctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m meshctl "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("shell", PROOFS)
def test_line_of_the_readme_completes(shell: str, environ: dict[str, str]) -> None:
    """The README's line makes the shell complete meshctl's commands."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    line = ROWS[shell].replace("\\|", "|")
    before = "autoload -Uz compinit; compinit -u; " if shell == "zsh" else ""

    shown = _run([shell, "-c", f"{before}{line}; {PROOFS[shell]}"], environ)

    assert EXPECTED[shell] in shown


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("meshctl res", ["restore", "resend"]),
        ("meshctl list --st", ["--state"]),
        ("meshctl list --state f", ["failed"]),
    ],
)
def test_what_is_offered(typed: str, offered: list[str], environ: dict[str, str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}

    shown = _run(["meshctl"], {**environ, **words, "_MESHCTL_COMPLETE": "bash_complete"})

    assert [line.partition(",")[2] for line in shown.splitlines()] == offered


def _run(command: list[str], environ: dict[str, str]) -> str:
    ended = subprocess.run(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
