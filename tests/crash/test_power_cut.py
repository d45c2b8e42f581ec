"""After a power cut at any instant nothing is lost, doubled or half."""

import re
import subprocess
from itertools import groupby
from pathlib import Path

import pytest

from meshctl.mesh.control_file import write_control_file
from tests.crash import process, strace
from tests.crash.judgement import Tally, Wrong
from tests.crash.power_cut import ext4
from tests.crash.power_cut.model import cut_power
from tests.crash.variants import Variant
from tests.crash.workers import fresh, named, pool_of_workers, without_client
from tests.payloads import pdf
from tests.site import make_site, sidecar

OBSTACLE = strace.obstacle()
EXT4_OBSTACLE = ext4.obstacle()
# One after the other: each takes all processors.
pytestmark = [
    pytest.mark.skipif(OBSTACLE is not None, reason=OBSTACLE or ""),
    pytest.mark.xdist_group("cuts"),
]
# Variants whose runs together make every kind of step, for the samples; the sweeps take all.
SAMPLED = (
    "with sidecar",
    "refused, other file system",
    "use-case folder",
    "mixed batch",
    "archive on other file system",
)
BOTH_KINDS = pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "unordered"])

_SEED = 20261122
# What a power cut can undo, or keep, of the hand-off of one letter.
_STEPS = {
    "take": r'renameat.*"letter\.pdf", .*/letters/\w+/letter\.pdf"',
    "sync its folder": r"fsync.*/letters/\w+>",
    "sync the letters": r"fsync.*/letters>",
    "sync the outbox": r"fsync.*/outbox>",
    "sync OUT": r"fsync.*/OUT>",
    "sync the payload": r"fsync.*/OUT/\.\w+\.dat\.part>",
    "sync the control file": r"fsync.*/OUT/\.\w+\.ctl\.part>",
    "ledger": r"fdatasync.*/ledger\.sqlite-wal>",
    "show the payload": r'renameat.*/OUT>, "\w+\.dat"',
    "remove what was dropped": r"unlink.*/letters/\w+/letter\.pdf",
    "show the control file": r'renameat.*/OUT>, "\w+\.ctl"',
    "log": r"write.*/meshctl\.log>",
    "close": r"rmdir.*/letters/\w+",
}


def test_each_step_of_a_hand_off_is_durable_before_the_next(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    site.run_once()
    site.place("letter.pdf", pdf("of one patient"), sidecar=sidecar())

    _, calls = process.record(site, (site.root,), tmp_path / "trace")

    seen = [name for call in calls for name, step in _STEPS.items() if re.match(step, call.text)]
    # SQLite begins a log with a sync of its own.
    steps = [name for name, _ in groupby(seen)]
    assert steps[steps.index("take") : steps.index("close") + 1] == [
        "take", "sync its folder", "sync the letters", "sync the outbox", "sync OUT", "sync the payload",
        "sync the control file", "ledger", "show the payload", "remove what was dropped", "sync OUT",
        "sync its folder", "show the control file", "sync OUT", "log", "ledger", "close",
    ]  # fmt: skip


@pytest.mark.slow
@BOTH_KINDS
def test_pairs_are_whole_whatever_the_sender_synced(is_ordered: bool) -> None:
    """A control file that is there after a cut has its payload whole, also if the sender synced nothing."""
    [tally] = cut_power([named("with sidecar")], is_ordered=is_ordered, most=40, are_drops_synced=False)

    assert tally.texts == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_model_notices_missing_syncs() -> None:
    """Without our syncs the model finds half pairs, so it can find them."""
    [tally] = cut_power([named("mixed batch")], is_ordered=True, most=160, without_syncs=True)

    assert tally.wrong[Wrong.HALF] > 0


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["SENT", "FAILED"])
def test_pair_that_the_client_kept_is_not_shown_again(folder: str) -> None:
    """A client acts on a rename that a cut undoes; what it kept in SENT or FAILED proves the hand-over."""
    with pool_of_workers() as pool:
        states, shown = pool.submit(_undo_the_rename, "SaveSent=Y", folder).result()

    assert shown == []
    assert states
    assert "claimed" not in states


@pytest.mark.slow
@pytest.mark.timeout(300)
@BOTH_KINDS
def test_sampled_cuts(is_ordered: bool) -> None:
    """After some cuts from the first to the last step of a run nothing is broken."""
    tallies = cut_power(_sampled(), is_ordered=is_ordered, most=12)

    assert {tally.kill_points for tally in tallies} == {12}
    assert _texts(tallies) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@BOTH_KINDS
def test_sampled_cuts_of_a_recovery(is_ordered: bool) -> None:
    """After some cuts in the run after a kill nothing is broken."""
    tallies = cut_power(_sampled(), is_ordered=is_ordered, most=8, while_recovering=True, every=4)

    assert sum(tally.kill_points for tally in tallies) > 15
    assert _texts(tallies) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@BOTH_KINDS
def test_sampled_pairs_are_whole_whatever_the_sender_synced(is_ordered: bool) -> None:
    """After some cuts a pair is whole also if the sender synced nothing."""
    tallies = cut_power(_sampled(), is_ordered=is_ordered, most=12, are_drops_synced=False)

    assert _texts(tallies) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
@BOTH_KINDS
def test_every_cut(is_ordered: bool) -> None:
    """After every cut that either kind of file system allows, nothing is broken."""
    tallies = cut_power(without_client(), is_ordered=is_ordered, most=400)

    assert sum(tally.kill_points for tally in tallies) > 2000
    assert _texts(tallies) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
@BOTH_KINDS
def test_every_cut_of_a_recovery(is_ordered: bool) -> None:
    """A cut in the run after a kill breaks nothing either."""
    tallies = cut_power(without_client(), is_ordered=is_ordered, most=150, while_recovering=True)

    assert sum(tally.kill_points for tally in tallies) > 2000
    assert _texts(tallies) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
@BOTH_KINDS
def test_all_pairs_are_whole_whatever_the_sender_synced(is_ordered: bool) -> None:
    """The same of every variant."""
    tallies = cut_power(without_client(), is_ordered=is_ordered, most=400, are_drops_synced=False)

    assert _texts(tallies) == []


@pytest.mark.timeout(600)
@pytest.mark.skipif(EXT4_OBSTACLE is not None, reason=EXT4_OBSTACLE or "")
@pytest.mark.parametrize(
    "rounds", [pytest.param(5, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)]
)
def test_real_cuts_on_ext4(tmp_path: Path, rounds: int) -> None:
    """An ext4 file system that is shut down under a running meshctl is recovered without a broken promise."""
    tally = _real(tmp_path, rounds, without_syncs=False)

    assert tally.kill_points == rounds
    assert tally.texts == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(EXT4_OBSTACLE is not None, reason=EXT4_OBSTACLE or "")
def test_real_cuts_notice_missing_syncs(tmp_path: Path) -> None:
    """A meshctl whose syncs do nothing fails the same test, so it tests something.

    When the kernel writes by itself is chance, so one of up to 36 cuts has to find a half pair.
    """
    halves = (
        _real(tmp_path / str(seed), 6, without_syncs=True, seed=_SEED + seed).wrong[Wrong.HALF]
        for seed in range(6)
    )

    assert any(halves)


def _real(folder: Path, rounds: int, *, without_syncs: bool, seed: int = _SEED) -> Tally:
    folder.mkdir(exist_ok=True)
    try:
        return ext4.cut_for_real(folder, rounds, seed=seed, without_syncs=without_syncs)
    except subprocess.CalledProcessError as error:
        if "mount" in error.cmd:
            pytest.skip("loop mounts are not allowed here")
        raise


def _sampled() -> list[Variant]:
    """Return the sample of variants, those that this machine has the file systems for."""
    return [variant for variant in without_client() if variant.title in SAMPLED]


def _texts(tallies: list[Tally]) -> list[str]:
    return [text for tally in tallies for text in tally.texts]


def _undo_the_rename(title: str, folder: str) -> tuple[list[str], list[str]]:
    """Take the pairs of a run killed before the ledger says `queued`, and put their control files back."""
    variant = named(title)
    with fresh(variant) as place:
        site = place.site
        client = variant.client_of(site)
        assert client is not None
        call = _commit_after_the_last_pair(variant)
        assert process.run_until(site, call).killed
        client.take_all()
        for stem in site.stems("SENT"):
            hidden = site.out / f".{stem}.ctl.part"
            hidden.write_bytes(write_control_file(client.controls[stem]))
            for end in (".ctl", ".dat"):
                (site.client_folder("SENT") / f"{stem}{end}").rename(
                    site.client_folder(folder) / f"{stem}{end}"
                )
        assert process.run(site).exit_code == 0
        states = [row["state"] for row in site.messages().values() if row["state"] != "rejected"]
        return states, site.stems()


def _commit_after_the_last_pair(variant: Variant) -> strace.Call:
    """Return the first write to the ledger after the last control file came into OUT."""
    with fresh(variant) as place:
        _, calls = process.record(place.site, place.roots, place.site.root / "trace")
    shown = max(number for number, call in enumerate(calls) if _shows_a_pair(call))
    return next(call for call in calls[shown:] if call.kind == "pwrite64")


def _shows_a_pair(call: strace.Call) -> bool:
    return call.kind == "renameat" and "/OUT>" in call.text and call.text.endswith('.ctl")')
