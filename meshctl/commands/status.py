"""`meshctl status`: messages and files, counted. Reads ledger and folders, changes nothing.

Must stay quick: it uses the ledger's indexes, counts files by their names, and loads the code for tables
only when it prints one.
"""

import sys
from dataclasses import asdict
from typing import Any

import click

from meshctl.clock import now
from meshctl.daemon.obstacles import obstacles_of
from meshctl.inbound.client import CLIENT_FACT, client_view
from meshctl.ledger import reads
from meshctl.ledger.reads import count_set_aside
from meshctl.ledger.records import SetAside
from meshctl.mesh.states import State
from meshctl.outbound.names import count_rejected, tally_outbox
from meshctl.settings.model import Settings
from meshctl.terminal.context import ledger_if_any, print_if_no_ledger, settings_of
from meshctl.terminal.output import epilog, print_json

_EPILOG = epilog(
    {
        "meshctl status": "messages by state, the outbox, the MESH Client",
        "meshctl status --watch": "the same, live, until Ctrl-C",
        "meshctl status --json": "one JSON object, for a program",
    },
    {
        0: "shown, even if something is overdue (see meshctl check), or before the first start",
        1: "something blocks the daemon, or ledger or folders cannot be read",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.option("--watch", is_flag=True, help="Update it every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, watch: bool, as_json: bool) -> None:
    """Count messages by state; show what is overdue and whether the MESH Client is active.

    Files in the outbox are counted by name and time only: the daemon takes the "ready" ones at its next scan;
    "waiting" ones are still being written, or wait for a sidecar or payload; "set aside" ones the daemon
    could not handle (meshctl check names them). The client's state is what the daemon last saw, and what
    blocks it (a full disk, a folder that it may not write to) what it last met.
    """
    if watch and as_json:
        raise click.UsageError("Give either --watch or --json, not both.")
    settings = settings_of(ctx)
    print_if_no_ledger(settings)
    if watch and not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; programs can use --json.")
    status = collect(settings)
    if as_json:
        print_json(status)
    else:
        # Most of this command's start-up time, which a program that wants JSON is spared.
        from meshctl.terminal.views import print_status, watch_status  # noqa: PLC0415

        if watch:
            watch_status(settings, lambda: collect(settings))
        else:
            print_status(settings, status)
    ctx.exit(1 if status["blocked"] and not watch else 0)


def collect(settings: Settings) -> dict[str, Any]:
    """Return the status as `--json` prints it. Raises LedgerError, OSError."""
    staging = settings.staging
    now_seconds = now().timestamp()
    reports_set_aside = 0
    status: dict[str, Any] = {
        "mailbox": settings.mailbox.id,
        "states": {state.value: 0 for state in State},
        "overdue": 0,
        "oldest_queued_seconds": None,
        "client": {"state": "unknown", "last_seen": None},
    }
    set_aside: tuple[SetAside, ...] = ()
    with ledger_if_any(settings) as connection:
        if connection is not None:
            oldest = reads.oldest_queued_seconds(connection, now_seconds)
            status["states"] = {
                state.value: count for state, count in reads.counts_by_state(connection).items()
            }
            status["overdue"] = reads.count_overdue(connection)
            status["oldest_queued_seconds"] = None if oldest is None else round(oldest, 1)
            set_aside = reads.set_aside(connection)
            reports_set_aside = sum(count_set_aside(connection).values())
            view = client_view(reads.fact(connection, CLIENT_FACT))
            status["client"] = {"state": view.state.value, "last_seen": view.last_seen}
    status["outbox"] = asdict(tally_outbox(settings, now_seconds, set_aside))
    status["rejected"] = count_rejected(staging.rejected)
    status["reports"] = {"set_aside": reports_set_aside}
    status["blocked"] = [obstacle.as_json() for obstacle in obstacles_of(settings)]
    return status
