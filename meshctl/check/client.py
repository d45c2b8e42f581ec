"""Whether the MESH Client is active, can take what we put into OUT, and lets us read what it writes.

The MESH Client's user is taken from what it has made: the owner of IN. Nothing is tried in its folders.
What the daemon has seen of its activity is in the ledger; without a daemon the times of the folders still
tell.
"""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from meshctl.check.finding import Finding, error, remark, right, span, warning
from meshctl.check.surroundings import Surroundings
from meshctl.check.system import (
    READ,
    SEARCH,
    WRITE,
    Person,
    group_name,
    group_number,
    ourselves,
    person,
    user_name,
)
from meshctl.inbound.client_health import CLIENT_FACT, client_view
from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import fact, snapshot


def check_client_life(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare the last sign of life of the MESH Client, or the bridge, with client_silent_after."""
    mailbox = surroundings.settings.mailbox
    signs = _signs_in_folders(surroundings) + _signs_in_ledger(surroundings)
    if not signs or not os.path.isdir(mailbox.out_folder):
        return
    silent_seconds = (surroundings.now - max(signs)).total_seconds()
    allowed = surroundings.settings.deadlines.client_silent_after.total_seconds()
    is_bridge = surroundings.settings.bridge.environment is not None
    server = "bridge" if is_bridge else "MESH Client"
    since = f"The {server}'s last sign of life in {mailbox.folder} was {span(max(silent_seconds, 0))} ago"
    if silent_seconds <= allowed:
        yield right("client.life", f"{since}.")
    elif any(name.lower().endswith(".ctl") for name in os.listdir(mailbox.out_folder)):
        yield error(
            "client.life",
            f"{since}, longer than {span(allowed)} (deadlines.client_silent_after), and pairs wait in OUT.",
            f"See whether the {server} runs on this mailbox's folder, and what its log says.",
        )
    else:
        yield remark(
            "client.life",
            f"{since}; with nothing to send that need not mean anything.",
            f"If no message or report has been due either, all is well; else look whether the {server} runs.",
        )


def _signs_in_folders(surroundings: Surroundings) -> list[datetime]:
    mailbox = surroundings.settings.mailbox
    # Into these folders nobody but the MESH Client puts anything, and their time says when it last did.
    folders = (mailbox.in_folder, mailbox.sent_folder, mailbox.failed_folder, mailbox.temp_folder)
    return [
        datetime.fromtimestamp(folder.stat().st_mtime, UTC) for folder in folders if os.path.isdir(folder)
    ]


def _signs_in_ledger(surroundings: Surroundings) -> list[datetime]:
    try:
        with snapshot(surroundings.settings.state.folder) as connection:
            last_seen = client_view(fact(connection, CLIENT_FACT)).last_seen
    except (LedgerError, OSError):
        return []
    return [] if last_seen is None else [last_seen]


# A look at some of the newest names is enough: a wrong umask shows in every file.
_LOOKED_AT = 200


def check_client_rights(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at OUT and IN with the MESH Client's eyes, then at IN with ours."""
    if os.name == "nt":
        return
    mailbox = surroundings.settings.mailbox
    in_folder, out_folder = mailbox.in_folder, mailbox.out_folder
    if not os.path.isdir(in_folder) or not os.path.isdir(out_folder):
        return
    if surroundings.settings.bridge.environment is not None:
        # The bridge runs as we do, and what it does with our files shows in its own log.
        yield from _we_can_read(in_folder)
        return
    owner_id = in_folder.stat().st_uid
    client = person(owner_id)
    if client is None:
        yield remark(
            "client.user",
            f"{in_folder} belongs to user {user_name(owner_id)}, whom this system does not know; so it is"
            " not known whether the MESH Client can read our files.",
            "See that it can: after the first message, look at the permissions of the files in OUT.",
        )
    else:
        yield right("client.user", f"The MESH Client seems to run as {client.name}, the owner of IN.")
        yield _can_take(client, out_folder)
        yield _can_read(client, surroundings)
    yield from _we_can_read(in_folder)


def check_group(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether the group of our files is one that we can give them."""
    name = surroundings.settings.mailbox.group
    if name is None:
        return
    number = group_number(name)
    us = _us(surroundings)
    if number is None:
        yield error(
            "mailbox.group",
            f"There is no group {name!a} on this system (mailbox.group).",
            f"Make it (groupadd {name}), correct the name, or take the key out of the settings.",
        )
    elif us is not None and us.user_id != 0 and number not in us.group_ids:
        yield error(
            "mailbox.group",
            f"User {us.name} is not in the group {name} (mailbox.group), and so cannot give it files.",
            f"Put the user into it: usermod -a -G {name} {us.name}; then start the daemon anew.",
        )
    else:
        yield right("mailbox.group", f"Our files in OUT can be given to the group {name}.")


def _can_take(client: Person, out_folder: Path) -> Finding:
    status = out_folder.stat()
    sticky = status.st_mode & stat.S_ISVTX and client.user_id not in {0, status.st_uid}
    if client.may(status, READ | WRITE | SEARCH) and not sticky:
        return right("client.takes", f"{client.name} can take pairs out of {out_folder}.")
    why = "the sticky bit keeps our files from it" if sticky else f"permissions {_mode(status)}"
    return error(
        "client.takes",
        f"User {client.name}, as whom the MESH Client seems to run, cannot take files out of {out_folder}"
        f" ({why}).",
        f"Let a group of both write there: chgrp GROUP {out_folder}; chmod 2770 {out_folder}",
    )


def _can_read(client: Person, surroundings: Surroundings) -> Finding:
    mailbox = surroundings.settings.mailbox
    us = _us(surroundings)
    group_id = _group_of_our_files(surroundings)
    mode = mailbox.file_mode
    if us is None or client.user_id in {0, us.user_id} or mode & stat.S_IROTH:
        return right("client.reads", f"{client.name} can read our files in OUT.")
    if mode & stat.S_IRGRP and group_id in client.group_ids:
        return right("client.reads", f"{client.name} can read our files in OUT, by group.")
    group = "group unknown" if group_id is None else f"their group {group_name(group_id)}"
    return error(
        "client.reads",
        f"User {client.name}, as whom the MESH Client seems to run, will not be able to read our files in"
        f" OUT: their permissions are {mode:04o}, their owner {us.name}, {group}.",
        f"Set group in [mailbox] to a group that both {us.name} and {client.name} belong to"
        f" (usermod -a -G GROUP {us.name}), and file_mode to 0640.",
    )


def _we_can_read(in_folder: Path) -> Iterator[Finding]:
    try:
        with os.scandir(in_folder) as entries:
            names = [entry.path for entry in islice(entries, _LOOKED_AT) if entry.name.endswith(".ctl")]
    except OSError:
        return
    effective = os.access in os.supports_effective_ids
    closed = sum(not os.access(name, os.R_OK, effective_ids=effective) for name in names)
    us = ourselves()
    if closed and us is not None:
        yield error(
            "rights.reports",
            f"User {us.name} may not read {closed} of {len(names)} reports and messages looked at in"
            f" {in_folder}.",
            "Let the MESH Client make files that its group can read (UMask=0027 in its service), and put"
            f" {us.name} into that group.",
        )
    folder = in_folder.stat()
    if us is not None and folder.st_mode & stat.S_ISVTX and us.user_id not in {0, folder.st_uid}:
        yield warning(
            "rights.archive",
            f"The sticky bit of {in_folder} keeps us from moving reports of the MESH Client to the archive.",
            f"Take it away: chmod -t {in_folder}",
        )


def _us(surroundings: Surroundings) -> Person | None:
    """Return the daemon's user: whoever owns the state folder; before there is one, this user."""
    state = surroundings.settings.state.folder
    return person(state.stat().st_uid) if os.path.isdir(state) else ourselves()


def _group_of_our_files(surroundings: Surroundings) -> int | None:
    settings = surroundings.settings
    if settings.mailbox.group is not None:
        return group_number(settings.mailbox.group)
    out = settings.mailbox.out_folder
    if os.path.isdir(out):
        status = out.stat()
        # What is made in a folder with the setgid bit gets the folder's group.
        if status.st_mode & stat.S_ISGID:
            return status.st_gid
    us = _us(surroundings)
    return None if us is None else us.group_id


def _mode(status: os.stat_result) -> str:
    owner, group = user_name(status.st_uid), group_name(status.st_gid)
    return f"{stat.S_IMODE(status.st_mode):04o}, owner {owner}, group {group}"
