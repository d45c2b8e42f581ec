"""`python -m tests.crash`: kill meshctl everywhere, cut its power, and print what was found."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.crash import strace
from tests.crash.judgement import Tally, Wrong
from tests.crash.power_cut import ext4
from tests.crash.power_cut.model import cut_power
from tests.crash.sweep import sweep
from tests.crash.workers import possible, without_client

_WIDTH = 32
_CUTS = 400
_CUTS_RECOVERING = 150
_ROUNDS = 40
_SEED = 20261122


def main() -> int:
    """Run all of it and print the tables; 1 when a promise was broken, 2 when this machine cannot do it."""
    # It takes no options; --help says so.
    argparse.ArgumentParser("python -m tests.crash", description=__doc__).parse_args()
    obstacle = strace.obstacle()
    if obstacle is not None:
        print(obstacle, file=sys.stderr)
        return 2
    started = time.monotonic()
    twice = [variant for variant in possible() if variant.is_killed_twice]
    texts = _table("killed at every call", lambda: sweep(possible(), on_done=_print))
    texts += _table(
        "killed again, at every step of the recovery", lambda: sweep(twice, second=True, on_done=_print)
    )
    for kind, is_ordered in (("names in order: ext4, xfs", True), ("names out of order: btrfs, f2fs", False)):
        texts += _cut_tables(kind, is_ordered)
    obstacle = ext4.obstacle()
    if obstacle is None:
        texts += _table("real power cuts", _cut_for_real)
    else:
        print(f"\nno real power cuts: {obstacle}")
    print(f"\n{time.monotonic() - started:.0f} s")
    print(*texts, sep="\n")
    return 1 if texts else 0


def _cut_tables(kind: str, is_ordered: bool) -> list[str]:
    texts = _table(
        f"power cut, {kind}",
        lambda: cut_power(without_client(), is_ordered=is_ordered, most=_CUTS, on_done=_print),
    )
    return texts + _table(
        f"power cut in the run after a kill, {kind}",
        lambda: cut_power(
            without_client(),
            is_ordered=is_ordered,
            most=_CUTS_RECOVERING,
            while_recovering=True,
            on_done=_print,
        ),
    )


def _cut_for_real() -> list[Tally]:
    with tempfile.TemporaryDirectory() as folder:
        return [ext4.cut_for_real(Path(folder), _ROUNDS, _SEED)]


def _table(title: str, work: Callable[[], list[Tally]]) -> list[str]:
    """Do one kind of work, print its table, and return what was broken."""
    print(f"\n{title}\n{''.ljust(_WIDTH)}", "points".rjust(7), *(wrong.value.rjust(11) for wrong in Wrong))
    total = Tally("all")
    for tally in work():
        total.add(tally)
    _print(total)
    return total.texts


def _print(tally: Tally) -> None:
    figures = (str(tally.wrong[wrong]).rjust(11) for wrong in Wrong)
    print(tally.title.ljust(_WIDTH), str(tally.kill_points).rjust(7), *figures, flush=True)


if __name__ == "__main__":
    sys.exit(main())
