"""`meshctl withdraw`: a message back out of OUT, before the MESH Client takes it.

The command hides the control file; the daemon, or the command where none runs, does the rest (see
`meshctl.outbound.withdrawal`).
"""

import click

from meshctl.daemon.stand_in import standing_in, wait_for_daemon
from meshctl.errors import MeshctlError
from meshctl.journal.masking import escape_unprintable
from meshctl.ledger import reads
from meshctl.ledger.records import Message
from meshctl.mesh.states import State
from meshctl.outbound.redrop import rejected_letters
from meshctl.outbound.withdrawal import Hidden, Withdrawals, hide
from meshctl.platform import host
from meshctl.settings.model import Settings
from meshctl.terminal.context import message_named, settings_of
from meshctl.terminal.output import epilog

_EPILOG = epilog(
    {
        "meshctl withdraw 20261122091502480113_7F3A9C": "take back a message that waits in OUT",
        "meshctl withdraw 2026112209150248": "the beginning of an id is enough if no other id begins so",
    },
    {
        0: "withdrawn: the MESH Client cannot take it any more, and its file is in rejected/",
        1: "too late, no such message, or not finished yet",
        2: "wrong usage or settings",
    },
)


@click.command(epilog=_EPILOG)
@click.argument("named", metavar="ID")
@click.pass_context
def command(ctx: click.Context, named: str) -> None:
    """Take a message back that the MESH Client has not taken yet.

    What would have been sent goes to rejected/, with a sidecar that says for whom it was; meshctl redrop
    sends it after all. The message is then failed, with the code withdrawn.

    Once the MESH Client (or meshctl bridge) has the message it cannot be taken back: ask the recipient.
    """
    settings = settings_of(ctx)
    with host.acting_as_owner_of(settings.state.folder):
        with reads.snapshot(settings.state.folder, settings.mailbox.id) as connection:
            message = message_named(connection, named)
        message_id = message.message_id
        _check_state(message)
        if hide(settings.mailbox.out_folder, message_id) is Hidden.TOO_LATE:
            raise _too_late(message_id)
        with standing_in(settings) as services:
            if services is not None:
                Withdrawals(settings, services).finish(message_id)
        if services is None:
            wait_for_daemon(settings, lambda: _is_finished(settings, message_id))
        _report(settings, message_id)


def _check_state(message: Message) -> None:
    """Raise MeshctlError for a message that is not in OUT."""
    name = message.message_id
    if message.is_withdrawn:
        raise MeshctlError(f"{name} was withdrawn before; its file is in rejected/.")
    if message.state is State.REJECTED:
        raise MeshctlError(f"{name} was never sent: its file is in rejected/.")
    if message.state is State.CLAIMED:
        raise MeshctlError(f"{name} is just on its way to OUT. Try again in a moment.")
    if message.state is not State.QUEUED:
        raise _too_late(name, message.state)


def _too_late(message_id: str, state: State | None = None) -> MeshctlError:
    what = "the MESH Client has taken it" if state is None else f"it is {state}"
    return MeshctlError(f"Too late to withdraw {message_id}: {what}. Nothing was changed; ask the recipient.")


def _state(settings: Settings, message_id: str) -> Message | None:
    with reads.snapshot(settings.state.folder) as connection:
        return reads.message(connection, message_id)


def _is_finished(settings: Settings, message_id: str) -> bool:
    """True if the client was quicker, or the file has come to `rejected/`."""
    message = _state(settings, message_id)
    if message is None or message.state is State.QUEUED:
        return False
    return not message.is_withdrawn or _rejected_name(settings, message_id) is not None


def _rejected_name(settings: Settings, message_id: str) -> str | None:
    letters = rejected_letters(settings.staging.rejected)
    return next((letter.name for letter in letters if letter.message_id == message_id), None)


def _report(settings: Settings, message_id: str) -> None:
    """Say what came of it. Raises MeshctlError where that is not what was wanted."""
    message = _state(settings, message_id)
    if message is not None and message.is_withdrawn:
        name = _rejected_name(settings, message_id)
        if name is not None:
            click.echo(f"{message_id} -> {escape_unprintable(str(settings.staging.rejected / name))}")
            return
    elif message is not None and message.state is not State.QUEUED:
        raise _too_late(message_id, message.state)
    raise MeshctlError(
        f"{message_id} is withdrawn: the MESH Client cannot take it any more. The daemon has not moved its"
        " file to rejected/ yet; 'meshctl status' and the log say what keeps it."
    )
