"""`meshctl redrop`: rejected files back into the outbox, as they were dropped.

The command marks them; the daemon, or the command where none runs, moves them (see
`meshctl.outbound.redrop`).
"""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from meshctl.daemon.stand_in import standing_in, wait_for_daemon
from meshctl.errors import MeshctlError
from meshctl.journal.masking import escape_unprintable, mask_file_name
from meshctl.ledger import documents, reads
from meshctl.mesh.states import State
from meshctl.outbound.drop import waiting_again
from meshctl.outbound.earlier_letters import OF_EARLIER_CODES
from meshctl.outbound.letter import WorkFolder
from meshctl.outbound.names import ERROR_SUFFIX, SIDECAR_SUFFIX
from meshctl.outbound.pipeline import OutboundPipeline
from meshctl.outbound.redrop import RejectedLetter, mark, rejected_letters
from meshctl.outbound.rejected import redrop_mark
from meshctl.outbound.withdrawal import WITHDRAWN_CODE, WRAPPED_ENDING
from meshctl.platform import host
from meshctl.settings.model import Settings
from meshctl.terminal.context import ledger_if_any, settings_of
from meshctl.terminal.options import parse_since
from meshctl.terminal.output import epilog

# A person has looked at each of these that goes back: it is named, or its code is.
_NOT_UNASKED = frozenset({WITHDRAWN_CODE, *OF_EARLIER_CODES})
_EPILOG = epilog(
    {
        "meshctl redrop letter.pdf": "one file, by its name in rejected/ or its message id",
        "meshctl redrop --all --since 2h": "all that were rejected in the last two hours",
        "meshctl redrop --all --code document_incomplete": "all that were rejected for one reason",
    },
    {
        0: "they are in the outbox again; what becomes of them, meshctl list shows",
        1: "no such file, its name is taken in the outbox, or the daemon has not done it yet",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--all",
    "is_all",
    is_flag=True,
    help="All rejected files, but those that were withdrawn, or may have the sidecar of another.",
)
@click.option(
    "--since",
    metavar="T",
    callback=parse_since,
    help="With --all: rejected since then: 90m, 2h, 1d, 2026-11-22 or 2026-11-22T09:15.",
)
@click.option(
    "--code", metavar="CODE", help="With --all: rejected with this code, as NAME.error.json has it."
)
@click.option(
    "--force",
    is_flag=True,
    help="Also a withdrawn file that the client has sent all the same, or of which a later version was sent.",
)
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[str, ...],
    is_all: bool,
    since: datetime | None,
    code: str | None,
    force: bool,
) -> None:
    """Put rejected files back into the outbox as they were dropped, once what was wrong has been fixed.

    Each goes back under its own name, into its use-case folder, with its sidecar and attachments; a row of an
    index comes back as a sidecar. What was corrected in rejected/ goes as it is now. It becomes a new
    message.

    Nothing in the outbox is replaced: a file whose name is taken there is left where it is.
    """
    if bool(names) == is_all:
        raise click.UsageError("Give the names of rejected files, or --all.")
    if not is_all and (since is not None or code is not None):
        raise click.UsageError("--since and --code can only be used with --all.")
    settings = settings_of(ctx)
    with host.acting_as_owner_of(settings.state.folder):
        there = sorted(
            rejected_letters(settings.staging.rejected), key=lambda letter: letter.message_id or ""
        )
        if is_all:
            own = [letter for letter in there if letter.is_of(settings.mailbox.id)]
            chosen = [letter for letter in own if _is_meant(letter, since, code)]
        else:
            chosen = [_named(name, there, settings.staging.rejected) for name in names]
        problems = _redrop(settings, chosen, force=force)
    if is_all and not chosen:
        click.echo("No rejected file to put back.")
    for problem in problems:
        click.echo(f"meshctl: {problem}", err=True)
    if problems:
        ctx.exit(1)


def _is_meant(letter: RejectedLetter, since: datetime | None, code: str | None) -> bool:
    is_young = since is None or letter.at_seconds >= since.timestamp()
    is_of_code = letter.code not in _NOT_UNASKED if code is None else letter.code == code
    return is_young and is_of_code


def _named(named: str, there: Sequence[RejectedLetter], folder: Path) -> RejectedLetter:
    """Return the rejected letter that somebody names. Raises MeshctlError."""
    name = os.path.basename(named)
    base = name.removesuffix(ERROR_SUFFIX)
    found = [letter for letter in there if letter.name in (name, base) or name == letter.message_id]
    base = base.removesuffix(SIDECAR_SUFFIX)
    found = found or [letter for letter in there if base in (letter.name, letter.dropped_name)]
    # A document is withdrawn as the message that was made around it.
    found = found or [
        each for each in there if each.code == WITHDRAWN_CODE and each.name == base + WRAPPED_ENDING
    ]
    shown = mask_file_name(name)
    if len(found) > 1:
        several = ", ".join(_shown(letter) for letter in found)
        raise MeshctlError(f"{shown} can be any of these in {folder}: {several}. Give one of these names.")
    if found:
        return found[0]
    if os.path.lexists(folder / name):
        raise MeshctlError(
            f"{shown} in {folder} has no explanation beside it that can be put back with it. Move it into the"
            " outbox yourself, its sidecar first: each by a rename on the same file system."
        )
    raise MeshctlError(f"There is no rejected file {shown} in {folder}.")


def _redrop(settings: Settings, chosen: Sequence[RejectedLetter], *, force: bool) -> list[str]:
    """Put letters back; print those that are, and return what kept the others from it."""
    folder = settings.staging.rejected
    marked, problems = [], []
    for letter in chosen:
        problem = _obstacle(settings, letter, force=force)
        if not letter.is_of(settings.mailbox.id):
            problem = "it was rejected for another mailbox: put it back with the settings of that one."
        if problem is None and not mark(folder, letter):
            problem = "somebody else has just put it back, or removed it."
        if problem is None:
            marked.append(letter)
        else:
            problems.append(f"{_shown(letter)}: {problem}")
    if marked:
        with standing_in(settings) as services:
            if services is not None:
                pipeline = OutboundPipeline(settings, services, lambda: False, lambda: None, lambda: None)
                try:
                    pipeline.put_back_redropped()
                finally:
                    pipeline.close()
        if services is None:
            wait_for_daemon(settings, lambda: not any(_is_under_way(settings, letter) for letter in marked))
    for letter in marked:
        if _is_under_way(settings, letter):
            problems.append(
                f"{_shown(letter)}: it is on its way, and the daemon has not put it back yet."
                " 'meshctl status' and the log say what keeps it."
            )
        else:
            click.echo(f"{_shown(letter)} -> {escape_unprintable(str(letter.target(settings)))}")
    return problems


def _obstacle(settings: Settings, letter: RejectedLetter, *, force: bool) -> str | None:
    """Return why a letter cannot be put back now, None if it can."""
    target = letter.target(settings)
    for path in (target, target.with_name(f"{target.name}{SIDECAR_SUFFIX}")):
        if os.path.lexists(path):
            return "the outbox has a file of that name or a sidecar for it. Let that be taken, or rename it."
    if force or letter.code != WITHDRAWN_CODE:
        return None
    with ledger_if_any(settings) as connection:
        message_id, found, later, earlier = letter.message_id or "", None, None, None
        if connection is not None:
            waiting = waiting_again(settings.staging)
            found = reads.message(connection, message_id)
            later = documents.later_version(connection, message_id, waiting)
            earlier = documents.unlinked_version(connection, message_id, waiting)
    if later is not None:
        return f"a later version of its document was sent, as {later}. --force puts it back all the same."
    if earlier is not None:
        return (
            f"an earlier version of its document was sent again since, as {earlier.message_id}, and this one"
            " does not say that it replaces that. Drop the file that it was made of again; --force puts this"
            " one back all the same."
        )
    if found is None or found.is_withdrawn or found.state is State.REJECTED:
        return None
    return (
        f"it was withdrawn too late: its message is {found.state}, so the recipient has it or will. --force"
        " sends it a second time."
    )


def _is_under_way(settings: Settings, letter: RejectedLetter) -> bool:
    """True if a letter that was marked is not back in the outbox yet."""
    if os.path.lexists(settings.staging.rejected / redrop_mark(letter.name)):
        return True
    work = WorkFolder(settings.staging.work)
    place = work.redropped_folder(letter.message_id or "", letter.use_case(settings))
    return place.is_there


def _shown(letter: RejectedLetter) -> str:
    return escape_unprintable(letter.name)
