"""`meshctl bridge`: what a MESH Client does, over the MESH API."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from meshctl.bridge.connect import connect, require_extra
from meshctl.check.exposure import refuse_root, warn_of_root
from meshctl.daemon.wake_ups import Signals
from meshctl.journal.log_file import configure_log
from meshctl.platform.systemd import ServiceManager
from meshctl.settings.model import Settings
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog, has_terminal

if TYPE_CHECKING:
    from meshctl.bridge.service import Bridge

_EPILOG = epilog(
    {
        "meshctl bridge": "runs until SIGTERM, beside meshctl run",
        "meshctl bridge --once": "send and receive what there is now, then exit",
    },
    {
        0: "it could work, even if MESH rejected messages",
        1: "MESH or a folder stopped it, or the mailbox is already served",
        2: "wrong settings or secrets, or the packages of meshctl[api] are missing",
    },
)


@click.command(epilog=_EPILOG)
@click.option("--once", is_flag=True, help="Do all that can be done now, then exit.")
@click.pass_context
def command(ctx: click.Context, once: bool) -> None:
    """Serve the mailbox over the MESH API, instead of a MESH Client.

    Takes pairs from OUT, sends them and moves them to SENT or FAILED; puts what arrives into IN. Its settings
    are in [bridge]. Needs the packages of meshctl[api], and a mailbox that no MESH Client serves. Logs to a
    file of its own; on a terminal the lines are shown as well.
    """
    with (
        closing(Signals()) as signals,
        connected_bridge(settings_of(ctx), signals, ServiceManager(os.environ)) as bridge,
    ):
        if once:
            bridge.run_once()
        else:
            bridge.run()


@contextmanager
def connected_bridge(settings: Settings, signals: Signals, manager: ServiceManager) -> "Iterator[Bridge]":
    """Return the bridge of a mailbox, with its log set up. Raises ConfigError."""
    refuse_root(settings)
    require_extra()
    # Imported here, because it cannot be imported without the extra.
    from meshctl.bridge.service import Bridge, Clients  # noqa: PLC0415

    with connect(settings) as tracking, connect(settings) as sending, connect(settings) as receiving:
        log = settings.log.model_copy(update={"file": settings.bridge.log})
        journal = configure_log(log, to_terminal=has_terminal())
        warn_of_root(journal)
        yield Bridge(settings, Clients(tracking, sending, receiving), journal, signals, manager)
