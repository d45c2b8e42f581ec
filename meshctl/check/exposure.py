"""Who could do or see more than they should: folders and files open to everybody, running as root.

The daemon looks at the same before it starts: it refuses what everybody can write to, and warns of root.
"""

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from meshctl.check.access_lists import ARE_READABLE, access_list, account_name, close_command
from meshctl.check.finding import Finding, error, remark, right, warning
from meshctl.check.surroundings import Surroundings
from meshctl.check.system import runs_as_root
from meshctl.check.writers import others_may_drop, user_of_daemon
from meshctl.errors import ConfigError
from meshctl.journal.events import Journal
from meshctl.ledger.keys import KEY_NAME
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
    if sys.platform == "win32" and not ARE_READABLE:
        yield remark("access", _UNKNOWN_TEXT, _UNKNOWN_ADVICE)
        return
    open_to_all = list(world_writable(surroundings.settings))
    yield from open_to_all
    if not open_to_all:
        yield right("world_writable", "Neither outbox nor settings can be written by everybody.")
    yield from _hard_links(surroundings)
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


_UNKNOWN_TEXT = "Who may read letters, ledger and key cannot be told without the package pywin32."
_UNKNOWN_ADVICE = "Install it: pip install meshctl[windows]"


def world_writable(settings: Settings) -> Iterator[Finding]:
    """Return what lets everybody on this computer send in the mailbox's name, or change what is done."""
    outbox = settings.staging.outbox
    for folder in (outbox, *(outbox / name for name in settings.use_cases)):
        if _is_world_writable(folder):
            yield error(
                "world_writable.outbox",
                f"Everybody on this computer can write in {folder}, and so send letters as mailbox"
                f" {settings.mailbox.id}.",
                f"Let a group of those who may send write there instead: {_close_to_all_but_a_group(folder)}",
            )
    file = settings.file
    if _is_world_writable(file):
        yield error(
            "world_writable.settings",
            f"Everybody on this computer can change the settings {file}, and so what meshctl sends and runs.",
            f"Take the right away: {_close_to_writers(file)}",
        )
    elif _all_may_replace_in(file.parent):
        yield error(
            "world_writable.settings",
            f"Everybody on this computer can replace the settings {file}, as they can write in its folder.",
            f"Take the right away: {_close_to_writers(file.parent)}",
        )


PROTECTED_LINKS = Path("/proc/sys/fs/protected_hardlinks")
"""Where Linux says whether those alone who may write to a file can give it a second name."""


def _hard_links(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether who drops can drop another's file: its second name would be sent as his."""
    name = "hard_links"
    outbox = surroundings.settings.staging.outbox
    try:
        is_protected = PROTECTED_LINKS.read_text(encoding="ascii").strip() != "0"
    except OSError:
        return
    if is_protected or not others_may_drop(surroundings, user_of_daemon(surroundings)):
        yield right(name, f"Nobody can drop a hard link to another's file into {outbox}.")
        return
    yield warning(
        name,
        f"Others may drop files into {outbox}, and this system lets them make hard links to files that they"
        " may not read: what meshctl may read and they may not, they can have sent.",
        "Set sysctl fs.protected_hardlinks=1 (and in /etc/sysctl.d to keep it), as is usual.",
    )


def _close_to_all_but_a_group(folder: Path) -> str:
    if sys.platform == "win32":
        return f"{close_command(folder)} /grant GROUP:(OI)(CI)M"
    return f"chgrp GROUP {folder}; chmod 2770 {folder}"


def _close_to_writers(path: Path) -> str:
    return close_command(path) if sys.platform == "win32" else f"chmod o-w {path}"


def _private(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at what only our user may read: what the ledger says, and the key to its hashes."""
    settings = surroundings.settings
    state = settings.state.folder
    yield from _mode("mode.state", state, "state.folder", 0o700)
    yield from _mode("mode.key", state / KEY_NAME, "the key", 0o600)
    yield from _mode("mode.log", settings.log.file, "log.file", 0o600)


def _mode(name: str, path: Path, what: str, wanted: int) -> Iterator[Finding]:
    if sys.platform == "win32":
        yield from _readers(name, path, what)
        return
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


def _readers(name: str, path: Path, what: str) -> Iterator[Finding]:
    """Say who may read on Windows."""
    entries = [entry for entry in access_list(path) if entry.may_read or entry.may_write]
    names = ", ".join(map(account_name, dict.fromkeys(entry.sid for entry in entries)))
    if not any(entry.is_everybody for entry in entries):
        if entries:
            yield right(name, f"{path} ({what}) is open to: {names}.")
        return
    text = f"{path} ({what}) is open to everybody on this computer: {names}."
    advice = f"Close it: {close_command(path)}"
    if name == "mode.key" or any(entry.is_everybody and entry.may_write for entry in entries):
        yield error(name, text, advice)
    else:
        yield warning(name, text, advice)


def _is_world_writable(path: Path) -> bool:
    if sys.platform == "win32":
        return any(one.is_everybody and one.may_write for one in access_list(path))
    mode = _mode_of(path)
    return mode is not None and bool(mode & stat.S_IWOTH)


def _all_may_replace_in(folder: Path) -> bool:
    """True if everybody can remove another's file there, and so put one of their own in its place."""
    if sys.platform == "win32":
        return any(one.is_everybody and one.may_replace for one in access_list(folder))
    mode = _mode_of(folder)
    return mode is not None and bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _mode_of(path: Path) -> int | None:
    """Return the permissions; None where there is nothing."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
