"""A folder that others can write to, held open: no step goes by a path that they can lead elsewhere.

Whoever may write to the outbox may at any time put a link in the place of a sub-folder, or another folder in
the place of this one. So a folder is opened once, and everything in it is done by that handle.

POSIX: every call names the open folder and a name in it. Windows: the handle does not share deletion, so
that nobody can rename or replace the folder while it is open, and what leads elsewhere (a link, a junction,
a mount point) is not entered; calls then go by path.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from meshctl.files import change

_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFE
"""How to open a file of somebody else's: no link is followed, no FIFO's writer waited for."""
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
"""How to make a file that must not exist yet."""

_LONGEST_NAME_BYTES = 255


class Folder:
    """An open folder; `path` is for what is told to people. Every name is one of a file in it."""

    def __init__(self, path: str, name: str | None = None, parent: "Folder | None" = None) -> None:
        """Open a folder by its path, or by its name in `parent`. Raises OSError.

        A name that is a link raises NotADirectoryError; links in the path of a folder that the settings name
        are the administrator's own, and are followed.
        """
        self.path = path
        self._handle = _open_folder(path, name, parent)

    def enter(self, name: str) -> "Folder":
        """Open a folder in this one. Raises OSError, NotADirectoryError for what leads elsewhere."""
        # As a look through the folder names it, and so events do.
        return Folder(os.path.join(self.path, name), name, self)

    def close(self) -> None:
        """Let go of the folder."""
        _close_folder(self._handle)

    def check_in_place(self) -> None:
        """Raise FileNotFoundError if another folder, or none, has the path now."""
        if not os.path.samestat(os.stat(self.path), os.stat(self.place)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status_of(self, entry: os.DirEntry[str]) -> os.stat_result:
        """Return the status of an entry, not of what a link leads to. Raises OSError."""
        # What a folder knows of its files on Windows is neither all nor the newest.
        return self.status(entry.name) if sys.platform == "win32" else entry.stat(follow_symlinks=False)

    def has(self, name: str) -> bool:
        """True if something has this name."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        except OSError as error:
            if change.is_name_too_long(error) and len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
                return False
            raise
        return True

    def unlink_if_there(self, name: str) -> None:
        """Remove a file, if there is one. Raises OSError."""
        with suppress(FileNotFoundError):
            self.unlink(name)

    if sys.platform == "win32":

        @contextmanager
        def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
            """Go through what lies in the folder."""
            with os.scandir(self.path) as entries:
                yield entries

        @property
        def place(self) -> str:
            """Return what the folder is for calls that take one."""
            return self.path

        def path_of(self, name: str) -> str:
            """Return the path of a file."""
            return f"{self.path}/{name}"

        def status(self, name: str) -> os.stat_result:
            """Return a file's status, not that of what a link leads to. Raises OSError."""
            return os.lstat(self.path_of(name))

        def open(self, name: str, flags: int, mode: int = 0o600) -> int:
            """Open a file. Raises OSError."""
            if not flags & os.O_CREAT:
                # Many that cannot be opened must not hold up those that can: they are tried again.
                return change.open_at_once(self.path_of(name), flags)
            return change.open_file(self.path_of(name), flags, mode)

        def take(self, name: str, target: str) -> None:
            """Move a file out of here, to a path in a folder of ours. Raises OSError."""
            change.rename(self.path_of(name), target)

        def put(self, source: str, name: str) -> None:
            """Move a file in here, never in the place of another. Raises FileExistsError, OSError."""
            change.rename_new(source, self.path_of(name))

        def rename(self, name: str, other: str) -> None:
            """Give a file another name here, in the place of what has it. Raises OSError."""
            change.rename(self.path_of(name), self.path_of(other))

        def unlink(self, name: str) -> None:
            """Remove a file. Raises OSError."""
            change.unlink(self.path_of(name))

        def is_writable(self) -> bool:
            """True if files can be put here and taken out, as far as the system says."""
            return os.access(self.path, os.W_OK)

    else:

        @contextmanager
        def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
            """Go through what lies in the folder."""
            # Opened anew: two who go through one open folder would share their place in it.
            descriptor = os.open(".", _OPEN_FOLDER, dir_fd=self._handle)
            try:
                with os.scandir(descriptor) as entries:
                    yield entries
            finally:
                os.close(descriptor)

        @property
        def place(self) -> int:
            """Return what the folder is for calls that take one."""
            return self._handle

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
            """Move a file out of here, to a path in a folder of ours. Raises OSError."""
            try:
                os.rename(name, target, src_dir_fd=self._handle)
            except OSError as error:
                raise self._located(error, name) from None

        def put(self, source: str, name: str) -> None:
            """Move a file in here, never in the place of another. Raises FileExistsError, OSError."""
            try:
                change.rename_new(source, name, self._handle)
            except OSError as error:
                raise self._located(error, name) from None

        def rename(self, name: str, other: str) -> None:
            """Give a file another name here, in the place of what has it. Raises OSError."""
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


if sys.platform == "win32":
    _LIST, _READ_ATTRIBUTES = 0x1, 0x80
    _FOLDERS, _LINKS_THEMSELVES = 0x02000000, 0x00200000
    # Of a reparse tag: it stands for another place. Others (files in a cloud, deduplicated ones) do not.
    _IS_SURROGATE = 0x20000000

    def _open_folder(path: str, name: str | None, parent: Folder | None) -> int:
        del parent
        flags = _FOLDERS | (_LINKS_THEMSELVES if name is not None else 0)
        shared = change.SHARE_READ | change.SHARE_WRITE
        handle = change.open_handle(path, _LIST | _READ_ATTRIBUTES, shared, change.OPEN_EXISTING, flags)
        status = os.lstat(path) if name is not None else os.stat(path)
        if not stat.S_ISDIR(status.st_mode) or (name is not None and status.st_reparse_tag & _IS_SURROGATE):
            change.close_handle(handle)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return handle

    def _close_folder(handle: int) -> None:
        change.close_handle(handle)

else:
    _OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

    def _open_folder(path: str, name: str | None, parent: Folder | None) -> int:
        if name is None or parent is None:
            return os.open(path, _OPEN_FOLDER)
        try:
            return os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=parent.place)
        except OSError as error:
            if error.errno == errno.ELOOP and stat.S_ISLNK(parent.status(name).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
            raise

    def _close_folder(handle: int) -> None:
        os.close(handle)
