"""What the demo prints: a live table on a terminal, a line for each change elsewhere, then a summary.

Shows only what the ledger holds about a message, so no patient data.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from meshctl.ledger.records import Message
from meshctl.mesh.states import LADDER, State
from meshctl.platform import shell
from meshctl.settings.model import Settings
from meshctl.simulator.demo import DemoPart, Scene
from meshctl.terminal.views import OVERDUE_STYLE, STYLES, plain_text, state_text

_REFRESHES_PER_SECOND = 8
_INDENT = 6
_STEPS = tuple(state for state in LADDER if state is not State.FAILED)


def show_live(scenes: Iterable[Scene], console: Console) -> Scene | None:
    """Show the scenes as one table that changes in place; return the last."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[time]}")
    )
    task = progress.add_task("as expected", total=None, time="")
    last: Scene | None = None
    with Live(console=console, refresh_per_second=_REFRESHES_PER_SECOND) as live:
        for last in scenes:
            progress.update(
                task, total=len(last.parts), completed=last.arrived, time=f"{last.elapsed_seconds:.0f} s"
            )
            live.update(Group(_table(last.parts), Text(), progress))
    return last


def print_plainly(scenes: Iterable[Scene], console: Console) -> Scene | None:
    """Print a line for every change; return the last scene."""
    printed: dict[str, str] = {}
    last: Scene | None = None
    for last in scenes:
        for part in last.parts:
            if part.message is None:
                continue
            state = state_text(part.message).plain
            if printed.get(part.drop.name) != state:
                printed[part.drop.name] = state
                console.print(f"{last.elapsed_seconds:5.1f} s  {part.drop.name}: {state}")
    return last


def print_summary(scene: Scene, settings: Settings, folder: Path, console: Console) -> None:
    """Print what became of every message, what is missing, and where to look further.

    `folder` is what to remove afterwards.
    """
    console.print()
    console.print(_counts(scene))
    for part in scene.parts:
        console.print(_ending(part, is_terminal=console.is_terminal))
    for part in scene.parts:
        if part.missing:
            wanted = " and ".join(sorted(part.missing))
            console.print(Text(f"Missing: {part.drop.name} should be {wanted}.", style="red"))
    if scene.unexpected:
        console.print(Text(f"Not expected: {scene.unexpected} more messages than were dropped.", style="red"))
    console.print()
    file = shell.quoted(settings.file)
    console.print(f"Log:         {settings.log.file}", soft_wrap=True)
    console.print(f"Look at it:  meshctl -c {file} logs", soft_wrap=True)
    console.print(f"Remove it:   {shell.REMOVE_FOLDER} {shell.quoted(folder)}", soft_wrap=True)


def print_opening(folder: Path, parts: int, console: Console) -> None:
    """Print what the demo does."""
    console.print(
        f"The daemon and a simulator of MESH work on a copy of the sample mailbox; {parts} files are dropped."
    )
    console.print(f"Folder: {folder}", soft_wrap=True)
    console.print()


def print_opening_over_sandbox(folder: Path, parts: int, console: Console) -> None:
    """Print what the demo over the sandbox does."""
    console.print(
        "NHS England's MESH sandbox, a sender and a practice, each with daemon and bridge, start on this"
        f" machine; the sender sends {parts} letters, and the practice acknowledges them.",
        soft_wrap=True,
    )
    console.print(f"Folder: {folder}", soft_wrap=True)
    console.print()


def _table(parts: Iterable[DemoPart]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("FILE", "USE CASE", "PROGRESS", "STATE"):
        narrowest = len(_STEPS) if heading == "PROGRESS" else None
        table.add_column(heading, no_wrap=True, overflow="ellipsis", min_width=narrowest)
    for part in parts:
        message = part.message
        if message is None:
            table.add_row(plain_text(part.drop.name, "dim"), "", "", "")
        else:
            table.add_row(
                plain_text(message.file_name),
                plain_text(message.use_case),
                _progress_of(message),
                state_text(message),
            )
    return table


def _progress_of(message: Message) -> Text:
    """Draw how far a message has come: a mark for each step up to `completed`."""
    style = OVERDUE_STYLE if message.overdue is not None else STYLES.get(message.state, "cyan")
    if message.state not in _STEPS:
        return Text("x".ljust(len(_STEPS)), style=style)
    steps = _STEPS.index(message.state) + 1
    return Text("=" * (steps - 1) + ">", style=style) + Text("." * (len(_STEPS) - steps), style="dim")


def _counts(scene: Scene) -> Text:
    messages = [part.message for part in scene.parts if part.message is not None]
    counts = Counter(message.state for message in messages)
    overdue = sum(message.overdue is not None for message in messages)
    texts = [f"{counts[state]} {state.value}" for state in State if counts[state]]
    texts += [f"{overdue} overdue"] if overdue else []
    return Text(f"After {scene.elapsed_seconds:.0f} s: {', '.join(texts) or 'no message'}.", style="bold")


def _ending(part: DemoPart, *, is_terminal: bool) -> Group:
    """Print how one message ended, with reason and advice where it did not arrive."""
    line = Text(f"  {part.drop.name}: ")
    message = part.message
    if message is None:
        return Group(line.append("not taken", style="red"))
    line.append_text(state_text(message))
    texts: list[str | None] = []
    if message.reason is not None:
        texts = [message.reason.text, message.reason.advice]
    elif message.overdue is not None:
        awaited = " and ".join(message.awaiting)
        texts = [f"No {awaited} acknowledgement came in time; an alert says so."]
    lines = [plain_text(text) for text in texts if text]
    if not is_terminal:
        # In a file nothing wraps, and padding would end each line in blanks.
        return Group(line, *(Text(" " * _INDENT).append_text(text) for text in lines))
    return Group(line, *(Padding(text, (0, 0, 0, _INDENT), expand=False) for text in lines))
