"""`meshctl reload`: the daemon reads its settings again."""

import os
from functools import partial

import click

from meshctl.check.finding import Setup, Severity
from meshctl.check.folders import check_folders
from meshctl.clock import now
from meshctl.daemon.reloading import change_unknown_to_bridge, check_state_folder, reload_daemon
from meshctl.errors import ConfigError
from meshctl.platform import shell
from meshctl.platform.systemd import signal_main_process
from meshctl.settings.mailboxes import place_of
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl reload": "after a change of the settings, on the daemon's own computer",
        "systemctl reload meshctl@NAME": "the same, for a service of systemd",
    },
    {
        0: "the new settings are in force",
        1: "no daemon is running, you may not ask it, or it does not answer",
        2: "the settings are wrong, or cannot change while the daemon runs; the old ones stay in force",
    },
)


@click.command(epilog=_EPILOG)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Make the daemon read its settings again, and wait until they are in force.

    If they are wrong, what is wrong with them is told here, and the old ones stay in force. A bridge reads
    its settings when it starts: what it does not know of is told, and how it is restarted.
    """
    try:
        settings = settings_of(ctx)
        check_state_folder(settings)
    except ConfigError:
        # As ExecReload of a unit: the daemon finds the same faults, and log, alert and metric show them.
        signal_main_process(os.environ)
        raise
    reload_daemon(settings, on_wait=partial(click.echo, err=True))
    click.echo(f"The daemon has read {settings.file} again; it is in force.")
    if (change := change_unknown_to_bridge(settings)) is not None:
        restart = shell.restart_bridge(place_of(settings.file).option)
        click.echo(f"Warning: {change} Restart it: {restart}.", err=True)
    # The daemon waits for folders that are away, so these are no fault of the settings.
    for finding in check_folders(Setup(settings, now())):
        if finding.severity is Severity.ERROR:
            click.echo(f"Warning: {finding.text} {finding.advice}", err=True)
