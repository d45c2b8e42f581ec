"""What a person sees: tables, a message a line, one message with its history, and the status, once or live.

Output is as wide as the terminal, and coloured only there and not under NO_COLOR. A value is never
interpreted: control characters become visible, and markup in a file name stays text.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from meshctl.clock import instant
from meshctl.clock import now as wall_clock
from meshctl.daemon.lock import describe_daemon
from meshctl.daemon.mailbox_lock import describe_server
from meshctl.journal.masking import escape_unprintable
from meshctl.ledger.records import Message
from meshctl.mesh.states import State
from meshctl.settings.model import Settings
from meshctl.sizes import size_text
from meshctl.terminal.output import Times, relative_time

if TYPE_CHECKING:
    # Nothing here but the view of a message needs the ledger.
    from meshctl.bridge.tracking import Tracked

STYLES = {
    State.REJECTED: "red",
    State.FAILED: "red",
    State.COMPLETED: "green",
    State.RECEIVED: "green",
}
OVERDUE_STYLE = "yellow"

_ID_CHARACTERS = 27
_STATE_CHARACTERS = 9
# Below this width the use case would leave no space for the file.
_NARROW = 72

# Nothing is cut or folded when the output goes to a file or another program.
_WIDTH_WITHOUT_TERMINAL = 10_000
_TRAILING_BLANKS = re.compile(r"[ \t]+$", re.MULTILINE)
_REFRESH_SECONDS = 1.0
_CLIENT_STYLES = {"active": "green", "stalled": "red"}
_DAEMON_STYLES = {"not running": OVERDUE_STYLE}


class _WithoutTrailingBlanks:
    """A text stream that drops the blanks at the end of a table's lines; the console writes whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        return self._stream.write(_TRAILING_BLANKS.sub("", text))

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


class _Console(Console):
    """A console that lets the command line handle a broken pipe, as all other output does."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError."""
        raise BrokenPipeError


def make_console() -> Console:
    """Return a console on the current stdout; colours follow the terminal and NO_COLOR.

    It is as wide as the terminal, or as COLUMNS says. In a pipe or file without COLUMNS nothing is folded, so
    that grep finds whole lines.
    """
    if sys.stdout.isatty():
        return _Console(highlight=False, markup=False, emoji=False)
    columns = os.environ.get("COLUMNS", "")
    # Some programs set 0 for an unknown width.
    width = (int(columns) if columns.isdecimal() else 0) or _WIDTH_WITHOUT_TERMINAL
    stream = cast("IO[str]", _WithoutTrailingBlanks(sys.stdout))
    return _Console(highlight=False, markup=False, emoji=False, width=width, file=stream)


def plain_text(value: object, style: str = "") -> Text:
    """Return a value as text to show, uninterpreted; None is a dash."""
    return Text("-" if value is None or value == "" else escape_unprintable(str(value)), style=style)


def make_table(headings: Sequence[str], rows: Iterable[Sequence[object | Text]]) -> Table:
    """Return a table; a cell that is a `Text` keeps its style, any other value is plain text."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else plain_text(cell) for cell in row))
    return table


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object | Text]]) -> None:
    """Print a table on stdout."""
    make_console().print(make_table(headings, rows))


def print_messages(messages: Sequence[Message], *, times: Times) -> None:
    """Print a line a message.

    On a terminal, what does not fit ends in an ellipsis. In a pipe or file nothing is left out: where COLUMNS
    is too small, cells are folded.
    """
    console = make_console()
    is_terminal = console.is_terminal
    is_wide = console.width >= _NARROW
    has_use_case = is_wide or not is_terminal
    overflow: OverflowMethod = "ellipsis" if is_terminal else "fold"
    table = Table(box=None, pad_edge=False, header_style="bold", expand=is_terminal)
    # The id is whole, to be copied, unless it would take most of a folded line. Minimum widths are only for
    # terminals: they would cut folded cells.
    id_width, state_width = (_ID_CHARACTERS, _STATE_CHARACTERS) if is_terminal else (None, None)
    table.add_column("MESSAGE ID", no_wrap=is_terminal or is_wide, overflow=overflow, min_width=id_width)
    table.add_column("STATE", overflow=overflow, min_width=state_width)
    table.add_column("CREATED", no_wrap=is_terminal, overflow=overflow)
    # Only on a terminal do the last two columns share what the others leave.
    if has_use_case:
        table.add_column("USE CASE", no_wrap=is_terminal, overflow=overflow, ratio=1 if is_terminal else None)
    table.add_column("FILE", no_wrap=is_terminal, overflow=overflow, ratio=2 if is_terminal else None)
    now = wall_clock()
    for message in messages:
        table.add_row(
            plain_text(message.message_id),
            state_text(message),
            time_text(message.created_at, now, times=times),
            *([plain_text(message.use_case)] if has_use_case else []),
            plain_text(message.file_name),
        )
    console.print(table)


def print_message(
    message: Message, later: str | None, tracked: "Tracked | None", location: str | None, *, times: Times
) -> None:
    """Print one message, the id of a later version, what MESH says of it, where its file is, its history."""
    now = wall_clock()
    fields = Table.grid(padding=(0, 2))
    fields.add_column(no_wrap=True, style="bold")
    fields.add_column(overflow="fold")
    for label, value in _fields(message, later, tracked, location, now, times=times):
        fields.add_row(label, value)
    history = make_table(
        ("WHEN", "EVENT", "STATE", "CODE", "TEXT"),
        (
            (time_text(entry.at, now, times=times), entry.event, entry.state, entry.code, entry.text)
            for entry in message.history
        ),
    )
    make_console().print(Group(fields, Text(), history))


def state_text(message: Message) -> Text:
    """Return a message's state, with the code of a failure and whether it is assumed or overdue."""
    text = Text(message.state.value, style=STYLES.get(message.state, ""))
    if message.reason is not None and message.reason.code:
        text.append(" ").append_text(plain_text(message.reason.code))
    if message.assumed:
        text.append(" (assumed)")
    if message.overdue is not None:
        text.append(" ").append("overdue", style=OVERDUE_STYLE)
    return text


def time_text(at: datetime, now: datetime, *, times: Times) -> Text:
    """Return an instant as it is shown at `now`."""
    return plain_text(times.text(at, now))


def _fields(
    message: Message,
    later: str | None,
    tracked: "Tracked | None",
    location: str | None,
    now: datetime,
    *,
    times: Times,
) -> Iterable[tuple[str, Text]]:
    yield "Message", plain_text(message.message_id)
    yield "State", state_text(message)
    if message.overdue is not None:
        yield "Overdue", plain_text(f"the deadline {message.overdue} has passed", OVERDUE_STYLE)
    if tracked is not None:
        asked = time_text(tracked.asked_at, now, times=times)
        yield "Tracking", Text.assemble("MESH, ", asked, ": ", plain_text(tracked.text))
    if message.reason is not None:
        yield "Reason", plain_text(message.reason.text, "red")
        if message.reason.advice:
            yield "Advice", plain_text(message.reason.advice)
    if message.awaiting and message.state is not State.FAILED:
        yield "Awaiting", plain_text(f"{' and '.join(message.awaiting)} acknowledgement")
    yield "File", plain_text(message.file_name)
    if location is not None:
        yield "Location", plain_text(location)
    yield "Size", plain_text(size_text(message.size_bytes))
    if message.wrapped_bytes is not None:
        yield "Wrapped", plain_text(f"in an ITK3 message of {size_text(message.wrapped_bytes)}")
    yield "Use case", plain_text(message.use_case)
    yield "Workflow id", plain_text(message.workflow_id)
    yield "MESH id", plain_text(message.mesh_id)
    if message.to_mailbox is not None:
        yield "To mailbox", plain_text(message.to_mailbox)
    if message.answered_by is not None:
        yield "Acknowledged by", plain_text(f"the mailbox {message.answered_by}")
    others = {
        "Repeat of": message.repeat_of,
        "Resend of": message.resend_of,
        "Replaces": message.replaces,
        "Later version": later,
    }
    yield from ((label, plain_text(other)) for label, other in others.items() if other is not None)
    yield "Created", time_text(message.created_at, now, times=times)
    yield "Changed", time_text(message.updated_at, now, times=times)
    yield "SHA-256", plain_text(message.sha256)


def print_status(settings: Settings, status: dict[str, Any]) -> None:
    """Print the status once."""
    make_console().print(_view(settings, status))


def watch_status(settings: Settings, collect: Callable[[], dict[str, Any]]) -> None:
    """Show the status live until Ctrl-C."""
    watch_live(lambda: _view(settings, collect()))


def watch_live(view: Callable[[], RenderableType]) -> None:
    """Show what `view` returns, live, until Ctrl-C."""
    with suppress(KeyboardInterrupt), Live(view(), console=make_console(), auto_refresh=False) as live:
        while True:
            time.sleep(_REFRESH_SECONDS)
            live.update(view(), refresh=True)


def _view(settings: Settings, status: dict[str, Any]) -> RenderableType:
    now = wall_clock()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text("Mailbox", style="bold"), "", plain_text(status["mailbox"]))
    daemon = describe_daemon(settings.state.folder)
    table.add_row(Text("Daemon", style="bold"), "", plain_text(daemon, _DAEMON_STYLES.get(daemon, "")))
    for obstacle in status["blocked"]:
        word, style = ("Blocked", "red") if obstacle["severity"] == "error" else ("Warning", OVERDUE_STYLE)
        table.add_row(Text(word, style=f"bold {style}"), "", _blocked_text(obstacle, style, now))
    for state, count in status["states"].items():
        style = STYLES.get(State(state), "") if count else ""
        table.add_row(f"  {state}", plain_text(count, style), _about_queued(state, status, now))
    overdue = status["overdue"]
    table.add_row(
        "  overdue",
        plain_text(overdue, OVERDUE_STYLE if overdue else ""),
        "meshctl list --overdue" if overdue else "",
    )
    outbox = status["outbox"]
    table.add_row(Text("Outbox", style="bold"), "", plain_text(settings.staging.outbox))
    table.add_row("  ready", str(outbox["ready"]), "")
    table.add_row("  waiting", str(outbox["waiting"]), "")
    set_aside = outbox["set_aside"]
    table.add_row(
        "  set aside",
        plain_text(set_aside, OVERDUE_STYLE if set_aside else ""),
        "meshctl check" if set_aside else "",
    )
    if outbox["no_use_case"]:
        table.add_row(
            "  no use case",
            plain_text(outbox["no_use_case"], OVERDUE_STYLE),
            "in folders that are not named after a use case; not sent: meshctl check",
        )
    table.add_row(
        Text("Rejected", style="bold"), str(status["rejected"]), plain_text(settings.staging.rejected)
    )
    if status["reports"]["set_aside"]:
        set_aside = Text("Reports set aside", style="bold")
        table.add_row(set_aside, str(status["reports"]["set_aside"]), "meshctl check")
    client = status["client"]
    life = plain_text(client["state"], _CLIENT_STYLES.get(client["state"], ""))
    if client["last_seen"] is not None:
        life.append(", last seen ").append_text(time_text(client["last_seen"], now, times=Times.RELATIVE))
    if settings.bridge.environment is None:
        table.add_row(Text("MESH Client", style="bold"), "", life)
    else:
        bridge = describe_server(settings.mailbox)
        shown = plain_text(bridge, _DAEMON_STYLES.get(bridge, ""))
        table.add_row(Text("Bridge", style="bold"), "", shown.append("; ").append_text(life))
    return table


def _blocked_text(obstacle: dict[str, Any], style: str, now: datetime) -> Text:
    met = relative_time(instant(obstacle["since"]), now)
    text = Text.assemble(plain_text(f"{obstacle['part']}, first seen {met}: {obstacle['text']}", style))
    if obstacle["advice"]:
        text.append("\n").append_text(plain_text(obstacle["advice"]))
    return text


def _about_queued(state: str, status: dict[str, Any], now: datetime) -> Text:
    oldest = status["oldest_queued_seconds"]
    if state != State.QUEUED or oldest is None:
        return Text()
    return plain_text(f"the oldest queued {relative_time(now - timedelta(seconds=oldest), now)}")
