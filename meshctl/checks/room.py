"""Whether files can be moved from folder to folder, and whether there is room for more.

Two mounts of one file system count as two: a rename between them fails all the same.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshctl.checks.finding import Finding, error, remark, right, size, warning
from meshctl.checks.surroundings import Surroundings
from meshctl.checks.system import mount_of

FULL_BYTES, LOW_BYTES = 100 << 20, 1 << 30
FULL_INODES, LOW_INODES = 1_000, 20_000


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on a file system for ordinary users; `inodes` is None where they are not counted."""

    folder: Path
    names: tuple[str, ...]
    free_bytes: int
    free_inodes: int | None


def check_moves(surroundings: Surroundings) -> Iterator[Finding]:
    """Return between which folders files are moved, between which copied, and where neither goes."""
    outbox, work = surroundings.place("outbox").path, surroundings.place("work").path
    out = surroundings.place("OUT").path
    if not os.path.isdir(outbox) or not os.path.isdir(out):
        return
    # A work folder that is not there yet will be made in the nearest folder that is.
    if not on_one_mount(outbox, work):
        yield error(
            "one_file_system.outbox",
            f"{outbox} and {work} (staging.outbox, staging.work) are not on one mount of one file system, so"
            " no file can be claimed.",
            "Set staging.work to a folder beside the outbox. Under systemd each ReadWritePaths is a mount of"
            " its own: give the unit one parent of both.",
        )
    else:
        yield right("one_file_system.outbox", "Files are moved from the outbox to the work folder.")
    if not on_one_mount(work, out):
        yield remark(
            "one_file_system.OUT",
            f"{work} and {out} (staging.work, mailbox.folder) are not on one mount of one file system, so"
            " payloads are copied to OUT, which takes room twice and time.",
            "If that is not meant: put outbox and work folder beside the mailbox, on its file system.",
        )
    else:
        yield right("one_file_system.OUT", "Files are moved from the work folder to OUT, never copied.")


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
    left = f"On {where} {size(room.free_bytes)} are free"
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
