"""Who may drop files: the outbox of a mailbox, and its use-case folders, opened to a group of senders.

The service owns these folders and the senders' group may write there, so what is dropped is the group's
(setgid), but only the service and the sender himself may rename or remove it (sticky). A default access list
lets the service read it whatever umask its sender has, and keeps the other senders from reading it. Nothing
else of the mailbox is open to them; the folder that the outbox is in lets everybody pass, and shows nobody
what is in it.
"""

import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from meshctl.errors import ConfigError
from meshctl.platform import host, shell
from meshctl.platform.access_lists import is_everybody
from meshctl.platform.common import AccountId

SERVICE_USER = "meshctl"
_PRIVATE_FOLDER = 0o750
_SHARED_BITS = stat.S_ISGID | stat.S_IWGRP


@dataclass(frozen=True, slots=True)
class Senders:
    """The group that may drop, by name and number, and the number of the service's user."""

    group: str
    group_id: AccountId
    service_id: AccountId


def find_senders(group: str) -> Senders:
    """Return a group of senders. Raises ConfigError where the group or the service's user is missing."""
    group_id = host.account_id(group)
    if group_id is None:
        raise ConfigError(
            f"There is no group '{group}' on this system. {shell.group_advice(group)} Nothing was changed."
        )
    if is_everybody(str(group_id)):
        raise ConfigError(
            f"{group} is everybody on this computer or in its domain. Name a group of those who may send"
            " letters. Nothing was changed."
        )
    if group_id == host.account_id(SERVICE_USER):
        raise ConfigError(
            f"{group} is the service's own group: who is in it can read every letter and secret of every"
            f" mailbox. Name a group for this mailbox's senders: groupadd --system {group}-senders."
        )
    # On Windows the access list of the folder says who can read its files.
    return Senders(group, group_id, service_user() if host.HAS_MODES else "")


def service_user() -> int:
    """Return the number of the user that the service runs as. Raises ConfigError if there is none."""
    user_id = host.user_number(SERVICE_USER)
    if user_id is None:
        raise ConfigError(
            f"There is no user {SERVICE_USER} on this system, to whom the folders are to belong. Install"
            " meshctl.sysusers and run systemd-sysusers first. Nothing was changed."
        )
    return user_id


def check_use_cases(named: Iterable[str], known: Collection[str]) -> None:
    """Raise ConfigError for a use case that there is not."""
    unknown = [name for name in named if name not in known]
    if unknown:
        raise ConfigError(
            f"There is no use case {', '.join(map(ascii, unknown))}; 'meshctl use-cases' lists them. Nothing"
            " was changed."
        )


def lay_outbox(outbox: Path, rejected: Path, use_cases: Collection[str], senders: Senders | None) -> bool:
    """Make the use-case folders of an outbox, and open all of it to the senders, if there are any.

    On Windows they may also read what is rejected.
    False where the file system has no access lists, so that a sender's umask decides what the service may
    read. Raises ConfigError where a folder cannot be made or changed.
    """
    try:
        if senders is not None:
            return _open(outbox, rejected, use_cases, senders)
        _make_use_case_folders(outbox, rejected, use_cases)
    except OSError as error:
        raise ConfigError(f"{error.filename or outbox} cannot be made: {error.strerror}.") from None
    return True


def _open(outbox: Path, rejected: Path, use_cases: Collection[str], senders: Senders) -> bool:
    has_lists = host.share_folders(outbox, use_cases, rejected, senders.service_id, senders.group_id)
    above = outbox.parent
    status = os.lstat(above)
    if host.HAS_MODES and stat.S_ISDIR(status.st_mode) and status.st_uid == senders.service_id:
        above.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
    return has_lists


def _make_use_case_folders(outbox: Path, rejected: Path, use_cases: Collection[str]) -> None:
    """Make folders of use cases that are missing, open to those to whom the outbox is."""
    if not use_cases:
        return
    status = outbox.stat()
    if host.HAS_MODES and status.st_mode & _SHARED_BITS == _SHARED_BITS:
        host.share_folders(outbox, use_cases, rejected, status.st_uid, status.st_gid)
        return
    for folder in (outbox / name for name in use_cases):
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(_PRIVATE_FOLDER)
            if host.is_root():
                host.give(folder, status.st_uid, status.st_gid)
