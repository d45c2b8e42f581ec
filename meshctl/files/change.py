"""Rename, replace, remove and open files that others may hold open for a moment.

On Windows a file that is open cannot be renamed, replaced or removed unless whoever has it open allows it,
and the MESH Client, a virus scanner or an indexer may have it open at any time. Each call here waits for
them, a second at most, and then raises PermissionError with nothing done: the caller's step is left for its
next turn. Elsewhere these are the system's own calls. All that moves a file of ours goes through here.

As on POSIX, a rename takes the place of a file that has the name already.
"""

import ctypes
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import time
    from collections.abc import Callable
    from typing import TypeVar

    _T = TypeVar("_T")
    _PATIENCE_SECONDS = 1.0
    _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.05
    # Access is denied (also: the target is open, or about to be removed), sharing violation, lock violation.
    _HELD_OPEN = frozenset({5, 32, 33})

    def _patiently(act: Callable[[], _T]) -> _T:
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return act()
            except PermissionError as error:
                if error.winerror not in _HELD_OPEN or time.monotonic() > give_up_at:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def rename(source: str | Path, target: str | Path) -> None:
        """Give a file another name, in the place of what has it. Raises OSError."""
        _patiently(lambda: os.replace(source, target))

    def rename_new(source: str, target: str) -> None:
        """Rename without replacing. Raises FileExistsError, OSError."""
        _patiently(lambda: os.rename(source, target))

    def link(source: str, target: str) -> None:
        """Give a file a second name; a link is not followed. Raises OSError."""
        os.link(source, target)

    def unlink(path: str | Path) -> None:
        """Remove a file. Raises OSError."""
        _patiently(lambda: os.unlink(path))

    def rmdir(path: str | Path) -> None:
        """Remove an empty folder. Raises OSError."""
        _patiently(lambda: os.rmdir(path))

    def open_file(path: str | Path, flags: int, mode: int = 0o777) -> int:
        """Return a descriptor of a file, opened as os.open does, never in text mode. Raises OSError."""
        if os.path.isdir(path):
            # Opening a folder is denied, which is nobody's hold on it.
            return os.open(path, flags, mode)
        return _patiently(lambda: os.open(path, flags | os.O_BINARY, mode))

else:
    rename, unlink, rmdir, open_file = os.rename, os.unlink, os.rmdir, os.open

    _AT_FDCWD = -100
    _RENAME_NOREPLACE = 1
    _UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EMLINK})

    _libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def link(source: str, target: str) -> None:
        """Give a file a second name; a link is not followed. Raises OSError, NotImplementedError."""
        os.link(source, target, follow_symlinks=False)

    def rename_new(source: str, target: str) -> None:
        """Rename without replacing. Raises FileExistsError, OSError.

        Where the file system cannot do that in one step, a link does the same; that does not look like a
        rename to those who watch the folder, so the file then waits for `quiet_seconds`.
        """
        if _renamed_by_kernel(source, target):
            return
        try:
            link(source, target)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
            rename(source, target)
        else:
            unlink(source)

    def _renamed_by_kernel(source: str, target: str) -> bool:
        if _libc is None or not hasattr(_libc, "renameat2"):
            return False
        names = os.fsencode(source), os.fsencode(target)
        if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
            return True
        number = ctypes.get_errno()
        if number in _UNSUPPORTED:
            return False
        raise OSError(number, os.strerror(number), target)


def unlink_if_there(path: str | Path) -> None:
    """Remove a file, if there is one. Raises OSError."""
    with suppress(FileNotFoundError):
        unlink(path)
