"""Whether another meshctl works on the same mailbox, or would: two take each other's messages for their own.

The daemon's lock in the mailbox's folder keeps two from working there at once. What is found here is said
before that, or where there can be no lock.
"""

import os
from collections.abc import Iterator, Sequence
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
from meshctl.settings.layout import PLACEHOLDER_ID
from meshctl.settings.load import load_settings
from meshctl.settings.mailboxes import every_mailbox
from meshctl.settings.model import Settings

_NAME = "mailbox.alone"
_MOST_BYTES = 1_000_000
_LIVE = "live"
_ONE_ID = (
    "MESH knows one mailbox of that id: what comes for it goes to whichever asks first, and the other never"
    " gets its reports. Let one settings file send for both, or correct id in [mailbox]. Nothing to do"
    " if one of them is a rehearsal that never reaches MESH."
)


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
    worker, own_file = worker_of(folder), os.path.realpath(settings.file)
    # On a full disk a daemon cannot write beside its own lock that it holds that.
    last_file = settings_of_worker(folder)
    is_ours = last_file is not None and os.path.realpath(last_file) == own_file
    if is_busy and not is_ours and not _is_of(worker, holder_of(settings.state.folder)):
        yield error(_NAME, f"Another meshctl works on the mailbox {folder}: {worker}.", ONE_ONLY)
        return
    others = other_settings(settings)
    yield from others
    if all(other.name != _NAME for other in others):
        yield ok(_NAME, f"No other meshctl is known to work on the mailbox {folder}.")


def _is_of(worker: str, holder: str) -> bool:
    """True if the note in the mailbox and the one in a state folder name one process."""
    return worker.partition(" since ")[0] == holder.partition(" since ")[0]


def other_settings(settings: Settings) -> list[Finding]:
    """Return what other settings on this computer name the same mailbox: an error, or a warning.

    In one folder they take each other's messages; in folders of their own each gets some of the answers.
    Looked at are those that the folder was last worked on with, and those of the mailboxes of this server.
    """
    mailbox = settings.mailbox
    candidates = []
    with suppress(ConfigError):
        candidates = [place.file for place in every_mailbox(os.environ)]
    if (last := settings_of_worker(mailbox.folder)) is not None:
        candidates.append(last)
    others = {os.path.realpath(file): file for file in reversed(candidates)}
    others.pop(os.path.realpath(settings.file), None)
    found = [other for file in others.values() if (other := _with_id(file, mailbox.id)) is not None]
    beside = [other for other in found if _folder(other) == _folder(settings)]
    elsewhere = [each for each in found if each not in beside and send_as_one(each, settings)]
    findings = []
    if beside:
        text = f"{_names(beside)} the same mailbox, {mailbox.folder}."
        findings.append(error(_NAME, text, ONE_ONLY))
    if elsewhere:
        text = f"{_names(elsewhere)} the same mailbox id, {mailbox.id}, with another folder."
        findings.append(warning("mailbox.id", text, _ONE_ID))
    return findings


def send_as_one(one: Settings, other: Settings) -> bool:
    """True if both send as one mailbox of one MESH, which a client and the bridge's default call live."""
    meshes = {each.bridge.environment or _LIVE for each in (one, other)}
    return one.mailbox.id == other.mailbox.id != PLACEHOLDER_ID and len(meshes) == 1


def _names(others: Sequence[Settings]) -> str:
    files = sorted(str(each.file) for each in others)
    return f"{' and '.join(files)} name{'s' if len(files) == 1 else ''}"


def _folder(settings: Settings) -> str:
    return os.path.realpath(settings.mailbox.folder)


def _with_id(file: Path, mailbox_id: str) -> Settings | None:
    """Return the settings in a file if they are of this mailbox; wrong ones are of none."""
    try:
        with open_named(file) as stream:
            # Dozens of mailboxes are not worth the loading of all their settings.
            if mailbox_id.encode() not in stream.read(_MOST_BYTES):
                return None
        return load_settings(file, {})
    except (ConfigError, OSError):
        return None
