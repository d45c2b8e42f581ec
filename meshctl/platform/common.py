"""What both `posix` and `windows` return and raise."""

import errno
import os
import re
import stat
from dataclasses import dataclass
from os import stat_result
from typing import TypeAlias

MAY_READ, MAY_WRITE, MAY_SEARCH = 4, 2, 1

STOP, RELOAD, SHUTDOWN = "stop", "reload", "shutdown"
"""What a daemon can be asked from another process, or by Windows."""

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|fuse\.(?:sshfs|glusterfs|rclone|s3fs)"
)


def service_name(mailbox_id: str, *, bridge: bool) -> str:
    """Return the name of a mailbox's service on Windows."""
    return f"meshctl-bridge-{mailbox_id}" if bridge else f"meshctl-{mailbox_id}"


AccountId: TypeAlias = int | str
"""How the system numbers a user or group: on Windows by the text of a security identifier."""


class BeingWrittenError(OSError):
    """Somebody has the file open for writing."""


class GroupRefusedError(PermissionError):
    """The system does not let us give a file to a group."""

    def __init__(self, group_id: int, path: str) -> None:
        super().__init__(errno.EPERM, os.strerror(errno.EPERM), path)
        self.group_id = group_id


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: where it is mounted, its file system's type, and the device number of its files.

    `is_closed` if nothing can be written through this mount, though its file system can be written to: so
    systemd does it for a unit, and a container for its folders.
    """

    point: str
    type: str
    device: str
    is_closed: bool = False

    @property
    def is_network(self) -> bool:
        """True if other computers can write there without this one's kernel knowing."""
        return _NETWORK.fullmatch(self.type) is not None


@dataclass(frozen=True, slots=True)
class Person:
    """A user of this system: name, user id, the id of the first group and those of all groups."""

    name: str
    user_id: int
    group_id: int
    group_ids: frozenset[int]

    def may(self, status: stat_result, wanted: int) -> bool:
        """True if the permissions grant `wanted`, a sum of MAY_READ, MAY_WRITE and MAY_SEARCH.

        Access lists beyond the nine permission bits are not seen; `host.may` sees them.
        """
        if self.user_id == 0:
            return True
        if status.st_uid == self.user_id:
            shift = 6
        elif status.st_gid in self.group_ids:
            shift = 3
        else:
            shift = 0
        return (stat.S_IMODE(status.st_mode) >> shift) & wanted == wanted
