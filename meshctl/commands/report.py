"""`meshctl report`: what became of a day's messages, as one HTML page. Only reads the ledger.

Writes the one file that is named, whole or not at all. It replaces an earlier report, and never anything
else.
"""

import os
import sqlite3
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import click

from meshctl.clock import now as wall_clock
from meshctl.errors import ConfigError
from meshctl.files.durable import replace_file
from meshctl.inbound.client import CLIENT_FACT, client_view
from meshctl.ledger import reads
from meshctl.reporting.figures import figures_of, quiet_periods
from meshctl.reporting.page import MARK, PeriodReport, html_page
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
from meshctl.terminal.context import settings_of
from meshctl.terminal.options import parse_since
from meshctl.terminal.output import epilog

_STANDARD_OUTPUT = Path("-")
_EPILOG = epilog(
    {
        "meshctl report --html today.html": "today, until now",
        "meshctl report --day yesterday --html report.html": "the whole of yesterday, for cron",
        "meshctl report --since 30d --html month.html": "the last thirty days, day by day",
        "meshctl report --html - | mail -a 'Content-Type: text/html' ...": "by mail",
    },
    {
        0: "written",
        1: "the ledger cannot be read",
        2: "wrong usage or settings, or the file exists and is not a report",
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
@click.option(
    "--html",
    "file",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write, or - for standard output. Replaces an earlier report of that name.",
)
@click.pass_context
def command(ctx: click.Context, day: date | None, since_at: datetime | None, file: Path) -> None:
    """Write what became of a day's messages as one HTML page, to read, print or mail.

    The page shows messages by hour and use case, how long they took, failures with what to do, what is
    overdue, and when the MESH Client was quiet. It needs no other files, runs no scripts and has no patient
    data. Without --day and --since it is about today.
    """
    if day is not None and since_at is not None:
        raise click.UsageError("Give either --day or --since.")
    now = wall_clock()
    if since_at is not None and since_at >= now:
        raise click.UsageError("--since is in the future.")
    settings = settings_of(ctx)
    period = since(since_at, now) if since_at is not None else whole_day(day or now.astimezone().date(), now)
    if file != _STANDARD_OUTPUT:
        _check_replaceable(file)
    with reads.snapshot(settings.state.folder, settings.mailbox.id) as connection:
        page = html_page(_report(connection, settings, period, now))
    if file == _STANDARD_OUTPUT:
        sys.stdout.buffer.write(page)
        sys.stdout.flush()
        return
    replace_file(file, page, _mode())
    click.echo(f"Written: {file}")


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
    """Raise ConfigError if the file exists and is no report; OSError if it cannot be read."""
    try:
        with file.open("rb") as there:
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
