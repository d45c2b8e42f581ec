"""What the page for a Windows server has typed in PowerShell, of which there is none to try it with."""

import re

import pytest

from tests.readme_tables import WINDOWS_PAGE, code_blocks, section
from tests.windows.server import blocks

# What PowerShell does in a way of its own, or alone.
OTHERWISE = ("See that it works", "Text in pipes", "Files on another server")


def _in_cmd(line: str) -> str:
    """Return what a line for PowerShell is in cmd."""
    for pattern, replacement in (
        (r"^& ", ""),
        (r"\$Env:(\w+) \+= \"(.*)\"$", r'set "\1=%\1%\2"'),
        (r"\$Env:(\w+)", r"%\1%"),
        (r"^Set-Location ", "cd /d "),
        (r"^New-Item -ItemType Directory ", "mkdir "),
        (r"^Set-Content (\S+) \"(.*)\"$", r"echo \2> \1"),
        (r"^Get-ChildItem -Recurse -Name (\S+), (\S+), ", r"dir /s /b \1 \2 "),
        (r"^Remove-Item -Recurse -Force ", "rmdir /s /q "),
        (r"^Remove-Item ", "rmdir "),
        (r"^(\[Environment\].*)$", r'powershell -NoProfile -Command "\1"'),
        (r"(?<= )'([^']*)'(?= |$)", r"\1"),
    ):
        line = re.sub(pattern, replacement, line)
    return line


@pytest.mark.parametrize("title", [title for title in blocks("powershell") if title not in OTHERWISE])
def test_powershell_is_told_the_same_as_cmd(title: str) -> None:
    """Its blocks are those for cmd, line by line, in its own words."""
    shown = code_blocks(section(WINDOWS_PAGE.read_text(encoding="utf-8"), title), "(?:bat|powershell)")
    in_powershell = blocks("powershell")[title]
    told = [[_in_cmd(line) for line in block.splitlines()] for block in in_powershell]

    for block, lines in zip(in_powershell, told, strict=True):
        assert "\n".join(lines) == shown[shown.index(block) - 1].rstrip("\n")


# What PowerShell reads in another way, or not at all.
_CMD_ALONE = re.compile(r"^(set |cd /d|echo |chcp|sc |rmdir /)|/[sb] |,|\*S-1|\[")


@pytest.mark.parametrize("title", [title for title in blocks("bat") if title not in blocks("powershell")])
def test_what_is_told_once_is_read_alike(title: str) -> None:
    """A line that is for cmd alone stands beside one for PowerShell."""
    lines = "".join(blocks("bat")[title]).splitlines()

    assert [line for line in lines if _is_for_cmd_alone(line)] == []


def _is_for_cmd_alone(line: str) -> bool:
    quoted = re.compile(r'"[^"]*"')
    return line.startswith('"') or "%" in line or _CMD_ALONE.search(quoted.sub("", line)) is not None
