"""Who could do or see more than they should: folders and files open to everybody, running as root.

The daemon looks at the same before it starts: it refuses what everybody can write to, and warns of root.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from meshctl.checks.finding import Finding, error, remark, right, warning
from meshctl.checks.surroundings import Surroundings
from meshctl.checks.system import runs_as_root
from meshctl.errors import ConfigError
from meshctl.ledger.keys import KEY_NAME
from meshctl.log.events import Journal
from meshctl.settings.model import Settings


def refuse_world_writable(settings: Settings) -> None:
    """Raise ConfigError if everybody can write to the outbox or the settings."""
    found = [f"{finding.text} {finding.advice}" for finding in world_writable(settings)]
    if found:
        raise ConfigError("\n".join([*found, "If that is meant: meshctl run --allow-world-writable."]))


def warn_of_root(journal: Journal) -> None:
    """Log that the daemon runs as root, if it does."""
    if runs_as_root():
        journal.warning("daemon.warning", text=ROOT_TEXT, advice=ROOT_ADVICE)


_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_exposure(surroundings: Surroundings) -> Iterator[Finding]:
    """Look for what is open to everybody, and for what others should not read."""
    open_to_all = list(world_writable(surroundings.settings))
    yield from open_to_all
    if not open_to_all:
        yield right("world_writable", "Neither outbox nor settings can be written by everybody.")
    yield from _private(surroundings)


def check_user(_surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether this is root."""
    if runs_as_root():
        yield warning("user", ROOT_TEXT, ROOT_ADVICE)
    else:
        yield right("user", "This is not root.")


ROOT_TEXT = "meshctl runs as root, which can do more than it needs, and for whom all rights look right."
ROOT_ADVICE = (
    "Give it a user of its own (the service uses meshctl), and run commands as that user: sudo -u meshctl"
    " meshctl check."
)


def world_writable(settings: Settings) -> Iterator[Finding]:
    """Return what lets everybody on this computer send in the mailbox's name, or change what is done."""
    outbox = settings.staging.outbox
    for folder in (outbox, *(outbox / name for name in settings.use_cases)):
        if _is_world_writable(folder):
            yield error(
                "world_writable.outbox",
                f"Everybody on this computer can write in {folder}, and so send letters as mailbox"
                f" {settings.mailbox.id}.",
                f"Let a group of those who may send write there instead: chgrp GROUP {folder}; chmod 2770"
                f" {folder}",
            )
    file = settings.file
    if _is_world_writable(file):
        yield error(
            "world_writable.settings",
            f"Everybody on this computer can change the settings {file}, and so what meshctl sends and runs.",
            f"Take the right away: chmod o-w {file}",
        )
    elif _is_world_writable(file.parent) and not file.parent.stat().st_mode & stat.S_ISVTX:
        yield error(
            "world_writable.settings",
            f"Everybody on this computer can replace the settings {file}, as they can write in its folder.",
            f"Take the right away: chmod o-w {file.parent}",
        )


def _private(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at what only our user may read: what the ledger says, and the key to its hashes."""
    settings = surroundings.settings
    state = settings.state.folder
    yield from _mode("mode.state", state, "state.folder", 0o700)
    yield from _mode("mode.key", state / KEY_NAME, "the key", 0o600)
    yield from _mode("mode.log", settings.log.file, "log.file", 0o600)


def _mode(name: str, path: Path, what: str, wanted: int) -> Iterator[Finding]:
    mode = _mode_of(path)
    if mode is None:
        return
    if not mode & _GROUP_AND_OTHERS:
        yield right(name, f"{path} is for one user only.")
        return
    text = f"{path} ({what}) is open to other users: its permissions are {mode:04o}, not {wanted:04o}."
    advice = f"Close it: chmod {wanted:04o} {path}"
    if name == "mode.key" or mode & stat.S_IWOTH:
        yield error(name, text, advice)
    elif name == "mode.log" and not mode & stat.S_IRWXO:
        yield remark(name, text, f"Right if a log shipper reads it by its group. Else: {advice}")
    else:
        yield warning(name, text, advice)


def _is_world_writable(path: Path) -> bool:
    mode = _mode_of(path)
    return mode is not None and bool(mode & stat.S_IWOTH)


def _mode_of(path: Path) -> int | None:
    """Return the permissions; None where there is nothing, or where permissions mean nothing."""
    if os.name == "nt":
        return None
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
