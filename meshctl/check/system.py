"""What this system says of users, groups, permissions and mounts. Elsewhere than on Unix nobody is known.

Access lists beyond the nine permission bits are not seen here: for ourselves the checks ask the system.

The watches that the daemon would set on folders are really set, then taken back. Without them everything is
still found, every `rescan_seconds`, so nothing there is an error.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshctl.check.finding import Finding, remark, right, warning
from meshctl.check.surroundings import Surroundings
from meshctl.daemon.watcher import Watcher
from meshctl.files.mounts import mount_of

READ, WRITE, SEARCH = 4, 2, 1

# What is typed here to the same end.
if sys.platform == "win32":
    START_DAEMON, ASK_DAEMON = "meshctl service start", "meshctl service status"
    START_BRIDGE, SCHEDULER = "meshctl service start --bridge", "the Task Scheduler"
    KEEP_TIME = "w32tm /resync; w32tm /query /status shows whether it does."
else:
    START_DAEMON, ASK_DAEMON = "systemctl enable --now meshctl@NAME", "systemctl status meshctl@NAME"
    START_BRIDGE, SCHEDULER = "systemctl enable --now meshctl-bridge@NAME", "cron"
    KEEP_TIME = "timedatectl set-ntp true; timedatectl shows whether it does."

if sys.platform != "win32":
    import grp
    import pwd


@dataclass(frozen=True, slots=True)
class Person:
    """A user of this system: name, user id, the id of the first group and those of all groups."""

    name: str
    user_id: int
    group_id: int
    group_ids: frozenset[int]

    def may(self, status: os.stat_result, wanted: int) -> bool:
        """True if the permissions grant `wanted`, a sum of READ, WRITE and SEARCH."""
        if self.user_id == 0:
            return True
        if status.st_uid == self.user_id:
            shift = 6
        elif status.st_gid in self.group_ids:
            shift = 3
        else:
            shift = 0
        return (stat.S_IMODE(status.st_mode) >> shift) & wanted == wanted


def ourselves() -> Person | None:
    """Return the user that this process runs as."""
    if sys.platform == "win32":
        return None
    user_id, group_id = os.geteuid(), os.getegid()
    return Person(user_name(user_id), user_id, group_id, frozenset({group_id, *os.getgroups()}))


def person(user_id: int) -> Person | None:
    """Return a user of the system, with the groups that the system lists; None for an unknown one."""
    if sys.platform == "win32":
        return None
    try:
        entry = pwd.getpwuid(user_id)
    except KeyError:
        return None
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Person(entry.pw_name, user_id, entry.pw_gid, groups)


def user_name(user_id: int) -> str:
    """Return the name of a user, or the number where there is no name."""
    if sys.platform == "win32":
        return str(user_id)
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"number {user_id}"


def group_name(group_id: int) -> str:
    """Return the name of a group, or the number where there is no name."""
    if sys.platform == "win32":
        return str(group_id)
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return f"number {group_id}"


def group_number(name: str) -> int | None:
    """Return the id of a group, None where there is no such group."""
    if sys.platform == "win32":
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def runs_as_root() -> bool:
    """True if this process runs as root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


_LIMITS = Path("/proc/sys/fs/inotify")


def check_watching(surroundings: Surroundings) -> Iterator[Finding]:
    """Set the daemon's watches for a moment."""
    staging = surroundings.settings.staging
    seconds = f"{staging.rescan_seconds:g} s"
    if staging.watch == "poll":
        yield right("watching", f"The folders are looked through every {seconds}, as the settings say.")
        return
    problem = _try_watches(surroundings)
    if problem is not None:
        yield warning(
            "watching",
            f"File-system events cannot be had ({os.strerror(problem.errno or 0)}{_limits()}): files are"
            f" found only every {seconds}.",
            "Raise the limit: sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536"
            ' (and in /etc/sysctl.d to keep it), or set watch = "poll".'
            if problem.errno in {errno.EMFILE, errno.ENOSPC}
            else 'Set watch = "poll" in [staging].',
        )
    else:
        yield right("watching", "The system says at once when a file lands in the outbox.")
    mount = mount_of(staging.outbox) if os.path.isdir(staging.outbox) else None
    if mount is not None and mount.is_network:
        yield network_remark(mount.type, staging.outbox, seconds)


def network_remark(kind: str, outbox: Path, seconds: str) -> Finding:
    """Return what to say of an outbox on a network share."""
    return remark(
        "watching.network",
        f"{outbox} is on a network share ({kind}): what other computers drop there tells no event and is"
        f" found every {seconds}.",
        'Set watch = "poll" in [staging], with rescan_seconds as short as you need.',
    )


def _try_watches(surroundings: Surroundings) -> OSError | None:
    mailbox = surroundings.settings.mailbox
    folders = (surroundings.settings.staging.outbox, mailbox.in_folder, mailbox.sent_folder)
    watcher = Watcher(lambda: None)
    try:
        return watcher.watch(str(folder) for folder in folders if os.path.isdir(folder))
    finally:
        watcher.close()


def _limits() -> str:
    try:
        instances, watches = (
            (_LIMITS / name).read_text().strip() for name in ("max_user_instances", "max_user_watches")
        )
    except OSError:
        return ""
    return f"; max_user_instances is {instances}, max_user_watches {watches}"
