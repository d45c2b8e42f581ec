"""Kills meshctl at every call of every variant, lets it start again, and judges what is left."""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.crash import process
from tests.crash.client import HastyClient
from tests.crash.judgement import Fates, Tally, Verdict, ended_well, fates_of, judge, judge_visible
from tests.crash.place import Place
from tests.crash.strace import Call
from tests.crash.variants import Variant
from tests.crash.workers import added_up, copied, fresh, named, pool_of_workers

T = TypeVar("T")

_CHUNK = 8
# At which of the steps of the first run it is killed, for the recovery to be killed at each of its steps.
_SECOND_EVERY = 3


@dataclass(frozen=True)
class Plan:
    """What a variant does when nobody kills it: its calls, and what becomes of its files."""

    calls: list[Call]
    expected: Fates


def sweep(
    variants: Sequence[Variant],
    *,
    every: int = 1,
    second: bool = False,
    tamper: Callable[[], None] | None = None,
    on_done: Callable[[Tally], None] = lambda _: None,
) -> list[Tally]:
    """Kill each variant at its calls (at one in `every` of each kind).

    With `second` kill at its steps, and then the recovery at its own. `tamper` breaks meshctl first.
    """
    with pool_of_workers(tamper) as pool:
        plans = {variant.title: pool.submit(plan, variant.title) for variant in variants}
        points = [
            (variant, call)
            for variant in variants
            for call in plans[variant.title].result().calls
            if call.is_step or not (second or variant.is_long)
        ]
        chosen = thinned(points, every * (_SECOND_EVERY if second else 1), lambda point: point[1].kind)
        # However thin the sample, each variant is killed at least once, in the middle.
        for variant in {variant.title: variant for variant, _ in points}.values():
            if not any(of is variant for of, _ in chosen):
                of_variant = [point for point in points if point[0] is variant]
                chosen.append(of_variant[len(of_variant) // 2])
        parts: dict[str, list[Future[Tally]]] = {}
        for variant in variants:
            turns = [turn for turn, (of, _) in enumerate(chosen) if of is variant]
            calls = [chosen[turn][1] for turn in turns]
            expected = plans[variant.title].result().expected
            if second:
                parts[variant.title] = [
                    pool.submit(_kill_twice, variant.title, call, every, turn, expected)
                    for turn, call in zip(turns, calls, strict=True)
                ]
            else:
                parts[variant.title] = [
                    pool.submit(_kill_once, variant.title, calls[at : at + _CHUNK], expected)
                    for at in range(0, len(calls), _CHUNK)
                ]
        return added_up(parts, on_done)


def thinned(points: Sequence[T], every: int, kind: Callable[[T], str], turn: int = 0) -> list[T]:
    """Return one point in `every` of each kind, at least one of each; another `turn` returns others."""
    kinds: dict[str, list[T]] = {}
    for point in points:
        kinds.setdefault(kind(point), []).append(point)
    return [point for alike in kinds.values() for point in alike[turn % min(every, len(alike)) :: every]]


def plan(title: str) -> Plan:
    """Return what a variant does undisturbed; only in a worker."""
    variant = named(title)
    with fresh(variant) as place, tempfile.TemporaryDirectory() as folder:
        client = variant.client_of(place.site)
        ended, calls = process.record(
            place.site,
            place.roots,
            Path(folder) / "trace",
            meanwhile=_meanwhile(client),
            arguments=_arguments(variant, place),
        )
        if variant.command is not None:
            assert ended.exit_code == 0, ended.printed
            ended = process.run(place.site)
        expected = fates_of(place.site, client, variant)
        verdict = ended_well(ended) + judge(place.site, client, expected, variant)
        if verdict:
            raise AssertionError(f"{title} is wrong before anything is killed: {verdict}")
    return Plan(calls, expected)


def _kill_once(title: str, calls: list[Call], expected: Fates) -> Tally:
    variant, tally = named(title), Tally(title)
    for call in calls:
        with fresh(variant) as place:
            client = variant.client_of(place.site)
            verdict = _kill(place, client, call, _arguments(variant, place))
            if verdict is None:
                continue
            if variant.amid is not None:
                variant.amid(place.site)
            tally.note(f"{title}, {call.text}", verdict or _run_again(place, client, variant, expected))
    return tally


def _kill_twice(title: str, first: Call, every: int, turn: int, expected: Fates) -> Tally:
    variant, tally = named(title), Tally(title)
    with fresh(variant) as once:
        client = variant.client_of(once.site)
        if _kill(once, client, first) is None:
            return tally
        if variant.amid is not None:
            variant.amid(once.site)
        for second in thinned(_recovery_steps(once, client, variant), every, lambda call: call.kind, turn):
            with copied(once) as place:
                again = _successor(variant, client, place)
                verdict = _kill(place, again, second)
                if verdict is not None:
                    where = f"{title}, {first.text}, then {second.text}"
                    tally.note(where, verdict or _run_again(place, again, variant, expected))
    return tally


def _recovery_steps(once: Place, client: HastyClient | None, variant: Variant) -> list[Call]:
    with copied(once) as place, tempfile.TemporaryDirectory() as folder:
        again = _successor(variant, client, place)
        _, calls = process.record(
            place.site, place.roots, Path(folder) / "trace", meanwhile=_meanwhile(again)
        )
    return [call for call in calls if call.is_step]


def _successor(variant: Variant, client: HastyClient | None, place: Place) -> HastyClient | None:
    """Return a client for a copied place, which knows what the one before it took."""
    again = variant.client_of(place.site)
    if again is not None and client is not None:
        again.taken |= client.taken
        again.controls |= client.controls
    return again


def _arguments(variant: Variant, place: Place) -> Sequence[str]:
    return process.RUN if variant.command is None else variant.command(place.site)


def _kill(
    place: Place, client: HastyClient | None, call: Call, arguments: Sequence[str] = process.RUN
) -> Verdict | None:
    """Kill a run at a call and judge what can be seen then; None when it ended before it came to that."""
    slow = None if client is None else "fsync" if call.kind == "rename" else "rename"
    ended = process.run_until(place.site, call, meanwhile=_meanwhile(client), slow=slow, arguments=arguments)
    return judge_visible(place.site) if ended.killed else None


def _run_again(place: Place, client: HastyClient | None, variant: Variant, expected: Fates) -> Verdict:
    if variant.command is not None:
        # Whether it had begun or not, whoever gave it gives it again.
        process.run(place.site, arguments=variant.command(place.site))
    ended = process.run(place.site, meanwhile=_meanwhile(client))
    return ended_well(ended) + judge(place.site, client, expected, variant)


def _meanwhile(client: HastyClient | None) -> process.Meanwhile:
    return nullcontext if client is None else client.watching
