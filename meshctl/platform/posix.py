"""Files and folders on POSIX systems, in part on Linux only. `windows` has the same names.

Every call that moves or removes a file of ours goes through here, since on Windows other programs may hold
the file open for a moment. A rename is durable once its folder is synced (see `meshctl.files.durable`).
"""

import sys

assert sys.platform != "win32"

import ctypes
import errno
import fcntl
import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from meshctl.platform.common import BeingWrittenError, GroupRefusedError, Mount

_SAFE: Final = os.O_NOFOLLOW | os.O_CLOEXEC
READ: Final = os.O_RDONLY | os.O_NONBLOCK | _SAFE
"""How to open another user's file: no link is followed, no FIFO's writer waited for."""
READ_NAMED: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""How to open a file that a person named: a link is followed, but no FIFO's writer waited for."""
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
"""How to create a file that must not exist yet."""
SYNC: Final = READ
"""How to open a file for fsync: another's FIFO may have taken its name, and must not be waited for."""
WRITE_OVER: Final = os.O_WRONLY | os.O_NONBLOCK | _SAFE
"""How to open a file that is there, to write over it: not through a link, nor into a FIFO."""
NO_FOLLOW: Final = os.O_NOFOLLOW
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

NEVER_REUSES_NUMBERS: bool = False
"""Whether the file system never gives the number of a file to another one."""
KEEPS_LIST: bool = False
"""Whether a file that is moved keeps the access list that its first folder gave it."""
KNOWS_ALL_WRITERS: bool = False
"""Whether `check_nobody_writes` knows of every file whether somebody still writes to it."""

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_UNSUPPORTED: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EMLINK})
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

rename, unlink, rmdir, open_file, read_at = os.rename, os.unlink, os.rmdir, os.open, os.pread


def link(source: str, target: str) -> None:
    """Give a file a second name; a link is not followed. Raises OSError, NotImplementedError."""
    os.link(source, target, follow_symlinks=False)


def rename_new(source: str, target: str, target_folder: int | None = None) -> None:
    """Rename without replacing. Raises FileExistsError, OSError.

    With `target_folder`, an open folder, `target` is a name in it. Where the file system cannot do that in
    one step, a hard link does the same; watchers of the folder do not see it as a rename, so the file then
    waits for `quiet_seconds`.
    """
    if _renamed_by_kernel(source, target, target_folder):
        return
    try:
        os.link(source, target, dst_dir_fd=target_folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        with suppress(FileNotFoundError):
            os.stat(target, dir_fd=target_folder, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target, dst_dir_fd=target_folder)
    else:
        unlink(source)


def _renamed_by_kernel(source: str, target: str, target_folder: int | None) -> bool:
    if _libc is None or not hasattr(_libc, "renameat2"):
        return False
    names = os.fsencode(source), os.fsencode(target)
    folder = _AT_FDCWD if target_folder is None else target_folder
    if _libc.renameat2(_AT_FDCWD, names[0], folder, names[1], _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), target)


def unlink_if_there(path: str | Path) -> None:
    """Remove a file, if there is one. Raises OSError."""
    with suppress(FileNotFoundError):
        unlink(path)


make_folder = os.mkdir
"""Make a folder with permissions, narrowed by the umask. Raises FileExistsError, OSError."""


def set_mode(descriptor: int, mode: int, group_id: int | None = None, path: str = "") -> None:
    """Give an open file exactly this mode, which open() has reduced by the umask, and this group.

    Raises GroupRefusedError, with its `path`, if we may not give it that group; OSError.
    """
    os.fchmod(descriptor, mode)
    # Asked for only where it changes something: the hardened service may not call chown at all, and has the
    # right group from folders with the setgid bit.
    if group_id is not None and os.fstat(descriptor).st_gid != group_id:
        try:
            os.fchown(descriptor, -1, group_id)
        except PermissionError:
            raise GroupRefusedError(group_id, path) from None


def name_of(encoded: bytes) -> str:
    """Return the file name that these bytes stand for, be they cut within a character."""
    return os.fsdecode(encoded)


def is_name_too_long(error: OSError) -> bool:
    """True if a call failed because no file can have such a name."""
    return error.errno == errno.ENAMETOOLONG


def is_held_open(error: OSError) -> bool:
    """Return False: POSIX has no such locks."""
    del error
    return False


def arrived_ns(path: str, status: os.stat_result) -> int:
    """Return when a file arrived in its folder: a rename sets that time, and nobody can fake it."""
    del path
    return status.st_ctime_ns


def ignore_lease_breaks() -> None:
    """Keep a writer that opens a file while `check_nobody_writes` asks from ending the process."""
    if sys.platform == "linux":
        signal.signal(signal.SIGIO, signal.SIG_IGN)


def check_nobody_writes(descriptor: int, path: str) -> bool:
    """Return True if nobody has an open file open for writing, False if that is not known.

    Raises BeingWrittenError if somebody is known to have. Linux grants a read lease only while nobody has the
    file open for writing, so asking for one and giving it back at once answers the question. Of another
    user's file it answers to CAP_LEASE alone.
    """
    if sys.platform != "linux":
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        if _is_on_network(os.fstat(descriptor)):
            # NFS and SMB refuse too when the server gave us no delegation or oplock, perhaps for good.
            return False
        raise BeingWrittenError(errno.EAGAIN, "being written", path) from None
    except OSError:
        # Unknown: another user's file without CAP_LEASE, or a file system without leases.
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


class OpenFolder:
    """A folder held open; each call names it and a file in it, so that nobody can redirect the call.

    `path` is for messages to people. Every `name` is that of a file in the folder.
    """

    def __init__(self, path: str, name: str | None = None, parent: "OpenFolder | None" = None) -> None:
        """Open a folder by its path, or by its name in `parent`. Raises OSError.

        A name that is a link raises NotADirectoryError; links in the path of a folder that the settings name
        are the administrator's own, and are followed.
        """
        self.path = path
        self._handle = _open_folder(path, name, parent)

    @property
    def place(self) -> int:
        """Return what the folder is for calls that take one."""
        return self._handle

    def close(self) -> None:
        """Close the folder."""
        os.close(self._handle)

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Go through the entries of the folder. Raises OSError."""
        # Opened again: two who go through one open folder would share their position in it.
        try:
            descriptor = os.open(".", _OPEN_FOLDER, dir_fd=self._handle)
        except OSError as error:
            error.filename = self.path
            raise
        try:
            with os.scandir(descriptor) as entries:
                yield entries
        finally:
            os.close(descriptor)

    def status_of(self, entry: os.DirEntry[str]) -> os.stat_result:
        """Return the status of an entry, not of what a link leads to. Raises OSError."""
        return entry.stat(follow_symlinks=False)

    def status(self, name: str) -> os.stat_result:
        """Return a file's status, not that of what a link leads to. Raises OSError."""
        try:
            return os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except OSError as error:
            raise self._located(error, name) from None

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file. Raises OSError."""
        try:
            return os.open(name, flags, mode, dir_fd=self._handle)
        except OSError as error:
            raise self._located(error, name) from None

    def take(self, name: str, target: str) -> None:
        """Move a file to a path in a folder of ours. Raises OSError."""
        try:
            os.rename(name, target, src_dir_fd=self._handle)
        except OSError as error:
            raise self._located(error, name) from None

    def put(self, source: str, name: str) -> None:
        """Move a file in here without replacing another. Raises FileExistsError, OSError."""
        try:
            rename_new(source, name, self._handle)
        except OSError as error:
            raise self._located(error, name) from None

    def rename(self, name: str, other: str) -> None:
        """Rename a file here, replacing a file that has the name. Raises OSError."""
        try:
            os.rename(name, other, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except OSError as error:
            raise self._located(error, name) from None

    def unlink(self, name: str) -> None:
        """Remove a file. Raises OSError."""
        try:
            os.unlink(name, dir_fd=self._handle)
        except OSError as error:
            raise self._located(error, name) from None

    def is_writable(self) -> bool:
        """True if files can be put here and taken out, as far as the system says."""
        effective = os.access in os.supports_effective_ids
        return os.access(".", os.W_OK | os.X_OK, dir_fd=self._handle, effective_ids=effective)

    def _located(self, error: OSError, name: str) -> OSError:
        """Return an error that names the whole path, as errors of calls by path do."""
        error.filename = f"{self.path}/{name}"
        return error


def _open_folder(path: str, name: str | None, parent: OpenFolder | None) -> int:
    if name is None or parent is None:
        return os.open(path, _OPEN_FOLDER)
    try:
        return os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=parent.place)
    except OSError as error:
        if error.errno == errno.ELOOP and stat.S_ISLNK(parent.status(name).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        raise


def sync_names(place: str | Path | int) -> None:
    """Make the names in a folder, given by its path or open, durable. Raises OSError."""
    descriptor = place if isinstance(place, int) else os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not know fsync on folders; there is nothing better to do there.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        if descriptor is not place:
            os.close(descriptor)


def sync_file_system(place: str | int) -> bool:
    """Make all of a folder's file system durable; False where the system cannot. Raises OSError."""
    if _libc is None or not hasattr(_libc, "syncfs"):
        return False
    descriptor = os.dup(place) if isinstance(place, int) else os.open(place, os.O_RDONLY)
    try:
        if _libc.syncfs(descriptor) == 0:
            return True
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EINVAL):
            return False
        # A disk that cannot take the data must not pass for success.
        raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def start_writeback(path: str) -> None:
    """Have the system start writing a file to the disk, without waiting for it. Raises OSError."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, READ)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def free_bytes(place: str | int) -> int | None:
    """Return how much a file system has left for ordinary users, by a folder or an open file of it."""
    left = os.statvfs(place)
    return left.f_bavail * left.f_frsize


def free_inodes(folder: Path) -> int | None:
    """Return how many inodes a file system has left; None where they are not counted."""
    left = os.statvfs(folder)
    # File systems that create inodes as needed (btrfs, network shares) say 0 of 0.
    return left.f_favail if left.f_files else None


def is_read_only(folder: Path) -> bool:
    """True if a folder's file system is mounted read-only."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


MOUNT_TABLE = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
# proc(5): "36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda1 rw".
_DEVICE_FIELD, _POINT_FIELD, _OPTIONS_FIELD = 2, 4, 5


def mount_of(path: Path) -> Mount | None:
    """Return the mount that an existing path lies on; None where the system is not Linux, which says it."""
    # Of mounts on one point the last hides the others.
    points = {mount.point: mount for mount in _mounts()}
    resolved = path.resolve()
    return next((points[str(p)] for p in (resolved, *resolved.parents) if str(p) in points), None)


def session_drive(path: Path) -> tuple[str, str] | None:
    """Return None: there are no drive letters here."""
    del path
    return None


def may_use(folder: Path, wanted: int) -> bool:
    """True if the system lets this process do what is `wanted` in a folder: os.R_OK, W_OK and X_OK."""
    return os.access(folder, wanted, effective_ids=os.access in os.supports_effective_ids)


def _is_on_network(status: os.stat_result) -> bool:
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    return any(mount.device == device and mount.is_network for mount in _mounts())


def _mounts() -> Iterator[Mount]:
    try:
        lines = MOUNT_TABLE.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and len(fields) > _OPTIONS_FIELD:
            point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[_POINT_FIELD])
            kind, *_, options = after.split(" ")
            is_closed = _is_read_only(fields[_OPTIONS_FIELD]) and not _is_read_only(options)
            yield Mount(point, kind, fields[_DEVICE_FIELD], is_closed)


def _is_read_only(options: str) -> bool:
    return "ro" in options.split(",")
