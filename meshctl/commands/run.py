"""`meshctl run`: the daemon."""

import os
import sys

import click

from meshctl.commands.context import settings_of
from meshctl.daemon.daemon import Daemon
from meshctl.daemon.signals import Inbox
from meshctl.journal.setup import configure_log
from meshctl.settings.load import load_settings


@click.command(
    epilog="""\b
Examples:
  meshctl -c /etc/meshctl/a81001.toml run       until SIGTERM; SIGHUP reads the settings again
  meshctl run --once                            from cron: do what can be done now, then exit

\b
Exit codes: 0 it could do its work, also when files were refused; 1 something stood in the way;
2 wrong settings."""
)
@click.option("--once", is_flag=True, help="Do all that can be done now, then exit.")
@click.pass_context
def command(ctx: click.Context, once: bool) -> None:
    """Send what is dropped into the outbox, and follow it.

    Runs in the foreground and logs to the file that the settings name; at a terminal the lines are
    shown as well.
    """
    settings = settings_of(ctx)
    journal = configure_log(settings.log, to_terminal=sys.stderr.isatty())
    daemon = Daemon(settings, lambda: load_settings(settings.file, os.environ), journal, Inbox())
    if once:
        daemon.run_once()
    else:
        daemon.run()
