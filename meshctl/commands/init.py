"""`meshctl init`: the folders and the settings file of one mailbox."""

import sys
from dataclasses import replace
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from meshctl.check.neighbours import other_settings
from meshctl.errors import ConfigError
from meshctl.mesh.use_cases import shipped_use_cases
from meshctl.platform import shell
from meshctl.settings.client_config import choose_client
from meshctl.settings.layout import (
    PLACEHOLDER_ID,
    REJECTED_NAME,
    Layout,
    Mailbox,
    closed_layout,
    folder_layout,
    make_layout,
    system_layout,
)
from meshctl.settings.load import load_settings
from meshctl.settings.mailboxes import SYSTEM_FILE, place_of
from meshctl.settings.model import MailboxSettings
from meshctl.settings.senders import SERVICE_USER, Senders, check_use_cases, find_senders, lay_outbox
from meshctl.settings.types import MailboxId, OptionalOdsCode, OptionalText, example_of
from meshctl.terminal.output import epilog

_MAILBOX_ID: TypeAdapter[str] = TypeAdapter(MailboxId)
_SENDER: dict[str, TypeAdapter[str | None]] = {
    "organisation": TypeAdapter(OptionalText),
    "ods_code": TypeAdapter(OptionalOdsCode),
}
_EXAMPLES = {key: example_of(MailboxSettings.model_fields[key]) for key in _SENDER}
# Otherwise the service is one of Windows, whose folders have no fixed places.
_HAS_SYSTEMD: bool = sys.platform != "win32"
_EPILOG = epilog(
    {
        "meshctl init /srv/mesh --mailbox X26ABC1": "everything under /srv/mesh, with the mailbox's folders",
        "meshctl init /srv/mesh --client-config /MESH-APP-HOME/meshclient.cfg": "beside a MESH Client",
        "meshctl init --system letters --mailbox X26ABC1": "for the service meshctl@letters, as root",
        'meshctl init --mailbox X26ABC1 --organisation "Larkfield Care Hub" --ods-code Y99901': (
            "with what the message around a PDF says of its sender"
        ),
        "meshctl init --system letters --senders letters-senders --use-case send-document": (
            "the same mailbox later: its settings stay, and the group letters-senders may drop files"
        ),
        r'meshctl init --system letters --senders "TRUST\mesh-senders"': "the same on Windows",
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
@click.option(
    "--organisation",
    metavar="TEXT",
    help="The name of your organisation, which the message around a PDF gives as its sender. Asked for at a"
    " terminal.",
)
@click.option(
    "--ods-code", metavar="CODE", help="The ODS code of your organisation, for the same; asked for too."
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
    "--senders",
    metavar="GROUP",
    help="With --system: let this group drop files into the outbox, and do nothing else; on Windows it may"
    r" also read what is rejected (DOMAIN\GROUP). Where there are settings already, they stay.",
)
@click.option(
    "--use-case",
    "use_cases",
    metavar="U",
    multiple=True,
    help="Make the outbox's folder for a use case, too; may be given several times.",
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
    organisation: str | None,
    ods_code: str | None,
    force: bool,
    instance: str | None,
    senders: str | None,
    use_cases: tuple[str, ...],
    root: Path | None,
) -> None:
    """Create the folders of a mailbox and a commented meshctl.toml, in DIR or the current folder.

    With --client-config the mailbox is where the MESH Client has it; without, the mailbox's folders are
    created, too. Existing folders stay as they are.

    With --senders the outbox and its folders belong to the service, and the group may put files there
    (3770, with a default access list by which the service can read and remove them). The senders need no
    other right: meshctl -m NAME send works for them.

    On Windows --system closes the folder to all but SYSTEM, administrators and the service's account; the
    senders may add files to the outbox, but no folders, and change only their own.
    """
    _check_senders(senders, instance, root)
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
        layout = closed_layout(SYSTEM_FILE.parent / instance, mailbox)
    group = None if senders is None else find_senders(senders)
    if layout.settings_file.exists() and not force and (group or use_cases):
        _lay_outbox(layout.settings_file, use_cases, group)
        return
    check_use_cases(use_cases, shipped_use_cases())
    if force or not layout.settings_file.exists():
        sender = _sender(organisation, ods_code)
        values = {**layout.values, "mailbox": {**layout.values["mailbox"], **sender}}
        layout = replace(layout, values=values)
    kept = make_layout(layout, replace=force)
    rejected = layout.outbox.with_name(REJECTED_NAME)
    has_lists = lay_outbox(layout.outbox, rejected, use_cases, group)
    click.echo(f"Settings: {layout.settings_file}")
    if kept is not None:
        click.echo(f"A copy of the old settings: {kept}")
    for made in layout.folders:
        click.echo(f"Folder:   {made}")
    _report_outbox(layout.outbox, use_cases, group, has_lists=has_lists)
    click.echo("\nNext:")
    for number, step in enumerate(_steps(layout, mailbox, instance), start=1):
        click.echo(f"  {number}. {step}")


def _check_senders(senders: str | None, instance: str | None, root: Path | None) -> None:
    if senders is None:
        return
    if instance is None or root is not None:
        raise click.UsageError("--senders can only be used with --system, and not with --root.")


def _lay_outbox(file: Path, use_cases: tuple[str, ...], senders: Senders | None) -> None:
    """Make the use-case folders of a mailbox that has settings, and open its outbox to the senders."""
    settings = load_settings(file, {})
    check_use_cases(use_cases, settings.use_cases)
    outbox = settings.staging.outbox
    has_lists = lay_outbox(outbox, settings.staging.rejected, use_cases, senders)
    click.echo(f"Settings: {file}, which stay as they are")
    _report_outbox(outbox, use_cases, senders, has_lists=has_lists)


def _report_outbox(
    outbox: Path, use_cases: tuple[str, ...], senders: Senders | None, *, has_lists: bool
) -> None:
    for name in use_cases:
        click.echo(f"Folder:   {outbox / name}")
    if senders is None:
        return
    click.echo(
        f"Senders:  group {senders.group}; who is to drop files joins it: {shell.join_advice(senders.group)}"
    )
    if not has_lists:
        click.echo(
            f"Warning: the file system of {outbox} has no access lists, so the service may read only what"
            f" senders leave open to their group. Put it into the group, usermod -a -G {senders.group}"
            f" {SERVICE_USER}, and have the senders use the umask 0007.",
            err=True,
        )


def _mailbox(mailbox_id: str | None, client_config: Path | None) -> Mailbox:
    if mailbox_id is not None:
        _check_id(mailbox_id, "--mailbox")
    if client_config is None:
        return Mailbox(mailbox_id or PLACEHOLDER_ID)
    client = choose_client(client_config, mailbox_id)
    _check_id(client.mailbox_id, str(client_config))
    return Mailbox(client.mailbox_id, client_config.absolute(), client)


def _sender(organisation: str | None, ods_code: str | None) -> dict[str, str]:
    """Return the keys of [mailbox] that name the sender; at a terminal, ask for what was not given."""
    questions = {
        "organisation": (organisation, "Name of your organisation, for letters as PDF (Enter: none yet)"),
        "ods_code": (ods_code, "ODS code of your organisation (Enter: none yet)"),
    }
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    values = {}
    for key, (given, question) in questions.items():
        asks = given is None and is_terminal
        written = click.prompt(question, default="", show_default=False, err=True) if asks else given or ""
        try:
            value = _SENDER[key].validate_python(written.strip())
        except ValidationError:
            raise ConfigError(f"{key}: {written!a} is not one; for example {_EXAMPLES[key]}.") from None
        if value is not None:
            values[key] = value
    return values


def _check_id(mailbox_id: str, source: str) -> None:
    try:
        _MAILBOX_ID.validate_python(mailbox_id)
    except ValidationError:
        raise ConfigError(
            f"{source}: {mailbox_id!a} is not a MESH mailbox id: 3 to 32 capital letters and digits,"
            " for example X26ABC1."
        ) from None


def _steps(layout: Layout, mailbox: Mailbox, instance: str | None) -> list[str]:
    option = place_of(layout.settings_file).option
    steps = []
    if mailbox.mailbox_id == PLACEHOLDER_ID:
        steps.append(f"Set [mailbox] id to the id of your MESH mailbox instead of {PLACEHOLDER_ID}.")
    if layout.problem is not None:
        steps.append(f"Set [mailbox] folder. {layout.problem}")
    elif mailbox.client is None:
        steps.append(
            "Set [mailbox] folder to where your MESH Client has the mailbox, or set its InterfaceRoot to the"
            f" folder created here. To try without a client: meshctl {option} simulate"
        )
    elif instance is not None and _HAS_SYSTEMD:
        steps.append(
            f"Let the service access the mailbox: systemctl edit meshctl@{instance}, [Service],"
            f" ReadWritePaths={mailbox.client.interface_root}"
        )
    steps[:0] = _others(layout.settings_file)
    missing = [key for key in _SENDER if key not in layout.values["mailbox"]]
    if missing:
        steps.append(
            f"Set {' and '.join(missing)} in [mailbox]: without, letters as PDF are rejected. Files that are"
            " FHIR messages need neither."
        )
    steps.append(f"meshctl {option} check")
    if instance is None:
        steps.append(f"meshctl {option} run")
    elif _HAS_SYSTEMD:
        steps.append(f"systemctl enable --now meshctl@{instance}")
    else:
        steps.append(f"meshctl {option} service install, then meshctl {option} service start")
    steps.append(f"Drop a file into {layout.outbox}; meshctl {option} status shows what became of it.")
    return steps


def _others(file: Path) -> list[str]:
    """Return what to do about other settings that name the mailbox of these, which were just written."""
    try:
        settings = load_settings(file, {})
    except ConfigError:
        # What a person has to decide first is said in another step.
        return []
    return [f"{each.text} {each.advice}" for each in other_settings(settings)]
