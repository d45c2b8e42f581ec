"""A look at every folder of the settings, from where the daemon runs: what would be in the way of a letter.

A unit or a container shows its service other folders than a person sees who runs `meshctl check`, so the
daemon looks itself, at its start and for as long as something blocks it, and logs at once all that is wrong.
Nothing is written: rights, mounts and groups are asked for. What only writing shows, a full disk for example,
the work meets itself.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from meshctl.daemon.lock import LOCK_NAME
from meshctl.files.durable import takes_files
from meshctl.files.mounts import nearest_existing, on_one_mount
from meshctl.platform import host, system
from meshctl.platform.common import GroupRefusedError
from meshctl.settings.folders import Missing, Part, UsedFolder, used_folders
from meshctl.settings.model import Settings


def troubles(settings: Settings) -> dict[str, list[OSError]]:
    """Return what would block each part of the work, as the errors that it would meet."""
    found: dict[Part, list[OSError]] = {part: [] for part in Part if part is not Part.BRIDGE}
    for folder in used_folders(settings):
        trouble = _trouble_at(folder) if folder.part in found else None
        if trouble is not None:
            found[folder.part].append(trouble)
    staging, outbound = settings.staging, found[Part.OUTBOUND]
    if not outbound:
        if not on_one_mount(staging.outbox, staging.work):
            outbound.append(_error(errno.EXDEV, staging.outbox, staging.work))
        outbound += _group_refused(settings)
    return {part.value: errors for part, errors in found.items()}


def _trouble_at(used: UsedFolder) -> OSError | None:
    """Return what would go wrong in a folder; None for one that can be used, or that the client makes."""
    try:
        folder = _folder_of(used)
    except OSError as error:
        return error
    if folder is None:
        return None
    wanted = os.R_OK | os.X_OK | (os.W_OK if used.writes else 0)
    if used.writes and system.is_read_only(folder):
        return _error(errno.EROFS, folder)
    if system.may_use(folder, wanted):
        return None
    # What a server's rights mean, this computer does not always know.
    if used.writes and takes_files(str(folder)):
        return None
    return _error(errno.EACCES, folder)


def _folder_of(used: UsedFolder) -> Path | None:
    """Return a folder, or where one that we make is missing, the one that it will be made in. Raises OSError.

    None for IN, SENT and FAILED before the MESH Client has first started.
    """
    try:
        os.stat(used.path)
    except FileNotFoundError:
        # A state folder that has gone may be a mount that has.
        if used.missing is Missing.IS_CREATED and used.part is not Part.LEDGER:
            return nearest_existing(used.path)
        if used.part is Part.INBOUND:
            return None
        raise
    return used.path


def _group_refused(settings: Settings) -> Iterator[OSError]:
    """Yield the error of giving files in OUT their group, if that cannot be done."""
    mailbox = settings.mailbox
    group_id = None if mailbox.group is None else host.group_number(mailbox.group)
    lock = settings.state.folder / LOCK_NAME
    if group_id is not None and not host.files_get_group(mailbox.out_folder, group_id, lock):
        yield GroupRefusedError(group_id, str(mailbox.out_folder))


def _error(number: int, path: Path, other: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), str(path), None, None if other is None else str(other))
