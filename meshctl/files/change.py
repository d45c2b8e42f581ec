"""Rename, replace, remove and open files that others may hold open for a moment.

On Windows a file that is open cannot be renamed, replaced or removed unless whoever has it open allows it,
and the MESH Client, a virus scanner or an indexer may have it open at any time. Each call here waits for
them, a second at most, and then raises PermissionError with nothing done: the caller's step is left for its
next turn. Elsewhere these are the system's own calls. All that moves a file of ours goes through here.

As on POSIX, a rename takes the place of a file that has the name already. On Windows it is durable when the
call returns (MOVEFILE_WRITE_THROUGH); on POSIX when its folder has been synced, see `durable`.
"""

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
    import time
    from collections.abc import Callable
    from ctypes import wintypes
    from typing import TypeVar

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.MoveFileExW.argtypes = (wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD)
    _REPLACE_EXISTING, _WRITE_THROUGH = 0x1, 0x8
    _kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    _kernel.CreateFileW.restype = wintypes.HANDLE
    _kernel.CreateFileW.argtypes = (
        *(wintypes.LPCWSTR, wintypes.DWORD, wintypes.DWORD, wintypes.LPVOID),
        *(wintypes.DWORD, wintypes.DWORD, wintypes.HANDLE),
    )
    GENERIC_READ, _GENERIC_WRITE = 0x80000000, 0x40000000
    # While we have a file open, others may do all but what Windows never allows.
    SHARE_READ, SHARE_WRITE, SHARE_DELETE = 0x1, 0x2, 0x4
    SHARE_ALL = SHARE_READ | SHARE_WRITE | SHARE_DELETE
    _CREATE_NEW, _CREATE_ALWAYS, OPEN_EXISTING, _OPEN_ALWAYS, _TRUNCATE = 1, 2, 3, 4, 5
    _NORMAL, _OPEN_LINK_ITSELF = 0x80, 0x00200000
    _WRITE_ATTRIBUTES, _BASIC_INFORMATION = 0x100, 0

    class _BasicInformation(ctypes.Structure):
        """What SetFileInformationByHandle takes: four times, of which 0 changes nothing, and attributes."""

        _fields_ = (("times", ctypes.c_longlong * 4), ("attributes", wintypes.DWORD))

    _kernel.SetFileInformationByHandle.argtypes = (
        *(wintypes.HANDLE, ctypes.c_int, wintypes.LPVOID, wintypes.DWORD),
    )

    _T = TypeVar("_T")
    _PATIENCE_SECONDS = 1.0
    _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.05
    # Access is denied (also: the target is open, or about to be removed), sharing violation, lock violation.
    _SHARING, _DENIED = frozenset({32, 33}), 5
    # File, path not found; name wrong, name too long.
    _NOT_FOUND, _TOO_LONG = (2, 3), (123, 206)
    _HELD_OPEN = _SHARING | {_DENIED}

    def _patiently(act: Callable[[], _T], read_only: str | Path | None = None) -> _T:
        """Try again while somebody has a file open. One that is `read_only` is made writable."""
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return act()
            except PermissionError as error:
                if error.winerror not in _HELD_OPEN or time.monotonic() > give_up_at:
                    raise
                if error.winerror == _DENIED and read_only is not None:
                    make_writable(read_only)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def make_writable(path: str | Path) -> None:
        """Take away the attribute "read-only", which forbids to remove, replace and sync a file."""
        with suppress(OSError):
            os.chmod(path, stat.S_IREAD | stat.S_IWRITE)

    def rename(source: str | Path, target: str | Path) -> None:
        """Give a file another name, in the place of what has it. Raises OSError."""
        _patiently(lambda: _move_file(source, target, _REPLACE_EXISTING | _WRITE_THROUGH), target)

    def rename_new(source: str, target: str) -> None:
        """Rename without replacing. Raises FileExistsError, OSError."""
        _patiently(lambda: _move_file(source, target, _WRITE_THROUGH))

    def _move_file(source: str | Path, target: str | Path, flags: int) -> None:
        sys.audit("os.rename", str(source), str(target), -1, -1)
        if not _kernel.MoveFileExW(str(source), str(target), flags):
            error = _last_error(source, target)
            # Windows may call a target that cannot be "not found", as it does a source that has gone.
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
        handle = open_handle(path, _WRITE_ATTRIBUTES, SHARE_ALL, OPEN_EXISTING, _OPEN_LINK_ITSELF)
        try:
            yield
        finally:
            kept = _BasicInformation(attributes=status.st_file_attributes)
            _kernel.SetFileInformationByHandle(
                handle, _BASIC_INFORMATION, ctypes.byref(kept), ctypes.sizeof(kept)
            )
            close_handle(handle)

    def rmdir(path: str | Path) -> None:
        """Remove an empty folder. Raises OSError."""
        _patiently(lambda: os.rmdir(path))

    def open_at_once(path: str | Path, flags: int) -> int:
        """Open a file as `open_file` does, but wait for nobody. Raises OSError."""
        sys.audit("open", str(path), None, flags)
        return msvcrt.open_osfhandle(_create_file(path, flags), flags | os.O_BINARY)

    def open_file(path: str | Path, flags: int, mode: int = 0o777) -> int:
        """Return a descriptor of a file, opened as os.open does, never in text mode. Raises OSError."""
        # os.open does not say why a file is denied, nor lets others rename and remove it.
        sys.audit("open", str(path), None, flags)
        for_writing = path if flags & (os.O_WRONLY | os.O_RDWR) else None
        handle = _patiently(lambda: _create_file(path, flags), for_writing)
        return msvcrt.open_osfhandle(handle, flags | os.O_BINARY)

    def _create_file(path: str | Path, flags: int) -> int:
        access = _GENERIC_WRITE if flags & (os.O_WRONLY | os.O_RDWR) else GENERIC_READ
        if flags & os.O_RDWR:
            access |= GENERIC_READ
        if flags & os.O_CREAT:
            how = _CREATE_NEW if flags & os.O_EXCL else _CREATE_ALWAYS if flags & os.O_TRUNC else _OPEN_ALWAYS
        else:
            how = _TRUNCATE if flags & os.O_TRUNC else OPEN_EXISTING
        try:
            return open_handle(path, access, SHARE_ALL, how, _NORMAL)
        except PermissionError:
            if os.path.isdir(path):
                # Opening a folder is denied, which is nobody's hold on it.
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
            raise

    def open_handle(path: str | Path, access: int, shared: int, how: int, flags: int) -> int:
        """Return what CreateFileW does, for `close_handle`. Raises OSError."""
        handle: int = _kernel.CreateFileW(str(path), access, shared, None, how, flags, None)
        if handle == wintypes.HANDLE(-1).value:
            raise _last_error(path)
        return handle

    def close_handle(handle: int) -> None:
        """Close what `open_handle` has opened."""
        _kernel.CloseHandle(handle)

    def is_name_too_long(error: OSError) -> bool:
        """True if a call failed since no file can have such a name."""
        return error.winerror in _TOO_LONG

    def is_held_open(error: OSError) -> bool:
        """True if a call failed since somebody has the file open: it can be tried again."""
        return error.winerror in _SHARING

else:
    rename, unlink, rmdir, open_file = os.rename, os.unlink, os.rmdir, os.open

    def make_writable(path: str | Path) -> None:
        """Do nothing: a file that may not be written can be renamed, replaced and removed."""
        del path

    def is_name_too_long(error: OSError) -> bool:
        """True if a call failed since no file can have such a name."""
        return error.errno == errno.ENAMETOOLONG

    def is_held_open(error: OSError) -> bool:
        """Return False: nobody's hold on a file keeps others from it."""
        del error
        return False

    _AT_FDCWD = -100
    _RENAME_NOREPLACE = 1
    _UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EMLINK})

    _libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def link(source: str, target: str) -> None:
        """Give a file a second name; a link is not followed. Raises OSError, NotImplementedError."""
        os.link(source, target, follow_symlinks=False)

    def rename_new(source: str, target: str, target_folder: int | None = None) -> None:
        """Rename without replacing. Raises FileExistsError, OSError.

        With `target_folder`, an open folder, `target` is a name in it. Where the file system cannot do that
        in one step, a link does the same; that does not look like a rename to those who watch the folder, so
        the file then waits for `quiet_seconds`.
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
