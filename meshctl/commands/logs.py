"""`meshctl logs`: the log for a person, including its rotated files. Writes nothing."""

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator

import click

from meshctl.errors import MeshctlError, is_closed_pipe
from meshctl.journal.lines import LEVELS, Entry, LogReader, parse_line
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog

_LOOK_SECONDS = 0.2
# As many as `tail -f`.
_LINES_BEFORE_FOLLOWING = 10
_COLOURS = {"DEBUG": "bright_black", "INFO": "green", "WARNING": "yellow", "ERROR": "red"}

_EPILOG = epilog(
    {
        "meshctl logs": "the whole log",
        "meshctl logs -f --level WARNING": "problems, as they are logged",
        "meshctl logs --message 20261122091502480113_7F3A9C": "everything about one message",
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
@click.option("--bridge", is_flag=True, help="Show the log of meshctl bridge instead.")
@click.pass_context
def command(ctx: click.Context, follow: bool, message: str | None, level: str | None, bridge: bool) -> None:
    """Read the log, with colours on a terminal (unless NO_COLOR is set)."""
    settings = settings_of(ctx)
    path, writer = (settings.bridge.log, "bridge") if bridge else (settings.log.file, "run")
    message_id = message.removesuffix(".ctl").removesuffix(".dat") if message else None
    try:
        if not follow and not path.parent.exists():
            raise MeshctlError(f"There is no log at {path} yet; 'meshctl {writer}' writes it.")
        with LogReader(path) as reader:
            past = _matching(reader.new_lines(), message_id, level)
            _show(deque(past, _LINES_BEFORE_FOLLOWING) if follow and message_id is None else past)
            while follow:
                time.sleep(_LOOK_SECONDS)
                _show(_matching(reader.new_lines(), message_id, level))
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


def _show(entries: Iterable[Entry]) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for entry in entries:
        at, level, event = entry.at, entry.level, entry.event
        if colour and event:
            at = click.style(at, dim=True)
            level = click.style(f"{level:<7}", fg=_COLOURS.get(level))
            event = click.style(event, bold=True)
        click.echo(" ".join(part for part in (at, level, event, entry.text) if part), color=colour)
