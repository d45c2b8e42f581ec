"""Drop a file into the outbox for a person, examined beforehand as the daemon will examine it."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click

from meshctl.errors import ConfigError, MeshctlError
from meshctl.log.masking import mask_file_name
from meshctl.mesh.message_id import new_message_id
from meshctl.outbound.drop import place
from meshctl.outbound.examine import Examiner, Refused, Sendable, sidecar_beside
from meshctl.outbound.names import NameKind, NameRules, is_index
from meshctl.outbound.wrap import Caution
from meshctl.payload.sidecar import Sidecar
from meshctl.settings.model import Settings
from meshctl.terminal.following import Followed
from meshctl.terminal.options import laid_over, sidecar_bytes


def examine_beforehand(
    settings: Settings, file: Path, said: Sidecar | None
) -> tuple[Sendable, Sidecar | None]:
    """Return what would be sent, and the sidecar that makes it so: the one beside the file, and `said`.

    What may keep the message from arriving is told on standard error. Raises Refusal as the daemon would
    refuse the file, UsageError when there is no such file, OSError.
    """
    file = file.absolute()
    _check_kind(file, NameRules(settings.staging))
    sidecar = laid_over(said, sidecar_beside(str(file)))
    examined = Examiner(settings).examine(str(file.parent), file.name, _use_case_of(settings, file), sidecar)
    if examined is None:
        raise click.UsageError(f"There is no file {mask_file_name(str(file))}.")
    if isinstance(examined, Refused):
        raise examined.refusal
    print_cautions(examined.cautions)
    return examined, sidecar


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

    The copy is examined before it is shown. Raises Refusal when it would be refused, ConfigError when there
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
    seen: list[tuple[Sendable, str]] = []

    def check(folder: str, hidden_name: str) -> None:
        examined = Examiner(settings).examine(folder, hidden_name, None, sidecar)
        if isinstance(examined, Refused):
            raise examined.refusal
        if examined is None:
            raise MeshctlError("Somebody removed the file from the outbox before it was complete.")
        stamp = new_message_id(datetime.now(UTC)).partition("_")[0]
        seen.append((examined, settings.mailbox.file_prefix + stamp))

    sidecar_data = sidecar_bytes(sidecar) if sidecar else None
    placed_as = place(source, str(outbox), name, sidecar_data, NameRules(settings.staging), check)
    examined, younger_than = seen[-1]
    return Followed(
        name=placed_as,
        file_name=mask_file_name(placed_as, examined.words_to_mask),
        sha256=examined.sha256,
        younger_than=younger_than,
    )
