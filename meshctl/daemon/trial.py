"""A look at every folder of the settings, from where the daemon runs: what would be in the way of a letter.

A unit or a container shows its service other folders than a person sees who runs `meshctl check`, so the
daemon looks itself, at its start and for as long as something blocks it, and logs at once all that is wrong.
Nothing is written: rights, mounts and groups are asked for. What only writing shows, a full disk for example,
the work meets itself.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from meshctl.daemon.lock import LOCK_NAME
from meshctl.files.durable import takes_files
from meshctl.files.mounts import nearest_existing, on_one_mount
from meshctl.platform import host, system
from meshctl.platform.common import GroupRefusedError
from meshctl.settings.model import Settings


class _Place(NamedTuple):
    """A folder: which part of the work needs it, whether it is written to, and whether we make it."""

    part: str
    path: Path
    writes: bool = True
    is_made: bool = False


def troubles(settings: Settings) -> dict[str, list[OSError]]:
    """Return what would block each part of the work, as the errors that it would meet."""
    found: dict[str, list[OSError]] = {"outbound": [], "inbound": [], "ledger": [], "log": []}
    for place in _places(settings):
        trouble = _trouble_at(place)
        if trouble is not None:
            found[place.part].append(trouble)
    staging = settings.staging
    if not found["outbound"]:
        if not on_one_mount(staging.outbox, staging.work):
            found["outbound"].append(_error(errno.EXDEV, staging.outbox, staging.work))
        found["outbound"] += _group_refused(settings)
    return found


def _places(settings: Settings) -> Sequence[_Place]:
    staging, mailbox, reports = settings.staging, settings.mailbox, settings.reports
    places = [
        _Place("outbound", staging.outbox),
        _Place("outbound", staging.work, is_made=True),
        _Place("outbound", staging.rejected, is_made=True),
        _Place("outbound", mailbox.out_folder),
        _Place("inbound", mailbox.in_folder),
        _Place("inbound", mailbox.sent_folder, writes=False),
        _Place("inbound", mailbox.failed_folder, writes=False),
        _Place("inbound", reports.archive, is_made=True),
        _Place("ledger", settings.state.folder),
        _Place("log", settings.log.file.parent, is_made=True),
    ]
    if reports.deliver is not None:
        places.append(_Place("inbound", reports.deliver))
    return places


def _trouble_at(place: _Place) -> OSError | None:
    """Return what would go wrong in a folder; None for one that can be used, or that the client makes."""
    try:
        folder = _folder_of(place)
    except OSError as error:
        return error
    if folder is None:
        return None
    wanted = os.R_OK | os.X_OK | (os.W_OK if place.writes else 0)
    if place.writes and system.is_read_only(folder):
        return _error(errno.EROFS, folder)
    if system.may_use(folder, wanted):
        return None
    # What a server's rights mean, this computer does not always know.
    if place.writes and takes_files(str(folder)):
        return None
    return _error(errno.EACCES, folder)


def _folder_of(place: _Place) -> Path | None:
    """Return a folder, or where one that we make is missing, the one that it will be made in. Raises OSError.

    None for IN, SENT and FAILED before the MESH Client has first started.
    """
    try:
        os.stat(place.path)
    except FileNotFoundError:
        if place.is_made:
            return nearest_existing(place.path)
        if place.part == "inbound":
            return None
        raise
    return place.path


def _group_refused(settings: Settings) -> Iterator[OSError]:
    """Yield the error of giving files in OUT their group, if that cannot be done."""
    mailbox = settings.mailbox
    group_id = None if mailbox.group is None else host.group_number(mailbox.group)
    lock = settings.state.folder / LOCK_NAME
    if group_id is not None and not host.files_get_group(mailbox.out_folder, group_id, lock):
        yield GroupRefusedError(group_id, str(mailbox.out_folder))


def _error(number: int, path: Path, other: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), str(path), None, None if other is None else str(other))
