"""`meshctl status`: messages and files, counted. Reads ledger and folders, changes nothing.

Must stay quick: it uses the ledger's indexes, counts files by their names, and loads the code for tables
only when it prints one.
"""

import os
import re
import sqlite3
import sys
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from typing import Any

import click

from meshctl.clock import now
from meshctl.daemon.lock import describe_daemon
from meshctl.daemon.mailbox_lock import describe_server
from meshctl.daemon.obstacles import obstacles_of
from meshctl.inbound.client import CLIENT_FACT, client_view, view_at
from meshctl.ledger import reads
from meshctl.ledger.database import renew
from meshctl.mesh.states import State
from meshctl.outbound.tally import OutboxTally, count_rejected, tally_letters
from meshctl.settings.model import Settings
from meshctl.terminal.context import ledger_if_any, print_if_no_ledger, settings_of
from meshctl.terminal.output import epilog, print_json
from meshctl.terminal.survey import Survey, every_place

# Whoever hangs holds up the others for so long; a busy server with many mailboxes takes less.
_PATIENCE_SECONDS = 5.0
# Of a busy outbox it is an estimate after so many.
_LOOKS = 5
_EPILOG = epilog(
    {
        "meshctl status": "messages by state, the outbox, the MESH Client",
        "meshctl status --watch": "the same, live, until Ctrl-C",
        "meshctl status --json": "one JSON object, for a program",
        "meshctl status --all": "a row for each mailbox of this server, the worst first; also with --watch",
        "meshctl status --all --json": "an array of these objects, each with name, settings_file and error",
    },
    {
        0: "shown, even if something is overdue (see meshctl check), or before the first start",
        1: "something blocks daemon or bridge, or a folder cannot be read; with --all, of any mailbox",
        2: "wrong usage or settings; with --all wrong settings are a row, and end with 1",
    },
)


@click.command(epilog=_EPILOG)
@click.option("--all", "is_all", is_flag=True, help="Every mailbox of this server, a row each.")
@click.option("--watch", is_flag=True, help="Update it every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --all, an array of them.")
@click.pass_context
def command(ctx: click.Context, is_all: bool, watch: bool, as_json: bool) -> None:
    """Count messages by state; show what is overdue and whether the MESH Client is active.

    Each letter is counted once: by its state, or until it has one under Outbox. There files are counted by
    name and time only: the daemon takes the "ready" ones at its next scan, or has begun to send them;
    "waiting" ones are still being written, or wait for a sidecar or payload; "set aside" ones the daemon
    could not handle (meshctl check names them); those of "no use case" lie in folders that are not named
    after one, and are not sent. An attachment counts as a letter of its own for as long as it lies in the
    outbox. The client's state is what the daemon last saw; of a bridge it also says whether one runs now.
    What blocks daemon or bridge (a full disk, a folder that it may not write to) is what it last met; MESH
    that has been away for less than 15 minutes delays, and is no trouble yet.

    With --all, every mailbox of this server has a row: each settings file that -m can name, and that of
    $MESHCTL_CONFIG where it is another. One whose settings cannot be read, or that does not answer, is a row
    with the reason. Exit code 1 if there is such a one, or one that is blocked.
    """
    if watch and as_json:
        raise click.UsageError("Give either --watch or --json, not both.")
    if watch and not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; programs can use --json.")
    if not is_all:
        ctx.exit(_show_one(settings_of(ctx), watch=watch, as_json=as_json))
    survey = Survey(every_place(ctx), collect, _PATIENCE_SECONDS)
    ctx.exit(_display("overview").show_status(survey, watch=watch, as_json=as_json))


def _show_one(settings: Settings, *, watch: bool, as_json: bool) -> int:
    """Show the status of one mailbox; return the exit code."""
    print_if_no_ledger(settings)
    status = collect(settings)
    if as_json:
        print_json(status)
    elif watch:
        _display("views").watch_status(settings, lambda: collect(settings))
        return 0
    else:
        _display("views").print_status(settings, status)
    return 1 if any(each["severity"] == "error" for each in status["blocked"]) else 0


def _display(module: str) -> Any:
    """Load the code for tables: most of this command's start-up time, which JSON of one mailbox is spared."""
    return import_module(f"meshctl.terminal.{module}")


def collect(settings: Settings) -> dict[str, Any]:
    """Return the status as `--json` prints it. Raises LedgerError, OSError."""
    with ledger_if_any(settings) as connection:
        for _ in range(_LOOKS):
            status = _counted(settings, connection)
            # A letter went on meanwhile, and may have been missed, or seen twice.
            if connection is None or not renew(connection):
                break
    # What may not be looked at is told as what blocks.
    with suppress(OSError):
        status["rejected"] = count_rejected(settings.staging.rejected)
    status["daemon"] = re.split("[,:]", describe_daemon(settings.state.folder))[0]
    # A MESH Client does not say whether it runs.
    has_bridge = settings.bridge.environment is not None
    status["bridge"] = re.split("[,:]", describe_server(settings.mailbox))[0] if has_bridge else None
    status["blocked"] = [obstacle.as_json() for obstacle in obstacles_of(settings)]
    return status


def _counted(settings: Settings, connection: sqlite3.Connection | None) -> dict[str, Any]:
    """Return how many letters are where, at one moment. Raises OSError, sqlite3.Error."""
    now_seconds = now().timestamp()
    status: dict[str, Any] = {
        "mailbox": settings.mailbox.id,
        "states": {state.value: 0 for state in State},
        "overdue": 0,
        "oldest_queued_seconds": None,
        "client": {"state": "unknown", "last_seen": None},
    }
    reports_set_aside = 0
    if connection is not None:
        oldest = reads.oldest_queued_seconds(connection, now_seconds)
        counts = reads.counts_by_state(connection)
        status["states"] = {state.value: count for state, count in counts.items()}
        status["overdue"] = reads.count_overdue(connection)
        status["oldest_queued_seconds"] = None if oldest is None else round(oldest, 1)
        reports_set_aside = sum(reads.count_set_aside(connection).values())
        view = client_view(reads.fact(connection, CLIENT_FACT))
        view = view_at(view, now(), settings.deadlines.client_silent_after)
        status["client"] = {"state": view.state.value, "last_seen": view.last_seen}
    status["outbox"] = asdict(_tally(settings, now_seconds, connection))
    status["rejected"] = 0
    status["reports"] = {"set_aside": reports_set_aside}
    return status


def _tally(settings: Settings, now_seconds: float, connection: sqlite3.Connection | None) -> OutboxTally:
    """Count the letters without a state; none where the outbox cannot be looked at, which is told.

    Raises OSError for another folder, sqlite3.Error.
    """
    try:
        os.scandir(settings.staging.outbox).close()
    except FileNotFoundError:
        # Letters may be in the work folder.
        pass
    except OSError:
        return OutboxTally()
    return tally_letters(settings, now_seconds, connection)
