"""`meshctl alert --test`: an alert sent as daemon and bridge send theirs, and what came of it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from meshctl.daemon.alert_test import Outcome, ask_for_test, bridge_of, daemon_of, tell_test
from meshctl.daemon.lock import holder_of, is_running
from meshctl.daemon.mailbox_lock import server_of
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
        1: "one failed, there is none, or the daemon or bridge does not answer",
        2: "wrong usage or settings",
    },
)


@dataclass(frozen=True, slots=True)
class _Test:
    """Who sent a test, and what came of it, by channel."""

    sender: str
    channels: list[Outcome]


@click.command(epilog=_EPILOG)
@click.option("--test", is_flag=True, help="Send a test alert.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(ctx: click.Context, test: bool, as_json: bool) -> None:
    """Send a test alert by mail and by the command of [alerts], and say what came of it.

    A running daemon sends it, with the rights, the network and the settings that it has; without one it is
    sent from here. A running bridge tells of its own trouble, so it sends one too. Whether a mail came into
    somebody's inbox only that person sees.
    """
    if not test:
        raise click.UsageError("Say --test: there is nothing else to do.")
    settings = settings_of(ctx)
    tests = list(_tell(settings))
    outcomes = [one for sent in tests for one in sent.channels]
    is_sent = bool(outcomes) and all(one.fault is None for one in outcomes)
    if as_json:
        print_json({"sent": is_sent, "tests": [asdict(sent) for sent in tests]})
    elif not outcomes:
        click.echo("Alerts are sent to nobody: set mail_to or command in [alerts], and reload.")
    else:
        for sent in tests:
            _print(sent)
    if not is_sent:
        ctx.exit(1)


def _tell(settings: Settings) -> Iterator[_Test]:
    """Have everybody who sends alerts of this mailbox send a test; yield what came of each."""
    folder = settings.state.folder
    try:
        runs = is_running(folder)
        bridge = None if settings.bridge.environment is None else server_of(settings.mailbox)
    except OSError as error:
        raise MeshctlError(
            f"It cannot be determined whether a daemon runs ({error.strerror}: {error.filename or folder})."
            " Run this as its user."
        ) from None
    if runs:
        click.echo("The daemon is asked to send it; that may take some seconds.", err=True)
        yield _Test(f"the daemon ({holder_of(folder)})", ask_for_test(settings, daemon_of(settings)))
    else:
        yield _Test("this command, as no daemon runs", tell_test(settings))
    if bridge is not None:
        click.echo("The bridge is asked to send one, too.", err=True)
        yield _Test(bridge, ask_for_test(settings, bridge_of(settings)))
    elif settings.bridge.environment is not None:
        click.echo("No bridge runs, so whether it could send its alerts was not tried.", err=True)


def _print(test: _Test) -> None:
    click.echo(f"By {test.sender}:")
    for one in test.channels:
        if one.fault is None:
            click.echo(f"  {one.channel} to {one.target}: sent.")
            continue
        click.echo(f"  {one.channel} to {one.target}: failed. {one.fault}")
        if one.said:
            click.echo(f"      it said: {one.said}")
        if one.advice:
            click.echo(f"      {one.advice}")
