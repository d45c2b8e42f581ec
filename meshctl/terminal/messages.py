"""Messages as a person reads them: a line each, or one with its whole story."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Group, OverflowMethod
from rich.table import Table
from rich.text import Text

from meshctl.bridge.tracked import Tracked
from meshctl.clock import iso
from meshctl.ledger.records import Message
from meshctl.mesh.states import State
from meshctl.sizes import size_text
from meshctl.terminal.output import relative_time
from meshctl.terminal.tables import make_console, make_table, plain_text

STYLES = {
    State.REJECTED: "red",
    State.FAILED: "red",
    State.COMPLETED: "green",
    State.RECEIVED: "green",
}
OVERDUE_STYLE = "yellow"

_ID_CHARACTERS = 27
_STATE_CHARACTERS = 9
# Below this width the use case would leave no room for the file.
_NARROW = 72


def print_messages(messages: Sequence[Message], *, exact: bool) -> None:
    """Print a line a message.

    What does not fit into the terminal ends in an ellipsis. Into a pipe or a file nothing is left out: where
    COLUMNS leaves too little room, cells are folded.
    """
    console = make_console()
    fits = console.is_terminal
    roomy = console.width >= _NARROW
    has_use_case = roomy or not fits
    overflow: OverflowMethod = "ellipsis" if fits else "fold"
    table = Table(box=None, pad_edge=False, header_style="bold", expand=fits)
    # The id is whole, to be copied, unless it would take most of a folded line from the others. A least width
    # is for terminals alone: cells that are folded would be cut by it.
    id_width, state_width = (_ID_CHARACTERS, _STATE_CHARACTERS) if fits else (None, None)
    table.add_column("MESSAGE ID", no_wrap=fits or roomy, overflow=overflow, min_width=id_width)
    table.add_column("STATE", overflow=overflow, min_width=state_width)
    table.add_column("CREATED", no_wrap=fits, overflow=overflow)
    # Only on a terminal do the last two columns share what the others leave, or lose it.
    if has_use_case:
        table.add_column("USE CASE", no_wrap=fits, overflow=overflow, ratio=1 if fits else None)
    table.add_column("FILE", no_wrap=fits, overflow=overflow, ratio=2 if fits else None)
    now = datetime.now(UTC)
    for message in messages:
        table.add_row(
            plain_text(message.message_id),
            state_text(message),
            told_time(message.created_at, now, exact=exact),
            *([plain_text(message.use_case)] if has_use_case else []),
            plain_text(message.file_name),
        )
    console.print(table)


def print_message(message: Message, tracked: Tracked | None, *, exact: bool) -> None:
    """Print all that is known of one message, what MESH says of it if it was asked, and its history."""
    now = datetime.now(UTC)
    fields = Table.grid(padding=(0, 2))
    fields.add_column(no_wrap=True, style="bold")
    fields.add_column(overflow="fold")
    for label, value in _fields(message, tracked, now, exact=exact):
        fields.add_row(label, value)
    history = make_table(
        ("WHEN", "EVENT", "STATE", "CODE", "TEXT"),
        (
            (told_time(entry.at, now, exact=exact), entry.event, entry.state, entry.code, entry.text)
            for entry in message.history
        ),
    )
    make_console().print(Group(fields, Text(), history))


def state_text(message: Message) -> Text:
    """Return a message's state with what matters about it: the code of a failure, overdue, assumed."""
    said = Text(message.state.value, style=STYLES.get(message.state, ""))
    if message.reason is not None and message.reason.code:
        said.append(" ").append_text(plain_text(message.reason.code))
    if message.assumed:
        said.append(" (assumed)")
    if message.overdue is not None:
        said.append(" ").append("overdue", style=OVERDUE_STYLE)
    return said


def told_time(at: datetime, now: datetime, *, exact: bool) -> Text:
    """Return an instant as so long ago, or as ISO 8601 UTC."""
    return plain_text(iso(at) if exact else relative_time(at, now))


def _fields(
    message: Message, tracked: Tracked | None, now: datetime, *, exact: bool
) -> Iterable[tuple[str, Text]]:
    yield "Message", plain_text(message.message_id)
    yield "State", state_text(message)
    if message.overdue is not None:
        yield "Overdue", plain_text(f"the deadline {message.overdue} has passed", OVERDUE_STYLE)
    if tracked is not None:
        asked = told_time(tracked.asked_at, now, exact=exact)
        yield "Tracking", Text.assemble("MESH, ", asked, ": ", plain_text(tracked.text))
    if message.reason is not None:
        yield "Reason", plain_text(message.reason.text, "red")
        if message.reason.advice:
            yield "Advice", plain_text(message.reason.advice)
    if message.awaiting and message.state is not State.FAILED:
        yield "Awaiting", plain_text(f"{' and '.join(message.awaiting)} acknowledgement")
    yield "File", plain_text(message.file_name)
    yield "Size", plain_text(size_text(message.size_bytes))
    if message.wrapped_bytes is not None:
        yield "Wrapped", plain_text(f"in an ITK3 message of {size_text(message.wrapped_bytes)}")
    yield "Use case", plain_text(message.use_case)
    yield "Workflow id", plain_text(message.workflow_id)
    yield "MESH id", plain_text(message.mesh_id)
    if message.to_mailbox is not None:
        yield "To mailbox", plain_text(message.to_mailbox)
    if message.answered_by is not None:
        yield "Answered by", plain_text(f"the mailbox {message.answered_by}")
    if message.repeat_of is not None:
        yield "Repeat of", plain_text(message.repeat_of)
    if message.resend_of is not None:
        yield "Resend of", plain_text(message.resend_of)
    yield "Created", told_time(message.created_at, now, exact=exact)
    yield "Changed", told_time(message.updated_at, now, exact=exact)
    yield "SHA-256", plain_text(message.sha256)
