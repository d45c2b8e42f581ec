"""`meshctl report`: what became of a day's messages, as one HTML page. Only reads the ledger.

Writes the one file that is named, whole or not at all. It replaces an earlier report, and never anything
else.
"""

import os
import socket
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import click

from meshctl.clock import now as wall_clock
from meshctl.daemon.obstacles import Obstacle, obstacles_of
from meshctl.errors import ConfigError
from meshctl.files.durable import replace_file
from meshctl.files.reading import open_named
from meshctl.inbound.client import CLIENT_FACT, client_view
from meshctl.ledger import reads
from meshctl.reporting.figures import figures_of, quiet_periods
from meshctl.reporting.page import (
    MARK,
    MailboxLine,
    PeriodReport,
    ServerReport,
    counts_of,
    html_page,
    server_page,
)
from meshctl.reporting.period import (
    Period,
    client_signs,
    columns_of,
    overdue,
    since,
    taken,
    waits,
    whole_day,
)
from meshctl.settings.model import Settings
from meshctl.terminal.context import ledger_if_any, settings_of
from meshctl.terminal.options import parse_since
from meshctl.terminal.output import epilog
from meshctl.terminal.survey import Answer, Survey, every_place

_STANDARD_OUTPUT = Path("-")
_PATIENCE_SECONDS = 15.0
_BAD, _LATE = "bad", "late"
_STYLES = (_BAD, _LATE, "")
_EPILOG = epilog(
    {
        "meshctl report --html today.html": "today, until now",
        "meshctl report --day yesterday --html report.html": "the whole of yesterday, for cron",
        "meshctl report --since 30d --html month.html": "the last thirty days, day by day",
        "meshctl report --all --html server.html": "a row for each mailbox of this server, the worst first",
        "meshctl report --html - | mail -a 'Content-Type: text/html' ...": "by mail",
    },
    {
        0: "written",
        1: "the ledger cannot be read; with --all also: written, and a mailbox is blocked or cannot be read",
        2: "wrong usage or settings, or the file exists and is not a report, or has no folder",
    },
)


def _parse_day(_ctx: click.Context, _param: click.Parameter, value: str | None) -> date | None:
    if value is None:
        return None
    today = wall_clock().astimezone().date()
    by_name = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        day = by_name.get(value) or date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("give a date, such as 2026-11-22, or today or yesterday.") from None
    if day > today:
        raise click.BadParameter(f"{day} is in the future.")
    return day


@click.command(epilog=_EPILOG)
@click.option(
    "--day", metavar="D", callback=_parse_day, help="That day, local time: 2026-11-22, today, yesterday."
)
@click.option(
    "--since",
    "since_at",
    metavar="T",
    callback=parse_since,
    help="From then until now: 90m, 2h, 30d, or 2026-11-22, 2026-11-22T09:15 (local time).",
)
@click.option("--all", "is_all", is_flag=True, help="Every mailbox of this server, a row each.")
@click.option(
    "--html",
    "file",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write, or - for standard output. Replaces an earlier report of that name.",
)
@click.pass_context
def command(
    ctx: click.Context, day: date | None, since_at: datetime | None, is_all: bool, file: Path
) -> None:
    """Write what became of a day's messages as one HTML page, to read, print or mail.

    The page shows messages by hour and use case, how long they took, failures with what to do, what is
    overdue, and when the MESH Client was quiet. It needs no other files, runs no scripts and has no patient
    data. Without --day and --since it is about today.

    With --all, the page has a row for each mailbox of this server: each settings file that -m can name, and
    that of $MESHCTL_CONFIG where it is another. One that cannot be read is a row, too.
    """
    if day is not None and since_at is not None:
        raise click.UsageError("Give either --day or --since.")
    now = wall_clock()
    if since_at is not None and since_at >= now:
        raise click.UsageError("--since is in the future.")
    period = since(since_at, now) if since_at is not None else whole_day(day or now.astimezone().date(), now)
    places = every_place(ctx) if is_all else None
    settings = None if is_all else settings_of(ctx)
    if file != _STANDARD_OUTPUT:
        _check_replaceable(file)
    trouble = False
    if settings is not None:
        with reads.snapshot(settings.state.folder, settings.mailbox.id) as connection:
            page = html_page(_report(connection, settings, period, now))
    else:
        survey = Survey(places or [], lambda each: _reported(each, period, now), _PATIENCE_SECONDS)
        lines = sorted(map(_line, survey.answers()), key=lambda line: _STYLES.index(line.style))
        page = server_page(ServerReport(socket.gethostname(), now, period, lines))
        trouble = any(line.style == _BAD for line in lines)
    if file == _STANDARD_OUTPUT:
        sys.stdout.buffer.write(page)
        sys.stdout.flush()
    else:
        replace_file(file, page, _mode())
        click.echo(f"Written: {file}")
    ctx.exit(1 if trouble else 0)


@dataclass(frozen=True, slots=True)
class _ReportedMailbox:
    """What is known of a mailbox: its report, None before the first start, and what blocks it now."""

    report: PeriodReport | None
    obstacles: Sequence[Obstacle]


def _reported(settings: Settings, period: Period, now: datetime) -> _ReportedMailbox:
    with ledger_if_any(settings) as connection:
        report = None if connection is None else _report(connection, settings, period, now)
    return _ReportedMailbox(report, [each for each in obstacles_of(settings) if not each.is_warning])


def _line(answer: Answer[_ReportedMailbox]) -> MailboxLine:
    """Return the row of one mailbox."""
    settings, reported = answer.settings, answer.value
    report = None if reported is None else reported.report
    counts = None if report is None else counts_of(report)
    if reported is None:
        word, style, note = "no answer" if answer.hangs else "unreadable", _BAD, answer.short_problem()
    elif reported.obstacles:
        first = reported.obstacles[0]
        word, style, note = "blocked", _BAD, f"{first.part}: {first.text}"
    elif counts is None:
        word, style, note = "not begun", _LATE, "There is no ledger yet: the daemon has never run."
    elif counts["overdue now"] or counts["failed"] or counts["rejected"]:
        word, style, note = "to look at", _LATE, f"meshctl {answer.place.option} report has the page for it."
    else:
        word, style, note = "in order", "", ""
    return MailboxLine(
        name=answer.place.name,
        mailbox=None if settings is None else settings.mailbox.id,
        organisation=None if settings is None else settings.mailbox.organisation,
        word=word,
        style=style,
        note=note,
        counts=counts,
        last_seen_at=None if report is None else report.last_seen_at,
    )


def _report(
    connection: sqlite3.Connection, settings: Settings, period: Period, now: datetime
) -> PeriodReport:
    silent_after = settings.deadlines.client_silent_after
    last_seen_at = client_view(reads.fact(connection, CLIENT_FACT)).last_seen
    signs = client_signs(connection, period)
    if last_seen_at is not None:
        signs.append(last_seen_at)
    return PeriodReport(
        mailbox=settings.mailbox.id,
        organisation=settings.mailbox.organisation,
        written_at=now,
        period=period,
        figures=figures_of(taken(connection, period), columns_of(period)),
        overdue=overdue(connection),
        quiet=quiet_periods(signs, waits(connection, period), (period.start_at, period.end_at), silent_after),
        last_seen_at=last_seen_at,
        silent_after=silent_after,
        keep_days=settings.state.keep_days,
    )


def _check_replaceable(file: Path) -> None:
    """Raise ConfigError for a file that has no folder, or is no report; OSError if it cannot be read."""
    if not file.parent.is_dir():
        raise ConfigError(f"There is no folder {file.parent} for the page. Make it, or name another file.")
    try:
        with open_named(file) as there:
            is_ours = there.read(len(MARK)) == MARK
    except FileNotFoundError:
        return
    if not is_ours:
        raise ConfigError(
            f"{file} exists and is not a report of meshctl, so it was not replaced. Give another name."
        )


def _mode() -> int:
    """Return the permissions that the user's mask leaves a new file."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
