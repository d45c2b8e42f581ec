"""`meshctl restore`: the ledger and the key of a mailbox from a back-up, and its settings."""

import os
from pathlib import Path

import click

from meshctl.daemon.lock import InstanceLock
from meshctl.errors import ConfigError
from meshctl.files import durable
from meshctl.files.owner import ForeignFolderError, owner_of
from meshctl.files.reading import read_regular
from meshctl.ledger.backup import SETTINGS_NAME, Restored, read_manifest, restore
from meshctl.platform import host, system
from meshctl.settings.layout import keep_settings, write_settings
from meshctl.settings.load import load_settings
from meshctl.settings.senders import SERVICE_USER
from meshctl.terminal.context import settings_file_of
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl restore /var/backups/meshctl/letters-2026-11-22": "ledger and key",
        "meshctl -m letters restore /var/backups/meshctl/letters-2026-11-22 --settings": "the settings too",
    },
    {
        0: "restored; start the daemon",
        1: "nothing was changed: a daemon runs, the ledger there is newer, or it is no complete back-up",
        2: "wrong usage or settings, or the back-up of another mailbox",
    },
)
_MOST_SETTINGS_BYTES = 1 << 20
_STATE_MODE, _SETTINGS_MODE = 0o700, 0o600


@click.command(epilog=_EPILOG)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--settings",
    "with_settings",
    is_flag=True,
    help="Put the settings back, too, where there are others; a copy of those is kept.",
)
@click.option("--force", is_flag=True, help="Even if the ledger that is there is newer; it is kept.")
@click.pass_context
def command(ctx: click.Context, folder: Path, with_settings: bool, force: bool) -> None:
    """Put the ledger and the key of a mailbox back from a back-up that meshctl backup made.

    Stop the daemon first. When it starts again, it enters what the folders show and the ledger lacks, and
    reads archive/ again. What is replaced is kept in the state folder. As root, all of it is given to the
    user whose state folder it is.

    Where there are no settings yet, those of the back-up are put in their place.
    """
    source = folder.absolute()
    manifest = read_manifest(source)
    file = settings_file_of(ctx, may_be_missing=True)
    if file is None:
        raise click.UsageError(
            "There are no settings yet. Say with -m NAME or -c FILE where those of the back-up belong."
        )
    found = read_regular(source / SETTINGS_NAME, _MOST_SETTINGS_BYTES)
    present = read_regular(file, _MOST_SETTINGS_BYTES) if file.exists() else None
    brings_settings = present is None or (with_settings and present != found)
    state_folder, mailbox_id = _state_of(file, found if brings_settings else None)
    if manifest.mailbox != mailbox_id:
        raise ForeignFolderError(f"The back-up in {source}", manifest.mailbox, mailbox_id, is_backup=True)
    restored = _restore(source, state_folder, mailbox_id, force=force)
    kept_settings = None
    if brings_settings:
        kept_settings = keep_settings(file) if present is not None else None
        write_settings(file, found, SERVICE_USER)
    _report(restored, state_folder, file, kept_settings)
    if not brings_settings and present != found:
        click.echo(f"The settings stay as they are; those of the back-up differ: {source / SETTINGS_NAME}")
    for missing in _missing_folders(file):
        click.echo(f"Missing, and no part of the back-up: {missing}")
    click.echo("Now start the daemon: it enters what the folders show and the ledger lacks.")


def _state_of(file: Path, content: bytes | None) -> tuple[Path, str]:
    """Return the state folder and the mailbox of settings: of the file, or with this content in its place.

    Raises ConfigError.
    """
    if content is None:
        settings = load_settings(file, os.environ)
        return settings.state.folder, settings.mailbox.id
    # Beside the file, since paths in it are relative to it.
    examined = file.with_name(f".{file.name}.restoring")
    system.unlink_if_there(examined)
    durable.write_new(str(examined), content, _SETTINGS_MODE)
    try:
        settings = load_settings(examined, os.environ)
        return settings.state.folder, settings.mailbox.id
    finally:
        system.unlink(examined)


def _missing_folders(file: Path) -> list[Path]:
    """Return the folders of a mailbox that are not there. Raises ConfigError."""
    settings = load_settings(file, os.environ)
    folders = (
        settings.staging.outbox,
        *settings.own_folders,
        settings.mailbox.folder,
        settings.log.file.parent,
    )
    return [folder for folder in folders if not folder.is_dir()]


def _restore(source: Path, state_folder: Path, mailbox_id: str, *, force: bool) -> Restored:
    """Restore while no daemon can start. Raises MeshctlError, OSError."""
    _make_state_folder(state_folder)
    owner = owner_of(state_folder)
    if owner not in (None, mailbox_id):
        raise ForeignFolderError(str(state_folder), owner, mailbox_id)
    lock = InstanceLock(state_folder)
    with host.acting_as_owner_of(state_folder):
        lock.hold()
    try:
        return restore(source, state_folder, mailbox_id, force=force)
    finally:
        lock.release()


def _make_state_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        raise ConfigError(
            f"There is no folder {folder.parent}. 'meshctl init' makes the folders; restore then."
        )
    system.make_folder(folder, _STATE_MODE)
    host.give_to_owner_of(folder, folder.parent)


def _report(restored: Restored, state_folder: Path, file: Path, kept_settings: Path | None) -> None:
    manifest = restored.manifest
    click.echo(
        f"{state_folder}: mailbox {manifest.mailbox}, {manifest.messages} messages, as of {manifest.made_at}."
    )
    for name in restored.kept:
        click.echo(f"Kept from before: {state_folder / name}")
    if kept_settings is not None:
        click.echo(f"Kept from before: {kept_settings}")
    click.echo(f"Settings: {file}")
