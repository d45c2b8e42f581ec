"""`meshctl bridge`: the MESH Client's job, over the MESH API."""

import os
import sys
from contextlib import closing

import click

from meshctl.bridge.connect import connect, require_extra
from meshctl.checks.exposure import warn_of_root
from meshctl.log.setup import configure_log
from meshctl.process.systemd import Service
from meshctl.process.wake_ups import Signals
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl bridge": "until SIGTERM, beside meshctl run",
        "meshctl bridge --once": "send and receive what there is now, then exit",
    },
    {
        0: "it could do its work, also when MESH refused messages",
        1: "MESH or a folder stood in the way, or the mailbox is served already",
        2: "wrong settings or secrets, or the packages of meshctl[api] are missing",
    },
)


@click.command(epilog=_EPILOG)
@click.option("--once", is_flag=True, help="Do all that can be done now, then exit.")
@click.pass_context
def command(ctx: click.Context, once: bool) -> None:
    """Serve the mailbox over the MESH API, in place of a MESH Client.

    Takes pairs from OUT, sends them and puts them into SENT or FAILED; puts what arrives into IN. The
    settings are those of [bridge]. Needs meshctl[api], and a MESH mailbox that no MESH Client serves. Logs
    to a file of its own; at a terminal the lines are shown as well.
    """
    settings = settings_of(ctx)
    require_extra()
    # Only here: without the extra it cannot be imported.
    from meshctl.bridge.service import Bridge  # noqa: PLC0415

    with connect(settings) as client, closing(Signals()) as signals:
        log = settings.log.model_copy(update={"file": settings.bridge.log})
        journal = configure_log(log, to_terminal=sys.stderr.isatty())
        warn_of_root(journal)
        bridge = Bridge(settings, client, journal, signals, Service(os.environ))
        if once:
            bridge.run_once()
        else:
            bridge.run()
