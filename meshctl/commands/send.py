"""`meshctl send`: files into the outbox safely, and with --wait followed until MESH has them."""

import os
from datetime import timedelta
from pathlib import Path

import click

from meshctl.errors import ClosedSettingsError, MeshctlError, Rejection
from meshctl.journal.masking import escape_unprintable, mask_file_name
from meshctl.outbound.names import NameRules
from meshctl.payload.sidecar import Sidecar
from meshctl.settings.layout import usual_outbox
from meshctl.settings.load import unknown_settings
from meshctl.settings.model import Settings
from meshctl.settings.types import format_duration, parse_duration
from meshctl.terminal.context import settings_file_of, settings_of
from meshctl.terminal.dropping import LOST, Followed, drop, examine_beforehand, follow
from meshctl.terminal.options import sidecar_options
from meshctl.terminal.output import epilog, print_json

_EPILOG = epilog(
    {
        "meshctl send report.xml": "a message, or a file with its sidecar beside it",
        "meshctl send letter.pdf --use-case send-document --nhs-number 9990000042 --date-of-birth 2001-02-14"
        " --surname Smith": "any other file; the options make its sidecar",
        "meshctl send letter.pdf --use-case send-document --nhs-number 9990000042 --date-of-birth 2001-02-14"
        " --surname Smith --author-name 'Dr Gary Pritchard' --document-type 823681000000100": (
            "a PDF in the ITK3 message that a practice can file; --replaces ID sends a newer version"
        ),
        "meshctl send *.xml --use-case inpatient-discharge --to-mailbox X26ABC2": (
            "several files, to a mailbox"
        ),
        "meshctl send report.xml --wait --timeout 30m": "wait until MESH has it",
        "meshctl -m letters send report.xml": "to the mailbox letters of this server, as one of its senders",
    },
    {
        0: "the files are in the outbox; with --wait: MESH has them",
        1: "a file would be rejected, and none was put into the outbox; with --wait: rejected, failed, or "
        "not sent in time",
        2: "wrong usage or settings",
    },
)


def _timeout(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


@click.command(epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@sidecar_options
@click.option(
    "--outbox",
    metavar="DIR",
    envvar="MESHCTL_OUTBOX",
    type=click.Path(path_type=Path),
    help="Put the files into this outbox, without reading any settings. Default: $MESHCTL_OUTBOX, else what"
    " the settings say; where you may not read these, where meshctl init makes the outbox.",
)
@click.option("--wait", is_flag=True, help="Follow the files until MESH has them, or until Ctrl-C.")
@click.option(
    "--timeout", metavar="T", callback=_timeout, help="With --wait: at most this long: 90s, 30m, 2h."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array: file, path, message.")
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[Path, ...],
    sidecar: Sidecar | None,
    outbox: Path | None,
    wait: bool,
    timeout: timedelta | None,
    as_json: bool,
) -> None:
    """Copy files into the outbox safely, with a sidecar made from the options.

    Each file is checked first, as the daemon will check it; if one of them would be rejected, none is sent.
    A sidecar beside a file (FILE.meta.json) is used, and the options override it key by key. If a name is
    already taken, a number is added. The files themselves stay where they are.

    Whoever may drop files needs the right to write in the outbox, and no other. Without the right to read the
    settings, name and sidecar are checked; what else would be wrong under the shipped settings is a warning.

    Options are visible in the process list and the shell's history. To avoid that, write a sidecar instead.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout can only be used with --wait.")
    settings, knows_settings = _settings(ctx, outbox)
    if wait and not knows_settings:
        raise click.UsageError("--wait needs the mailbox's settings and ledger, which are not read here.")
    sidecars = _checked(settings, files, sidecar, strict=knows_settings)
    followed = []
    for file, whole_sidecar in zip(files, sidecars, strict=True):
        followed.append(drop(settings, str(file), file.name, whole_sidecar, strict=knows_settings))
        if not as_json:
            click.echo(escape_unprintable(f"{file} -> {settings.staging.outbox / followed[-1].name}"))
    in_time = not wait or follow(settings, followed, timeout, silent=as_json)
    if as_json:
        print_json([_as_json(settings, *pair) for pair in zip(files, followed, strict=True)])
    _raise_if_lost(followed, timeout, in_time=in_time)


def _settings(ctx: click.Context, outbox: Path | None) -> tuple[Settings, bool]:
    """Return the mailbox's settings, and whether they are its own.

    They are not where only the outbox is known: it was named, or this user may not read the settings.
    """
    if outbox is None:
        try:
            return settings_of(ctx), True
        except ClosedSettingsError as error:
            file = settings_file_of(ctx)
            outbox = error.outbox or (usual_outbox(file) if file else None)
            if outbox is None or not _is_there(outbox):
                raise ClosedSettingsError(
                    f"{error}\nWhoever drops files needs the outbox alone: name it with --outbox DIR."
                ) from None
    return unknown_settings(outbox.absolute()), False


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


def _checked(
    settings: Settings, files: tuple[Path, ...], sidecar: Sidecar | None, *, strict: bool
) -> list[Sidecar | None]:
    """Return each file's sidecar; raise MeshctlError, naming every file that would be rejected."""
    sidecars, rejected = [], []
    for file in files:
        try:
            if _is_in(file, settings.staging.outbox):
                NameRules(settings.staging).check_taken(file.name)
                raise click.UsageError(
                    f"{mask_file_name(file.name)} is already in the outbox; the daemon sends it from there."
                )
            letter, whole = examine_beforehand(settings, file, sidecar, strict=strict)
            if whole is not None and whole.sha256 is None:
                # A later file of that name is not taken for this one's.
                whole = whole.model_copy(update={"sha256": letter.sha256})
            sidecars.append(whole)
        except Rejection as rejection:
            rejected.append(f"{mask_file_name(file.name)}: {rejection}")
    if rejected:
        rejected.append("Nothing was put into the outbox: correct that, and send again.")
        raise MeshctlError("\n".join(rejected))
    return sidecars


def _is_in(file: Path, outbox: Path) -> bool:
    return Path(os.path.realpath(outbox)) in Path(os.path.realpath(file)).parents


def _as_json(settings: Settings, file: Path, followed: Followed) -> dict[str, object]:
    return {
        "file": file,
        "path": settings.staging.outbox / followed.name,
        "message": followed.message.as_json() if followed.message else None,
    }


def _raise_if_lost(followed: list[Followed], timeout: timedelta | None, *, in_time: bool) -> None:
    lost = sum(file.state in LOST for file in followed)
    if lost:
        raise MeshctlError(f"{lost} of {len(followed)} rejected or failed; 'meshctl show ID' says why.")
    if not in_time and timeout is not None:
        still_open = sum(not file.is_decided for file in followed)
        raise MeshctlError(
            f"{still_open} of {len(followed)} not sent within {format_duration(timeout)};"
            " the daemon keeps trying."
        )
