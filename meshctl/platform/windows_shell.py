"""What people type on Windows, in cmd or PowerShell, as advice names it. `posix_shell` has the same names."""

import os
import re
from pathlib import Path

from meshctl.platform.access_lists import ADMINISTRATORS, CLOSED_TO, SYSTEM, USERS

# What neither cmd nor PowerShell reads as anything but text.
_PLAIN = re.compile(r"[\w\\/:.-]+")

AS_SERVICE = ""
SCHEDULER = "the Task Scheduler"
KEEP_TIME = "w32tm /resync; w32tm /query /status shows whether it does."
SAY_CLOCK_IS_RIGHT = (
    "meshctl -m NAME service stop, meshctl -m NAME run --once --clock-is-right, meshctl -m NAME service start"
)
REMOVE_FOLDER = "rmdir /s /q"
SEE_ROOM, SEE_FOLDERS = "Get-Volume in PowerShell shows what is left", "Explorer shows which folder it is"
JOIN_GROUP = "as an administrator: net localgroup GROUP USER /add"
DROP_READABLE = "what is moved keeps its own access list, so copy it, or before that: icacls FILE /reset"
"""What to do before a file is dropped that the daemon may not read."""


def start_service(option: str, *, bridge: bool = False) -> str:
    """Return the command that starts the service of the mailbox that an option of meshctl names."""
    return f"meshctl {option} service start{' --bridge' if bridge else ''}"


def restart_bridge(option: str) -> str:
    """Return the command that restarts the service of the bridge."""
    return f"meshctl {option} service stop --bridge, then meshctl {option} service start --bridge"


def ask_service(option: str) -> str:
    """Return the command that says whether the daemon of a mailbox runs."""
    return f"meshctl {option} service status"


def quoted(path: os.PathLike[str]) -> str:
    """Return a path as it is typed into cmd and PowerShell."""
    text = os.fspath(path)
    return text if _PLAIN.fullmatch(text) else f'"{text}"'


def close_command(path: Path) -> str:
    """Return the command that takes the access to a file or folder from everybody, and leaves all others."""
    groups = " ".join(f"*{one}" for one in CLOSED_TO)
    return f"icacls {quoted(path)} /inheritance:d /remove:g {groups}"


def protect_command(path: Path) -> str:
    """Return the command that lets everybody run a program, and only administrators change it."""
    scope = "(OI)(CI)" if path.is_dir() else ""
    return f"{close_command(path)} /grant *{USERS}:{scope}RX"


def let_in(folder: Path) -> str:
    """Return how to let the user that the daemon runs as read and write in a folder."""
    return f'icacls {quoted(folder)} /grant "ACCOUNT:(OI)(CI)M"'


def let_write(file: Path) -> str:
    """Return how to let the user that the daemon runs as read and write a file."""
    return f"icacls {quoted(file)} /grant ACCOUNT:M"


def make_runnable(program: str) -> str:
    """Return how to make a program run that the system does not take for one."""
    return f"Windows runs .exe, .cmd and .bat alone: name first the program that reads {program}."


def share_command(folder: Path) -> str:
    """Return the command that lets a group add files to a folder, and nobody else."""
    return f'{close_command(folder)} /grant GROUP:(CI)(RX,WD) "CREATOR OWNER:(OI)(IO)M"'


def group_advice(group: str) -> str:
    """Return how a group is made that may drop files."""
    local = group.rpartition("\\")[2]
    return (
        f"Write one of the domain as DOMAIN\\GROUP, or make one here, in PowerShell: New-LocalGroup {local}."
    )


def join_advice(group: str) -> str:
    """Return how a user is let into a group that may drop files."""
    return f'in the domain, or here: net localgroup "{group}" USER /add'


def stranger_advice(folder: Path) -> str:
    """Return how to take over a folder that somebody else owns or may write to."""
    whom = f"*{SYSTEM}:(OI)(CI)F *{ADMINISTRATORS}:(OI)(CI)F"
    path = quoted(folder)
    return (
        "Look at what is in it. Then, as an administrator:"
        f" icacls {path} /setowner *{ADMINISTRATORS} /t; icacls {path} /inheritance:r /grant:r {whom}"
    )
