"""`meshctl logs`: the log for a person, including its rotated files. Writes nothing."""

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime

import click

from meshctl.clock import now
from meshctl.errors import MeshctlError, is_closed_pipe
from meshctl.journal.lines import LEVELS, Entry, LogReader, parse_line, rotated_name
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog, local_time, relative_time

_LOOK_SECONDS = 0.2
# As many as `tail -f`.
_LINES_BEFORE_FOLLOWING = 10
_COLOURS = {"DEBUG": "bright_black", "INFO": "green", "WARNING": "yellow", "ERROR": "red"}

_EPILOG = epilog(
    {
        "meshctl logs": "the whole log",
        "meshctl logs -f --level WARNING": "problems, as they are logged",
        "meshctl logs --message 20261122091502480113_7F3A9C": "everything about one message",
        "meshctl logs --times": "with local times, and how long ago they were, in place of UTC",
        "meshctl logs --bridge -f": "the log of the bridge",
    },
    {0: "the log was shown, even if no line matches", 1: "there is no log, or it cannot be read"},
)


@click.command(epilog=_EPILOG)
@click.option("-f", "--follow", is_flag=True, help="Show the last lines, then new ones as they are written.")
@click.option("--message", metavar="ID", help="Only lines that name this message.")
@click.option(
    "--level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="Only lines of this level or above.",
)
@click.option("--times", is_flag=True, help="Show local times and how long ago that was, instead of UTC.")
@click.option("--bridge", is_flag=True, help="Show the log of meshctl bridge instead.")
@click.pass_context
def command(
    ctx: click.Context, follow: bool, message: str | None, level: str | None, times: bool, bridge: bool
) -> None:
    """Read the log, with colours on a terminal (unless NO_COLOR is set)."""
    settings = settings_of(ctx)
    path, writer = (settings.bridge.log, "bridge") if bridge else (settings.log.file, "run")
    message_id = message.removesuffix(".ctl").removesuffix(".dat") if message else None
    try:
        if not path.exists() and not rotated_name(path, 1).exists():
            text = f"There is no log yet: it will be {path}, once meshctl {writer} has run."
            if not follow:
                raise MeshctlError(text)
            click.echo(text, err=True)
        with LogReader(path) as reader:
            past = _matching(reader.new_lines(), message_id, level)
            _show(
                deque(past, _LINES_BEFORE_FOLLOWING) if follow and message_id is None else past, times=times
            )
            while follow:
                time.sleep(_LOOK_SECONDS)
                _show(_matching(reader.new_lines(), message_id, level), times=times)
    except OSError as error:
        if is_closed_pipe(error):
            raise
        raise MeshctlError(f"The log {path} cannot be read: {error.strerror}.") from None


def _matching(lines: Iterable[str], message_id: str | None, level: str | None) -> Iterator[Entry]:
    for line in lines:
        if message_id is not None and message_id not in line:
            continue
        entry = parse_line(line)
        if (level is None or entry.reaches(level)) and (message_id is None or entry.concerns(message_id)):
            yield entry


def _show(entries: Iterable[Entry], *, times: bool) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for entry in entries:
        at = _local(entry.at) if times else entry.at
        level, event = entry.level, entry.event
        if colour and event:
            at = click.style(at, dim=True)
            level = click.style(f"{level:<7}", fg=_COLOURS.get(level))
            event = click.style(event, bold=True)
        click.echo(" ".join(part for part in (at, level, event, entry.text) if part), color=colour)


def _local(at: str) -> str:
    """Return the time of a line as local time, and how long ago; what is no time as it stands."""
    try:
        instant = datetime.fromisoformat(at)
        return f"{local_time(instant, milliseconds=True)}, {relative_time(instant, now())}"
    except (ValueError, TypeError, OverflowError):
        return at
