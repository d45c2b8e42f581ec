"""What people type on Linux and other Unix, as advice names it. `windows_shell` has the same names."""

import os
import shlex
from pathlib import Path

AS_SERVICE = " (sudo -u meshctl meshctl ...)"
SCHEDULER = "cron"
KEEP_TIME = "timedatectl set-ntp true; timedatectl shows whether it does."
SAY_CLOCK_IS_RIGHT = (
    "systemctl stop meshctl@NAME && runuser -u meshctl -- meshctl -m NAME run --once --clock-is-right"
    " && systemctl start meshctl@NAME"
)
REMOVE_FOLDER = "rm -r"
SEE_ROOM, SEE_FOLDERS = "df -h and df -i show what is left", "du -sh shows which folder it is"
JOIN_GROUP = "as root: usermod -a -G GROUP USER"
DROP_READABLE = "cp keeps the permissions of a private file, so chmod g+r it before."
"""What to do before a file is dropped that the daemon may not read."""


def start_service(option: str, *, bridge: bool = False) -> str:
    """Return the command that starts the service of the mailbox that an option of meshctl names."""
    return f"systemctl enable --now {_unit(option, bridge=bridge)}"


def restart_bridge(option: str) -> str:
    """Return the command that restarts the service of the bridge."""
    return f"systemctl restart {_unit(option, bridge=True)}"


def ask_service(option: str) -> str:
    """Return the command that says whether the daemon of a mailbox runs."""
    return f"systemctl status {_unit(option)}"


def _unit(option: str, *, bridge: bool = False) -> str:
    kind, _, name = option.partition(" ")
    return f"meshctl{'-bridge' if bridge else ''}@{name if kind == '-m' else 'NAME'}"


def quoted(path: os.PathLike[str]) -> str:
    """Return a path as it is typed into this system's shell."""
    return shlex.quote(os.fspath(path))


def close_command(path: Path) -> str:
    """Return the command that takes from everybody the right to write to a file or in a folder."""
    return f"chmod o-w {path}"


def group_advice(group: str) -> str:
    """Return how a group is made that may drop files."""
    return (
        f"Make it, and put into it who may drop files: groupadd --system {group}; usermod -a -G {group} USER."
    )


def join_advice(group: str) -> str:
    """Return how a user is let into a group that may drop files."""
    return f"usermod -a -G {group} USER"


def stranger_advice(folder: Path) -> str:
    """Return how to take over a folder that somebody else owns or may write to."""
    return f"As root: chown root {folder}; chmod o-w {folder}"


def protect_command(path: Path) -> str:
    """Return the command that lets nobody but its owner change a program or its folder."""
    return close_command(path)


def let_in(folder: Path) -> str:
    """Return how to let the user that the daemon runs as read and write in a folder."""
    return f"change the owner or group of {folder} (chown, chgrp), or its permissions (chmod u+rwx or g+rwx)"


def let_write(file: Path) -> str:
    """Return how to let the user that the daemon runs as read and write a file."""
    return f"give it the file: chown USER {file}"


def make_runnable(program: str) -> str:
    """Return how to make a program run that the system does not take for one."""
    return f"Make it executable: chmod +x {program}"


def share_command(folder: Path) -> str:
    """Return the command that lets a group write in a folder, and nobody else."""
    return f"chgrp GROUP {folder}; chmod 3770 {folder}"
