"""Killed at any call, meshctl loses nothing, doubles nothing, leaves nothing half and says what it did."""

import json
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from meshctl.ledger.database import LEDGER_NAME
from meshctl.outbound.handoff import HandOff
from meshctl.outbound.recover import Recovery
from tests.crash import process, strace
from tests.crash.judgement import Tally, Wrong
from tests.crash.sweep import sweep
from tests.crash.workers import fresh, named, pool_of_workers, possible

OBSTACLE = strace.obstacle()
# One after the other: each takes all processors.
pytestmark = [
    pytest.mark.skipif(OBSTACLE is not None, reason=OBSTACLE or ""),
    pytest.mark.xdist_group("kills"),
]


@pytest.mark.slow
def test_some_kill_points() -> None:
    """At a sample of the kill points of a mixed batch and of a refused file nothing is broken."""
    [mixed, refused] = sweep([named("mixed batch"), named("refused with its sidecar")], every=12)

    assert mixed.kill_points > 8
    assert refused.kill_points > 3
    assert mixed.texts + refused.texts == []


@pytest.mark.slow
def test_forked_process_makes_the_calls_of_the_command() -> None:
    """What is killed does, from the ledger's opening on, what `python -m meshctl` does."""
    with pool_of_workers() as pool:
        command, forked = pool.submit(_calls_of_command, "mixed batch"), pool.submit(_calls, "mixed batch")

        assert command.result() == forked.result()
        assert len(forked.result()) > 100


@pytest.mark.slow
def test_forgotten_refusals_are_not_told_again() -> None:
    """A rejection that left the ledger after `keep_days` is not taken for one that a crash interrupted."""
    with pool_of_workers() as pool:
        assert pool.submit(_refusals_told_after_a_crash, "refused, name taken").result() == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sampled_kill_points() -> None:
    """At some kill points of every variant, each kind of call among them, nothing is broken."""
    tallies = sweep(possible(), every=40)

    assert [tally.title for tally in tallies if tally.kill_points == 0] == []
    assert sum(tally.kill_points for tally in tallies) > 60
    assert _texts(tallies) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sampled_kill_points_of_recoveries() -> None:
    """The same where the recovery is killed at some of its steps."""
    twice = [variant for variant in possible() if variant.is_killed_twice]
    tallies = sweep(twice, second=True, every=20)

    assert sum(tally.kill_points for tally in tallies) > 20
    assert _texts(tallies) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_kill_point() -> None:
    """At every kill point of every variant nothing is broken."""
    tallies = sweep(possible())

    assert sum(tally.kill_points for tally in tallies) > 1500
    assert _texts(tallies) == []


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_every_kill_point_of_recoveries() -> None:
    """A recovery that is killed at any of its steps leaves what the next one can finish."""
    tallies = sweep([variant for variant in possible() if variant.is_killed_twice], second=True)

    assert sum(tally.kill_points for tally in tallies) > 1500
    assert _texts(tallies) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sweep_notices_a_missing_recovery() -> None:
    """Without recovery the sweep finds broken promises, so it can find them."""
    [tally] = sweep([named("mixed batch")], every=3, tamper=_recover_nothing)

    assert tally.wrong[Wrong.LOST] + tally.wrong[Wrong.DISAGREEING] > 10


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sweep_notices_a_rejection_left_behind() -> None:
    """Where a rejection that a crash left half done is not finished, the sweep finds it."""
    [tally] = sweep([named("refused with its sidecar")], tamper=_finish_no_rejections)

    assert tally.wrong[Wrong.DISAGREEING] > 0


def _texts(tallies: list[Tally]) -> list[str]:
    return [text for tally in tallies for text in tally.texts]


def _recover_nothing() -> None:
    pytest.MonkeyPatch().setattr(Recovery, Recovery.recover.__name__, lambda *_, **__: ([], False))


def _finish_no_rejections() -> None:
    recover = Recovery.recover

    def recover_the_rest(recovery: Recovery, handoff: HandOff, *given: Any, **named: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HandOff, HandOff.finish_rejections.__name__, lambda *_: [])
            return recover(recovery, handoff, *given, **named)

    pytest.MonkeyPatch().setattr(Recovery, Recovery.recover.__name__, recover_the_rest)


def _refusals_told_after_a_crash(title: str) -> int:
    """Kill a run that hands a letter over while `rejected/` holds a file that the ledger has forgotten."""
    variant = named(title)
    with fresh(variant) as place:
        site = place.site
        for path in site.outbox.iterdir():
            path.unlink()
        for explanation in site.explanations():
            content = explanation.content | {"at": "2001-01-01T00:00:00.000Z"}
            explanation.path.write_text(json.dumps(content))
        with closing(sqlite3.connect(site.state / LEDGER_NAME)) as connection, connection:
            connection.execute("DELETE FROM messages")
        named("one message").drop(site)
        assert process.run_until(site, strace.Call("renameat", 3, "a control file's way into OUT")).killed
        assert process.run(site).exit_code == 0
        return len(site.events("message.rejected"))


def _calls(title: str) -> list[str]:
    with fresh(named(title)) as place, tempfile.TemporaryDirectory() as folder:
        _, calls = process.record(place.site, place.roots, Path(folder) / "trace")
    return [call.kind for call in calls]


def _calls_of_command(title: str) -> list[str]:
    with fresh(named(title)) as place, tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        traced = f"trace={','.join(strace.CHANGING)}"
        recording = ["strace", "-qqq", "-y", "-s", "0", "-o", str(trace), "-e", traced]
        subprocess.run(
            [*recording, *place.site.command("run", "--once")],
            env=place.site.process_environ(),
            check=True,
        )
        calls = strace.changing_calls(trace, place.roots)
    return [call.kind for call in calls]
