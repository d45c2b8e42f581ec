"""Users, groups and what the permissions of a file grant them. Unix only; elsewhere nobody is known.

Access lists beyond the nine permission bits are not seen here: for ourselves the checks ask the system.
"""

import os
import stat
import sys
from dataclasses import dataclass

READ, WRITE, SEARCH = 4, 2, 1

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
        """Tell whether the permissions grant `wanted`, a sum of READ, WRITE and SEARCH."""
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
    """Tell whether this process runs as root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
