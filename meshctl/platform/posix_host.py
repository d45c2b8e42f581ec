"""Users, rights and processes of POSIX, and what people type there. `windows_host` has the same names."""

import sys

assert sys.platform != "win32"

import grp
import os
import pwd
import re
import shlex
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from meshctl.platform.common import Access, Person

HAS_MODES: bool = True
"""Whether files have permissions, a group and an owner."""


def user_id() -> int:
    """Return the number of the user that this process runs as."""
    return os.geteuid()


def is_root() -> bool:
    """True if this process runs as root."""
    return os.geteuid() == 0


@contextmanager
def acting_as_owner_of(folder: Path) -> Iterator[None]:
    """Act as the user whom a folder belongs to while the block lasts, if this process is root's.

    What root makes in a service's folders would belong to root, and the service could not read or remove it.
    Raises OSError.
    """
    status = os.stat(folder)
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    user = person(status.st_uid)
    group_id, groups = os.getegid(), os.getgroups()
    os.setgroups(sorted(user.group_ids) if user else [status.st_gid])
    os.setegid(user.group_id if user else status.st_gid)
    os.seteuid(status.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group_id)
        os.setgroups(groups)


def is_trusted(status: os.stat_result) -> bool:
    """True if a file belongs to this process's user or root."""
    return status.st_uid in (0, os.geteuid())


def is_own_folder(folder: Path) -> bool:
    """True if a folder belongs to this process's user and is no link."""
    return not folder.is_symlink() and folder.stat().st_uid == os.geteuid()


def ourselves() -> Person | None:
    """Return the user that this process runs as; None where the system knows no numbers of users."""
    user_id, group_id = os.geteuid(), os.getegid()
    return Person(user_name(user_id), user_id, group_id, frozenset({group_id, *os.getgroups()}))


def person(user_id: int) -> Person | None:
    """Return a user of the system, with the groups that the system lists; None for an unknown one."""
    try:
        entry = pwd.getpwuid(user_id)
    except KeyError:
        return None
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Person(entry.pw_name, user_id, entry.pw_gid, groups)


def user_name(user_id: int) -> str:
    """Return the name of a user, or the number where there is no name."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"number {user_id}"


def group_name(group_id: int) -> str:
    """Return the name of a group, or the number where there is no name."""
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return f"number {group_id}"


def group_number(name: str) -> int | None:
    """Return the id of a group, None where there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def files_get_group(folder: Path, group_id: int, own_file: Path) -> bool:
    """True if our files in a folder can have a group: of themselves, or because we may give it to them.

    Whether we may is asked with a file of our own, which stays as it is: the filter of a unit forbids the
    call whatever it would change. Raises OSError for any other reason.
    """
    status = os.stat(folder)
    if group_id == (status.st_gid if status.st_mode & stat.S_ISGID else os.getegid()):
        return True
    try:
        os.chown(own_file, -1, -1)
    except PermissionError:
        return False
    return is_root() or group_id in {os.getegid(), *os.getgroups()}


def mode_of(path: str | Path | int) -> int | None:
    """Return the permissions of a file, also an open one; None where there is nothing, or no permissions."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None


def everybody_may_write(path: Path) -> bool:
    """True if everybody on this computer can write to a file, or in a folder."""
    return bool((mode_of(path) or 0) & stat.S_IWOTH)


def everybody_may_replace_in(folder: Path) -> bool:
    """True if everybody can remove another's file there, and so put one of their own in its place."""
    return (mode_of(folder) or 0) & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH


def knows_rights() -> bool:
    """True if it can be found out who may read and write a file."""
    return True


def access_list(path: Path) -> list[Access]:
    """Return nothing: permissions say here who may read and write, see `mode_of`."""
    del path
    return []


def account_name(sid: str) -> str:
    """Return the identifier itself."""
    return sid


def is_alive(process_id: int) -> bool:
    """True if there is such a process."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def listening(state_folder: Path, requests: Mapping[str, Callable[[], None]]) -> "nullcontext[None]":
    """Do nothing: requests come as signals here."""
    del state_folder, requests
    return nullcontext()


def ask_to_reload(state_folder: Path, lock: Path, process_id: int | None) -> bool:
    """Ask the daemon of a state folder, `process_id` as it wrote down, to read its settings again.

    Return False if that process does not hold the lock. Raises PermissionError, ProcessLookupError.
    """
    del state_folder
    if process_id is None or not _holds(process_id, lock):
        return False
    os.kill(process_id, signal.SIGHUP)
    return True


def _holds(process_id: int, lock: Path) -> bool:
    """True if a process holds a lock, as the kernel says: anybody may have written the file beside it.

    Where the kernel does not tell, only the owner of the lock may believe the file: he can signal his own
    processes alone.
    """
    status = os.stat(lock)
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return os.geteuid() == status.st_uid != 0
    # Not by the device, too: btrfs and overlays show another one to stat(2).
    held = re.compile(rf"^\d+: FLOCK +\S+ +WRITE {process_id} [^ ]*:{status.st_ino} ", re.MULTILINE)
    return held.search(locks) is not None


class ProcessTree:
    """A process started as a session of its own, with all that it starts."""

    creation_flags = 0

    def add(self, process_id: int) -> None:
        """Say which process it is, just after its start."""
        self._process_id = process_id

    def end(self) -> None:
        """End every process of the tree. Raises ProcessLookupError, PermissionError."""
        os.killpg(self._process_id, signal.SIGKILL)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


SETTINGS_FOLDER = Path("/etc/meshctl")
SETTINGS_PATTERN = "*.toml"
START_DAEMON, ASK_DAEMON = "systemctl enable --now meshctl@NAME", "systemctl status meshctl@NAME"
START_BRIDGE, SCHEDULER = "systemctl enable --now meshctl-bridge@NAME", "cron"
KEEP_TIME = "timedatectl set-ntp true; timedatectl shows whether it does."
REMOVE_FOLDER = "rm -r"


def named_settings(name: str) -> Path:
    """Return the settings file of the mailbox that `-m` calls so."""
    return SETTINGS_FOLDER / f"{name}.toml"


def settings_name(file: Path) -> str:
    """Return what `-m` calls the mailbox of a settings file that SETTINGS_PATTERN finds."""
    return file.stem


def quoted(path: os.PathLike[str]) -> str:
    """Return a path as it is typed into this system's shell."""
    return shlex.quote(os.fspath(path))


def close_command(path: Path) -> str:
    """Return the command that takes from everybody the right to write to a file or in a folder."""
    return f"chmod o-w {path}"


def share_command(folder: Path) -> str:
    """Return the command that lets a group write in a folder, and nobody else."""
    return f"chgrp GROUP {folder}; chmod 2770 {folder}"
