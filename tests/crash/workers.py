"""A pool of processes that have meshctl loaded, and folders for each in which to lay out sites."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import count
from multiprocessing import get_context
from pathlib import Path

from tests.crash import process
from tests.crash.judgement import Tally
from tests.crash.place import MEMORY, Place, has_two_file_systems
from tests.crash.variants import VARIANTS, Client, Variant

_numbers = count()


def named(title: str) -> Variant:
    """Return the variant of this title."""
    return next(variant for variant in VARIANTS if variant.title == title)


def possible() -> list[Variant]:
    """Return the variants that this machine has the file systems for."""
    two = has_two_file_systems(_fast_folder(), _other_folder())
    return [variant for variant in VARIANTS if two or not variant.moved]


def without_client() -> list[Variant]:
    """Return the possible variants in which nobody but meshctl is at work, and nothing else goes wrong."""
    return [
        variant
        for variant in possible()
        if variant.client is Client.NONE
        and variant.amid is None
        and variant.command is None
        and not variant.is_long
    ]


@contextmanager
def pool_of_workers(tamper: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Make a pool; each process of it first runs `tamper`, to break meshctl on purpose."""
    with (
        tempfile.TemporaryDirectory(prefix="crash-") as other,
        tempfile.TemporaryDirectory(prefix="crash-", dir=_fast_folder()) as fast,
        ProcessPoolExecutor(
            os.cpu_count() or 1,
            get_context("spawn"),
            initializer=_start_worker,
            initargs=(fast, other, tamper),
        ) as pool,
    ):
        yield pool


def added_up(parts: Mapping[str, Sequence[Future[Tally]]], on_done: Callable[[Tally], None]) -> list[Tally]:
    """Wait for the parts of each variant, by its title, and return the sums; `on_done` gets each at once."""
    tallies = []
    for title, futures in parts.items():
        tally = Tally(title)
        for future in futures:
            tally.add(future.result())
        on_done(tally)
        tallies.append(tally)
    return tallies


@contextmanager
def fresh(variant: Variant) -> Iterator[Place]:
    """Yield a place as it is before the run that is to be killed; only in a worker."""
    with copied(_template(variant.title)) as place:
        variant.drop(place.site)
        yield place


@contextmanager
def copied(original: Place) -> Iterator[Place]:
    """Yield a copy of a place; only in a worker."""
    place = original.copy(*new_folders())
    try:
        yield place
    finally:
        place.remove()


def new_folders() -> tuple[Path, Path]:
    """Return paths for a new site, on the fast file system and on the other one; only in a worker."""
    name = str(next(_numbers))
    return _Worker.fast / name, _Worker.other / name


@cache
def _template(title: str) -> Place:
    """Return a place with a variant's past, from which all of this worker's places are copied."""
    variant = named(title)
    place = variant.lay_out(*new_folders())
    if variant.before is not None:
        variant.before(place.site)
    if not variant.is_first_start:
        ended = process.run(place.site)
        assert (ended.exit_code, ended.printed) == (0, ""), ended.printed
    if variant.after is not None:
        variant.after(place.site)
    return place


class _Worker:
    """The folders, on two file systems, that one process of the pool may fill."""

    fast = Path()
    other = Path()


def _start_worker(fast: str, other: str, tamper: Callable[[], None] | None) -> None:
    _Worker.fast, _Worker.other = Path(fast) / str(os.getpid()), Path(other) / str(os.getpid())
    for folder in (_Worker.fast, _Worker.other):
        folder.mkdir()
    process.load()
    if tamper is not None:
        tamper()


def _fast_folder() -> Path:
    return MEMORY if MEMORY.is_dir() else _other_folder()


def _other_folder() -> Path:
    return Path(tempfile.gettempdir())
