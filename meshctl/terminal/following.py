"""Following files from the outbox until MESH has them, or they are rejected or fail.

A file is certain to be found in the ledger: its name was free in the outbox before, so the message of that
name with a younger id is the one. Ids are made when the daemon opens a file.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from meshctl.daemon.lock import seems_running
from meshctl.journal.masking import escape_unprintable
from meshctl.ledger import reads
from meshctl.ledger.records import Message
from meshctl.mesh.states import LADDER, State
from meshctl.settings.model import Settings
from meshctl.terminal.context import ledger_if_any
from meshctl.terminal.views import make_console, plain_text

ARRIVED = frozenset({State.SENT, State.RECEIVED, State.COMPLETED})
LOST = frozenset({State.REJECTED, State.FAILED})

_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 3.0


@dataclass(slots=True)
class Followed:
    """A file in the outbox: its name there and in the ledger, and a stamp before its message id."""

    name: str
    file_name: str
    sha256: str | None
    younger_than: str
    message: Message | None = None

    @property
    def state(self) -> State | None:
        """Return the message's state; None until the daemon has taken the file."""
        return self.message.state if self.message else None

    @property
    def is_decided(self) -> bool:
        """True if there is nothing more to wait for."""
        return self.state in ARRIVED or self.state in LOST

    def line(self) -> str:
        """Return what has become of the file, for a person."""
        name = escape_unprintable(self.name)
        if self.message is None:
            return f"{name}: in the outbox"
        line = f"{name}: {self.message.state} as {self.message.message_id}"
        reason = self.message.reason
        if reason is None:
            return line
        return f"{line}: {' '.join(part for part in (reason.code, reason.text, reason.advice) if part)}"


def follow(
    settings: Settings, followed: Sequence[Followed], timeout: timedelta | None, *, silent: bool
) -> bool:
    """Wait until every file is decided, showing progress; return False if the time is up before.

    Unless `silent`, a terminal shows a bar for each file; otherwise each change is a line.
    """
    started = time.monotonic()
    has_hinted = False
    with _progress(followed, silent=silent) as show:
        while True:
            _update(settings, followed)
            show()
            if all(file.is_decided for file in followed):
                return True
            waited = time.monotonic() - started
            if timeout is not None and waited >= timeout.total_seconds():
                return False
            if not has_hinted and waited >= _PATIENCE_SECONDS:
                has_hinted = True
                _hint(settings, followed)
            time.sleep(_LOOK_SECONDS)


def _update(settings: Settings, followed: Sequence[Followed]) -> None:
    with ledger_if_any(settings) as connection:
        if connection is None:
            return
        found = {
            message.message_id: message
            for message in reads.entered_since(connection, min(file.younger_than for file in followed))
        }
    assigned = {file.message.message_id for file in followed if file.message}
    for file in followed:
        if file.message is None:
            file.message = _first_of(file, [found[key] for key in found if key not in assigned])
            assigned.update([file.message.message_id] if file.message else [])
        else:
            file.message = found.get(file.message.message_id, file.message)


def _first_of(file: Followed, messages: Sequence[Message]) -> Message | None:
    named = [
        message
        for message in messages
        if message.file_name == file.file_name and message.message_id >= file.younger_than
    ]
    # Two names may look the same once masked; their content tells which is which.
    alike = [message for message in named if message.sha256 == file.sha256]
    return next(iter(alike), None)


def _hint(settings: Settings, followed: Sequence[Followed]) -> None:
    if not any(file.message for file in followed) and not seems_running(settings.state.folder):
        click.echo(
            "No daemon seems to be running; the files stay in the outbox until 'meshctl run' takes them.",
            err=True,
        )


@contextmanager
def _progress(followed: Sequence[Followed], *, silent: bool) -> Iterator[Callable[[], None]]:
    if silent:
        yield lambda: None
    elif sys.stdout.isatty():
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[file]}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=make_console(),
        )
        bars = [
            progress.add_task(
                "", total=LADDER.index(State.SENT) + 1, file=plain_text(file.name).plain, state=""
            )
            for file in followed
        ]
        with progress:
            yield lambda: _draw(progress, bars, followed)
        for file in followed:
            click.echo(file.line())
    else:
        printed = [""] * len(followed)
        yield lambda: _print_changes(followed, printed)


def _draw(progress: Progress, bars: Sequence[TaskID], followed: Sequence[Followed]) -> None:
    for bar, file in zip(bars, followed, strict=True):
        reached = 0
        if file.state in ARRIVED:
            reached = LADDER.index(State.SENT) + 1
        elif file.state is not None and file.state not in LOST:
            reached = LADDER.index(file.state) + 1
        progress.update(bar, completed=reached, state=file.state or "in the outbox")


def _print_changes(followed: Sequence[Followed], printed: list[str]) -> None:
    for number, file in enumerate(followed):
        line = file.line()
        if line != printed[number]:
            printed[number] = line
            click.echo(line)
