"""On which mount a folder lies, and of what kind its file system is. Known on Linux only."""

import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|fuse\.(?:sshfs|glusterfs|rclone|s3fs)"
)
# proc(5): "36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda1 rw".
_POINT_FIELD = 4


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: where it is mounted, and its file system's type."""

    point: str
    type: str

    @property
    def is_network(self) -> bool:
        """Tell whether other computers can write there without this one's kernel knowing."""
        return _NETWORK.fullmatch(self.type) is not None


def mount_of(path: Path, table: Path = _TABLE) -> Mount | None:
    """Return the mount that an existing path lies on, None where the system does not say."""
    try:
        lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    # Of mounts on one point the last hides the others.
    points = {mount.point: mount for mount in map(_parse, lines) if mount is not None}
    resolved = path.resolve()
    return next((points[str(p)] for p in (resolved, *resolved.parents) if str(p) in points), None)


def _parse(line: str) -> Mount | None:
    before, separator, after = line.partition(" - ")
    fields, kind = before.split(" "), after.split(" ")
    if not separator or len(fields) <= _POINT_FIELD:
        return None
    point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[_POINT_FIELD])
    return Mount(point, kind[0])
