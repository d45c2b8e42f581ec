"""`meshctl service`: the daemon as a Windows service."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from meshctl.check.exposure import refuse_world_writable
from meshctl.check.finding import Setup, listed
from meshctl.check.folders import check_drives
from meshctl.clock import now
from meshctl.errors import ClosedSettingsError, ConfigError, MeshctlError
from meshctl.files import durable
from meshctl.platform import host, shell, system
from meshctl.platform.access_lists import Entry, service_sid
from meshctl.platform.common import service_name
from meshctl.settings.mailboxes import place_of
from meshctl.settings.model import Settings
from meshctl.settings.service_rights import Need, needs
from meshctl.terminal.context import settings_file_of, settings_of
from meshctl.terminal.output import epilog

# It needs what only Windows has.
_HAS_SERVICES = find_spec("win32service") is not None
_service: Any = import_module("meshctl.platform.service") if _HAS_SERVICES else None
_account: Any = import_module("meshctl.platform.service_account") if _HAS_SERVICES else None

_EPILOG = epilog(
    {
        "meshctl -m letters service install": r"as NT SERVICE\meshctl-ID, which only this computer knows",
        r"meshctl -m letters service install --user TRUST\mesh$": "as a gMSA, for folders on a share",
        "meshctl -m letters service start": "likewise stop, status, remove; with --bridge for the bridge",
    },
    {
        0: "done; status: it is running",
        1: "Windows refused, or it is not running",
        2: "wrong usage or settings",
    },
)
_PRIVATE = 0o700
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
@click.option(
    "--user",
    metavar="ACCOUNT",
    help=r"The account that it runs as: DOMAIN\NAME$ for a group managed service account, which has no"
    r" password. Default: NT SERVICE\meshctl-ID, which only this computer knows.",
)
@click.pass_context
def install(ctx: click.Context, config: Path | None, bridge: bool, user: str | None) -> None:
    """Install the service, which starts with Windows, and grant its account what it needs.

    That is to read the program and the settings, to change its own folders, and what the mailbox needs. It is
    printed as commands of icacls, which do the same by hand. Nothing is installed where everybody may change
    the program, the settings or the outbox.
    """
    settings = _settings(ctx, config)
    name, flags = _name(settings, bridge), ["--bridge"] if bridge else []
    refuse_world_writable(settings, "Then install the service.")
    # First: a letter may stand for the share on which the account is refused.
    for finding in check_drives(Setup(settings, now())):
        click.echo(f"Warning: {finding.text} {finding.advice}", err=True)
    if name in _service.names():
        _check_own(name, settings.file)
    needed = needs(settings, bridge=bridge)
    account = user or _account.own_account(name)
    if user is None and (shares := [need.path for need in needed if system.mount_of(need.path)]):
        raise ConfigError(
            f"{listed(list(map(str, shares)))}: on a share, where {account} is not known. Give the service an"
            r" account of the domain: --user DOMAIN\NAME$, a group managed service account."
        )
    sid = _account.sid_of(account)
    password = None
    if _account.needs_password(account):
        if not _account.can_ask():
            raise click.UsageError(
                f"{account} has a password, which is asked for at a console: this is none."
            )
        password = click.prompt(f"Password of {account}", hide_input=True)
    _service.install(name, [name, "-c", str(settings.file), *flags], account, password)
    click.echo(f"{name} is installed, and runs as {account}. Granted to it:")
    is_whole = _grant(needed, account, sid)
    if not _account.let_log_on(account):
        is_whole = False
        click.echo(
            f"Warning: {account} could not be let log on as a service. Do so in secpol.msc: Local Policies,"
            " User Rights Assignment, Log on as a service.",
            err=True,
        )
    start = " ".join(["meshctl", place_of(settings.file).option, "service start", *flags])
    click.echo(f"Start it: {start}")
    if not is_whole:
        raise click.exceptions.Exit(1)


def _grant(needed: Sequence[Need], account: str, sid: str) -> bool:
    """Grant an account what it needs and has not; print it. False if something could not be granted."""
    is_whole = True
    for need in needed:
        entry = Entry(sid, need.rights, need.scope)
        line = f'icacls {shell.quoted(need.path)} /grant "{entry.for_icacls(_account.for_icacls(account))}"'
        if _account.is_own_account(account) and system.mount_of(need.path):
            line = line.replace(account, r"DOMAIN\COMPUTER$")
            click.echo(
                f"Warning: on a share the service comes as this computer; grant that: {line}", err=True
            )
            continue
        try:
            if need.is_ours:
                durable.make_folder(need.path, _PRIVATE)
            found = host.access_list(need.path)
            if found is None or not found.grants(entry):
                host.grant(need.path, [entry])
                click.echo(f"  {line}")
        except OSError as error:
            is_whole = False
            click.echo(f"Warning: not granted ({error.strerror}): {line}", err=True)
    return is_whole


def _take_back(needed: Sequence[Need], sid: str) -> None:
    """Take back what the account of a service that is gone was granted; say what could not be."""
    for need in needed:
        try:
            host.take_back(need.path, sid)
        except FileNotFoundError:
            continue
        except OSError as error:
            line = f"icacls {shell.quoted(need.path)} /remove *{sid}"
            click.echo(f"Warning: not taken back ({error.strerror}): {line}", err=True)


def _named(act: Callable[[str], None]) -> click.Command:
    """Make a command of a function that is given the service's name."""

    @command.command(act.__name__, help=act.__doc__)
    @_config
    @_bridge
    @click.pass_context
    def run(ctx: click.Context, config: Path | None, bridge: bool) -> None:
        act(_installed(ctx, config, bridge))

    return run


@command.command()
@_config
@_bridge
@click.pass_context
def remove(ctx: click.Context, config: Path | None, bridge: bool) -> None:
    """Stop and remove the service; settings, ledger and log stay.

    What its own account, NT SERVICE\\meshctl-ID, was granted is taken back.
    """
    name = _installed(ctx, config, bridge)
    _service.remove(name)
    try:
        _take_back(needs(_settings(ctx, config), bridge=bridge), service_sid(name))
    except ConfigError:
        click.echo(
            "Warning: not taken back, since the settings are wrong; icacls FOLDER /remove does so.", err=True
        )
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


@command.command()
@_config
@_bridge
@click.pass_context
def status(ctx: click.Context, config: Path | None, bridge: bool) -> None:
    """Say whether the service is running.

    Who may not read the settings, a help desk for example, is told of all services of meshctl.
    """
    try:
        names = [_installed(ctx, config, bridge)]
    except ClosedSettingsError:
        names = _service.names()
        if not names:
            raise
    states = [_service.state(name) for name in names]
    for name, state in zip(names, states, strict=True):
        click.echo(f"{name} is {state}.")
    if set(states) != {"running"}:
        raise click.exceptions.Exit(1)


def _settings(ctx: click.Context, config: Path | None) -> Settings:
    """Return the settings, of -c here or before "service". Raises ConfigError."""
    if _service is None:
        raise ConfigError(_WITHOUT)
    if config is not None:
        ctx.find_root().params["config"] = config
    return settings_of(ctx)


def _installed(ctx: click.Context, config: Path | None, bridge: bool) -> str:
    """Return the name of the service; with wrong settings, of the one that was installed with their file.

    A service must be stopped, and what its start says be seen, whatever is wrong. Raises ConfigError.
    """
    try:
        settings = _settings(ctx, config)
    except ClosedSettingsError:
        raise
    except ConfigError as error:
        file = None if _service is None else settings_file_of(ctx)
        found = None if file is None else _service.of_file(file, bridge=bridge)
        if found is None:
            raise
        click.echo(f"Warning: {error}", err=True)
        return str(found)
    name = _name(settings, bridge)
    _check_own(name, settings.file)
    return name


def _check_own(name: str, file: Path) -> None:
    """Raise MeshctlError for a service that was installed with another settings file, of the same mailbox."""
    installed_with = _service.settings_file(name)
    if installed_with != file:
        raise MeshctlError(
            f"{name} was installed with the settings {installed_with}, and these are {file}. Give those:"
            f" meshctl {place_of(installed_with).option} service ..."
        )


def _name(settings: Settings, bridge: bool) -> str:
    return service_name(settings.mailbox.id, bridge=bridge)
