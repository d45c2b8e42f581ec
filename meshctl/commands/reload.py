"""`meshctl reload`: the daemon reads its settings again."""

import click

from meshctl.daemon.lock import ask_to_reload
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {"meshctl reload": "after a change of the settings; the log then has daemon.reloaded"},
    {0: "the daemon was asked", 1: "no daemon is running, or you may not ask it", 2: "wrong settings"},
)


@click.command(epilog=_EPILOG)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Make the daemon read its settings again.

    Wrong settings are reported here, and the daemon is not asked. The log names in daemon.reload_failed what
    cannot change while it runs.
    """
    settings = settings_of(ctx)
    ask_to_reload(settings.state.folder)
    click.echo(f"The daemon reads {settings.file} again. The result is in the log: {settings.log.file}")
