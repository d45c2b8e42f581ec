"""Drop a file into the outbox for a person, examined beforehand as the daemon will examine it."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click

from meshctl.clock import now
from meshctl.errors import ConfigError, MeshctlError
from meshctl.files.folder import Folder
from meshctl.journal.masking import mask_file_name
from meshctl.mesh.message_id import new_message_id
from meshctl.outbound.document import Caution
from meshctl.outbound.drop import Dropper
from meshctl.outbound.judge import Judge, sidecar_beside
from meshctl.outbound.letter import Letter
from meshctl.outbound.names import NameKind, NameRules, is_index
from meshctl.payload.sidecar import Sidecar
from meshctl.settings.model import Settings
from meshctl.terminal.following import Followed
from meshctl.terminal.options import laid_over, sidecar_bytes


def examine_beforehand(
    settings: Settings, file: Path, given: Sidecar | None
) -> tuple[Letter, Sidecar | None]:
    """Return what would be sent, and the sidecar that makes it so: the one beside the file, and `given`.

    What may keep the message from arriving is told on standard error. Raises Rejection as the daemon would
    refuse the file, UsageError when there is no such file, OSError.
    """
    file = file.absolute()
    _check_kind(file, NameRules(settings.staging))
    letter, sidecar = None, given
    with suppress(FileNotFoundError), Folder(str(file.parent)) as folder:
        sidecar = laid_over(given, sidecar_beside(folder, file.name))
        letter = Judge(settings).judge(folder, file.name, _use_case_of(settings, file), sidecar)
    if letter is None:
        raise click.UsageError(f"There is no file {mask_file_name(str(file))}.")
    if letter.rejection is not None:
        raise letter.rejection
    print_cautions(letter.cautions)
    return letter, sidecar


def print_cautions(cautions: Iterable[Caution]) -> None:
    """Print on standard error why a message may fail, as the daemon's log would say it."""
    for caution in cautions:
        click.echo(f"Warning: {caution.text} {caution.advice}", err=True)


def _check_kind(file: Path, names: NameRules) -> None:
    if names.kind_of(file.name) is NameKind.SIDECAR:
        raise click.UsageError(
            "A sidecar is not sent by itself: name the file that it describes; it goes along."
        )
    if is_index(file.name):
        raise click.UsageError("An index is not sent by itself: put it into the outbox with its files.")
    names.check_taken(file.name)


def _use_case_of(settings: Settings, file: Path) -> str | None:
    """Return the use case of the outbox's sub-folder that the file lies in, if it does."""
    use_case = os.path.normcase(file.parent.name)
    in_sub_folder = file.parent.parent == settings.staging.outbox and use_case in settings.use_cases
    return use_case if in_sub_folder else None


def drop(settings: Settings, source: str, name: str, sidecar: Sidecar | None) -> Followed:
    """Copy `source` into the outbox as `name` with its sidecar; return what to follow it by.

    The copy is examined before it is shown. Raises Rejection when it would be refused, ConfigError when there
    is no outbox, OSError.
    """
    if sidecar is not None and sidecar.document is not None and sidecar.document.attachments:
        raise MeshctlError(
            "A document with attachments is not dropped by a command: put all its files into the outbox, its"
            " sidecar first."
        )
    outbox = settings.staging.outbox
    if not outbox.is_dir():
        raise ConfigError(f"There is no outbox at {outbox}. 'meshctl init' makes it.")
    seen: list[tuple[Letter, str]] = []

    def check(folder: str, hidden_name: str) -> None:
        with Folder(folder) as outbox_folder:
            letter = Judge(settings).judge(outbox_folder, hidden_name, None, sidecar)
        if letter is None:
            raise MeshctlError("Somebody removed the file from the outbox before it was complete.")
        if letter.rejection is not None:
            raise letter.rejection
        stamp = new_message_id(now()).partition("_")[0]
        seen.append((letter, settings.mailbox.file_prefix + stamp))

    sidecar_data = sidecar_bytes(sidecar) if sidecar else None
    dropper = Dropper(str(outbox), NameRules(settings.staging), check)
    placed_as = dropper.drop_file(source, name, sidecar_data)
    letter, younger_than = seen[-1]
    return Followed(
        name=placed_as,
        file_name=mask_file_name(placed_as, letter.words_to_mask),
        sha256=letter.sha256,
        younger_than=younger_than,
    )
