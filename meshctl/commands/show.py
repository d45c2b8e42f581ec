"""`meshctl show`: one message and its history. Reads the ledger, and what MESH told the bridge."""

import click

from meshctl.bridge.tracking import tracked_status
from meshctl.ledger.reads import snapshot
from meshctl.mesh.states import FINAL
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
    # For a message in a final state an old tracking result would only mislead.
    tracked = (
        None if message.state in FINAL else tracked_status(state_folder, message.message_id, message.mesh_id)
    )
    if as_json:
        tracking = {} if tracked is None else {"tracking": tracked.as_json()}
        print_json(message.as_json() | tracking)
    else:
        print_message(message, tracked, times=Times.EXACT if exact else Times.BOTH)
