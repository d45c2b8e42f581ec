"""Write files so that they survive a power cut, and replace them so that a reader never sees half of one.

`fsync` makes one file or folder durable. `syncfs` makes everything on a file system durable at once, which
for a batch is far cheaper. It also waits for what other programs have written there, so a few files are
synced one by one instead.

Windows can do neither to a folder. There a rename is durable when it returns (see `platform.windows`), and
fsync, which is FlushFileBuffers, writes NTFS's journal up to that file's own name. A file that was removed
may come back after a power cut: as where a folder was not synced, the next start removes it again.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from meshctl.files.folder import Folder
from meshctl.files.reading import open_regular
from meshctl.platform import system

# Below this many files and folders, syncing each is quicker than waiting for the whole file system.
_FEW = 8
_COPY_CHUNK_BYTES = 1 << 20
HIDDEN_PREFIX = ".meshctl-"
"""The names of our temporary files begin with this; scans ignore them."""
# Most reports are no larger.
_PROBE_NAME, _PROBE_BYTES, _PROBE_MODE = f"{HIDDEN_PREFIX}probe-file", 4096, 0o600

# Of `replace_file`, while others do the same.
_MOST_TRIES = 20


def sync_file(path: str | Path, folder: Folder | None = None) -> None:
    """Make the content of a file durable; with `folder`, `path` is a name in it."""
    flags = system.SYNC
    descriptor = system.open_file(path, flags) if folder is None else folder.open(str(path), flags)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str | Path | Folder) -> None:
    """Make the names in a folder durable; on Windows they are already."""
    place, path = (folder.place, folder.path) if isinstance(folder, Folder) else (folder, folder)
    with naming(path):
        system.sync_names(place)


def make_folders(path: str, mode: int) -> None:
    """Make a folder, and those missing above it, durable before anything is put into them. Raises OSError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path) or os.curdir
    if parent != path:
        make_folders(parent, mode)
    # Of a drive or share that is not there, this says so.
    make_folder(path, mode)
    sync_folder(parent)


def make_folder(path: str | Path, mode: int) -> None:
    """Make a folder, unless it is there, but none above it; not durable. Raises OSError."""
    try:
        system.make_folder(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def barrier(
    files: Sequence[str],
    folders: Collection[str | Folder],
    within: tuple[Folder, Sequence[str]] | None = None,
    others: Sequence[str] = (),
) -> None:
    """Return when these files and the names in these folders are durable; `within`, names in a folder.

    `others` are files of other users: an error at one is ignored.

    Names come first, and together: on btrfs and f2fs a sync of one file may make its own new name durable,
    and a file must not be in its letter's folder before its sidecar is.
    """
    inside, names = within or (None, ())
    many = len(files) + len(names) + len(others) + len(folders)
    if many >= _FEW and all(map(_sync_file_system, _one_a_device(folders))):
        return
    for folder in folders:
        sync_folder(folder)
    # All before waiting for the first, so that the disk sees one long queue.
    for file in files:
        system.start_writeback(file)
    for file in files:
        sync_file(file)
    for name in names:
        sync_file(name, inside)
    for other in others:
        with suppress(OSError):
            _sync_if_possible(other)


def _sync_if_possible(path: str) -> None:
    """Make another user's file durable, without waiting for a FIFO or a lease of theirs. Raises OSError."""
    descriptor = system.open_file(path, system.READ | system.SYNC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def takes_files(folder: str) -> bool:
    """True if a small file can be written in a folder: an error at one file then concerns that file alone."""
    probe = f"{folder}/{_PROBE_NAME}"
    try:
        # A crash may have left one.
        system.unlink_if_there(probe)
        write_new(probe, bytes(_PROBE_BYTES), _PROBE_MODE)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            system.unlink(probe)
    return True


def write_new(path: str, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet; not durable until a barrier."""
    descriptor = system.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        system.set_mode(descriptor, mode)
        with naming(path):
            write_all(descriptor, data)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, in as many calls as the system takes for it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy_new(source: str, target: str, mode: int) -> None:
    """Copy a file to a name that must not exist yet; not durable until a barrier."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with (
        # Outermost, since closing may be what fails: the last bytes are written then.
        naming(target),
        open_regular(source) as reader,
        open(target, "xb", opener=lambda p, _: os.open(p, flags, mode)) as writer,
    ):
        system.set_mode(writer.fileno(), mode)
        shutil.copyfileobj(reader, writer, _COPY_CHUNK_BYTES)


def copy_whole(source: str, target: str, temporary: str) -> None:
    """Copy a file, its mode and its times to a name that it has only when it is complete; durable on return.

    `temporary` is a name in the target's folder; a file that a crash left there is replaced.
    """
    system.unlink_if_there(temporary)
    status = os.lstat(source)
    try:
        _copy_new(source, temporary, stat.S_IMODE(status.st_mode))
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        sync_file(temporary)
        system.rename(temporary, target)
    except OSError:
        # On a full disk half a copy must not take the room of others.
        with suppress(OSError):
            system.unlink(temporary)
        raise
    sync_folder(os.path.dirname(target))


def move(source: str, target: str, temporary: str) -> None:
    """Rename a file; where that cannot be, copy it whole (see `copy_whole`) before it goes here.

    So it is between two file systems; and on Windows, for it to have the access list of its new folder.
    """
    if not is_renamed(source, target):
        copy_whole(source, target, temporary)
        system.unlink(source)


def hidden(target: str) -> str:
    """Return a hidden name in the folder of a file, always the same, for what is to have its name."""
    folder, name = os.path.split(target)
    # Short, as the name itself may be as long as the file system allows.
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f"{folder}/{HIDDEN_PREFIX}{digest}"


def is_renamed(source: str, target: str) -> bool:
    """Rename a file; False, with nothing done, where it has to be copied. Raises OSError."""
    if system.KEEPS_LIST:
        return False
    try:
        system.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def replace_whole(path: str, data: bytes, mode: int, temporary: str) -> None:
    """Write `data` to `path`, which may exist and is never seen half written; durable on return.

    `temporary` is a name in the same folder; a file that a crash left there is replaced.
    """
    system.unlink_if_there(temporary)
    write_new(temporary, data, mode)
    sync_file(temporary)
    system.rename(temporary, path)
    sync_folder(os.path.dirname(path))


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add the name of an open file to its OSErrors, so that messages say which file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None


def _one_a_device(folders: Collection[str | Folder]) -> list[str | Folder]:
    # We made a folder within another of these, on the same device: no need to ask for its device.
    paths = {folder for folder in folders if isinstance(folder, str)}
    folders = [each for each in folders if isinstance(each, Folder) or os.path.dirname(each) not in paths]
    return list(
        {
            os.stat(folder.place if isinstance(folder, Folder) else folder).st_dev: folder
            for folder in folders
        }.values()
    )


def _sync_file_system(folder: str | Folder) -> bool:
    place, path = (folder.place, folder.path) if isinstance(folder, Folder) else (folder, folder)
    with naming(path):
        return system.sync_file_system(place)


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Write `data` to `path`, which may exist, with the permissions `mode`; not durable. Raises OSError.

    For content that can be made again, and for several processes at once. Others may write in the folder: no
    link of theirs is followed, and whatever has the name, be it a link, is replaced.
    """
    for tries_left in reversed(range(_MOST_TRIES)):
        _remove_left_over(path)
        try:
            _replace_once(path, data, mode)
        except FileNotFoundError:
            # Another process that does the same may have taken our temporary file for a left-over one.
            if not tries_left:
                raise
        else:
            return


def _remove_left_over(path: Path) -> None:
    """Remove the temporary files of processes that ended within `replace_file`."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.tmp")
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if pattern.fullmatch(name):
                with suppress(OSError):
                    system.unlink(path.with_name(name))


def _replace_once(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = system.open_file(temporary, system.CREATE, 0o600)
    try:
        try:
            write_all(descriptor, data)
            system.set_mode(descriptor, mode)
        finally:
            os.close(descriptor)
        system.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            system.unlink(temporary)
        raise
