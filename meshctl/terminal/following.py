"""Following files that were put into the outbox until MESH has them, or somebody has to do something.

A file is found again in the ledger for certain: its name was free in the outbox before it came, so a message
of that name is it if its id is younger. Ids are made when the daemon looks at a file.
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
    """A file in the outbox: its name there, how the ledger will call it, and since when ids are younger."""

    name: str
    file_name: str
    sha256: str | None
    younger_than: str
    message: Message | None = None

    @property
    def state(self) -> State | None:
        """Return the message's state, None while the daemon has not taken the file."""
        return self.message.state if self.message else None

    @property
    def is_decided(self) -> bool:
        """True if waiting for it is over."""
        return self.state in ARRIVED or self.state in LOST

    def told(self) -> str:
        """Return what has become of the file, as a line for a person."""
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
    """Wait until every file is decided, with progress; False when the time was over before.

    Unless `silent`, a terminal shows a bar a file, anything else gets a line a change.
    """
    started = time.monotonic()
    has_hinted = False
    with _shown(followed, silent=silent) as show:
        while True:
            _look(settings, followed)
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


def _look(settings: Settings, followed: Sequence[Followed]) -> None:
    with ledger_if_any(settings) as connection:
        if connection is None:
            return
        found = {
            message.message_id: message
            for message in reads.entered_since(connection, min(file.younger_than for file in followed))
        }
    known = {file.message.message_id for file in followed if file.message}
    for file in followed:
        if file.message is None:
            file.message = _first_of(file, [found[key] for key in found if key not in known])
            known.update([file.message.message_id] if file.message else [])
        else:
            file.message = found.get(file.message.message_id, file.message)


def _first_of(file: Followed, messages: Sequence[Message]) -> Message | None:
    named = [
        message
        for message in messages
        if message.file_name == file.file_name and message.message_id >= file.younger_than
    ]
    # Two names that are masked alike are told apart by their content.
    alike = [message for message in named if message.sha256 == file.sha256]
    return next(iter(alike), None)


def _hint(settings: Settings, followed: Sequence[Followed]) -> None:
    if not any(file.message for file in followed) and not seems_running(settings.state.folder):
        click.echo(
            "No daemon seems to be running here; the files lie in the outbox until 'meshctl run' takes them.",
            err=True,
        )


@contextmanager
def _shown(followed: Sequence[Followed], *, silent: bool) -> Iterator[Callable[[], None]]:
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
            click.echo(file.told())
    else:
        told = [""] * len(followed)
        yield lambda: _tell(followed, told)


def _draw(progress: Progress, bars: Sequence[TaskID], followed: Sequence[Followed]) -> None:
    for bar, file in zip(bars, followed, strict=True):
        reached = 0
        if file.state in ARRIVED:
            reached = LADDER.index(State.SENT) + 1
        elif file.state is not None and file.state not in LOST:
            reached = LADDER.index(file.state) + 1
        progress.update(bar, completed=reached, state=file.state or "in the outbox")


def _tell(followed: Sequence[Followed], told: list[str]) -> None:
    for number, file in enumerate(followed):
        line = file.told()
        if line != told[number]:
            told[number] = line
            click.echo(line)
