"""Who could do or see more than they should, and whether the daemon can know who still writes to a file.

The daemon checks the same before it starts: it does not start where everybody can change the outbox, the
settings or the program, and warns about running as root.

Where open files of others are not known, a file counts as complete once it was unchanged for
`quiet_seconds`, however long its writer pauses. The kernel is really asked, about a hidden, empty file of
ours. About other users' files it answers only to CAP_LEASE, which the shipped unit gives the daemon, but
nobody gives to whoever runs `meshctl check`: so the capabilities examined are those of the running daemon,
and where none runs, what it would have is said not to be known.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from meshctl.check.finding import Finding, Setup, error, note, ok, warning
from meshctl.check.folders import PROBE_NAME
from meshctl.check.program import check_program
from meshctl.daemon.lock import holder_process, is_running
from meshctl.errors import ConfigError
from meshctl.files.reading import is_being_written
from meshctl.journal.events import Journal
from meshctl.ledger.keys import KEY_NAME
from meshctl.platform import host, shell, system
from meshctl.settings.model import Settings

PROTECTED_LINKS = Path("/proc/sys/fs/protected_hardlinks")
"""Where Linux says whether only those who may write to a file can give it a second name."""

_WAY_OUT = "If this is intended: meshctl run --allow-world-writable."
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ROOT_TEXT = (
    "meshctl runs as root, which can do more than it needs, and to which every permission looks right."
)
_ROOT_ADVICE = (
    "Give it a user of its own (the service uses meshctl), and run commands as that user: sudo -u meshctl"
    " meshctl check."
)

# Whoever has set this knows that writers may pause.
_LONG_QUIET_SECONDS = 30.0
_WAIT_LONGER = (
    "Write files elsewhere on that file system and rename them into the outbox, or set quiet_seconds in"
    " [staging] well above the longest pause of those who write in place, to"
    f" {_LONG_QUIET_SECONDS:g} or more."
)
_GIVE_CAP_LEASE = "Give the daemon CAP_LEASE, as the shipped unit does (AmbientCapabilities=CAP_LEASE)."
_WITHOUT_IT = "Where it cannot have that:"
# linux/capability.h
_CAP_LEASE = 1 << 28
_STATUS = re.compile(r"(?ms)^Uid:\s+\d+\s+(?P<user>\d+).*^CapEff:\s+(?P<capabilities>[0-9a-f]+)$")


def refuse_world_writable(settings: Settings, way_out: str = _WAY_OUT) -> None:
    """Raise ConfigError if everybody can write to the outbox, the settings, or what meshctl runs.

    A use-case folder that a sender has opened to everybody is no reason: it must not keep all others from
    being served, and he could have dropped their letters himself. `meshctl check` tells of it. `way_out` says
    what else may be done.
    """
    found = [f"{finding.text} {finding.advice}" for finding in _world_writable(settings, of_senders=False)]
    if found:
        raise ConfigError("\n".join([*found, way_out]))


def refuse_root(settings: Settings) -> None:
    """Raise ConfigError if root would work on a mailbox whose state belongs to another user."""
    folder = settings.state.folder
    if not host.is_root() or not folder.is_dir() or (owner := folder.stat().st_uid) == host.user_id():
        return
    name = host.user_name(owner)
    raise ConfigError(
        f"This is root, and {folder} belongs to {name}, who could not write to what root would leave there."
        f" Run it as {name}: runuser -u {name} -- meshctl -c {settings.file} …"
    )


def warn_of_root(journal: Journal) -> None:
    """Log that the daemon runs as root, if it does."""
    if host.is_root():
        journal.warning("daemon.warning", text=_ROOT_TEXT, advice=_ROOT_ADVICE)


def check_user(_setup: Setup) -> Iterator[Finding]:
    """Check that this is not root, where there is one."""
    if not host.HAS_MODES:
        return
    yield warning("user", _ROOT_TEXT, _ROOT_ADVICE) if host.is_root() else ok("user", "This is not root.")


def check_exposure(setup: Setup) -> Iterator[Finding]:
    """Check what everybody can write to, and what others should not read."""
    open_to_all = list(_world_writable(setup.settings, of_senders=True))
    yield from open_to_all
    if not open_to_all:
        yield ok("world_writable", "Not everybody can write to the outbox, the settings or the program.")
    yield from _hard_links(setup)
    state = setup.settings.state.folder
    yield from _mode("mode.state", state, "state.folder", 0o700)
    yield from _mode("mode.key", state / KEY_NAME, "the key", 0o600)
    yield from _mode("mode.log", setup.settings.log.file, "log.file", 0o600)


def _world_writable(settings: Settings, *, of_senders: bool) -> Iterator[Finding]:
    """Return what lets everybody on this computer send in the mailbox's name, or change what meshctl does.

    With `of_senders` also the use-case folders that belong to senders.
    """
    outbox = settings.staging.outbox
    for folder in (outbox, *(outbox / name for name in settings.use_cases)):
        if (folder == outbox or of_senders or _is_ours(folder)) and host.everybody_may_write(folder):
            yield error(
                "world_writable.outbox",
                f"Everybody on this computer can write in {folder}, and so send letters as mailbox"
                f" {settings.mailbox.id}.",
                f"Let a group of those who may send write there instead: {shell.share_command(folder)}",
            )
    file = settings.file
    if host.everybody_may_write(file):
        yield error(
            "world_writable.settings",
            f"Everybody on this computer can change the settings {file}, and so what meshctl sends and runs.",
            f"Take the right away: {shell.close_command(file)}",
        )
    elif host.everybody_may_replace_in(file.parent):
        yield error(
            "world_writable.settings",
            f"Everybody on this computer can replace the settings {file}, since its folder is open to them.",
            f"Take the right away: {shell.close_command(file.parent)}",
        )
    yield from check_program(settings)


def _is_ours(folder: Path) -> bool:
    with suppress(OSError):
        return host.is_trusted(folder.lstat())
    return False


def _hard_links(setup: Setup) -> Iterator[Finding]:
    """Check whether somebody can drop a hard link to another's file, which would be sent as their own."""
    name = "hard_links"
    outbox = setup.settings.staging.outbox
    try:
        is_protected = PROTECTED_LINKS.read_text(encoding="ascii").strip() != "0"
    except OSError:
        return
    if is_protected or not _others_may_drop(setup, _daemon_user_id(setup)):
        yield ok(name, f"Nobody can drop a hard link to another's file into {outbox}.")
        return
    yield warning(
        name,
        f"Others may drop files into {outbox}, and this system lets them create hard links to files that they"
        " may not read: they can send whatever meshctl may read.",
        "Set sysctl fs.protected_hardlinks=1 (and in /etc/sysctl.d to keep it), as is usual.",
    )


def _mode(name: str, path: Path, what: str, wanted: int) -> Iterator[Finding]:
    """Check that only our user may read a file or folder."""
    mode = host.mode_of(path)
    if mode is None:
        yield from _readers(name, path, what)
        return
    if not mode & _GROUP_AND_OTHERS:
        yield ok(name, f"{path} is for one user only.")
        return
    text = f"{path} ({what}) is open to other users: its permissions are {mode:04o}, not {wanted:04o}."
    advice = f"Close it: chmod {wanted:04o} {path}"
    if name == "mode.key" or mode & stat.S_IWOTH:
        yield error(name, text, advice)
    elif name == "mode.log" and not mode & stat.S_IRWXO:
        yield note(name, text, f"This is right if a log shipper reads it by its group. Otherwise: {advice}")
    else:
        yield warning(name, text, advice)


def _readers(name: str, path: Path, what: str) -> Iterator[Finding]:
    """Name those who may read a file or folder on Windows."""
    found = host.access_list(path)
    if found is None:
        return
    entries = [entry for entry in found.allowed() if entry.may_read or entry.may_write]
    names = ", ".join(map(host.account_name, dict.fromkeys(entry.sid for entry in entries)))
    if not any(entry.is_everybody for entry in entries):
        if entries:
            yield ok(name, f"{path} ({what}) is open to: {names}.")
        return
    text = f"{path} ({what}) is open to everybody on this computer: {names}."
    advice = f"Close it: {shell.close_command(path)}"
    if name == "mode.key" or any(entry.is_everybody and entry.may_write for entry in entries):
        yield error(name, text, advice)
    else:
        yield warning(name, text, advice)


@dataclass(frozen=True, slots=True)
class _Process:
    """What matters about a process: its user, and whether it may ask about everybody's open files."""

    user_id: int
    has_cap_lease: bool


def check_writers(setup: Setup) -> Iterator[Finding]:
    """Check that the daemon can know who still writes to a file in the outbox."""
    name, staging = "watching.writers", setup.settings.staging
    if not os.path.isdir(staging.outbox):
        return
    if system.KNOWS_ALL_WRITERS:
        yield ok(name, f"Windows says of every file in {staging.outbox} whether it is still being written.")
        return
    try:
        obstacle = _obstacle(setup)
    except OSError:
        # That no file can be created there is a finding of its own.
        return
    if obstacle is None:
        yield ok(name, f"A file in {staging.outbox} is taken only once nobody is writing to it any more.")
        return
    text, advice, is_certain = obstacle
    find = warning if is_certain and staging.quiet_seconds < _LONG_QUIET_SECONDS else note
    yield find(
        name,
        f"{text}: a file that is written in place counts as complete once it was unchanged for"
        f" {staging.quiet_seconds:g} s.",
        advice,
    )


def _others_may_drop(setup: Setup, user_id: int) -> bool:
    """True if the permissions let others than this user put files into the outbox."""
    outbox = setup.settings.staging.outbox
    for folder in (outbox, *(outbox / name for name in setup.settings.use_cases)):
        with suppress(FileNotFoundError, NotADirectoryError):
            status = folder.stat()
            if status.st_uid != user_id or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return True
    return False


def _obstacle(setup: Setup) -> tuple[str, str, bool] | None:
    """Return why it is not known who still writes to a file, what to do, and whether that is certain.

    None if it is known. Raises OSError.
    """
    outbox = setup.settings.staging.outbox
    mount = system.mount_of(outbox)
    if mount is not None and mount.is_network:
        text = f"{outbox} is on a network share ({mount.type}), where it is not known what other computers"
        return f"{text} have open", _WAIT_LONGER, True
    if not _shows_open_files(outbox):
        return f"The file system of {outbox} does not show who has a file open", _WAIT_LONGER, True
    daemon = _daemon_process(setup)
    if (daemon is not None and daemon.has_cap_lease) or not _others_may_drop(setup, _daemon_user_id(setup)):
        return None
    text = f"Others may drop files into {outbox}, and"
    if daemon is None:
        text = f"{text} no daemon runs that would show whether it has CAP_LEASE: without it"
        advice = f"The shipped unit gives it CAP_LEASE: check again while the daemon runs. {_WITHOUT_IT}"
        return f"{text} it is not known who has theirs open", f"{advice} {_WAIT_LONGER}", False
    text = f"{text} without CAP_LEASE it is not known who has theirs open"
    return text, f"{_GIVE_CAP_LEASE} {_WITHOUT_IT} {_WAIT_LONGER}", True


def _shows_open_files(folder: Path) -> bool:
    """True if the system shows that we have a file in the folder open for writing. Raises OSError."""
    path = folder / f"{PROBE_NAME}-{os.getpid()}-open"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        return is_being_written(str(path)) is True
    finally:
        os.close(descriptor)
        system.unlink(path)


def _daemon_process(setup: Setup) -> _Process | None:
    """Return the running daemon's user and capabilities; None where none is known to run."""
    state = setup.settings.state.folder
    with suppress(OSError):
        process_id = holder_process(state) if is_running(state) else None
        return None if process_id is None else _process(process_id)
    return None


def _daemon_user_id(setup: Setup) -> int:
    """Return the user of the running daemon; where none is known to run, whose the state folder is."""
    daemon = _daemon_process(setup)
    if daemon is not None:
        return daemon.user_id
    with suppress(OSError):
        return setup.settings.state.folder.stat().st_uid
    return host.user_id()


def _process(process_id: int) -> _Process | None:
    try:
        text = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = _STATUS.search(text)
    if match is None:
        return None
    return _Process(int(match["user"]), bool(int(match["capabilities"], 16) & _CAP_LEASE))
