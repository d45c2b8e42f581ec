"""`meshctl reload`: the daemon reads its settings again."""

import click

from meshctl.daemon.lock import ask_to_reload
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {"meshctl reload": "after a change of the settings; the log says daemon.reloaded"},
    {0: "the daemon was asked", 1: "no daemon runs, or it is not yours to ask", 2: "wrong settings"},
)


@click.command(epilog=_EPILOG)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Have the daemon read the settings again.

    Wrong settings are told here, and the daemon is not asked. What cannot change while it runs, the log
    names in daemon.reload_failed.
    """
    settings = settings_of(ctx)
    ask_to_reload(settings.state.folder)
    click.echo(f"The daemon reads {settings.file} again. The log says what came of it: {settings.log.file}")
