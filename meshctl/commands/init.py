"""`meshctl init`: the folders and the settings file of one mailbox."""

import sys
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from meshctl.errors import ConfigError
from meshctl.platform import host
from meshctl.settings.client_config import choose_client
from meshctl.settings.layout import (
    PLACEHOLDER_ID,
    Layout,
    Mailbox,
    folder_layout,
    make_layout,
    system_layout,
)
from meshctl.settings.mailboxes import SYSTEM_FILE
from meshctl.settings.types import MailboxId
from meshctl.terminal.output import epilog

_MAILBOX_ID: TypeAdapter[str] = TypeAdapter(MailboxId)
# Otherwise the service is one of Windows, whose folders have no fixed places.
_HAS_SYSTEMD: bool = sys.platform != "win32"
_EPILOG = epilog(
    {
        "meshctl init /srv/mesh --mailbox X26ABC1": "everything under /srv/mesh, with the mailbox's folders",
        "meshctl init /srv/mesh --client-config /MESH-APP-HOME/meshclient.cfg": "beside a MESH Client",
        "meshctl init --system letters --mailbox X26ABC1": "for the service meshctl@letters, as root",
    },
    {0: "created", 2: "not created: wrong usage, existing settings, or a folder that cannot be created"},
)


@click.command("init", epilog=_EPILOG)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--mailbox", "mailbox_id", metavar="ID", help="The id of your MESH mailbox.")
@click.option(
    "--client-config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The MESH Client's meshclient.cfg, to read mailbox id, folder and flags from, but no secrets.",
)
@click.option("--force", is_flag=True, help="Replace existing settings; a copy of them is kept.")
@click.option(
    "--system",
    "instance",
    metavar="NAME",
    help="Set up for the service meshctl@NAME: /etc/meshctl, /var/lib/meshctl, /var/log/meshctl; on Windows"
    r" %ProgramData%\meshctl\NAME.",
)
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="With --system: create everything below DIR, to build an image.",
)
def command(
    folder: Path | None,
    mailbox_id: str | None,
    client_config: Path | None,
    force: bool,
    instance: str | None,
    root: Path | None,
) -> None:
    """Create the folders of a mailbox and a commented meshctl.toml, in DIR or the current folder.

    With --client-config the mailbox is where the MESH Client has it; without, the mailbox's folders are
    created, too. Existing folders stay as they are.
    """
    mailbox = _mailbox(mailbox_id, client_config)
    if instance is None:
        if root is not None:
            raise click.UsageError("--root can only be used with --system.")
        layout = folder_layout((folder or Path()).absolute(), mailbox)
    elif folder is not None:
        raise click.UsageError("Give either DIR or --system, not both.")
    elif not instance.replace("-", "").replace("_", "").isalnum() or not instance.isascii():
        raise click.UsageError("The NAME of --system may have letters, digits, hyphens and underscores.")
    elif _HAS_SYSTEMD:
        layout = system_layout(instance, mailbox, (root or Path("/")).absolute())
    elif root is not None:
        raise click.UsageError("--root can only be used with --system, and on Linux.")
    else:
        layout = folder_layout(SYSTEM_FILE.parent / instance, mailbox)
    kept = make_layout(layout, replace=force)
    _report(layout, mailbox, kept, instance)


def _mailbox(mailbox_id: str | None, client_config: Path | None) -> Mailbox:
    if mailbox_id is not None:
        _check_id(mailbox_id, "--mailbox")
    if client_config is None:
        return Mailbox(mailbox_id or PLACEHOLDER_ID)
    client = choose_client(client_config, mailbox_id)
    _check_id(client.mailbox_id, str(client_config))
    return Mailbox(client.mailbox_id, client_config.absolute(), client)


def _check_id(mailbox_id: str, source: str) -> None:
    try:
        _MAILBOX_ID.validate_python(mailbox_id)
    except ValidationError:
        raise ConfigError(
            f"{source}: {mailbox_id!a} is not a MESH mailbox id: 3 to 32 capital letters and digits,"
            " for example X26ABC1."
        ) from None


def _report(layout: Layout, mailbox: Mailbox, kept: Path | None, instance: str | None) -> None:
    """Print what was created, and what to do next."""
    click.echo(f"Settings: {layout.settings_file}")
    if kept is not None:
        click.echo(f"A copy of the old settings: {kept}")
    for folder in layout.folders:
        click.echo(f"Folder:   {folder}")
    click.echo("\nNext:")
    for number, step in enumerate(_steps(layout, mailbox, instance), start=1):
        click.echo(f"  {number}. {step}")


def _steps(layout: Layout, mailbox: Mailbox, instance: str | None) -> list[str]:
    file = host.quoted(layout.settings_file)
    steps = []
    if mailbox.mailbox_id == PLACEHOLDER_ID:
        steps.append(f"Set [mailbox] id to the id of your MESH mailbox instead of {PLACEHOLDER_ID}.")
    if layout.problem is not None:
        steps.append(f"Set [mailbox] folder. {layout.problem}")
    elif mailbox.client is None:
        steps.append(
            "Set [mailbox] folder to where your MESH Client has the mailbox, or set its InterfaceRoot to the"
            f" folder created here. To try without a client: meshctl -c {file} simulate"
        )
    elif instance is not None and _HAS_SYSTEMD:
        steps.append(
            f"Let the service access the mailbox: systemctl edit meshctl@{instance}, [Service],"
            f" ReadWritePaths={mailbox.client.interface_root}"
        )
    if instance is not None and not _HAS_SYSTEMD:
        steps.append(f"Close it to other users: {host.close_command(layout.settings_file.parent)}")
    steps.append(f"meshctl -c {file} check")
    if instance is None:
        steps.append(f"meshctl -c {file} run")
    elif _HAS_SYSTEMD:
        steps.append(f"systemctl enable --now meshctl@{instance}")
    else:
        steps.append(f"meshctl service install -c {file}, then meshctl service start -c {file}")
    outbox = next(folder for folder in layout.folders if folder.name == "outbox")
    steps.append(f"Drop a file into {outbox}; meshctl -c {file} status shows what became of it.")
    return steps
