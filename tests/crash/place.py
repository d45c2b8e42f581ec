"""Where a site lies for one kill: under one root, with some of its folders on a second file system."""

import json
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.site import Site

MEMORY = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True)
class Place:
    """A site, and the folder on the other file system that `moved` folders of the site lie in."""

    site: Site
    other: Path
    moved: tuple[str, ...] = field(default=())

    @property
    def roots(self) -> tuple[Path, ...]:
        """Return every folder that a change to the site is a change below."""
        return (self.site.root, self.other)

    def move(self, *names: str) -> "Place":
        """Put folders of the site on the other file system, with a link where they were."""
        self.other.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.move(self.site.root / name, self.other / name)
            (self.site.root / name).symlink_to(self.other / name)
        return replace(self, moved=(*self.moved, *names))

    def copy(self, root: Path, other: Path) -> "Place":
        """Copy all of it, as it is, to a new place."""
        shutil.copytree(self.site.root, root, symlinks=True)
        if self.moved:
            shutil.copytree(self.other, other, symlinks=True)
        for name in self.moved:
            (root / name).unlink()
            (root / name).symlink_to(other / name)
        return self.at(root, other)

    def at(self, root: Path, other: Path) -> "Place":
        """Return what this is elsewhere, where somebody has laid it out."""
        site = replace(self.site, root=root, dropped=list(self.site.dropped))
        _name_copied_files(site)
        return Place(site, other, self.moved)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.site.root, ignore_errors=True)
        shutil.rmtree(self.other, ignore_errors=True)


def _name_copied_files(site: Site) -> None:
    """Let the kept rows of indexes name the copies of their files: each is kept for one very file."""
    for path in site.work.glob("*/*/*.row"):
        use_case = path.parent.name.removeprefix(".").partition(".")[2]
        try:
            row = json.loads(path.read_bytes())
            folders = (path.parent, site.outbox / use_case, *site.work.glob("letters/*"))
            places = (folder / row["file"] for folder in folders)
            status = next(place.lstat() for place in places if place.exists())
        except (ValueError, StopIteration):
            continue
        stamps = path.lstat()
        row["inode"] = [status.st_dev, status.st_ino, status.st_uid]
        row["mark"] = row["mark"] and [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        path.write_text(json.dumps(row))
        os.utime(path, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))


def has_two_file_systems(one: Path, other: Path) -> bool:
    """True if two folders exist on different file systems."""
    return one.is_dir() and other.is_dir() and os.stat(one).st_dev != os.stat(other).st_dev
