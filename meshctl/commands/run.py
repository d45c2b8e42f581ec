"""`meshctl run`: the daemon."""

import os
from contextlib import closing

import click

from meshctl.check.exposure import refuse_root, refuse_world_writable, warn_of_root
from meshctl.daemon.daemon import Daemon
from meshctl.daemon.wake_ups import Signals
from meshctl.journal.log_file import configure_log
from meshctl.platform.systemd import ServiceManager
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog, has_terminal

_EPILOG = epilog(
    {
        "meshctl run": "runs until SIGTERM or Ctrl-C",
        "meshctl run --once": "for cron: do what can be done now, then exit",
    },
    {
        0: "it could work, even if files were rejected",
        1: "something stopped it",
        2: "wrong settings, or everybody can write to the outbox, the settings or the program",
    },
)


@click.command(epilog=_EPILOG)
@click.option("--once", is_flag=True, help="Do all that can be done now, then exit.")
@click.option(
    "--allow-world-writable",
    is_flag=True,
    help="Run even if everybody on this computer can write to the outbox, the settings or the program.",
)
@click.option(
    "--clock-is-right",
    is_flag=True,
    help="Send although the clock is more than a day behind the ledger's newest message; it is remembered.",
)
@click.pass_context
def command(ctx: click.Context, once: bool, allow_world_writable: bool, clock_is_right: bool) -> None:
    """Send what is dropped into the outbox, and track it until it is acknowledged.

    Runs in the foreground and logs to the file that the settings name; on a terminal the lines are shown as
    well.
    """
    with closing(Signals()) as signals:
        daemon = make_daemon(
            settings_of(ctx),
            signals,
            ServiceManager(os.environ),
            allow_world_writable=allow_world_writable,
            clock_is_right=clock_is_right,
        )
        if once:
            daemon.run_once()
        else:
            daemon.run()


def make_daemon(
    settings: Settings,
    signals: Signals,
    manager: ServiceManager,
    *,
    allow_world_writable: bool = False,
    clock_is_right: bool = False,
) -> Daemon:
    """Return the daemon of a mailbox, with its log in place.

    Raises ConfigError if everybody can write to the outbox, the settings or the program, unless that is
    allowed; if root would run it for another user.
    """
    refuse_root(settings)

    def checked(settings: Settings) -> Settings:
        if not allow_world_writable:
            refuse_world_writable(settings)
        return settings

    journal = configure_log(checked(settings).log, to_terminal=has_terminal())
    warn_of_root(journal)
    return Daemon(
        settings,
        lambda: checked(load_settings(settings.file, os.environ)),
        journal,
        signals,
        manager,
        clock_is_right=clock_is_right,
    )
