"""The geometry of the charts: numbers in, places out, for the page to draw as SVG. Pure.

Across, places are percentages and down they are pixels: a chart fills a phone and a wide screen alike, while
its text keeps its size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Final

from meshctl.reporting.period import Columns

HEIGHT_PX: Final = 180
"""How high the columns of a chart may be."""

MOST_COLOURS: Final = 7
"""So many series are told apart by colour; the last stands for the rest where there are more."""

REST: Final = "others"
UNKNOWN: Final = "not known"

_LABELS: Final = 8
_GAP: Final = 0.16
_NICE: Final = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a column: place and width in per cent, place and height in pixels; what it tells."""

    left: float
    width: float
    top: float
    height: float
    colour: int
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A label, and where it stands: in per cent across, or in pixels down."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class ColumnChart:
    """Stacked columns, with labels below and lines across."""

    bars: list[Bar]
    below: list[Mark]
    lines: list[Mark]
    series: list[str]


def series_of(by_use_case: Mapping[str | None, Sequence[int]]) -> dict[str, list[int]]:
    """Return the counts by the name that is shown, those beyond the colours that there are as one."""
    named = [(UNKNOWN if name is None else name, list(counts)) for name, counts in by_use_case.items()]
    if len(named) <= MOST_COLOURS:
        return dict(named)
    rest = [sum(counts) for counts in zip(*(counts for _, counts in named[MOST_COLOURS - 1 :]), strict=True)]
    return {**dict(named[: MOST_COLOURS - 1]), REST: rest}


def column_chart(series: Mapping[str, Sequence[int]], columns: Columns) -> ColumnChart:
    """Lay out one stacked column for each column of the period."""
    count = len(columns)
    top = nice_limit(max(map(sum, zip(*series.values(), strict=True)), default=0))
    slot = 100 / count
    bars = []
    for number in range(count):
        base = float(HEIGHT_PX)
        for colour, (name, counts) in enumerate(series.items()):
            if counts[number]:
                height = counts[number] * HEIGHT_PX / top
                base -= height
                title = f"{column_name(columns, number)}: {counts[number]} {name}"
                bars.append(Bar(slot * (number + _GAP / 2), slot * (1 - _GAP), base, height, colour, title))
    every = ceil(count / _LABELS)
    below = [Mark(slot * (number + 0.5), column_label(columns, number)) for number in range(0, count, every)]
    step = top // 2 if top % 2 == 0 else top
    lines = [Mark(HEIGHT_PX * (1 - at / top), str(at)) for at in range(0, top + 1, step)]
    return ColumnChart(bars, below, lines, list(series))


def column_label(columns: Columns, number: int) -> str:
    """Return the short name of a column: its hour, or its day."""
    start_at = columns.borders[number]
    return f"{start_at:%d %b}" if columns.is_daily else f"{start_at:%H}h"


def column_name(columns: Columns, number: int) -> str:
    """Return the whole name of a column."""
    start_at = columns.borders[number]
    return f"{start_at:%a %d %b %Y}" if columns.is_daily else f"{start_at:%a %d %b, %H:%M}"


def shares(counts: Sequence[int]) -> list[float]:
    """Return how long the bar of each count is, in per cent of the longest."""
    longest = max(counts, default=0)
    return [100 * count / longest if longest else 0.0 for count in counts]


def nice_limit(highest: int) -> int:
    """Return the end of an axis that reaches `highest`: a number that reads well, and even where it can."""
    if highest <= 1:
        return max(highest, 1)
    power = int(10 ** floor(log10(highest)))
    return next(factor * power for factor in _NICE if factor * power >= highest)
