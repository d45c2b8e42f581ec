"""Records a run, cuts the power after every step in a model, and starts meshctl on what is left."""

import os
import random
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from tests.crash import process
from tests.crash.judgement import Fates, Tally, Verdict, Wrong, ended_well, fates_of, judge, judge_visible
from tests.crash.place import Place
from tests.crash.power_cut.disk import Disk
from tests.crash.power_cut.states import cut_states
from tests.crash.power_cut.steps import Kind, Step, read_steps
from tests.crash.variants import Variant
from tests.crash.workers import fresh, named, new_folders, pool_of_workers

_SEED = 20261122
_PARTS = os.cpu_count() or 1


def cut_power(
    variants: Sequence[Variant],
    *,
    is_ordered: bool,
    most: int | None = None,
    without_syncs: bool = False,
    are_drops_synced: bool = True,
    on_done: Callable[[Tally], None] = lambda _: None,
) -> list[Tally]:
    """Cut the power in every way that the kind of file system allows, in at most so many ways a variant.

    `without_syncs` leaves out what meshctl itself does to make files durable; the ledger keeps its own. Where
    drops are not synced by who dropped them, they may be lost, and only pairs in OUT are judged.
    """
    with pool_of_workers() as pool:
        model = _Model(is_ordered, without_syncs, are_drops_synced)
        parts: dict[str, list[Future[Tally]]] = {}
        for variant in variants:
            part_most = None if most is None else -(-most // _PARTS)
            parts[variant.title] = [
                pool.submit(_cut, variant.title, part, model, part_most) for part in range(_PARTS)
            ]
        tallies = []
        for variant in variants:
            tally = Tally(variant.title)
            for future in parts[variant.title]:
                tally.add(future.result())
            on_done(tally)
            tallies.append(tally)
    return tallies


@dataclass(frozen=True)
class _Model:
    is_ordered: bool
    without_syncs: bool
    are_drops_synced: bool


def _cut(title: str, part: int, model: _Model, most: int | None) -> Tally:
    """Judge one part of the states that one run may leave; every part records a run of its own."""
    variant, tally = named(title), Tally(title)
    with fresh(variant) as place, tempfile.TemporaryDirectory() as folder:
        disk = Disk(place.roots, is_ordered=model.is_ordered)
        if not model.are_drops_synced:
            disk.forget_syncs_below(place.site.outbox)
        trace = Path(folder) / "trace"
        ended = process.record_data(place.site, trace)
        assert not ended_well(ended), ended
        expected = fates_of(place.site, None, variant)
        steps = [step for step in read_steps(trace) if not (model.without_syncs and _is_our_sync(step))]
        states = list(cut_states(disk, steps, _SEED))[part::_PARTS]
        if most is not None and len(states) > most:
            states = random.Random(_SEED).sample(states, most)
        for state in states:
            again = state.lay_out(place, *new_folders())
            try:
                text = f"{title}, cut after {state.after}, lost {state.lost}"
                verdict = judge_visible(again.site)
                if model.are_drops_synced:
                    verdict = verdict or _start_again(again, variant, expected)
                tally.note(text, verdict)
            finally:
                again.remove()
    return tally


def _start_again(place: Place, variant: Variant, expected: Fates) -> Verdict:
    ended = process.run(place.site)
    if any(place.site.outbox.rglob("*.*")):
        # What was given back to the outbox just now may wait for its time.
        ended = process.run(place.site)
    verdict = ended_well(ended) + judge(place.site, None, expected, variant)
    # The log is not made durable line by line: its last lines may be lost.
    return [(wrong, text) for wrong, text in verdict if wrong is not Wrong.SILENT]


def _is_our_sync(step: Step) -> bool:
    # SQLite syncs with fdatasync.
    return step.kind in (Kind.SYNC, Kind.SYNC_SYSTEM) and step.call != "fdatasync"
