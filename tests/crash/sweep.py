"""Kills meshctl at every call of every variant, lets it start again, and judges what is left."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from multiprocessing import get_context
from pathlib import Path

from tests.crash import process
from tests.crash.client import HastyClient
from tests.crash.judgement import Fates, Verdict, Wrong, fates, judge, judge_visible
from tests.crash.place import MEMORY, Place, has_two_file_systems
from tests.crash.process import Ended
from tests.crash.strace import Call
from tests.crash.variants import VARIANTS, Variant

_CHUNK = 8
# At which of the steps of the first run it is killed, for the recovery to be killed at each of its steps.
_SECOND_EVERY = 3
_numbers = count()


@dataclass
class Tally:
    """What a sweep over one variant has found."""

    title: str
    kill_points: int = 0
    wrong: Counter[Wrong] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add what another part of the same sweep has found."""
        self.kill_points += other.kill_points
        self.wrong += other.wrong
        self.texts += other.texts

    def note(self, where: str, verdict: Verdict) -> None:
        """Count one kill and what it did."""
        self.kill_points += 1
        # One kill that breaks a promise in several ways is counted once for each kind.
        self.wrong.update({wrong for wrong, _ in verdict})
        self.texts += [f"{where}: {wrong}: {text}" for wrong, text in verdict]


@dataclass(frozen=True)
class Plan:
    """What a variant does when nobody kills it: its calls, and what becomes of its files."""

    calls: list[Call]
    expected: Fates


def sweep(
    variants: Sequence[Variant] = VARIANTS,
    *,
    every: int = 1,
    second: bool = False,
    on_done: Callable[[Tally], None] = lambda _: None,
) -> list[Tally]:
    """Kill each variant at its calls (at one in `every`).

    With `second` kill at its steps, and then the recovery at each of its own.
    """
    with _pool() as pool:
        plans = {variant.title: pool.submit(_plan, variant.title) for variant in variants}
        parts: dict[str, list[Future[Tally]]] = {}
        for variant in variants:
            plan = plans[variant.title].result()
            if second:
                calls = [call for call in plan.calls if call.is_step][:: every * _SECOND_EVERY]
            else:
                calls = plan.calls[::every]
            work, size = (_kill_twice, 1) if second else (_kill_once, _CHUNK)
            chunks = [calls[at : at + size] for at in range(0, len(calls), size)]
            parts[variant.title] = [pool.submit(work, variant.title, part, plan.expected) for part in chunks]
        tallies = []
        for variant in variants:
            tally = Tally(variant.title)
            for future in parts[variant.title]:
                tally.add(future.result())
            on_done(tally)
            tallies.append(tally)
    return tallies


def possible(variants: Sequence[Variant] = VARIANTS) -> list[Variant]:
    """Return the variants that this machine has the file systems for."""
    two = has_two_file_systems(_fast_folder(), _other_folder())
    return [variant for variant in variants if two or not variant.moved]


def _plan(title: str) -> Plan:
    variant = _named(title)
    with _fresh(variant) as place, tempfile.TemporaryDirectory() as folder:
        client = variant.client_of(place.site)
        ended, calls = process.record(place.site, place.roots, Path(folder) / "trace", **_meanwhile(client))
        expected = fates(place.site, client)
        verdict = _ended_well(ended) + judge(place.site, client, expected, variant.prefix)
        if verdict:
            raise AssertionError(f"{title} is wrong before anything is killed: {verdict}")
    return Plan(calls, expected)


def _kill_once(title: str, calls: list[Call], expected: Fates) -> Tally:
    variant, tally = _named(title), Tally(title)
    for call in calls:
        with _fresh(variant) as place:
            client = variant.client_of(place.site)
            verdict = _kill(place, client, call)
            if verdict is not None:
                tally.note(f"{title}, {call.text}", verdict or _recover(place, client, variant, expected))
    return tally


def _kill_twice(title: str, calls: list[Call], expected: Fates) -> Tally:
    variant, tally = _named(title), Tally(title)
    for first in calls:
        with _fresh(variant) as once:
            client = variant.client_of(once.site)
            if _kill(once, client, first) is None:
                continue
            if variant.amid is not None:
                variant.amid(once.site)
            for second in _recovery_calls(once, client, variant):
                with _copied(once) as place:
                    again = _successor(variant, client, place)
                    verdict = _kill(place, again, second)
                    if verdict is not None:
                        where = f"{title}, {first.text}, then {second.text}"
                        tally.note(where, verdict or _run_again(place, again, variant, expected))
    return tally


def _recovery_calls(once: Place, client: HastyClient | None, variant: Variant) -> list[Call]:
    with _copied(once) as place, tempfile.TemporaryDirectory() as folder:
        again = _successor(variant, client, place)
        _, calls = process.record(place.site, place.roots, Path(folder) / "trace", **_meanwhile(again))
    return [call for call in calls if call.is_step]


def _successor(variant: Variant, client: HastyClient | None, place: Place) -> HastyClient | None:
    """Return a client for a copied place, which knows what the one before it took."""
    again = variant.client_of(place.site)
    if again is not None and client is not None:
        again.taken |= client.taken
        again.controls |= client.controls
    return again


def _kill(place: Place, client: HastyClient | None, call: Call) -> Verdict | None:
    """Kill a run at a call and judge what can be seen then; None when it ended before it came to that."""
    slow = None if client is None else "fsync" if call.kind == "rename" else "rename"
    ended = process.run_until(place.site, call, **_meanwhile(client), slow=slow)
    if not ended.killed:
        return None
    return judge_visible(place.site)


def _recover(place: Place, client: HastyClient | None, variant: Variant, expected: Fates) -> Verdict:
    if variant.amid is not None:
        variant.amid(place.site)
    return _run_again(place, client, variant, expected)


def _run_again(place: Place, client: HastyClient | None, variant: Variant, expected: Fates) -> Verdict:
    ended = process.run(place.site, **_meanwhile(client))
    return _ended_well(ended) + judge(place.site, client, expected, variant.prefix)


def _ended_well(ended: Ended) -> Verdict:
    if (ended.killed, ended.exit_code, ended.printed) == (False, 0, ""):
        return []
    return [(Wrong.DISAGREEING, f"the run ended with {ended.exit_code}: {ended.printed}")]


def _meanwhile(client: HastyClient | None) -> dict[str, process.Meanwhile]:
    return {} if client is None else {"meanwhile": client.watching}


@contextmanager
def _fresh(variant: Variant) -> Iterator[Place]:
    """Yield a place as it is before the run that is to be killed."""
    with _copied(_template(variant.title)) as place:
        variant.drop(place.site)
        yield place


@contextmanager
def _copied(original: Place) -> Iterator[Place]:
    number = next(_numbers)
    place = original.copy(_Worker.fast / str(number), _Worker.other / str(number))
    try:
        yield place
    finally:
        place.remove()


@cache
def _template(title: str) -> Place:
    """Return a place with a variant's past, from which all of this worker's places are copied."""
    variant = _named(title)
    number = next(_numbers)
    place = variant.lay_out(_Worker.fast / str(number), _Worker.other / str(number))
    if variant.before is not None:
        variant.before(place.site)
    if not variant.is_first_start:
        ended = process.run(place.site)
        assert (ended.exit_code, ended.printed) == (0, ""), ended.printed
    if variant.after is not None:
        variant.after(place.site)
    return place


def _named(title: str) -> Variant:
    return next(variant for variant in VARIANTS if variant.title == title)


def _fast_folder() -> Path:
    return MEMORY if MEMORY.is_dir() else _other_folder()


def _other_folder() -> Path:
    return Path(tempfile.gettempdir())


class _Worker:
    """The folders, on two file systems, that one process of the pool may fill."""

    fast = Path()
    other = Path()


def _start_worker(fast: str, other: str) -> None:
    _Worker.fast, _Worker.other = Path(fast) / str(os.getpid()), Path(other) / str(os.getpid())
    for folder in (_Worker.fast, _Worker.other):
        folder.mkdir()
    process.load()


@contextmanager
def _pool() -> Iterator[ProcessPoolExecutor]:
    with (
        tempfile.TemporaryDirectory(prefix="crash-") as base,
        tempfile.TemporaryDirectory(prefix="crash-", dir=_fast_folder()) as fast,
        ProcessPoolExecutor(
            os.cpu_count() or 1, get_context("spawn"), initializer=_start_worker, initargs=(fast, base)
        ) as pool,
    ):
        yield pool
