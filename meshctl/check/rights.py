"""Which users, groups and permissions this system has, and what they let us and the MESH Client do.

The MESH Client's user is taken from what it has created: the owner of IN. Nothing is tried in its folders.
Access lists beyond the nine permission bits are not seen here: for ourselves the checks ask the system.
Elsewhere than on Unix no users are known.
"""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from meshctl.check.access_lists import check_client_lists
from meshctl.check.finding import Finding, Setup, error, note, ok, warning
from meshctl.platform import host
from meshctl.platform.common import MAY_READ, MAY_SEARCH, MAY_WRITE, Person

# A wrong umask shows in every file, so some of the names are enough.
_MOST_EXAMINED = 200


def who_we_are() -> str:
    """Return how a sentence names the user that this process runs as."""
    us = host.ourselves()
    return "This user" if us is None else f"User {us.name}"


def check_secret_mode(setting: str, path: Path | None, remedy: str) -> Finding | None:
    """Check the permissions of the file of a secret; None if there is no file, or it shows none."""
    name = f"mode.{setting}"
    mode = None if path is None else host.mode_of(path)
    if mode is None:
        return None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        return error(
            name,
            f"Others can read or change {path} ({setting}): its permissions are {mode:04o}.",
            f"Take the rights away: chmod 0600 {path}, or 0640 with a group of the service's user alone"
            f"{remedy}",
        )
    return ok(name, f"{path} is closed to others.")


def check_group(setup: Setup) -> Iterator[Finding]:
    """Check that we can give our files the group that the settings name."""
    name = setup.settings.mailbox.group
    if name is None:
        return
    number = host.group_number(name)
    us = daemon_user(setup)
    if number is None:
        yield error(
            "mailbox.group",
            f"There is no group {name!a} on this system (mailbox.group).",
            f"Create it (groupadd {name}), correct the name, or take the key out of the settings.",
        )
    elif us is not None and us.user_id != 0 and number not in us.group_ids:
        yield error(
            "mailbox.group",
            f"User {us.name} is not in the group {name} (mailbox.group), so cannot give it files.",
            f"Add the user: usermod -a -G {name} {us.name}; then restart the daemon.",
        )
    else:
        yield ok("mailbox.group", f"Our files in OUT can be given to the group {name}.")


def check_client_rights(setup: Setup) -> Iterator[Finding]:
    """Check that the MESH Client can take our pairs from OUT, and that we can read what it writes to IN."""
    if not host.HAS_MODES:
        yield from check_client_lists(setup)
        return
    mailbox = setup.settings.mailbox
    in_folder, out_folder = mailbox.in_folder, mailbox.out_folder
    if not os.path.isdir(in_folder) or not os.path.isdir(out_folder):
        return
    # The bridge runs as we do, and what it cannot do with our files is in its own log.
    if setup.settings.bridge.environment is None:
        owner_id = in_folder.stat().st_uid
        client = host.person(owner_id)
        if client is None:
            yield note(
                "client.user",
                f"{in_folder} belongs to user {host.user_name(owner_id)}, whom this system does not know; so"
                " it is not known whether the MESH Client can read our files.",
                "After the first message, look at the permissions of the files in OUT.",
            )
        else:
            yield ok("client.user", f"The MESH Client seems to run as {client.name}, the owner of IN.")
            yield _can_take(client, out_folder)
            yield _can_read(client, setup)
    yield from _we_can_read(in_folder)


def _can_take(client: Person, out_folder: Path) -> Finding:
    status = out_folder.stat()
    sticky = status.st_mode & stat.S_ISVTX and client.user_id not in {0, status.st_uid}
    if client.may(status, MAY_READ | MAY_WRITE | MAY_SEARCH) and not sticky:
        return ok("client.takes", f"{client.name} can take pairs out of {out_folder}.")
    owner, group = host.user_name(status.st_uid), host.group_name(status.st_gid)
    permissions = f"permissions {stat.S_IMODE(status.st_mode):04o}, owner {owner}, group {group}"
    why = "the sticky bit lets only their owner remove them" if sticky else permissions
    return error(
        "client.takes",
        f"User {client.name}, as whom the MESH Client seems to run, cannot take files out of {out_folder}"
        f" ({why}).",
        f"Let a group of both write there: chgrp GROUP {out_folder}; chmod 2770 {out_folder}",
    )


def _can_read(client: Person, setup: Setup) -> Finding:
    us = daemon_user(setup)
    group_id = _group_of_our_files(setup)
    mode = setup.settings.mailbox.file_mode
    if us is None or client.user_id in {0, us.user_id} or mode & stat.S_IROTH:
        return ok("client.reads", f"{client.name} can read our files in OUT.")
    if mode & stat.S_IRGRP and group_id in client.group_ids:
        return ok("client.reads", f"{client.name} can read our files in OUT, by group.")
    group = "group unknown" if group_id is None else f"their group {host.group_name(group_id)}"
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
            names = [entry.path for entry in islice(entries, _MOST_EXAMINED) if entry.name.endswith(".ctl")]
    except OSError:
        return
    effective = os.access in os.supports_effective_ids
    closed = sum(not os.access(name, os.R_OK, effective_ids=effective) for name in names)
    us = host.ourselves()
    if closed and us is not None:
        yield error(
            "rights.reports",
            f"User {us.name} may not read {closed} of {len(names)} reports and messages examined in"
            f" {in_folder}.",
            "Let the MESH Client create files that its group can read (UMask=0027 in its service), and put"
            f" {us.name} into that group.",
        )
    folder = in_folder.stat()
    if us is not None and folder.st_mode & stat.S_ISVTX and us.user_id not in {0, folder.st_uid}:
        yield warning(
            "rights.archive",
            f"The sticky bit of {in_folder} keeps us from moving the MESH Client's reports to the archive.",
            f"Take it away: chmod -t {in_folder}",
        )


def daemon_user(setup: Setup) -> Person | None:
    """Return the daemon's user: the owner of the state folder; before there is one, this user."""
    state = setup.settings.state.folder
    return host.person(state.stat().st_uid) if os.path.isdir(state) else host.ourselves()


def _group_of_our_files(setup: Setup) -> int | None:
    mailbox = setup.settings.mailbox
    if mailbox.group is not None:
        return host.group_number(mailbox.group)
    if os.path.isdir(mailbox.out_folder):
        status = mailbox.out_folder.stat()
        # What is created in a folder with the setgid bit gets the folder's group.
        if status.st_mode & stat.S_ISGID:
            return status.st_gid
    us = daemon_user(setup)
    return None if us is None else us.group_id
