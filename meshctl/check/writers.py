"""Whether the daemon can know that somebody still has a dropped file open.

Where it cannot, a file is complete once it was unchanged for `quiet_seconds`, however long its writer pauses.
The kernel is really asked, about a hidden, empty file of ours. Of other users' files it answers to CAP_LEASE
alone, which the shipped unit gives the daemon and nobody gives whoever runs `meshctl check`: so the powers
looked at are those of the daemon that runs, if there is one.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from meshctl.check.finding import Finding, remark, right, warning
from meshctl.check.folders import PROBE_NAME
from meshctl.check.surroundings import Surroundings
from meshctl.daemon.lock import holder_process, is_running
from meshctl.files import change
from meshctl.files.mounts import mount_of
from meshctl.files.safe_open import is_being_written

_NAME = "watching.writers"
# Whoever has set this knows that droppers may pause.
_LONG_QUIET_SECONDS = 30.0
_WAIT_LONGER = (
    "have files written elsewhere on that file system and renamed into the outbox, or set quiet_seconds in"
    " [staging] well above the longest pause of those who write in place, to"
    f" {_LONG_QUIET_SECONDS:g} or more."
)
_GIVE_CAP_LEASE = "Give the daemon CAP_LEASE, as the shipped unit does (AmbientCapabilities=CAP_LEASE). Else"
# linux/capability.h
_CAP_LEASE = 1 << 28
_STATUS = re.compile(r"(?ms)^Uid:\s+\d+\s+(?P<user>\d+).*^CapEff:\s+(?P<powers>[0-9a-f]+)$")


@dataclass(frozen=True, slots=True)
class _Powers:
    user_id: int
    may_ask_of_all: bool


def check_writers(surroundings: Surroundings) -> Iterator[Finding]:
    """Find out for the outbox whether it is known who still writes to a file there."""
    outbox = surroundings.settings.staging.outbox
    if not os.path.isdir(outbox):
        return
    if sys.platform == "win32":
        yield right(_NAME, f"Windows says of every file in {outbox} whether somebody still writes to it.")
        return
    try:
        obstacle = _obstacle(surroundings)
    except OSError:
        # That no file can be made there is a finding of its own.
        return
    if obstacle is None:
        yield right(_NAME, f"Whoever still writes to a file in {outbox} is waited for.")
        return
    text, advice = obstacle
    quiet_seconds = surroundings.settings.staging.quiet_seconds
    find = warning if quiet_seconds < _LONG_QUIET_SECONDS else remark
    yield find(
        _NAME,
        f"{text}: a file that is written in place counts as complete once it was unchanged for"
        f" {quiet_seconds:g} s.",
        advice,
    )


def others_may_drop(surroundings: Surroundings, user_id: int) -> bool:
    """True if the permissions let others than this user put files into the outbox."""
    staging = surroundings.settings.staging
    for folder in (staging.outbox, *(staging.outbox / name for name in surroundings.settings.use_cases)):
        with suppress(FileNotFoundError, NotADirectoryError):
            status = folder.stat()
            if status.st_uid != user_id or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return True
    return False


def user_of_daemon(surroundings: Surroundings) -> int:
    """Return the user that the daemon runs as; where none is known to run, the one who asks."""
    return _powers(surroundings).user_id


def _obstacle(surroundings: Surroundings) -> tuple[str, str] | None:
    """Return why it is not known who still writes to a file, and what to do; None if it is known.

    Raises OSError.
    """
    outbox = surroundings.settings.staging.outbox
    wait_longer = f"{_WAIT_LONGER[0].upper()}{_WAIT_LONGER[1:]}"
    mount = mount_of(outbox)
    if mount is not None and mount.is_network:
        text = f"{outbox} is on a network share ({mount.type}), and what other computers have open there is"
        return f"{text} not known here", wait_longer
    if not _is_told(outbox):
        return f"The file system of {outbox} does not tell who has a file open", wait_longer
    powers = _powers(surroundings)
    if powers.may_ask_of_all or not others_may_drop(surroundings, powers.user_id):
        return None
    text = f"Others may drop files into {outbox}, and without CAP_LEASE it is not known who has theirs open"
    return text, f"{_GIVE_CAP_LEASE} {_WAIT_LONGER}"


def _is_told(folder: Path) -> bool:
    """True if it is known of a file in the folder that we have it open for writing. Raises OSError."""
    path = folder / f"{PROBE_NAME}-{os.getpid()}-open"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        return is_being_written(str(path))
    finally:
        os.close(descriptor)
        change.unlink(path)


def _powers(surroundings: Surroundings) -> _Powers:
    """Return what the daemon may do; where none is known to run, what this process may."""
    state = surroundings.settings.state.folder
    with suppress(OSError):
        process = holder_process(state) if is_running(state) else None
        if process is not None and (powers := _powers_of(str(process))) is not None:
            return powers
    return _powers_of("self") or _Powers(os.geteuid(), os.geteuid() == 0)


def _powers_of(process: str) -> _Powers | None:
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = _STATUS.search(text)
    if match is None:
        return None
    return _Powers(int(match["user"]), bool(int(match["powers"], 16) & _CAP_LEASE))
