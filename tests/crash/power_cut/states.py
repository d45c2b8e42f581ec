"""The states in which a power cut may leave a disk, from the steps of one run."""

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.place import Place
from tests.crash.power_cut.disk import Disk, Node
from tests.crash.power_cut.steps import Step

_RANDOM_SETS = 6

Content = Callable[[Node, random.Random], bytes]


@dataclass(frozen=True)
class CutState:
    """What is on the disk after the cut: a node for each path. `after` is the last step before it."""

    after: str
    lost: str
    nodes: dict[str, tuple[int, Node, bytes]]

    def lay_out(self, original: Place, root: Path, other: Path) -> Place:
        """Make the folders and files as they are after the cut, at a new place."""
        root.mkdir(parents=True)
        other.mkdir(parents=True)
        made: dict[int, Path] = {}
        for path, (number, node, content) in sorted(self.nodes.items()):
            target = _moved(path, original.site.root, root) or _moved(path, original.other, other)
            assert target is not None
            if node.is_folder:
                target.mkdir(exist_ok=True)
                target.chmod(node.mode)
            elif node.link_target is not None:
                linked = _moved(node.link_target, original.other, other)
                target.symlink_to(linked or node.link_target)
            elif number in made:
                target.hardlink_to(made[number])
            else:
                target.write_bytes(content)
                target.chmod(node.mode)
                os.utime(target, ns=(node.stamp_ns, node.stamp_ns))
                made[number] = target
        return original.at(root, other)


def cut_states(disk: Disk, steps: Sequence[Step], seed: int) -> Iterator[CutState]:
    """Yield every different state that a cut after some step may leave; the disk is used up."""
    chance = random.Random(seed)
    seen: set[bytes] = set()
    for step in (None, *steps):
        if step is not None:
            disk.take(step)
            if not step.changes:
                continue
        for kept in _kept(disk, chance):
            for name, content in _CONTENTS.items():
                state = _state(disk, str(step), kept, name, content, chance)
                mark = _mark(state)
                if mark not in seen:
                    seen.add(mark)
                    yield state


def _moved(path: str, old: Path, new: Path) -> Path | None:
    """Return where a path below `old` is below `new`; None when it is not below it."""
    inside = Path(path)
    return new / inside.relative_to(old) if inside.is_relative_to(old) else None


def _kept(disk: Disk, chance: random.Random) -> Iterable[tuple[int, ...]]:
    """Return which of the changes of names that are not durable may have reached the disk all the same."""
    pending = disk.pending()
    if disk.is_ordered:
        return {
            tuple(number for number in pending if number < limits[disk.changes[number].system])
            for limits in _limits(disk, pending)
        }
    sets = {tuple(pending[:end]) for end in range(len(pending) + 1)}
    for _ in range(_RANDOM_SETS):
        limit = {folder: chance.randrange(len(disk.changes) + 1) for folder in sorted(disk.folders())}
        sets.add(tuple(n for n in pending if all(n < limit[folder] for folder in disk.changes[n].folders())))
    return sorted(sets)


def _limits(disk: Disk, pending: Sequence[int]) -> Iterator[dict[str, int]]:
    """Yield how far each file system may have come, each by itself."""
    marks = [*pending, len(disk.changes)]
    limits = dict.fromkeys(disk.roots, 0)
    for root in disk.roots:
        for mark in marks:
            yield {**limits, root: mark}
            yield {**dict.fromkeys(disk.roots, len(disk.changes)), root: mark}


def _state(
    disk: Disk, after: str, kept: Sequence[int], name: str, content: Content, chance: random.Random
) -> CutState:
    names = disk.names_with(kept)
    contents = {number: content(disk.nodes[number], chance) for number in set(names.values())}
    nodes = {path: (number, disk.nodes[number], contents[number]) for path, number in names.items()}
    lost = f"{len(disk.pending()) - len(kept)} of {len(disk.pending())} names, content {name}"
    return CutState(after, lost, nodes)


def _mark(state: CutState) -> bytes:
    """Return what tells one state from another."""
    digest = hashlib.blake2b(digest_size=16)
    for path, (number, node, content) in sorted(state.nodes.items()):
        digest.update(repr((path, number, node.is_folder, node.link_target, len(content))).encode())
        digest.update(content)
    return digest.digest()


def _all_lost(node: Node, _: random.Random) -> bytes:
    return node.durable


def _all_there(node: Node, _: random.Random) -> bytes:
    return node.content


def _zeroed(node: Node, _: random.Random) -> bytes:
    return node.durable + bytes(max(0, len(node.content) - len(node.durable)))


def _torn(node: Node, _: random.Random) -> bytes:
    return node.torn((len(node.pending) + 1) // 2)


def _any(node: Node, chance: random.Random) -> bytes:
    return chance.choice((_all_lost, _all_there, _zeroed, _torn))(node, chance)


_CONTENTS: dict[str, Content] = {
    "lost": _all_lost,
    "there": _all_there,
    "zeroed": _zeroed,
    "torn": _torn,
    "mixed": _any,
}
