"""Writing a report as one HTML page: figures in, text out; the template is `page.html`.

The page needs nothing but itself: no scripts, no fonts, no addresses. Every value is escaped, and its own
policy forbids it to load anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from meshctl import __version__
from meshctl.mesh.states import State
from meshctl.reporting.charts import (
    HEIGHT_PX,
    UNKNOWN,
    column_chart,
    column_name,
    series_of,
    shares,
)
from meshctl.reporting.figures import LIMITS_SECONDS, MILESTONES, Figures, Quiet
from meshctl.reporting.period import Period
from meshctl.reporting.query import Overdue

MARK: Final = b"<!DOCTYPE html>\n<!-- meshctl report -->"
"""How every page begins, so that a later one may take its place and nothing else."""

MOST_ROWS: Final = 100
"""So many overdue messages and quiet periods are listed; of more, the page says how many."""

# Of the two days in the year that are no 24 hours, the longer one.
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
    """All that a page tells. `keep_days` and `silent_after` are the settings that bound what can be seen."""

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


def html_page(report: PeriodReport) -> bytes:
    """Return the page of a report."""
    environment = Environment(
        loader=PackageLoader("meshctl.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(time=_time, minute=_minute, span=span)
    text = environment.get_template("page.html").render(
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
        version=__version__,
    )
    return text.encode("utf-8", "xmlcharrefreplace")


def span(seconds: float | None) -> str:
    """Return how long something took, to two units: "4 s", "2 min 5 s", "1 d 3 h"; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return "under 1 s"
    rest, parts = round(seconds), []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{_NO_BREAK}{unit}")
    return " ".join(parts[:2])


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
    """Return the chart of how long messages took to come as far as `state`."""
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
