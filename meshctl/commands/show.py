"""`meshctl show`: one message and its history. Reads the ledger, and what MESH answered the bridge."""

import os
from contextlib import suppress
from pathlib import Path

import click

from meshctl.bridge.tracking import tracked_status
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.documents import later_version
from meshctl.ledger.reads import snapshot
from meshctl.ledger.records import Message
from meshctl.mesh.states import FINAL, WITHDRAWN, State
from meshctl.outbound.names import ERROR_SUFFIX
from meshctl.outbound.rejected import explanations
from meshctl.platform import host
from meshctl.terminal.context import message_named, settings_of
from meshctl.terminal.options import EXACT_HELP
from meshctl.terminal.output import Times, epilog, print_json
from meshctl.terminal.views import print_message

_EPILOG = epilog(
    {
        "meshctl show 20261122091502480113_7F3A9C": "everything about a message",
        "meshctl show 2026112209150248 --exact": "the beginning of an id is enough if no other id begins so",
        "meshctl show 20261122091502480113_7F3A9C --json": "the same for a program",
    },
    {
        0: "shown",
        1: "no such message, several, or no ledger yet",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.argument("named", metavar="ID")
@click.option("--exact", is_flag=True, help=EXACT_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, named: str, exact: bool, as_json: bool) -> None:
    """Show one message and its history.

    ID is the message id, its beginning, the name of a file of the pair, or the id that MESH gave the message.
    """
    settings = settings_of(ctx)
    state_folder = settings.state.folder
    with snapshot(state_folder, settings.mailbox.id) as connection:
        message = message_named(connection, named)
        later = later_version(connection, message.message_id)
    # For a message in a final state an old tracking result would only mislead.
    tracked = (
        None if message.state in FINAL else tracked_status(state_folder, message.message_id, message.mesh_id)
    )
    place = _place(settings.staging.rejected, message)
    if as_json:
        tracking = {} if tracked is None else {"tracking": tracked.as_json()}
        rejected = {} if place is None else {"rejected_file": place}
        print_json(message.as_json() | tracking | rejected)
    else:
        location = None if place is None else str(place)
        if place is None and _is_in_rejected(message):
            location = f"no longer in {settings.staging.rejected}"
        print_message(message, later, tracked, location, times=Times.EXACT if exact else Times.BOTH)


def _is_in_rejected(message: Message) -> bool:
    """True if the file of a message went to rejected/."""
    return message.state is State.REJECTED or (
        message.reason is not None and message.reason.event == WITHDRAWN
    )


def _place(folder: Path, message: Message) -> Path | None:
    """Return where in rejected/ the file of a message is; None where it is not, or cannot be looked for.

    What looks like an NHS number in its name is masked, as everywhere.
    """
    if not _is_in_rejected(message):
        return None
    with suppress(OSError), host.acting_as_owner_of(folder):
        # As their owner: what others wrote there is no explanation of ours, and root is another.
        for path, content in explanations(str(folder)):
            file = Path(path.removesuffix(ERROR_SUFFIX))
            if content.get("message_id") == message.message_id and os.path.lexists(file):
                return folder / mask_file_name(file.name)
    return None
