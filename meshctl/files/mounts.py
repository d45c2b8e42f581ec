"""What is mounted where, as Linux tells it. Elsewhere nothing is known."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = Path("/proc/self/mountinfo")

_OCTAL = re.compile(r"\\([0-7]{3})")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|fuse\.(?:sshfs|glusterfs|rclone|s3fs)"
)
# proc(5): "36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda1 rw".
_DEVICE_FIELD, _POINT_FIELD = 2, 4


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: where it is mounted, its file system's type, and the device number of what lies on it."""

    point: str
    type: str
    device: str

    @property
    def is_network(self) -> bool:
        """True if other computers can write there without this one's kernel knowing."""
        return _NETWORK.fullmatch(self.type) is not None


def mount_of(path: Path, table: Path | None = None) -> Mount | None:
    """Return the mount that an existing path lies on, None where the system does not say."""
    # Of mounts on one point the last hides the others.
    points = {mount.point: mount for mount in _mounts(table)}
    resolved = path.resolve()
    return next((points[str(p)] for p in (resolved, *resolved.parents) if str(p) in points), None)


def is_on_network(status: os.stat_result, table: Path | None = None) -> bool:
    """True if a file, given by its status, lies on a network share."""
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    return any(mount.device == device and mount.is_network for mount in _mounts(table))


def _mounts(table: Path | None) -> Iterator[Mount]:
    try:
        lines = (table or TABLE).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and len(fields) > _POINT_FIELD:
            point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[_POINT_FIELD])
            yield Mount(point, after.split(" ")[0], fields[_DEVICE_FIELD])
