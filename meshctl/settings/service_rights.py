"""What the account of a Windows service has to be granted: no more than its work needs.

The MESH Client's folders are shared with others, so the daemon may read SENT and FAILED, and change IN and
OUT alone; the bridge does the client's work, and changes all of them. What a file is replaced by has the list
of its folder, so settings are granted by their folder; a secret elsewhere is granted as the file that it is.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from meshctl.platform.access_lists import BELOW, FILES_HERE, HERE, MODIFY, READ, READ_FILE, REMOVE_OTHERS
from meshctl.settings.folders import secret_files
from meshctl.settings.model import Settings
from meshctl.settings.secrets import file_of

_CHANGE = MODIFY | REMOVE_OTHERS
"""Also what others have put there, whatever list that has."""


class Need(NamedTuple):
    """What an account has to be granted on a path; `is_ours` if meshctl makes that folder."""

    path: Path
    rights: int
    scope: str
    is_ours: bool = False


def needs(settings: Settings, *, bridge: bool) -> list[Need]:
    """Return what the account of the daemon, or of the bridge, needs; paths that are needed twice, once."""
    found = {(need.path, need.scope): need for need in _program()}
    of_work = _of_bridge(settings) if bridge else _of_daemon(settings)
    for need in (*_read(settings, bridge=bridge), *of_work):
        before = found.get((need.path, need.scope), need)
        found[need.path, need.scope] = need._replace(rights=need.rights | before.rights)
    return list(found.values())


def _program() -> Iterator[Need]:
    for folder in (sys.base_prefix, sys.prefix):
        yield Need(Path(folder), READ, BELOW)


def _read(settings: Settings, *, bridge: bool) -> Iterator[Need]:
    yield _files_in(settings.file.parent, settings.file, READ)
    certificates = (settings.bridge.certificate, settings.bridge.ca_bundle) if bridge else ()
    files = [file for key, file in secret_files(settings) if bridge or not key.startswith("bridge.")]
    for file in (*files, *map(file_of, certificates)):
        if file is not None:
            yield Need(file, READ_FILE, HERE)
    for file in settings.alerts.programs:
        yield Need(file, READ, HERE)


def _of_daemon(settings: Settings) -> Iterator[Need]:
    mailbox, staging, reports = settings.mailbox, settings.staging, settings.reports
    for ours in (staging.outbox, staging.rejected, staging.work, reports.archive, settings.state.folder):
        yield Need(ours, _CHANGE, BELOW, is_ours=True)
    yield Need(settings.log.file.parent, _CHANGE, BELOW, is_ours=True)
    # Its lock, and the bridge's, which it looks at.
    for folder in (mailbox.folder, mailbox.temp_folder):
        yield Need(folder, MODIFY, FILES_HERE)
    for folder in (mailbox.in_folder, mailbox.out_folder):
        yield Need(folder, _CHANGE, BELOW)
    for folder in (mailbox.sent_folder, mailbox.failed_folder):
        yield Need(folder, READ, BELOW)
    if settings.bridge.environment is not None:
        yield Need(settings.bridge_work, READ, BELOW, is_ours=True)
    if reports.deliver is not None:
        yield Need(reports.deliver, MODIFY, BELOW)
    if settings.metrics.textfile is not None:
        yield _files_in(settings.metrics.textfile.parent, settings.metrics.textfile, MODIFY)


def _of_bridge(settings: Settings) -> Iterator[Need]:
    mailbox = settings.mailbox
    for ours in (settings.state.folder, settings.bridge_work, settings.bridge.log.parent):
        yield Need(ours, _CHANGE, BELOW, is_ours=True)
    yield Need(mailbox.temp_folder, MODIFY, FILES_HERE)
    for folder in (mailbox.in_folder, mailbox.out_folder, mailbox.sent_folder, mailbox.failed_folder):
        yield Need(folder, _CHANGE, BELOW)


def _files_in(folder: Path, file: Path, rights: int) -> Need:
    """Return what is needed on the files of a folder; on the file alone, if that is the root of a disk."""
    return Need(file, rights, HERE) if folder.parent == folder else Need(folder, rights, FILES_HERE)
