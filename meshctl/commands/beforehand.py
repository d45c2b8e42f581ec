"""What would become of a file if it were dropped: the daemon's own examination, before anything moves."""

from collections.abc import Iterable
from pathlib import Path

import click

from meshctl.commands.sidecar_options import laid_over
from meshctl.errors import Refusal
from meshctl.journal.masking import mask_file_name
from meshctl.outbound.compose import Caution
from meshctl.outbound.examine import Refused, Sendable, sidecar_beside
from meshctl.outbound.names import Kind, NameRules
from meshctl.outbound.outgoing import examiner_for
from meshctl.payload.sidecar import Sidecar
from meshctl.settings.model import Settings


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
    examined = examiner_for(settings).examine(
        str(file.parent), file.name, _use_case_of(settings, file), sidecar
    )
    if examined is None:
        raise click.UsageError(f"There is no file {mask_file_name(str(file))}.")
    if isinstance(examined, Refused):
        raise examined.refusal
    tell_cautions(examined.cautions)
    return examined, sidecar


def tell_cautions(cautions: Iterable[Caution]) -> None:
    """Print on standard error why a message may fail, as the daemon's log would say it."""
    for caution in cautions:
        click.echo(f"Warning: {caution.text} {caution.advice}", err=True)


def _check_kind(file: Path, names: NameRules) -> None:
    kind = names.kind_of(file.name)
    if kind is Kind.SIDECAR:
        raise click.UsageError(
            "A sidecar is not sent by itself: name the file that it describes; it goes along."
        )
    if kind.is_ignored:
        raise Refusal(
            "file_name_ignored",
            "Files with such a name are never sent: it is that of a temporary, back-up, lock or system file,"
            " or one that [staging] ignore names.",
            "Rename the file.",
        )


def _use_case_of(settings: Settings, file: Path) -> str | None:
    """Return the use case of the outbox's sub-folder that the file lies in, if it does."""
    in_sub_folder = file.parent.parent == settings.staging.outbox and file.parent.name in settings.use_cases
    return file.parent.name if in_sub_folder else None
