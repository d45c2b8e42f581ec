"""Whether everybody may change what meshctl runs: Python, its packages, the alert command.

Who could would act as the user that the daemon runs as, with all letters and secrets. Looked at are the files
that Python loads first and the folders that it loads from, not each file in them.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from meshctl.check.finding import Finding, error, listed
from meshctl.platform import host, shell
from meshctl.settings.model import Settings


def check_program(settings: Settings) -> Iterator[Finding]:
    """Return what everybody may change of what the daemon runs; nothing if there is none."""
    places = dict.fromkeys([*_python(), *settings.alerts.programs])
    if not (found := [path for path in places if _is_open(path)]):
        return
    yield error(
        "world_writable.program",
        f"Everybody on this computer can change what meshctl runs: {listed(list(map(str, found)))}.",
        f"Install it where only administrators may write, for example in {host.PROGRAM_FOLDER}, or take the"
        f" right away: {shell.protect_command(found[0])}",
    )


def _python() -> Iterator[Path]:
    programs = (sys.executable, getattr(sys, "_base_executable", None))
    yield from (Path(program) for program in programs if program)
    here = os.getcwd()
    # Not the current folder, which only a person's own call loads from.
    for entry in (sys.prefix, sys.base_prefix, *sys.path):
        if not entry or os.path.abspath(entry) == here:
            continue
        yield Path(entry)
        if os.path.isdir(entry):
            # Python runs lines of these, and adds the folders that they name.
            yield from Path(entry).glob("*.pth")


def _is_open(path: Path) -> bool:
    return host.everybody_may_write(path) or host.everybody_may_replace_in(path.parent)
