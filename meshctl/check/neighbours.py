"""Whether another meshctl works on the same mailbox, or would: two take each other's messages for their own.

The daemon's lock in the mailbox's folder keeps two from working there at once. What is found here is said
before that, or where there can be no lock.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from meshctl.check.finding import Finding, Setup, error, ok, warning
from meshctl.daemon.lock import holder_of
from meshctl.daemon.mailbox_lock import (
    NO_LOCK_ADVICE,
    ONE_ONLY,
    WORKER_LOCK_NAME,
    is_worked_on,
    problem_text,
    settings_of_worker,
    worker_of,
)
from meshctl.errors import ConfigError
from meshctl.files.reading import open_named
from meshctl.settings.load import load_settings
from meshctl.settings.mailboxes import every_mailbox

_NAME = "mailbox.alone"
_MOST_BYTES = 1_000_000


def check_neighbours(setup: Setup) -> Iterator[Finding]:
    """Check that no other meshctl works on the mailbox, and that no other settings of this server name it."""
    settings = setup.settings
    folder = settings.mailbox.folder
    if not os.path.isdir(folder):
        return
    lock = folder / WORKER_LOCK_NAME
    if lock.is_symlink():
        yield error(
            _NAME,
            f"{lock} is a link, and a lock is never taken through one: a second meshctl on this mailbox would"
            " not be noticed.",
            "Remove it, and see who may write in that folder.",
        )
        return
    try:
        is_busy = is_worked_on(folder)
    except OSError as problem:
        yield warning(_NAME, problem_text(problem), NO_LOCK_ADVICE)
        return
    worker = worker_of(folder)
    if is_busy and not _is_of(worker, holder_of(settings.state.folder)):
        yield error(_NAME, f"Another meshctl works on the mailbox {folder}: {worker}.", ONE_ONLY)
        return
    others = other_settings(folder, settings.mailbox.id, settings.file)
    if others:
        yield error(_NAME, others, ONE_ONLY)
    else:
        yield ok(_NAME, f"No other meshctl is known to work on the mailbox {folder}.")


def _is_of(worker: str, holder: str) -> bool:
    """True if the note in the mailbox and the one in a state folder name one process."""
    return worker.partition(" since ")[0] == holder.partition(" since ")[0]


def other_settings(folder: Path, mailbox_id: str, own_file: Path) -> str | None:
    """Return which other settings on this computer name the mailbox in this folder; None if there are none.

    Looked at are those that it was last worked on with, and those of the mailboxes of this server.
    """
    candidates = []
    with suppress(ConfigError):
        candidates = [place.file for place in every_mailbox(os.environ)]
    if (last := settings_of_worker(folder)) is not None:
        candidates.append(last)
    found: dict[str, Path] = {}
    for file in candidates:
        real = os.path.realpath(file)
        if real != os.path.realpath(own_file) and real not in found and _names(file, folder, mailbox_id):
            found[real] = file
    if not found:
        return None
    names = "names" if len(found) == 1 else "name"
    return f"{' and '.join(map(str, found.values()))} {names} the same mailbox, {folder}."


def _names(file: Path, folder: Path, mailbox_id: str) -> bool:
    """True if these settings are for the mailbox in this folder; wrong ones are for none."""
    try:
        with open_named(file) as stream:
            # Dozens of mailboxes are not worth the loading of all their settings.
            if mailbox_id.encode() not in stream.read(_MOST_BYTES):
                return False
        other = load_settings(file, {}).mailbox
    except (ConfigError, OSError):
        return False
    return os.path.realpath(other.folder) == os.path.realpath(folder)
