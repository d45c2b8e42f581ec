"""A disk that knows what has reached it: files, names, and what of both a power cut may take back.

Two kinds of file system are modelled. On an ordered one (ext4, xfs) changes of names reach the disk in the
order in which they were made, so that making those of one folder durable makes all before them durable. On
the other kind (btrfs, f2fs, and weaker) a sync makes durable what it is asked for and nothing else: of a
folder the names in it, of a file its own name, ahead of changes that were made before; and folders keep
their order each by itself. A rename is atomic on both. Content that was not synced may be missing, zeroed or
torn on both, whatever its name has done.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.crash.power_cut.steps import Kind, Step


@dataclass
class Node:
    """A file, a folder or a link. `durable` is a file's content on the disk, `content` what was written."""

    is_folder: bool = False
    link_target: str | None = None
    durable: bytes = b""
    content: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    stamp_ns: int = 0
    mode: int = 0o600

    def write(self, offset: int, data: bytes) -> None:
        """Write without making it durable."""
        self.pending.append((offset, data))
        self.content = _written(self.content, offset, data)

    def truncate(self, size_bytes: int) -> None:
        """Cut or lengthen without making it durable."""
        self.content = self.content[:size_bytes].ljust(size_bytes, b"\0")

    def sync(self) -> None:
        """Make the content durable."""
        self.durable = self.content
        self.pending.clear()

    def torn(self, writes: int) -> bytes:
        """Return the content of which only the first unsynced `writes` have arrived, the last one by half."""
        content = self.durable
        for number, (offset, data) in enumerate(self.pending[:writes], start=1):
            content = _written(content, offset, data[: len(data) // 2] if number == writes else data)
        return content


@dataclass
class Change:
    """One change of names, which happens as a whole or not at all."""

    added: tuple[str, int] | None
    removed: str | None
    system: str
    is_durable: bool = False

    def folders(self) -> set[str]:
        """Return the folders whose names it changes."""
        paths = [path for path in (self.added[0] if self.added else None, self.removed) if path]
        return {os.path.dirname(path) for path in paths}


class Disk:
    """The files below `roots`, each root a file system of its own; they are durable as they lie there now."""

    def __init__(self, roots: Iterable[Path], *, is_ordered: bool) -> None:
        self.roots = [str(root) for root in roots if root.is_dir()]
        self.nodes: list[Node] = []
        self.changes: list[Change] = []
        self.base: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._open: dict[int, tuple[int, int, bool]] = {}
        self.is_ordered = is_ordered
        by_inode: dict[tuple[int, int], int] = {}
        for root in self.roots:
            for path in (Path(root), *sorted(Path(root).rglob("*"))):
                status = path.lstat()
                key = (status.st_dev, status.st_ino)
                if key not in by_inode:
                    by_inode[key] = self._add(_node_on_disk(path, status))
                self.base[str(path)] = by_inode[key]
        self._names = dict(self.base)

    def forget_syncs_below(self, folder: Path) -> None:
        """Take the contents of a folder's files as written, but not as synced."""
        for path, number in self.base.items():
            node = self.nodes[number]
            if Path(path).is_relative_to(folder) and not node.is_folder and node.link_target is None:
                node.durable, node.pending = b"", [(0, node.content)]

    def pending(self) -> list[int]:
        """Return the numbers of the changes of names that a power cut may take back."""
        return [number for number, change in enumerate(self.changes) if not change.is_durable]

    def folders(self) -> set[str]:
        """Return the folders in which any name has changed."""
        return {folder for change in self.changes for folder in change.folders()}

    def names_with(self, kept: Iterable[int]) -> dict[str, int]:
        """Return the names on the disk when, beside what is durable, the changes `kept` have reached it."""
        names = dict(self.base)
        wanted = set(kept)
        for number, change in enumerate(self.changes):
            if change.is_durable or number in wanted:
                self._apply(change, names)
        return names

    def take(self, step: Step) -> None:
        """Let a step happen."""
        step = replace(step, path=self._resolved(step.path), other=self._resolved(step.other))
        if step.kind is Kind.OPEN:
            self._open_file(step)
        elif step.kind in (Kind.WRITE, Kind.TRUNCATE):
            self._write(step)
        elif step.kind is Kind.SYNC:
            self._sync(step)
        elif step.kind is Kind.SYNC_SYSTEM:
            self._sync_system(self._system_of(step.path))
        elif step.kind is Kind.TOUCH:
            if step.path in self._names:
                self.nodes[self._names[step.path]].stamp_ns = step.stamp_ns
        else:
            self._change_names(step)

    def _open_file(self, step: Step) -> None:
        self._open.pop(step.descriptor, None)
        if not self._is_here(step.path):
            return
        if step.path not in self._names:
            if "O_CREAT" not in step.flags:
                return
            self._note((step.path, self._add(Node())), None)
        number = self._names[step.path]
        if "O_TRUNC" in step.flags:
            self.nodes[number].truncate(0)
        self._open[step.descriptor] = (number, 0, "O_APPEND" in step.flags)

    def _write(self, step: Step) -> None:
        if step.descriptor not in self._open:
            return
        number, position, appends = self._open[step.descriptor]
        node = self.nodes[number]
        if step.kind is Kind.TRUNCATE:
            node.truncate(step.size_bytes)
        elif step.offset is not None:
            node.write(step.offset, step.data)
        else:
            position = len(node.content) if appends else position
            node.write(position, step.data)
            self._open[step.descriptor] = (number, position + len(step.data), appends)

    def _sync(self, step: Step) -> None:
        number = self._names.get(step.path)
        if number is None:
            return
        if not self.nodes[number].is_folder:
            self.nodes[number].sync()
            if not self.is_ordered:
                for change in self.changes:
                    change.is_durable = change.is_durable or (change.added or ("", -1))[1] == number
            return
        synced = [n for n, change in enumerate(self.changes) if step.path in change.folders()]
        for number, change in enumerate(self.changes):
            before = self.is_ordered and synced and number <= synced[-1]
            if number in synced or (before and change.system == self._system_of(step.path)):
                change.is_durable = True

    def _sync_system(self, system: str) -> None:
        for change in self.changes:
            change.is_durable = change.is_durable or change.system == system
        for path, number in self._names.items():
            if self._system_of(path) == system:
                self.nodes[number].sync()

    def _change_names(self, step: Step) -> None:
        if step.kind is Kind.SYMLINK:
            if self._is_here(step.other):
                self._note((step.other, self._add(Node(link_target=step.path))), None)
            return
        if not self._is_here(step.path):
            return
        if step.kind is Kind.MAKE_FOLDER:
            self._note((step.path, self._add(Node(is_folder=True, mode=0o700))), None)
        elif step.kind is Kind.RENAME:
            self._note((step.other, self._names[step.path]), step.path)
        elif step.kind is Kind.LINK:
            self._note((step.other, self._names[step.path]), None)
        else:
            self._note(None, step.path)

    def _note(self, added: tuple[str, int] | None, removed: str | None) -> None:
        path = added[0] if added else removed
        change = Change(added, removed, self._system_of(path or ""))
        self.changes.append(change)
        self._apply(change, self._names)

    def _apply(self, change: Change, names: dict[str, int]) -> None:
        if change.added is not None:
            path, number = change.added
            if os.path.dirname(path) not in names:
                return
            if change.removed is not None and names.get(change.removed) == number:
                del names[change.removed]
                for inside in [name for name in names if name.startswith(f"{change.removed}/")]:
                    names[path + inside.removeprefix(change.removed)] = names.pop(inside)
            names[path] = number
        elif change.removed is not None and not any(name.startswith(f"{change.removed}/") for name in names):
            names.pop(change.removed, None)

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _resolved(self, path: str) -> str:
        """Return a path without the links that lead to it."""
        parts = path.split("/")
        for end in range(1, len(parts)):
            number = self._names.get("/".join(parts[:end]))
            target = None if number is None else self.nodes[number].link_target
            if target is not None:
                return self._resolved("/".join([target, *parts[end:]]))
        return path

    def _is_here(self, path: str) -> bool:
        return any(path.startswith(f"{root}/") for root in self.roots)

    def _system_of(self, path: str) -> str:
        return next((root for root in self.roots if path == root or path.startswith(f"{root}/")), "")


def _node_on_disk(path: Path, status: os.stat_result) -> Node:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Node(link_target=os.readlink(path))
    if stat.S_ISDIR(status.st_mode):
        return Node(is_folder=True, mode=mode)
    data = path.read_bytes()
    return Node(durable=data, content=data, stamp_ns=status.st_mtime_ns, mode=mode)


def _written(content: bytes, offset: int, data: bytes) -> bytes:
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]
