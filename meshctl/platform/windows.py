"""Files and folders on Windows. `posix` has the same names.

A file that is open cannot be renamed, replaced or removed unless the program that has it open allows it, and
the MESH Client, a virus scanner or an indexer may have it open at any time. Each call here waits for at most
a second, and then raises PermissionError with nothing done: the caller's next turn repeats the step.

As on POSIX, a rename replaces a file that has the name already. It is durable when the call returns
(MOVEFILE_WRITE_THROUGH).
"""

import sys

assert sys.platform == "win32"

import ctypes
import errno
import msvcrt
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes.wintypes import BOOL, DWORD, HANDLE, INT, LPCWSTR, LPDWORD, LPVOID, LPWSTR, UINT
from pathlib import Path
from typing import Any, Final, TypeVar

from meshctl.platform.common import BeingWrittenError, Mount

READ: Final = os.O_RDONLY | os.O_BINARY
"""How to open another user's file."""
READ_NAMED: Final = READ
"""How to open a file that a person named."""
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_BINARY
"""How to create a file that must not exist yet."""
SYNC: Final = os.O_RDWR
"""How to open a file for fsync."""
WRITE_OVER: Final = os.O_WRONLY | os.O_BINARY
"""How to open a file that is there, to write over it: not through a link, nor into a FIFO."""
NO_FOLLOW: Final = 0

NEVER_REUSES_NUMBERS: bool = True
"""Whether the file system never gives the number of a file to another one, as NTFS."""
KEEPS_LIST: bool = True
"""Whether a file that is moved keeps the access list that its first folder gave it."""
KNOWS_ALL_WRITERS: bool = True
"""Whether `check_nobody_writes` knows of every file whether somebody still writes to it."""

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_networks = ctypes.WinDLL("mpr")
_CALLS: tuple[tuple[Any, ...], ...] = (
    (_kernel.MoveFileExW, BOOL, LPCWSTR, LPCWSTR, DWORD),
    (_kernel.CreateFileW, HANDLE, LPCWSTR, DWORD, DWORD, LPVOID, DWORD, DWORD, HANDLE),
    (_kernel.SetFileInformationByHandle, BOOL, HANDLE, INT, LPVOID, DWORD),
    (_kernel.GetFileInformationByHandleEx, BOOL, HANDLE, INT, LPVOID, DWORD),
    (_kernel.CloseHandle, BOOL, HANDLE),
    (_kernel.GetDriveTypeW, UINT, LPCWSTR),
    (_kernel.QueryDosDeviceW, DWORD, LPCWSTR, LPWSTR, DWORD),
    (_networks.WNetGetConnectionW, DWORD, LPCWSTR, LPWSTR, LPDWORD),
)
for _function, _result, *_arguments in _CALLS:
    _function.restype, _function.argtypes = _result, _arguments

_REPLACE_EXISTING, _WRITE_THROUGH = 0x1, 0x8
_GENERIC_READ, _GENERIC_WRITE, _LIST = 0x80000000, 0x40000000, 0x1
_ADD_FILE, _READ_ATTRIBUTES, _WRITE_ATTRIBUTES = 0x2, 0x80, 0x100
# While we have a file open, others may do all but what Windows never allows.
_SHARE_READ, _SHARE_WRITE, _SHARE_DELETE = 0x1, 0x2, 0x4
_SHARE_ALL = _SHARE_READ | _SHARE_WRITE | _SHARE_DELETE
_CREATE_NEW, _CREATE_ALWAYS, _OPEN_EXISTING, _OPEN_ALWAYS, _TRUNCATE = 1, 2, 3, 4, 5
_NORMAL, _LINKS_THEMSELVES, _FOLDERS_TOO = 0x80, 0x00200000, 0x02000000
# Of a reparse tag: it stands for another place. Others (files in a cloud, deduplicated ones) do not.
_IS_SURROGATE = 0x20000000
_BASIC_INFORMATION = 0
# Windows counts in 100 ns, from 1601.
_UNIX_EPOCH = 116_444_736_000_000_000

_REMOTE_DRIVE, _LONGEST_TARGET, _SUBSTITUTED = 4, 1024, "\\??\\"
# A remembered connection that is not made at present.
_NOT_CONNECTED = 1201

_PATIENCE_SECONDS = 1.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.05
# Access is denied (also: the target is open, or about to be removed), sharing violation, lock violation.
_SHARING, _DENIED = frozenset({32, 33}), 5
# File, path not found; name wrong, name too long.
_NOT_FOUND, _TOO_LONG = (2, 3), (123, 206)
_HELD_OPEN = _SHARING | {_DENIED}

_T = TypeVar("_T")


class _BasicInformation(ctypes.Structure):
    """The times (creation, access, write, change; set to 0, one stays) and attributes of a file."""

    _fields_ = (("times", ctypes.c_longlong * 4), ("attributes", DWORD))


def _patiently(act: Callable[[], _T], read_only: str | Path | None = None) -> _T:
    """Retry while another program has a file open. A file given as `read_only` is made writable."""
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return act()
        except PermissionError as error:
            if error.winerror not in _HELD_OPEN or time.monotonic() > give_up_at:
                raise
            if error.winerror == _DENIED and read_only is not None:
                # The attribute "read-only" forbids to remove, replace and sync a file.
                with suppress(OSError):
                    os.chmod(read_only, stat.S_IREAD | stat.S_IWRITE)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def rename(source: str | Path, target: str | Path) -> None:
    """Rename a file, replacing one that has the name. Raises OSError."""
    _patiently(lambda: _move_file(source, target, _REPLACE_EXISTING | _WRITE_THROUGH), target)


def rename_new(source: str, target: str) -> None:
    """Rename without replacing. Raises FileExistsError, OSError."""
    _patiently(lambda: _move_file(source, target, _WRITE_THROUGH))


def _move_file(source: str | Path, target: str | Path, flags: int) -> None:
    sys.audit("os.rename", str(source), str(target), -1, -1)
    if not _kernel.MoveFileExW(str(source), str(target), flags):
        error = _last_error(source, target)
        # Windows may say "not found" of a target that cannot be made, as it does of a missing source.
        if error.winerror in (*_NOT_FOUND, *_TOO_LONG) and _could_be_moved(source, target):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(target))
        raise error


def _could_be_moved(source: str | Path, target: str | Path) -> bool:
    return os.path.lexists(source) and os.path.isdir(os.path.dirname(os.path.abspath(target)))


def _last_error(*paths: str | Path) -> OSError:
    number = ctypes.get_last_error()
    first, second = (*map(str, paths), None)[:2]
    return OSError(0, ctypes.FormatError(number), first, number, second)


def link(source: str, target: str) -> None:
    """Give a file a second name; a link is not followed. Raises OSError."""
    os.link(source, target)


def unlink(path: str | Path) -> None:
    """Remove a file, also one that is read-only; its other names then stay so. Raises OSError."""
    try:
        os.unlink(path)
    except PermissionError:
        with _other_names_kept(path):
            _patiently(lambda: os.unlink(path), path)


@contextmanager
def _other_names_kept(path: str | Path) -> Iterator[None]:
    """Give a read-only file its attribute back in the end, if it has another name then.

    The attribute is the file's, not the name's, and a file that has it cannot be removed by any name.
    """
    status = os.lstat(path)
    if not status.st_file_attributes & stat.FILE_ATTRIBUTE_READONLY or status.st_nlink == 1:
        yield
        return
    handle = _open_handle(path, _WRITE_ATTRIBUTES, _SHARE_ALL, _OPEN_EXISTING, _LINKS_THEMSELVES)
    try:
        yield
    finally:
        kept = _BasicInformation(attributes=status.st_file_attributes)
        _kernel.SetFileInformationByHandle(
            handle, _BASIC_INFORMATION, ctypes.byref(kept), ctypes.sizeof(kept)
        )
        _kernel.CloseHandle(handle)


def unlink_if_there(path: str | Path) -> None:
    """Remove a file, if there is one. Raises OSError."""
    with suppress(FileNotFoundError):
        unlink(path)


def rmdir(path: str | Path) -> None:
    """Remove an empty folder. Raises OSError."""
    _patiently(lambda: os.rmdir(path))


def open_file(path: str | Path, flags: int, mode: int = 0o777) -> int:
    """Return a descriptor of a file, opened as os.open does, never in text mode. Raises OSError."""
    del mode
    # os.open does not say why a file is denied, nor lets others rename and remove it.
    sys.audit("open", str(path), None, flags)
    for_writing = path if flags & (os.O_WRONLY | os.O_RDWR) else None
    handle = _patiently(lambda: _create_file(path, flags), for_writing)
    return msvcrt.open_osfhandle(handle, flags | os.O_BINARY)


def _create_file(path: str | Path, flags: int) -> int:
    access = _GENERIC_WRITE if flags & (os.O_WRONLY | os.O_RDWR) else _GENERIC_READ
    if flags & os.O_RDWR:
        access |= _GENERIC_READ
    if flags & os.O_CREAT:
        how = _CREATE_NEW if flags & os.O_EXCL else _CREATE_ALWAYS if flags & os.O_TRUNC else _OPEN_ALWAYS
    else:
        how = _TRUNCATE if flags & os.O_TRUNC else _OPEN_EXISTING
    try:
        return _open_handle(path, access, _SHARE_ALL, how, _NORMAL)
    except PermissionError:
        if os.path.isdir(path):
            # Opening a folder is denied, though nobody holds it.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
        raise


def _open_handle(path: str | Path, access: int, shared: int, how: int, flags: int) -> int:
    handle: int = _kernel.CreateFileW(str(path), access, shared, None, how, flags, None)
    if handle == HANDLE(-1).value:
        raise _last_error(path)
    return handle


def make_folder(path: str | Path, mode: int = 0o777) -> None:
    """Make a folder with the access list that its own folder passes on. Raises FileExistsError, OSError."""
    # With the mode 0700 it would have a list of its own since CPython 3.11.10 and 3.12.4: one that shuts out
    # the account of the service, if an administrator makes it.
    del mode
    os.mkdir(path)


def set_mode(descriptor: int, mode: int, group_id: int | None = None, path: str = "") -> None:
    """Do nothing: files inherit the rights of their folder."""
    del descriptor, mode, group_id, path


def read_at(descriptor: int, most_bytes: int, at: int) -> bytes:
    """Read from a place in a file; moves its position."""
    os.lseek(descriptor, at, os.SEEK_SET)
    return os.read(descriptor, most_bytes)


def name_of(encoded: bytes) -> str:
    """Return the file name that these bytes stand for: Windows has no name for half a character."""
    return encoded.decode(errors="ignore")


def is_name_too_long(error: OSError) -> bool:
    """True if a call failed because no file can have such a name."""
    return error.winerror in _TOO_LONG


def is_held_open(error: OSError) -> bool:
    """True if a call failed because the file is locked by another program: it can be retried."""
    return error.winerror in _SHARING


def arrived_ns(path: str, status: os.stat_result) -> int:
    """Return when a file arrived in its folder: a rename sets that time, and nobody can fake it.

    What `status` has as its change time is when the file was made, and stays over a rename.
    """
    try:
        handle = _open_handle(
            path, _READ_ATTRIBUTES, _SHARE_ALL, _OPEN_EXISTING, _FOLDERS_TOO | _LINKS_THEMSELVES
        )
    except OSError:
        return status.st_ctime_ns
    info = _BasicInformation()
    is_known = _kernel.GetFileInformationByHandleEx(
        handle, _BASIC_INFORMATION, ctypes.byref(info), ctypes.sizeof(info)
    )
    _kernel.CloseHandle(handle)
    changed: int = info.times[3]
    return (changed - _UNIX_EPOCH) * 100 if is_known and changed else status.st_ctime_ns


def ignore_lease_breaks() -> None:
    """Do nothing: there are no leases here."""


def check_nobody_writes(descriptor: int, path: str) -> bool:
    """Return True if nobody has a file open for writing, False if that is not known.

    Raises BeingWrittenError if somebody has, here or through a share: to open it without
    letting others write fails then.
    """
    del descriptor
    try:
        handle = _open_handle(path, _GENERIC_READ, _SHARE_READ | _SHARE_DELETE, _OPEN_EXISTING, 0)
    except OSError as error:
        if is_held_open(error):
            raise BeingWrittenError(errno.EAGAIN, "being written", path) from None
        return False
    _kernel.CloseHandle(handle)
    return True


class OpenFolder:
    """A folder held open: the handle does not share deletion, so nobody can rename or replace the folder.

    What leads elsewhere (a link, a junction, a mount point) is not entered; calls then go by path.
    """

    def __init__(self, path: str, name: str | None = None, parent: "OpenFolder | None" = None) -> None:
        """Open a folder by its path, which has the `name` in `parent`. Raises OSError.

        A name that leads elsewhere raises NotADirectoryError; links in the path of a folder that the settings
        name are the administrator's own, and are followed.
        """
        del parent
        self.path = path
        flags = _FOLDERS_TOO | (_LINKS_THEMSELVES if name is not None else 0)
        shared = _SHARE_READ | _SHARE_WRITE
        self._handle = _open_handle(path, _LIST | _READ_ATTRIBUTES, shared, _OPEN_EXISTING, flags)
        status = os.lstat(path) if name is not None else os.stat(path)
        if not stat.S_ISDIR(status.st_mode) or (name is not None and status.st_reparse_tag & _IS_SURROGATE):
            self.close()
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    @property
    def place(self) -> str:
        """Return what the folder is for calls that take one."""
        return self.path

    def close(self) -> None:
        """Close the folder."""
        _kernel.CloseHandle(self._handle)

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Go through the entries of the folder."""
        with os.scandir(self.path) as entries:
            yield entries

    def status_of(self, entry: os.DirEntry[str]) -> os.stat_result:
        """Return the status of an entry, not of what a link leads to. Raises OSError."""
        # What a folder knows of its files on Windows is neither all nor the newest.
        return self.status(entry.name)

    def status(self, name: str) -> os.stat_result:
        """Return a file's status, not that of what a link leads to. Raises OSError."""
        return os.lstat(self._path_of(name))

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file. Raises OSError."""
        path = self._path_of(name)
        if flags & os.O_CREAT:
            return open_file(path, flags, mode)
        # Without waiting: many that cannot be opened must not hold up those that can. They are tried again.
        sys.audit("open", path, None, flags)
        return msvcrt.open_osfhandle(_create_file(path, flags), flags | os.O_BINARY)

    def take(self, name: str, target: str) -> None:
        """Move a file to a path in a folder of ours. Raises OSError."""
        rename(self._path_of(name), target)

    def put(self, source: str, name: str) -> None:
        """Move a file in here without replacing another. Raises FileExistsError, OSError."""
        rename_new(source, self._path_of(name))

    def rename(self, name: str, other: str) -> None:
        """Rename a file here, replacing a file that has the name. Raises OSError."""
        rename(self._path_of(name), self._path_of(other))

    def unlink(self, name: str) -> None:
        """Remove a file. Raises OSError."""
        unlink(self._path_of(name))

    def is_writable(self) -> bool:
        """True if files can be put here and taken out, as far as the system says."""
        return may_use(Path(self.path), os.W_OK)

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}"


def sync_names(place: str | Path | int) -> None:
    """Do nothing: a rename is durable when it returns, and fsync of a file makes its own name durable."""
    del place


def sync_file_system(place: str | int) -> bool:
    """Return False: Windows can make one file durable only."""
    del place
    return False


def start_writeback(path: str) -> None:
    """Do nothing: Windows writes when it likes."""
    del path


def free_bytes(place: str | int) -> int | None:
    """Return None: what is left is not asked for here; a write that has no room fails."""
    del place
    return None


def free_inodes(folder: Path) -> int | None:
    """Return None: there are no inodes here."""
    del folder
    return None


def is_read_only(folder: Path) -> bool:
    """Return False: it is not known here."""
    del folder
    return False


def mount_of(path: Path) -> Mount | None:
    r"""Return the share that a path lies on, `\\server\share`; None on a disk of this computer.

    A rename between two shares fails, also of one server, whose shares look like one disk. A drive letter
    counts as the share that it stands for.
    """
    share = _share_of(os.path.abspath(path)) or _share_of(os.path.realpath(path))
    return None if share is None else Mount(share, "smb", share)


def session_drive(path: Path) -> tuple[str, str] | None:
    """Return the drive letter of a path and what it stands for, if only this logon session has that letter.

    So it is where somebody has mapped it to a share, or to a folder (subst). A service does not see it.
    """
    drive = os.path.splitdrive(os.path.abspath(path))[0]
    if len(drive) != len("C:"):
        return None
    if _kernel.GetDriveTypeW(f"{drive}\\") == _REMOTE_DRIVE:
        return drive, _connection(drive) or "a share"
    target = ctypes.create_unicode_buffer(_LONGEST_TARGET)
    if _kernel.QueryDosDeviceW(drive, target, _LONGEST_TARGET) and target.value.startswith(_SUBSTITUTED):
        return drive, target.value.removeprefix(_SUBSTITUTED)
    return None


def _connection(drive: str) -> str | None:
    """Return the share that a drive letter is mapped to; None if that is not known."""
    target, size = ctypes.create_unicode_buffer(_LONGEST_TARGET), DWORD(_LONGEST_TARGET)
    code = _networks.WNetGetConnectionW(drive, target, ctypes.byref(size))
    return target.value if code in (0, _NOT_CONNECTED) and target.value else None


def _share_of(path: str) -> str | None:
    plain = re.sub(r"(?i)^\\\\\?\\(UNC\\)?", lambda long: "\\\\" if long[1] else "", path)
    drive = os.path.splitdrive(plain)[0]
    if drive.startswith("\\\\"):
        return drive.lower()
    connected = session_drive(Path(plain))
    return connected[1].lower() if connected and connected[1].startswith("\\\\") else None


def may_use(folder: Path, wanted: int) -> bool:
    """True if the system lets this process do what is `wanted` in a folder: os.R_OK and W_OK.

    The folder is opened with these rights: what the attribute "read-only" says is nothing, for a folder.
    """
    rights = _READ_ATTRIBUTES
    rights |= _LIST if wanted & os.R_OK else 0
    rights |= _ADD_FILE if wanted & os.W_OK else 0
    try:
        handle = _open_handle(folder, rights, _SHARE_ALL, _OPEN_EXISTING, _FOLDERS_TOO)
    except OSError:
        return False
    _kernel.CloseHandle(handle)
    return True
