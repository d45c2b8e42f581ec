"""`meshctl service`: the daemon as a Windows service."""

import logging
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from meshctl.commands.bridge import connected_bridge
from meshctl.commands.run import make_daemon
from meshctl.daemon.wake_ups import Signals
from meshctl.errors import ConfigError
from meshctl.journal.events import event_and_fields
from meshctl.journal.lines import logfmt_fields
from meshctl.platform.common import RELOAD, STOP
from meshctl.platform.systemd import ServiceManager
from meshctl.settings.model import Settings
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog

# It needs what only Windows has.
_service: Any = import_module("meshctl.platform.service") if find_spec("win32service") else None

_EPILOG = epilog(
    {
        r"meshctl service install -c D:\mesh\meshctl.toml": "as LocalSystem, starting with Windows",
        r'meshctl service install -c FILE --user "NT SERVICE\meshctl-ID"': "as another account",
        "meshctl service start -c FILE": "likewise stop, status, remove; with --bridge for the bridge",
    },
    {
        0: "done; status: it is running",
        1: "Windows refused, or it is not running",
        2: "wrong usage or settings",
    },
)
_WITHOUT = (
    "meshctl service needs the package pywin32: pip install meshctl[windows]. Without it, let the Task"
    " Scheduler run: meshctl -c FILE run --once"
)


@click.group("service", epilog=_EPILOG)
def command() -> None:
    """Run the daemon of a mailbox, or its bridge, as a Windows service.

    The service is called meshctl-ID, or meshctl-bridge-ID. Windows starts it, and restarts it when it fails;
    warnings and errors are also in the Event Log.
    """
    if sys.platform != "win32":
        raise click.UsageError(
            "meshctl service is only for Windows. On Linux systemd runs meshctl: see systemd/README.md."
        )


_config = click.option(
    "-c",
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The settings file of the mailbox.",
)
_bridge = click.option("--bridge", is_flag=True, help="Use the service of the bridge.")


@command.command()
@_config
@_bridge
@click.option("--user", metavar="ACCOUNT", help="The account that it runs as. Default: LocalSystem.")
@click.pass_context
def install(ctx: click.Context, config: Path | None, bridge: bool, user: str | None) -> None:
    """Install the service, which starts with Windows."""
    settings = _settings(ctx, config)
    password = None
    if user is not None and _service.needs_password(user):
        password = click.prompt(f"Password of {user}", hide_input=True)
    name = _name(settings, bridge)
    flags = ["--bridge"] if bridge else []
    _service.install(name, ["-c", str(settings.file), "service", "host", *flags], user, password)
    click.echo(f"{name} is installed. Start it: meshctl -c {settings.file} service start")


def _named(act: Callable[[str], None]) -> click.Command:
    """Make a command of a function that is given the service's name."""

    @command.command(act.__name__, help=act.__doc__)
    @_config
    @_bridge
    @click.pass_context
    def run(ctx: click.Context, config: Path | None, bridge: bool) -> None:
        act(_name(_settings(ctx, config), bridge))

    return run


@_named
def remove(name: str) -> None:
    """Stop and remove the service; settings, ledger and log stay."""
    _service.remove(name)
    click.echo(f"{name} is removed.")


@_named
def start(name: str) -> None:
    """Start the service, and wait until it is running."""
    _service.start(name)
    click.echo(f"{name} is running.")


@_named
def stop(name: str) -> None:
    """Stop the service, and wait until it has ended."""
    _service.stop(name)
    click.echo(f"{name} has stopped.")


@_named
def status(name: str) -> None:
    """Say whether the service is running."""
    state = _service.state(name)
    click.echo(f"{name} is {state}.")
    if state != "running":
        raise click.exceptions.Exit(1)


@command.command(hidden=True)
@_bridge
@click.pass_context
def host(ctx: click.Context, bridge: bool) -> None:
    """Run as the service; only the service manager calls this."""
    settings = _settings(ctx, None)
    run = _run_bridge if bridge else _run_daemon
    with closing(Signals()) as signals:
        requests = {STOP: signals.stop, RELOAD: signals.reload}
        name = _name(settings, bridge)
        _service.host(name, requests, _event_text, lambda service: run(settings, signals, service))


def _event_text(record: logging.LogRecord) -> str:
    event, fields = event_and_fields(record)
    return f"{event}{logfmt_fields(fields)}"


def _run_daemon(settings: Settings, signals: Signals, manager: ServiceManager) -> None:
    make_daemon(settings, signals, manager).run()


def _run_bridge(settings: Settings, signals: Signals, manager: ServiceManager) -> None:
    with connected_bridge(settings, signals, manager) as bridge:
        bridge.run()


def _settings(ctx: click.Context, config: Path | None) -> Settings:
    """Return the settings, of -c here or before "service". Raises ConfigError."""
    if _service is None:
        raise ConfigError(_WITHOUT)
    if config is not None:
        ctx.find_root().params["config"] = config
    return settings_of(ctx)


def _name(settings: Settings, bridge: bool) -> str:
    return str(_service.service_name(settings.mailbox.id, bridge=bridge))
