"""Where a site lies for one kill: under one root, with some of its folders on a second file system."""

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
        return Place(replace(self.site, root=root, dropped=list(self.site.dropped)), other, self.moved)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.site.root, ignore_errors=True)
        shutil.rmtree(self.other, ignore_errors=True)


def has_two_file_systems(one: Path, other: Path) -> bool:
    """True if two folders exist on different file systems."""
    return one.is_dir() and other.is_dir() and os.stat(one).st_dev != os.stat(other).st_dev
