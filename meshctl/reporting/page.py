"""Writing a report as one HTML page: figures in, text out; the template is `page.html`.

The page needs nothing but itself: no scripts, no fonts, no addresses. Every value is escaped, and its own
policy forbids it to load anything.

Charts are SVG. Horizontal positions are percentages and vertical ones are pixels: a chart fills a phone and
a wide screen, and its text keeps its size.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from math import ceil, floor, log10
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from meshctl import __version__
from meshctl.mesh.states import State
from meshctl.reporting.figures import LIMITS_SECONDS, MILESTONES, Figures, Quiet
from meshctl.reporting.period import Columns, Overdue, Period
from meshctl.sizes import span_text

MARK: Final = b"<!DOCTYPE html>\n<!-- meshctl report -->"
"""How every page begins: a later report replaces a file that begins so, and nothing else."""

MOST_ROWS: Final = 100
"""At most so many overdue messages and quiet periods are listed; the page counts the rest."""

# A day with a change from summer time.
_LONGEST_DAY_SECONDS: Final = 25 * 3600
_MEANINGS: Final = {
    State.SENT: "until MESH had it",
    State.RECEIVED: "until the practice's system had it",
    State.COMPLETED: "until the last acknowledgement",
}
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
_DEADLINES: Final = {
    "collected": "not taken from OUT",
    "sent": "nothing shows that MESH has it",
    "infrastructure_ack": "no infrastructure acknowledgement",
    "business_ack": "no business acknowledgement",
}


@dataclass(frozen=True, slots=True)
class PeriodReport:
    """All that a page shows. `keep_days` and `silent_after` are the settings that limit what can be seen."""

    mailbox: str
    organisation: str | None
    written_at: datetime
    period: Period
    figures: Figures
    overdue: Sequence[Overdue]
    quiet: Sequence[Quiet]
    last_seen_at: datetime | None
    silent_after: timedelta
    keep_days: int


COUNTED: Final = ("messages", "completed", "under way", "failed", "rejected", "overdue now")
"""What is counted of each mailbox on the page of a server."""


@dataclass(frozen=True, slots=True)
class MailboxLine:
    """A mailbox on the page of a server: what it is in a word, why, and its counts if they could be read.

    `style` is "bad", "late", or empty where nothing is wrong.
    """

    name: str
    mailbox: str | None
    organisation: str | None
    word: str
    style: str
    note: str
    counts: Mapping[str, int] | None
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class ServerReport:
    """All that the page of a server shows; its lines in the order of the page."""

    server: str
    written_at: datetime
    period: Period
    lines: Sequence[MailboxLine]


def counts_of(report: PeriodReport) -> dict[str, int]:
    """Return what the page of a server counts of one mailbox."""
    states = report.figures.states
    numbers = (
        report.figures.total,
        states[State.COMPLETED],
        report.figures.under_way,
        states[State.FAILED],
        states[State.REJECTED],
        len(report.overdue),
    )
    return dict(zip(COUNTED, numbers, strict=True))


def server_page(report: ServerReport) -> bytes:
    """Return the page of every mailbox of a server."""
    known = [line.counts for line in report.lines if line.counts is not None]
    styles = ("", "", "", "bad", "bad", "late")
    totals = (sum(counts[name] for counts in known) for name in COUNTED)
    return _render(
        "server.html",
        report=report,
        when=_when(report.period),
        counted=COUNTED,
        tiles=list(zip(COUNTED, totals, styles, strict=True)),
    )


def html_page(report: PeriodReport) -> bytes:
    """Return the page of a report."""
    return _render(
        "page.html",
        report=report,
        when=_when(report.period),
        figures=report.figures,
        arrivals=_arrivals(report.figures),
        distributions=[_distribution(report.figures, state) for state in MILESTONES],
        deadlines=_DEADLINES,
        is_cut=report.written_at - report.period.start_at > timedelta(days=report.keep_days),
        most_rows=MOST_ROWS,
        height_px=HEIGHT_PX,
        unknown=UNKNOWN,
    )


def _render(template: str, **values: object) -> bytes:
    environment = Environment(
        loader=PackageLoader("meshctl.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(time=_time, minute=_minute, span=span)
    text = environment.get_template(template).render(version=__version__, **values)
    return text.encode("utf-8", "xmlcharrefreplace")


def span(seconds: float | None) -> str:
    """Return how long something took, in two units: "4 s", "2 min 5 s", "1 d 3 h"; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return "under 1 s"
    return re.sub(r"(?<=\d) ", _NO_BREAK, span_text(seconds, parts=2))


def _arrivals(figures: Figures) -> dict[str, Any]:
    """Return the chart of messages by time and use case, and the rows of its table."""
    series = series_of(figures.by_use_case)
    columns = figures.columns
    rows = [
        (column_name(columns, number), counts)
        for number in range(len(columns))
        if any(counts := [of_series[number] for of_series in series.values()])
    ]
    totals = [sum(counts) for counts in series.values()]
    busiest = max(rows, key=lambda row: sum(row[1]), default=None)
    return {
        "chart": column_chart(series, columns),
        "names": list(series),
        "totals": totals,
        "rows": rows,
        "busiest": None if busiest is None else (busiest[0], sum(busiest[1])),
        "unit": columns.unit,
    }


def _distribution(figures: Figures, state: State) -> dict[str, Any]:
    """Return the chart of how long messages took to reach `state`."""
    durations = figures.durations[state]
    counts = durations.bins()
    longer = f"over {span(LIMITS_SECONDS[-1])}"
    names = [f"up to {span(limit)}" for limit in LIMITS_SECONDS] + [longer]
    return {
        "state": state.value,
        "meaning": _MEANINGS[state],
        "count": len(durations.seconds),
        "rows": list(zip(names, counts, shares(counts), strict=True)),
        "half": durations.quantile(0.5),
        "most": durations.quantile(0.9),
        "longest": durations.quantile(1.0),
    }


def _time(at: datetime) -> str:
    return f"{at.astimezone():%d %b %Y, %H:%M:%S}"


def _minute(at: datetime) -> str:
    return f"{at.astimezone():%d %b, %H:%M}"


def _when(period: Period) -> str:
    start_at, end_at = period.start_at, period.end_at
    begins = f"{start_at:%A, %d %B %Y}"
    if start_at.time() == time.min and end_at.time() == time.min and period.seconds <= _LONGEST_DAY_SECONDS:
        return begins
    ends = f"{end_at:%A, %d %B %Y}"
    until = f"{end_at:%H:%M %Z}" if ends == begins else f"{ends}, {end_at:%H:%M %Z}"
    return f"{begins}, {start_at:%H:%M} to {until}"


HEIGHT_PX: Final = 180
"""How high the columns of a chart may be."""

MOST_COLOURS: Final = 7
"""So many series have a colour of their own; where there are more, the last has all the rest."""

REST: Final = "others"
UNKNOWN: Final = "not known"

_LABELS: Final = 8
_GAP: Final = 0.16
_NICE: Final = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a column: left and width in per cent, top and height in pixels, and its tooltip."""

    left: float
    width: float
    top: float
    height: float
    colour: int
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A label and its position: in per cent from the left, or in pixels from the top."""

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
    """Return the counts by the name to show; those beyond the available colours are added up."""
    named = [(UNKNOWN if name is None else name, list(counts)) for name, counts in by_use_case.items()]
    if len(named) <= MOST_COLOURS:
        return dict(named)
    rest = [sum(counts) for counts in zip(*(counts for _, counts in named[MOST_COLOURS - 1 :]), strict=True)]
    return {**dict(named[: MOST_COLOURS - 1]), REST: rest}


def column_chart(series: Mapping[str, Sequence[int]], columns: Columns) -> ColumnChart:
    """Return one stacked column for each column of the period."""
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
    """Return the full name of a column."""
    start_at = columns.borders[number]
    return f"{start_at:%a %d %b %Y}" if columns.is_daily else f"{start_at:%a %d %b, %H:%M}"


def shares(counts: Sequence[int]) -> list[float]:
    """Return the length of each count's bar, in per cent of the longest."""
    longest = max(counts, default=0)
    return [100 * count / longest if longest else 0.0 for count in counts]


def nice_limit(highest: int) -> int:
    """Return the end of an axis that reaches `highest`: a round number, even where possible."""
    if highest <= 1:
        return max(highest, 1)
    power = int(10 ** floor(log10(highest)))
    return next(factor * power for factor in _NICE if factor * power >= highest)
