"""Records a run, cuts the power after every step in a model, and starts meshctl on what is left."""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from tests.crash import process
from tests.crash.judgement import Fates, Tally, Verdict, Wrong, ended_well, judge, judge_visible
from tests.crash.place import Place
from tests.crash.power_cut.disk import Disk
from tests.crash.power_cut.states import cut_states
from tests.crash.power_cut.steps import Kind, Step, read_steps
from tests.crash.sweep import plan
from tests.crash.variants import Variant
from tests.crash.workers import added_up, fresh, named, new_folders, pool_of_workers

_SEED = 20261122
# Of the steps of a run, at which it is killed for the next one to be cut off.
_RECOVERIES_EVERY = 4
_PARTS = os.cpu_count() or 1


def cut_power(
    variants: Sequence[Variant],
    *,
    is_ordered: bool,
    most: int | None = None,
    without_syncs: bool = False,
    are_drops_synced: bool = True,
    while_recovering: bool = False,
    every: int = 1,
    on_done: Callable[[Tally], None] = lambda _: None,
) -> list[Tally]:
    """Cut the power in every way that the kind of file system allows, in at most so many ways a variant.

    `without_syncs` leaves out what meshctl itself does to make files durable; the ledger keeps its own. Where
    drops are not synced by who dropped them, they may be lost, and only pairs in OUT are judged. With
    `while_recovering` runs are killed at some of their steps first (one in `every` of those), and the power
    is cut in the next run.
    """
    with pool_of_workers() as pool:
        model = _Model(is_ordered, without_syncs, are_drops_synced, while_recovering, every)
        parts: dict[str, list[Future[Tally]]] = {}
        for variant in variants:
            part_most = None if most is None else -(-most // _PARTS)
            parts[variant.title] = [
                pool.submit(_cut, variant.title, part, model, part_most) for part in range(_PARTS)
            ]
        return added_up(parts, on_done)


@dataclass(frozen=True)
class _Model:
    is_ordered: bool
    without_syncs: bool
    are_drops_synced: bool
    while_recovering: bool
    every: int


def _cut(title: str, part: int, model: _Model, most: int | None) -> Tally:
    """Judge one part of the states that one run may leave; every part records runs of its own."""
    variant, tally = named(title), Tally(title)
    undisturbed = plan(title)
    if not model.while_recovering:
        with fresh(variant) as place:
            _cut_run(place, variant, undisturbed.expected, model, (part, _PARTS, most), tally)
        return tally
    calls = [call for call in undisturbed.calls if call.is_step][:: _RECOVERIES_EVERY * model.every]
    calls = calls[part::_PARTS]
    for call in calls:
        with fresh(variant) as place:
            if process.run_until(place.site, call).killed:
                few = None if most is None else -(-most // len(calls))
                _cut_run(place, variant, undisturbed.expected, model, (0, 1, few), tally)
    return tally


def _cut_run(
    place: Place,
    variant: Variant,
    expected: Fates,
    model: _Model,
    share: tuple[int, int, int | None],
    tally: Tally,
) -> None:
    """Record a run at a place, and judge a share of the states that a cut in it may leave."""
    part, parts, most = share
    disk = Disk(place.roots, is_ordered=model.is_ordered)
    if not model.are_drops_synced:
        disk.forget_syncs_below(place.site.outbox)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        ended = process.record_data(place.site, trace)
        assert not ended_well(ended), ended
        steps = [step for step in read_steps(trace) if not (model.without_syncs and _is_our_sync(step))]
    states = list(cut_states(disk, steps, _SEED))[part::parts]
    if most is not None and len(states) > most:
        # From the first to the last step of the run, so that every kind of step is among them.
        states = [states[number * len(states) // most] for number in range(most)]
    for state in states:
        again = state.lay_out(place, *new_folders())
        try:
            text = f"{variant.title}, cut after {state.after}, lost {state.lost}"
            verdict = judge_visible(again.site)
            if model.are_drops_synced:
                verdict = verdict or _start_again(again, variant, expected)
            tally.note(text, verdict)
        finally:
            again.remove()


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
