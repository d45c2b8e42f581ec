"""Dropping files into the outbox for a person: examined first as by the daemon, then followed until decided.

A file is certain to be found in the ledger: its name was free in the outbox before, so the message of that
name with a younger id is the one. Ids are made when the daemon opens a file.
"""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from meshctl.clock import now
from meshctl.daemon.lock import seems_running
from meshctl.errors import ConfigError, MeshctlError
from meshctl.files.folder import Folder
from meshctl.files.mounts import FREE_SPACE
from meshctl.journal.masking import escape_unprintable, mask_file_name
from meshctl.ledger import reads
from meshctl.ledger.records import Message
from meshctl.mesh.message_id import new_message_id
from meshctl.mesh.states import LADDER, State
from meshctl.outbound.document import Caution
from meshctl.outbound.drop import Dropper
from meshctl.outbound.judge import Judge, sidecar_beside
from meshctl.outbound.letter import Letter
from meshctl.outbound.names import NameKind, NameRules, is_index
from meshctl.payload.sidecar import Sidecar, laid_over
from meshctl.platform import host, shell, system
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


def examine_beforehand(
    settings: Settings, file: Path, given: Sidecar | None, *, strict: bool = True
) -> tuple[Letter, Sidecar | None]:
    """Return what would be sent, and its sidecar: the one beside the file, overridden by `given`.

    Prints cautions on standard error. Raises Rejection where the daemon would reject the file, UsageError if
    there is no such file, OSError. Unless `strict`, the settings are not the mailbox's own, so that name and
    sidecar must be right, and the rest is a warning.
    """
    letter, sidecar = judge_beforehand(settings, file, given)
    if letter.rejection is not None:
        if strict:
            raise letter.rejection
        click.echo(
            f"Warning: {mask_file_name(file.name)}: {letter.rejection} By the shipped settings it would be"
            " rejected; the service judges it by its own.",
            err=True,
        )
    print_cautions(letter.cautions)
    return letter, sidecar


def judge_beforehand(settings: Settings, file: Path, given: Sidecar | None) -> tuple[Letter, Sidecar | None]:
    """Return what the daemon would make of a file, and its sidecar: the one beside it, overridden by `given`.

    Raises UsageError if there is no such file or it is none that is sent by itself, Rejection for a name that
    is never taken or a wrong sidecar, OSError.
    """
    file = file.absolute()
    _check_kind(file, NameRules(settings.staging))
    letter, sidecar = None, given
    with suppress(FileNotFoundError), Folder(str(file.parent)) as folder:
        sidecar = laid_over(given, sidecar_beside(folder, file.name))
        letter = Judge(settings).judge(folder, file.name, _use_case_of(settings, file), sidecar)
    if letter is None:
        raise click.UsageError(f"There is no file {mask_file_name(str(file))}.")
    return letter, sidecar


def print_cautions(cautions: Iterable[Caution]) -> None:
    """Print on standard error why a message may fail, in the words of the daemon's log."""
    for caution in cautions:
        click.echo(f"Warning: {caution.text} {caution.advice}", err=True)


def _check_kind(file: Path, names: NameRules) -> None:
    if names.kind_of(file.name) is NameKind.SIDECAR:
        raise click.UsageError(
            "A sidecar is not sent by itself: name the file that it describes, and it is sent with it."
        )
    if is_index(file.name):
        raise click.UsageError("An index is not sent by itself: put it into the outbox with its files.")
    names.check_taken(file.name)


def _use_case_of(settings: Settings, file: Path) -> str | None:
    """Return the use case of the outbox's sub-folder that the file is in; None elsewhere."""
    use_case = os.path.normcase(file.parent.name)
    in_sub_folder = file.parent.parent == settings.staging.outbox and use_case in settings.use_cases
    return use_case if in_sub_folder else None


def drop(
    settings: Settings, source: str | bytes, name: str, sidecar: Sidecar | None, *, strict: bool = True
) -> Followed:
    """Copy a file, or bytes, into the outbox as `name` with its sidecar; return what is needed to follow it.

    The copy is examined before the daemon can see it. Raises Rejection if it would be rejected, unless not
    `strict`; MeshctlError if there is no outbox or this user may not drop there, OSError.
    """
    if sidecar is not None and sidecar.document is not None and sidecar.document.attachments:
        raise MeshctlError(
            "A command cannot drop a document with attachments: put all its files into the outbox, the"
            " sidecar first."
        )
    outbox = settings.staging.outbox
    _check_outbox(outbox)
    examined: list[tuple[Letter, str]] = []

    def check(folder: str, hidden_name: str) -> None:
        with Folder(folder) as outbox_folder:
            letter = Judge(settings).judge(outbox_folder, hidden_name, None, sidecar)
        if letter is None:
            raise MeshctlError("Somebody removed the file from the outbox before it was complete.")
        if letter.rejection is not None and strict:
            raise letter.rejection
        stamp = new_message_id(now()).partition("_")[0]
        examined.append((letter, settings.mailbox.file_prefix + stamp))

    sidecar_data = sidecar.written() if sidecar else None
    dropper = Dropper(str(outbox), NameRules(settings.staging), check)
    try:
        if isinstance(source, bytes):
            placed_as = dropper.drop_data(source, name, sidecar_data)
        else:
            placed_as = dropper.drop_file(source, name, sidecar_data)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MeshctlError(
            f"There is no room for the file in {outbox} ({error.strerror}); nothing was sent. {FREE_SPACE}"
        ) from None
    letter, younger_than = examined[-1]
    return Followed(
        name=placed_as,
        file_name=mask_file_name(placed_as, letter.words_to_mask),
        sha256=letter.sha256,
        younger_than=younger_than,
    )


def _check_outbox(outbox: Path) -> None:
    """Raise MeshctlError unless there is an outbox, and this user may put files there."""
    group = "its senders' group"
    with suppress(PermissionError):
        if not outbox.is_dir():
            raise ConfigError(f"There is no outbox at {outbox}. 'meshctl init' creates it.")
        if system.is_read_only(outbox):
            raise MeshctlError(
                f"{outbox} is on a file system that is mounted read-only. Mount it for writing; the system's"
                " own log says why it is not."
            )
        if system.may_use(outbox, os.W_OK | os.X_OK):
            return
        group = f"the group {host.group_name(outbox.stat().st_gid)}" if host.HAS_MODES else group
    raise MeshctlError(
        f"This user may not put files into {outbox}. Join {group} ({shell.JOIN_GROUP}), and log in again; if"
        " there is none: meshctl init --system NAME --senders GROUP."
    )


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
    for message in messages:
        is_named = message.file_name == file.file_name and message.message_id >= file.younger_than
        # Two names may look the same once masked; their content shows which is which.
        if is_named and message.sha256 == file.sha256:
            return message
    return None


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
