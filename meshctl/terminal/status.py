"""The status as a person sees it: printed once, or live."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from meshctl.mesh.states import State
from meshctl.settings.model import Settings
from meshctl.terminal.messages import OVERDUE_STYLE, STYLES, told_time
from meshctl.terminal.output import relative_time
from meshctl.terminal.tables import make_console, plain_text

_REFRESH_SECONDS = 1.0
_CLIENT_STYLES = {"active": "green", "stalled": "red"}


def print_status(settings: Settings, status: dict[str, Any]) -> None:
    """Print the status once."""
    make_console().print(_view(settings, status))


def watch_status(settings: Settings, collect: Callable[[], dict[str, Any]]) -> None:
    """Show the status live until Ctrl-C."""
    with (
        suppress(KeyboardInterrupt),
        Live(_view(settings, collect()), console=make_console(), auto_refresh=False) as live,
    ):
        while True:
            time.sleep(_REFRESH_SECONDS)
            live.update(_view(settings, collect()), refresh=True)


def _view(settings: Settings, status: dict[str, Any]) -> RenderableType:
    now = datetime.now(UTC)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text("Mailbox", style="bold"), "", plain_text(status["mailbox"]))
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
    table.add_row(
        Text("Rejected", style="bold"), str(status["rejected"]), plain_text(settings.staging.rejected)
    )
    if status["reports"]["set_aside"]:
        set_aside = Text("Reports set aside", style="bold")
        table.add_row(set_aside, str(status["reports"]["set_aside"]), "meshctl check")
    client = status["client"]
    life = plain_text(client["state"], _CLIENT_STYLES.get(client["state"], ""))
    if client["last_seen"] is not None:
        life.append(", last seen ").append_text(told_time(client["last_seen"], now, exact=False))
    server = "MESH Client" if settings.bridge.environment is None else "Bridge"
    table.add_row(Text(server, style="bold"), "", life)
    return table


def _about_queued(state: str, status: dict[str, Any], now: datetime) -> Text:
    oldest = status["oldest_queued_seconds"]
    if state != State.QUEUED or oldest is None:
        return Text()
    return plain_text(f"the oldest since {relative_time(now - timedelta(seconds=oldest), now)}")
