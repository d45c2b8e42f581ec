"""`python -m tests.benchmarks`: print the table. `--quick` for a first look, `--folder` for another disk."""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from meshctl import __version__
from tests.benchmarks import measures
from tests.benchmarks.measures import Bench
from tests.benchmarks.measuring import Row, file_system_of


def main() -> int:
    """Measure, print, and return 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to measure; default: a temporary folder")
    parser.add_argument("--quick", action="store_true", help="small backlogs, one round")
    parser.add_argument("--only", help="only measurements whose name contains this")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="meshctl-bench-", dir=chosen.folder))
    python, machine = platform.python_version(), f"{platform.machine()}, {os.cpu_count()} processors"
    today = time.strftime("%Y-%m-%d")
    print(f"meshctl {__version__}, Python {python}, {machine}, Linux {platform.release()}, {today}")
    missed = 0
    with measures.loop_ext4(folder) as journalled:
        for row in _rows(folder, journalled, quick=chosen.quick, only=chosen.only or ""):
            verdict = "" if not row.target else "met" if row.met else "MISSED"
            print(f"| {row.what} | {row.plain} | {row.meshctl} | {row.ratio} | {row.target} | {verdict} |")
            sys.stdout.flush()
            missed += not row.met
    print(f"The files are in {folder}; remove them when no more measuring is to be done.")
    return 1 if missed else 0


def _rows(folder: Path, journalled: Path | None, *, quick: bool, only: str) -> Iterator[Row]:
    rounds = 1 if quick else 3
    backlogs = (1000,) if quick else (1000, 10_000, 100_000)
    places = [(folder, (2.4, 1.8))] + ([(journalled, (3.5, 2.8))] if journalled else [])
    for place, (target_6, target_60) in places:
        if only and only not in "throughput":
            break
        _heading(place)
        bench = Bench(place / "throughput", rounds)
        for backlog in backlogs:
            if backlog == 100_000 and place is journalled:
                continue
            few = Bench(place / f"throughput-{backlog}", 1) if backlog == 100_000 else bench
            yield from measures.throughput(few, 6000, backlog, target_6)
            if backlog <= 10_000:
                yield from measures.throughput(few, 60_000, backlog, target_60)
    _heading(folder)
    bench = Bench(folder / "single", 1)
    many = 10_000 if quick else 100_000
    others: dict[str, Callable[[], Iterator[Row]]] = {
        "cost": lambda: _costs(Bench(folder / "cost", rounds), many),
        "hl7": lambda: measures.hl7(Bench(folder / "hl7", rounds), 60_000, 500 if quick else 2000, 1.3),
        "latency": lambda: measures.latency(bench, 100 if quick else 500),
        "reports": lambda: measures.reports(bench, 2000 if quick else 10_000),
        "start": lambda: measures.start_up(bench, many),
        "idle": lambda: measures.idle(bench, many // 5, 10 if quick else 60),
        "large": lambda: measures.large(bench, 75, 512 if quick else 2048),
        "fleet": lambda: measures.fleet(bench, 10 if quick else 50, 10 if quick else 60),
    }
    for name, measure in others.items():
        if only in name:
            yield from measure()


def _costs(bench: Bench, many: int) -> Iterator[Row]:
    yield from measures.cost(bench, 6000, 10_000, 250)
    yield from measures.growth(bench, 6000, 1000, many)
    yield from measures.cost(bench, 60_000, 10_000, 330)


def _heading(place: Path) -> None:
    print(f"\nOn {file_system_of(place)}\n")
    print("| measured | plain loop | meshctl | ratio | target | |")
    print("|---|---|---|---|---|---|")


if __name__ == "__main__":
    raise SystemExit(main())
