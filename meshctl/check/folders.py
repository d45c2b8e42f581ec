"""Whether each folder is there, and whether we may do in it what we have to.

Our own folders are tried out, with a hidden, empty file that the daemon passes over and that never stays.
Of the MESH Client's folders the system is only asked.

Whether files can be moved from folder to folder, and whether there is room for more: two mounts of one file
system count as two, as a rename between them fails all the same.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshctl.check.finding import Finding, error, remark, right, warning
from meshctl.check.surroundings import Missing, Place, Surroundings
from meshctl.check.system import ourselves
from meshctl.files import change
from meshctl.files.mounts import mount_of
from meshctl.sizes import size_text

PROBE_NAME = ".meshctl-probe"
"""How the names of our trials begin: the daemon clears them away in `rejected/`, or passes them over."""


def try_out(folder: Path) -> float:
    """Make, rename and remove a file; return when the file system says it was made, seconds since 1970.

    Raises OSError where one of these is refused.
    """
    first = folder / f"{PROBE_NAME}-{os.getpid()}"
    second = folder / f"{PROBE_NAME}-{os.getpid()}-renamed"
    try:
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            made_at = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
        change.rename_new(str(first), str(second))
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                change.unlink(path)
    return made_at


_RIGHTS_ADVICE = (
    "Run meshctl check as the user that the daemon runs as. If that is this user, give it the right: change"
    " the folder's owner or group (chown, chgrp), or its permissions (chmod u+rwx or g+rwx)."
)

_CLOSED = "cannot be looked at, for lack of rights on a folder above it"
_READ_ONLY_ADVICE = "Look at dmesg for disk errors, then mount it for writing (mount -o remount,rw)."


def check_folders(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at every folder."""
    mailbox = surroundings.settings.mailbox.folder
    mailbox_is_there = os.path.isdir(mailbox)
    if not mailbox_is_there:
        why = _why_no_folder(mailbox)
        yield error(
            "folder.mailbox",
            f"The mailbox's folder {mailbox} {why}.",
            _RIGHTS_ADVICE
            if why == _CLOSED
            else "Correct folder in [mailbox], or client_config; mount the share that it is on; or start the"
            " MESH Client once, which makes it.",
        )
    for place in surroundings.places():
        if place.setting == "mailbox.folder" and not mailbox_is_there:
            continue
        if os.path.isdir(place.path):
            yield right(f"folder.{place.name}", f"{place.path} is there.")
            yield from check_rights(place)
        else:
            yield _not_there(place)


def check_rights(place: Place) -> Iterator[Finding]:
    """Check whether we may use a folder that is there."""
    name = f"rights.{place.name}"
    wanted = os.R_OK | os.X_OK | (os.W_OK if place.writes else 0)
    if place.writes and _is_read_only(place.path):
        yield error(name, f"{place.path} ({place.setting}) is on a read-only file system.", _READ_ONLY_ADVICE)
        return
    if not _accessible(place.path, wanted):
        we = ourselves()
        who = f"user {we.name}" if we else "this user"
        lacking = [word for bit, word in _WORDS if wanted & bit and not _accessible(place.path, bit)]
        text = f"{who[0].upper()}{who[1:]} may not {' or '.join(lacking)} {place.path} ({place.setting})."
        yield error(name, text, _RIGHTS_ADVICE)
        return
    if place.is_ours:
        try:
            try_out(place.path)
        except OSError as problem:
            yield error(
                name,
                f"No file can be made, renamed and removed in {place.path} ({place.setting}):"
                f" {_reason(problem)}.",
                _advice_for(problem),
            )
            return
    does = "read and changed" if place.writes else "read"
    yield right(name, f"{place.path} can be {does}.")


def _not_there(place: Place) -> Finding:
    name, what = f"folder.{place.name}", f"{place.path} ({place.setting}) {_why_no_folder(place.path)}"
    if what.endswith(_CLOSED):
        return error(name, f"{what}.", _RIGHTS_ADVICE)
    if os.path.lexists(place.path):
        return error(name, f"{what}.", f"Move it away and make a folder of that name: mkdir {place.path}")
    if place.missing is Missing.MAY_BE:
        return warning(
            name,
            f"{what}, so what the MESH Client puts there cannot be read.",
            "The MESH Client makes it when it starts; look whether it serves this mailbox.",
        )
    if place.missing is Missing.IS_MADE:
        parent = _nearest(place.path)
        if parent is not None and _accessible(parent, os.W_OK | os.X_OK):
            maker = "meshctl bridge" if place.setting.startswith("bridge.") else "meshctl run"
            return remark(name, f"{what} yet.", f"Nothing need be done: {maker} makes it when it starts.")
        return error(
            name,
            f"{what}, and cannot be made in {parent or place.path.anchor}.",
            f"Make it, and give it to the user that the daemon runs as: mkdir {place.path}",
        )
    owner = "Make it" if place.is_ours else "Start the MESH Client, or make it"
    return error(
        name, f"{what}.", f"{owner}: mkdir {place.path} — or correct {place.setting} in the settings."
    )


def _why_no_folder(path: Path) -> str:
    try:
        path.stat()
    except FileNotFoundError:
        return "leads nowhere" if os.path.islink(path) else "is not there"
    except OSError as problem:
        return _CLOSED if problem.errno == errno.EACCES else f"cannot be used: {_reason(problem)}"
    return "is not a folder"


def _nearest(path: Path) -> Path | None:
    return next((parent for parent in path.parents if os.path.exists(parent)), None)


def _accessible(path: Path, wanted: int) -> bool:
    return os.access(path, wanted, effective_ids=os.access in os.supports_effective_ids)


def _is_read_only(path: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _reason(problem: OSError) -> str:
    return os.strerror(problem.errno or 0)


def _advice_for(problem: OSError) -> str:
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Free space on this file system (df -h, df -i), or raise the quota."
    if problem.errno == errno.EROFS:
        return _READ_ONLY_ADVICE
    return _RIGHTS_ADVICE


_WORDS = ((os.R_OK, "read"), (os.W_OK, "write in"), (os.X_OK, "enter"))


FULL_BYTES, LOW_BYTES = 100_000_000, 1_000_000_000
FULL_INODES, LOW_INODES = 1_000, 20_000


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on a file system for ordinary users; `inodes` is None where they are not counted."""

    folder: Path
    names: tuple[str, ...]
    free_bytes: int
    free_inodes: int | None


def check_moves(surroundings: Surroundings) -> Iterator[Finding]:
    """Return whether files can be moved from the outbox to the work folder."""
    outbox, work = surroundings.place("outbox").path, surroundings.place("work").path
    out = surroundings.place("OUT").path
    if not os.path.isdir(outbox) or not os.path.isdir(out):
        return
    # A work folder that is not there yet will be made in the nearest folder that is.
    if not on_one_mount(outbox, work):
        yield error(
            "one_file_system.outbox",
            f"{outbox} and {work} (staging.outbox, staging.work) are not on one mount of one file system, so"
            " no file can be taken.",
            "Set staging.work to a folder beside the outbox. Under systemd each ReadWritePaths is a mount of"
            " its own: give the unit one parent of both.",
        )
    else:
        yield right("one_file_system.outbox", "Files are moved from the outbox to the work folder.")


def check_room(surroundings: Surroundings) -> Iterator[Finding]:
    """Return how much is left on each file system that we write to."""
    for room in rooms(surroundings):
        yield from room_findings(room)


def rooms(surroundings: Surroundings) -> list[Room]:
    """Return the file systems that we write to, each once, with the folders on it."""
    found: dict[int, tuple[Path, list[str]]] = {}
    for place in surroundings.places():
        folder = _existing(place.path)
        if place.writes:
            found.setdefault(folder.stat().st_dev, (folder, []))[1].append(place.name)
    return [_room(folder, tuple(names)) for folder, names in found.values()]


def room_findings(room: Room) -> Iterator[Finding]:
    """Judge what is left on one file system."""
    where = f"the file system of {room.folder} ({', '.join(room.names)})"
    left = f"On {where} {size_text(room.free_bytes)} are free"
    name = f"space.{room.names[0]}"
    advice = (
        "Free space: the MESH Client never empties SENT, and archive/ and rejected/ grow too."
        " du -sh shows which folder it is."
    )
    if room.free_bytes < FULL_BYTES:
        yield error(name, f"{left}: it is full, or as good as.", advice)
    elif room.free_bytes < LOW_BYTES:
        yield warning(name, f"{left}, which is not much.", advice)
    else:
        yield right(name, f"{left}.")
    if room.free_inodes is None:
        return
    name, left = f"inodes.{room.names[0]}", f"On {where} there is room for {room.free_inodes} more files"
    advice = "Remove files: df -i shows the file system, SENT and archive/ are the first places to look."
    if room.free_inodes < FULL_INODES:
        yield error(name, f"{left}: it has as good as no inodes left.", advice)
    elif room.free_inodes < LOW_INODES:
        yield warning(name, f"{left}, which is not many.", advice)
    else:
        yield right(name, f"{left}.")


def _room(folder: Path, names: tuple[str, ...]) -> Room:
    if not hasattr(os, "statvfs"):
        return Room(folder, names, shutil.disk_usage(folder).free, None)
    left = os.statvfs(folder)
    # File systems that make inodes as they go (btrfs, network shares) say 0 of 0.
    return Room(folder, names, left.f_bavail * left.f_frsize, left.f_favail if left.f_files else None)


def on_one_mount(one: Path, other: Path) -> bool:
    """True if a rename goes from one folder to the other; one that is missing counts as made."""
    return _mount(one) == _mount(other)


def _mount(path: Path) -> tuple[int, object]:
    folder = _existing(path)
    return folder.stat().st_dev, mount_of(folder)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if os.path.isdir(folder))
