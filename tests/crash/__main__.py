"""`python -m tests.crash`: kill meshctl everywhere, and print what was found."""

import sys
import time

from tests.crash import strace
from tests.crash.judgement import Tally, Wrong
from tests.crash.sweep import sweep
from tests.crash.workers import possible

_WIDTH = 34


def main() -> int:
    """Run all sweeps and print the table; 1 when a promise was broken."""
    obstacle = strace.obstacle()
    if obstacle is not None:
        print(obstacle, file=sys.stderr)
        return 2
    started = time.monotonic()
    print("variant".ljust(_WIDTH), "kill points", *(wrong.value.rjust(11) for wrong in Wrong))
    tallies = sweep(possible(), on_done=_print)
    print("killed again while recovering")
    twice = [variant for variant in possible() if variant.is_killed_twice]
    tallies += sweep(twice, second=True, on_done=_print)
    total = Tally("all")
    for tally in tallies:
        total.add(tally)
    _print(total)
    print(f"{time.monotonic() - started:.0f} s")
    for text in total.texts:
        print(text)
    return 1 if total.wrong else 0


def _print(tally: Tally) -> None:
    figures = (str(tally.wrong[wrong]).rjust(11) for wrong in Wrong)
    print(tally.title.ljust(_WIDTH), str(tally.kill_points).rjust(11), *figures, flush=True)


if __name__ == "__main__":
    sys.exit(main())
