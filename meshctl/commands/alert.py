"""`meshctl alert --test`: an alert that is told as the daemon tells them, and what came of it."""

from dataclasses import asdict

import click

from meshctl.daemon.alert_test import Outcome, ask_for_test, tell_test
from meshctl.daemon.lock import holder_of, is_running
from meshctl.errors import MeshctlError
from meshctl.settings.model import Settings
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog, print_json

_EPILOG = epilog(
    {
        "meshctl alert --test": "does a mail arrive, does the command do what it should?",
        "runuser -u meshctl -- meshctl -m letters alert --test": "for a service of systemd",
    },
    {
        0: "every way of [alerts] was used without a fault",
        1: "one failed, there is none, or the daemon does not answer",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.option("--test", is_flag=True, help="Send a test alert.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(ctx: click.Context, test: bool, as_json: bool) -> None:
    """Send a test alert by mail and by the command of [alerts], and say what came of it.

    A running daemon sends it, with the rights, the network and the settings that it has; without one it is
    sent from here. Whether a mail came into somebody's inbox only that person sees.
    """
    if not test:
        raise click.UsageError("Say --test: there is nothing else to do.")
    settings = settings_of(ctx)
    sender, outcomes = _tell(settings)
    is_sent = bool(outcomes) and all(one.fault is None for one in outcomes)
    if as_json:
        print_json({"sent": is_sent, "sender": sender, "channels": [asdict(one) for one in outcomes]})
    else:
        _print(sender, outcomes)
    if not is_sent:
        ctx.exit(1)


def _tell(settings: Settings) -> tuple[str, list[Outcome]]:
    """Return who told the test, and what came of it."""
    folder = settings.state.folder
    try:
        runs = is_running(folder)
    except OSError as error:
        raise MeshctlError(
            f"Whether a daemon runs cannot be seen ({error.strerror}: {folder}). Run this as its user."
        ) from None
    if runs:
        click.echo("The daemon is asked to send it; that may take some seconds.", err=True)
        return f"the daemon ({holder_of(folder)})", ask_for_test(settings)
    return "this command, as no daemon runs", tell_test(settings)


def _print(sender: str, outcomes: list[Outcome]) -> None:
    if not outcomes:
        click.echo("Nobody is told of alerts: set mail_to or command in [alerts], and reload.")
        return
    click.echo(f"Sent by {sender}:")
    for one in outcomes:
        if one.fault is None:
            click.echo(f"  {one.channel} to {one.target}: sent.")
            continue
        click.echo(f"  {one.channel} to {one.target}: failed. {one.fault}")
        if one.said:
            click.echo(f"      it said: {one.said}")
        if one.advice:
            click.echo(f"      {one.advice}")
