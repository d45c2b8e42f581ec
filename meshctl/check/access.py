"""Who may drop files, and who may read what the mailbox keeps: secrets, rejected letters, the archive.

Senders need the outbox alone. One who could read a secret could use the mailbox without meshctl, and one who
could read `rejected/` would see the patients of others. The users are those of the groups that permissions
and access lists name; whether the folders above let them pass counts too. Root may do everything, and is not
named.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from meshctl.check.access_lists import check_lists
from meshctl.check.finding import Finding, Setup, error, listed, ok, warning
from meshctl.check.rights import daemon_user
from meshctl.platform import host, shell
from meshctl.platform.common import MAY_READ, MAY_SEARCH, MAY_WRITE, Person
from meshctl.settings.folders import secret_files, used_folders
from meshctl.settings.load import open_command

_EVERYBODY: Final = Person("everybody", -1, -1, frozenset())
_DROP: Final = MAY_WRITE | MAY_SEARCH
_LIST: Final = MAY_READ | MAY_SEARCH


def check_access(setup: Setup) -> Iterator[Finding]:
    """Say who may drop files and who may read what is kept; check that senders can do no more than drop."""
    service = daemon_user(setup)
    outbox = setup.settings.staging.outbox
    if not os.path.isdir(outbox):
        return
    if not host.HAS_MODES:
        yield from check_lists(setup)
    if service is None:
        return
    senders = _others_who_may(outbox, _DROP, service)
    yield _droppers("access.outbox", outbox, service, senders)
    for name in setup.settings.use_cases:
        folder = outbox / name
        if os.path.isdir(folder) and not folder.is_symlink():
            of_folder = _others_who_may(folder, _DROP, service)
            finding = _droppers(f"access.outbox.{name}", folder, service, of_folder)
            if of_folder and finding.ok and _loses_group(folder, outbox):
                finding = warning(
                    f"access.outbox.{name}",
                    f"What is dropped into {folder} gets the sender's own group, not the outbox's: where no"
                    f" access list names {service.name}, it may not read it. A daemon that makes the folder"
                    " again may not set the bit for that.",
                    f"As root: chmod g+s {folder}",
                )
            if of_folder != senders or not finding.ok:
                yield finding
            senders = [*senders, *(one for one in of_folder if one not in senders)]
    yield from _settings(setup.settings.file, service)
    for setting, path in secret_files(setup.settings):
        yield from _secret(setting, path, service, senders)
    for place in used_folders(setup.settings):
        if place.is_ours and place.name not in {"outbox", "bridge"} and os.path.isdir(place.path):
            is_reported = place.name in {"rejected", "archive"}
            yield from _kept(f"access.{place.name}", place.path, service, senders, is_reported=is_reported)


def _droppers(name: str, folder: Path, service: Person, others: Sequence[Person]) -> Finding:
    if not others:
        return ok(name, f"Nobody but {service.name} may drop files into {folder}.")
    status = folder.stat()
    if status.st_uid not in {0, service.user_id}:
        return error(
            name,
            f"{folder} belongs to {host.user_name(status.st_uid)}, who can read and replace what others drop"
            " there.",
            f"Give it to the service: chown {service.name} {folder}; {shell.share_command(folder)}",
        )
    if not status.st_mode & stat.S_ISVTX:
        return error(
            name,
            f"Those who may drop files into {folder} can rename, remove and replace what others drop there:"
            f" {_names(others)}.",
            f"Let only {service.name} and the sender himself do that: chmod +t {folder}",
        )
    return ok(name, f"Who may drop files into {folder}, besides {service.name}: {_names(others)}.")


def _loses_group(folder: Path, outbox: Path) -> bool:
    """True if files get the outbox's group there (setgid), and not in this folder of it."""
    return bool(outbox.stat().st_mode & ~folder.stat().st_mode & stat.S_ISGID)


def _settings(file: Path, service: Person) -> Iterator[Finding]:
    """Check that the service may read its settings, which an editor may have made root's alone."""
    try:
        is_readable = _reaches(service, file, MAY_READ)
    except OSError:
        return
    if not is_readable:
        yield error(
            "access.settings",
            f"User {service.name}, as whom the service runs, may not read the settings {file}, so it neither"
            " starts nor reads them again.",
            f"As root: {open_command(file, host.group_name(service.group_id))}",
        )


def _secret(setting: str, path: Path, service: Person, senders: Sequence[Person]) -> Iterator[Finding]:
    """Check that the service may read a secret, and no sender."""
    name = f"access.{setting}"
    try:
        readers = _others_who_may(path, MAY_READ, service)
        is_readable = _reaches(service, path, MAY_READ)
    except OSError:
        # It is missing, or closed to the user who checks: the check of what it is for says so.
        return
    if not is_readable:
        yield error(
            name,
            f"User {service.name}, as whom the service runs, may not read {path} ({setting}).",
            f"Give it to the service's group, and let that pass through the folders above: chgrp"
            f" {host.group_name(service.group_id)} {path}; chmod 0640 {path}. Or hand it over with"
            " LoadCredential= in the unit.",
        )
        return
    text = f"{_names(readers)} can read {path} ({setting})"
    closed = _close(path, service, readers, "0600")
    advice = f"{closed} Whoever has read it can use the mailbox: have the secret changed."
    if _are_senders(readers, senders):
        yield error(name, f"{text}, and may drop files.", advice)
        return
    if _EVERYBODY in readers:
        yield warning(name, f"{text}.", advice)
        return
    besides = f", besides {service.name}: {_names(readers)}" if readers else f": {service.name}"
    yield ok(name, f"Who can read {path} ({setting}){besides}.")


def _kept(
    name: str, folder: Path, service: Person, senders: Sequence[Person], *, is_reported: bool
) -> Iterator[Finding]:
    """Check that no sender may read what is kept in a folder; say who may, if `is_reported`."""
    try:
        readers = _others_who_may(folder, _LIST, service)
    except OSError:
        # A finding of its own.
        return
    if _are_senders(readers, senders):
        yield warning(
            name,
            f"{_names(readers)} can read {folder}, where the letters of others are, and may drop files.",
            f"{_close(folder, service, readers, '0700')} meshctl init --senders GROUP gives them one.",
        )
    elif is_reported:
        besides = f", besides {service.name}: {_names(readers)}" if readers else f": {service.name}"
        yield ok(name, f"Who can read {folder}{besides}.")


def _are_senders(readers: Sequence[Person], senders: Sequence[Person]) -> bool:
    """True if a sender is among those who can read something."""
    return bool(senders) and (_EVERYBODY in readers or any(reader in senders for reader in readers))


def _close(path: Path, service: Person, readers: Sequence[Person], mode: str) -> str:
    """Return what to do about senders who can read something."""
    status = path.stat()
    if _EVERYBODY in readers:
        return f"Close it to everybody: chmod {'o-rx' if path.is_dir() else 'o-r'} {path}."
    advice = f"take them out of the group {host.group_name(status.st_gid)}"
    if status.st_uid == service.user_id:
        advice += f", or close it: chmod {mode} {path}"
    return f"Senders need the outbox alone: {advice}."


def _others_who_may(path: Path, wanted: int, service: Person) -> list[Person]:
    """Return who may do that with a file or folder, other than root and the service. Raises OSError."""
    if _reaches(_EVERYBODY, path, wanted):
        return [_EVERYBODY]
    known = {0, service.user_id}
    return [one for one in host.people_of(path) if one.user_id not in known and _reaches(one, path, wanted)]


def _reaches(person: Person, path: Path, wanted: int) -> bool:
    """True if a user has this right, and may pass through every folder above. Raises OSError."""
    place = Path(os.path.realpath(path))
    return host.may(person, place, wanted) and all(
        host.may(person, above, MAY_SEARCH) for above in place.parents
    )


def _names(people: Sequence[Person]) -> str:
    return listed([person.name for person in people])
