"""`meshctl resend`: a failed or undelivered message again, as a new one that names the old.

Payload and control file are the ones that the MESH Client has kept; they stay where they are.
"""

import os
import sqlite3
from collections.abc import Collection
from pathlib import Path
from uuid import UUID

import click

from meshctl.errors import MeshctlError
from meshctl.ledger import documents, reads
from meshctl.ledger.documents import EarlierVersion
from meshctl.ledger.records import Message
from meshctl.mesh.states import State
from meshctl.outbound.drop import kept_pair, name_again, sidecar_again, waiting_again
from meshctl.outbound.names import NameRules
from meshctl.payload.itk3_again import as_replacement, has_replaced
from meshctl.terminal.context import message_named, settings_of
from meshctl.terminal.dropping import drop
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl resend 20261122091502480113_7F3A9C": "send a failed or overdue message again",
        "meshctl resend 2026112209150248 --force": "even if it is neither, or was sent again before",
    },
    {
        0: "a copy is in the outbox",
        1: "no such message, no need to, or its payload is gone; nothing was done",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.argument("named", metavar="ID")
@click.option(
    "--force",
    is_flag=True,
    help="Even if it has not failed and is not overdue, has arrived, or was sent again before.",
)
@click.pass_context
def command(ctx: click.Context, named: str, force: bool) -> None:
    """Send a failed or undelivered message again, as a new one that names the old (resend_of).

    The payload is copied from the MESH Client's SENT or FAILED folder, and sent to the same recipient with
    the same use case and Subject. With SaveSent=N nothing is kept there: drop the file again instead. If MESH
    rejected the message for the patient's details (EPL-15x), correct them and use meshctl send. A message
    that was acknowledged, or that is in SENT and was not rejected, needs --force: it has arrived, or will;
    so does one of whose document a later version was sent. Where an earlier version of its document was sent
    again first, the new message says that it replaces that one.
    """
    settings = settings_of(ctx)
    waiting = waiting_again(settings.staging)
    with reads.snapshot(settings.state.folder, settings.mailbox.id) as connection:
        message = message_named(connection, named)
        _check_need(connection, message, settings.mailbox.sent_folder, waiting, force=force)
        earlier = documents.unlinked_version(connection, message.message_id, waiting)
    pair = kept_pair(settings.mailbox, message.message_id)
    sidecar = sidecar_again(message, pair.control, settings)
    payload: str | bytes = str(pair.payload)
    if earlier is not None:
        payload = _linked(message, pair.payload, earlier, force=force)
    placed = drop(settings, payload, name_again(message, NameRules(settings.staging)), sidecar)
    click.echo(f"{message.message_id} -> {settings.staging.outbox / placed.name}")
    if isinstance(payload, bytes) and earlier is not None:
        click.echo(f"It now says that it replaces {earlier.message_id}, which was sent again before it.")


def _linked(message: Message, payload: Path, earlier: EarlierVersion, *, force: bool) -> str | bytes:
    """Return a payload that says that it replaces an earlier version; without `force` it must.

    Without that, the practice would have two valid versions. Raises MeshctlError, OSError.
    """
    data = payload.read_bytes()
    if message.replaces is None and has_replaced(data):
        # It was changed in this way before, or a sidecar gave the UUID of another one.
        return str(payload)
    linked = as_replacement(data, UUID(earlier.document_id))
    if linked is None and not force:
        raise MeshctlError(
            f"An earlier version of the document in {message.message_id} was sent again since, as"
            f" {earlier.message_id}, and its payload cannot be changed to say that it replaces that. Drop the"
            " file itself again, or give --force to send it as it is."
        )
    return linked or str(payload)


def _check_need(
    connection: sqlite3.Connection,
    message: Message,
    sent_folder: Path,
    waiting: Collection[str],
    *,
    force: bool,
) -> None:
    """Raise MeshctlError when the message must not be sent again, or, without `force`, need not be."""
    name = message.message_id
    if message.state is State.REJECTED:
        raise MeshctlError(
            f"{name} was rejected before it was sent. Correct its file in rejected/, and put it back with"
            f" meshctl redrop {name}."
        )
    if message.is_withdrawn:
        raise MeshctlError(f"{name} was withdrawn. To send it after all: meshctl redrop {name}")
    if message.state is State.CLAIMED:
        raise MeshctlError(
            f"{name} is still on its way to OUT: its payload is in .work, and the daemon will send it."
        )
    if force:
        return
    if message.standing.is_answered or message.answered_by is not None:
        raise MeshctlError(
            f"The recipient has acknowledged {name}, so would get it twice. Ask the recipient what became of"
            " it, or give --force."
        )
    is_rejected = message.state is State.FAILED and not message.standing.is_unsure
    if not is_rejected and os.path.lexists(sent_folder / f"{name}.ctl"):
        raise MeshctlError(
            f"{name} is in {sent_folder}: MESH has it, and the recipient would get it twice. Ask the"
            " recipient, or give --force."
        )
    if message.state is not State.FAILED and message.overdue is None:
        raise MeshctlError(
            f"{name} is {message.state} and not overdue. Give --force to send it again anyway."
        )
    later = documents.later_version(connection, name, waiting)
    if later is not None:
        raise MeshctlError(
            f"A later version of the document in {name} was sent, as {later}: the recipient would take the"
            " old one for the newest. Give --force to send it all the same."
        )
    earlier = reads.resent_as(connection, name)
    if earlier:
        raise MeshctlError(
            f"{name} was sent again before, as {', '.join(earlier)}. See 'meshctl show' for that one, or "
            "give --force."
        )
