"""Whether each folder is there, and whether we may do in it what we have to.

Our own folders are tried out, with a hidden, empty file that the daemon passes over and that never stays.
Of the MESH Client's folders the system is only asked.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from meshctl.checks.finding import Finding, error, remark, right, warning
from meshctl.checks.surroundings import Missing, Place, Surroundings
from meshctl.checks.system import ourselves

# The beginning that the daemon clears away in `rejected/`, and passes over elsewhere.
_NAME = ".meshctl-probe"


def try_out(folder: Path) -> float:
    """Make, rename and remove a file; return when the file system says it was made, seconds since 1970.

    Raises OSError where one of these is refused.
    """
    first = folder / f"{_NAME}-{os.getpid()}"
    second = folder / f"{_NAME}-{os.getpid()}-renamed"
    try:
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            made_at = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
        first.rename(second)
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                path.unlink()
    return made_at


_RIGHTS_ADVICE = (
    "Run meshctl check as the user that the daemon runs as. If that is this user, give it the right: change"
    " the folder's owner or group (chown, chgrp), or its permissions (chmod u+rwx or g+rwx)."
)

_CLOSED = "cannot be looked at, for lack of rights on a folder above it"
_READ_ONLY_ADVICE = "Look at dmesg for disk errors, then mount it for writing (mount -o remount,rw)."


def check_folders(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at every folder."""
    mailbox = surroundings.settings.mailbox.folder
    mailbox_is_there = os.path.isdir(mailbox)
    if not mailbox_is_there:
        why = _why_no_folder(mailbox)
        yield error(
            "folder.mailbox",
            f"The mailbox's folder {mailbox} {why}.",
            _RIGHTS_ADVICE
            if why == _CLOSED
            else "Correct folder in [mailbox], or client_config; mount the share that it is on; or start the"
            " MESH Client once, which makes it.",
        )
    for place in surroundings.places():
        if place.setting == "mailbox.folder" and not mailbox_is_there:
            continue
        if os.path.isdir(place.path):
            yield right(f"folder.{place.name}", f"{place.path} is there.")
            yield from check_rights(place)
        else:
            yield _not_there(place)


def check_rights(place: Place) -> Iterator[Finding]:
    """Check whether we may use a folder that is there."""
    name = f"rights.{place.name}"
    wanted = os.R_OK | os.X_OK | (os.W_OK if place.writes else 0)
    if place.writes and _is_read_only(place.path):
        yield error(name, f"{place.path} ({place.setting}) is on a read-only file system.", _READ_ONLY_ADVICE)
        return
    if not _accessible(place.path, wanted):
        we = ourselves()
        who = f"user {we.name}" if we else "this user"
        lacking = [word for bit, word in _WORDS if wanted & bit and not _accessible(place.path, bit)]
        text = f"{who[0].upper()}{who[1:]} may not {' or '.join(lacking)} {place.path} ({place.setting})."
        yield error(name, text, _RIGHTS_ADVICE)
        return
    if place.is_ours:
        try:
            try_out(place.path)
        except OSError as problem:
            yield error(
                name,
                f"No file can be made, renamed and removed in {place.path} ({place.setting}):"
                f" {_reason(problem)}.",
                _advice_for(problem),
            )
            return
    does = "read and changed" if place.writes else "read"
    yield right(name, f"{place.path} can be {does}.")


def _not_there(place: Place) -> Finding:
    name, what = f"folder.{place.name}", f"{place.path} ({place.setting}) {_why_no_folder(place.path)}"
    if what.endswith(_CLOSED):
        return error(name, f"{what}.", _RIGHTS_ADVICE)
    if os.path.lexists(place.path):
        return error(name, f"{what}.", f"Move it away and make a folder of that name: mkdir {place.path}")
    if place.missing is Missing.MAY_BE:
        return warning(
            name,
            f"{what}, so what the MESH Client puts there cannot be read.",
            "The MESH Client makes it when it starts; look whether it serves this mailbox.",
        )
    if place.missing is Missing.IS_MADE:
        parent = _nearest(place.path)
        if parent is not None and _accessible(parent, os.W_OK | os.X_OK):
            maker = "meshctl bridge" if place.setting.startswith("bridge.") else "meshctl run"
            return remark(name, f"{what} yet.", f"Nothing need be done: {maker} makes it when it starts.")
        return error(
            name,
            f"{what}, and cannot be made in {parent or place.path.anchor}.",
            f"Make it, and give it to the user that the daemon runs as: mkdir {place.path}",
        )
    owner = "Make it" if place.is_ours else "Start the MESH Client, or make it"
    return error(
        name, f"{what}.", f"{owner}: mkdir {place.path} — or correct {place.setting} in the settings."
    )


def _why_no_folder(path: Path) -> str:
    try:
        path.stat()
    except FileNotFoundError:
        return "leads nowhere" if os.path.islink(path) else "is not there"
    except OSError as problem:
        return _CLOSED if problem.errno == errno.EACCES else f"cannot be used: {_reason(problem)}"
    return "is not a folder"


def _nearest(path: Path) -> Path | None:
    return next((parent for parent in path.parents if os.path.exists(parent)), None)


def _accessible(path: Path, wanted: int) -> bool:
    return os.access(path, wanted, effective_ids=os.access in os.supports_effective_ids)


def _is_read_only(path: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _reason(problem: OSError) -> str:
    return os.strerror(problem.errno or 0)


def _advice_for(problem: OSError) -> str:
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Free space on this file system (df -h, df -i), or raise the quota."
    if problem.errno == errno.EROFS:
        return _READ_ONLY_ADVICE
    return _RIGHTS_ADVICE


_WORDS = ((os.R_OK, "read"), (os.W_OK, "write in"), (os.X_OK, "enter"))
