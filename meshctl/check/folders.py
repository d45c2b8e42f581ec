"""Whether each folder exists, what we may do there, whether files can be moved, and how much space is left.

Our own folders are tried out, with a hidden, empty file that the daemon ignores and that never stays. Of the
MESH Client's folders only the permissions are asked. Two mounts of one file system count as two, because a
rename between them fails.

The watches that the daemon would set are really set, then removed. Without them everything is still found,
every `rescan_seconds`, so nothing there is an error.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshctl.check.finding import Finding, Missing, Place, Setup, error, note, ok, warning
from meshctl.check.rights import who_we_are
from meshctl.daemon.watcher import Watcher
from meshctl.files.durable import HIDDEN_PREFIX
from meshctl.files.mounts import nearest_existing, on_one_mount
from meshctl.platform import system
from meshctl.sizes import size_text

PROBE_NAME = f"{HIDDEN_PREFIX}probe"
"""How the names of our trial files begin: the daemon deletes them in `rejected/`, else ignores them."""

_RIGHTS_ADVICE = (
    "Run meshctl check as the user that the daemon runs as. If that is this user, give it the right: change"
    " the folder's owner or group (chown, chgrp), or its permissions (chmod u+rwx or g+rwx)."
)
_CLOSED = "cannot be examined, for lack of rights on a folder above it"
_READ_ONLY_ADVICE = "Look at dmesg for disk errors, then mount it for writing (mount -o remount,rw)."
_WORDS = ((os.R_OK, "read"), (os.W_OK, "write in"), (os.X_OK, "enter"))
_INOTIFY = Path("/proc/sys/fs/inotify")
_POLL_ADVICE = 'Set watch = "poll" in [staging]'


def try_out(folder: Path) -> float:
    """Create, rename and remove a file; return when the file system says it was created, seconds since 1970.

    Raises OSError where one of these fails.
    """
    first = folder / f"{PROBE_NAME}-{os.getpid()}"
    second = folder / f"{PROBE_NAME}-{os.getpid()}-renamed"
    try:
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            created_at = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
        system.rename_new(str(first), str(second))
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                system.unlink(path)
    return created_at


def check_folders(setup: Setup) -> Iterator[Finding]:
    """Check that each folder exists and can be used."""
    mailbox = setup.settings.mailbox.folder
    has_mailbox = os.path.isdir(mailbox)
    if not has_mailbox:
        why = _why_no_folder(mailbox)
        yield error(
            "folder.mailbox",
            f"The mailbox's folder {mailbox} {why}.",
            _RIGHTS_ADVICE
            if why == _CLOSED
            else "Correct folder in [mailbox], or client_config; mount the share that it is on; or start the"
            " MESH Client once, which creates it.",
        )
    for place in setup.places():
        if place.setting == "mailbox.folder" and not has_mailbox:
            continue
        if os.path.isdir(place.path):
            yield ok(f"folder.{place.name}", f"{place.path} exists.")
            yield _rights(place)
        else:
            yield _missing(place)


def _rights(place: Place) -> Finding:
    """Check that we may use a folder that exists."""
    name, where = f"rights.{place.name}", f"{place.path} ({place.setting})"
    wanted = os.R_OK | os.X_OK | (os.W_OK if place.writes else 0)
    if place.writes and _is_read_only(place.path):
        return error(name, f"{where} is on a read-only file system.", _READ_ONLY_ADVICE)
    if not _accessible(place.path, wanted):
        lacking = [word for bit, word in _WORDS if wanted & bit and not _accessible(place.path, bit)]
        return error(name, f"{who_we_are()} may not {' or '.join(lacking)} {where}.", _RIGHTS_ADVICE)
    if place.is_ours:
        try:
            try_out(place.path)
        except OSError as problem:
            text = f"No file can be created, renamed and removed in {where}: {_reason(problem)}."
            return error(name, text, _advice_for(problem))
    return ok(name, f"{place.path} can be {'read and changed' if place.writes else 'read'}.")


def _missing(place: Place) -> Finding:
    name, what = f"folder.{place.name}", f"{place.path} ({place.setting}) {_why_no_folder(place.path)}"
    if what.endswith(_CLOSED):
        return error(name, f"{what}.", _RIGHTS_ADVICE)
    if os.path.lexists(place.path):
        return error(name, f"{what}.", f"Move it away and create the folder: mkdir {place.path}")
    if place.missing is Missing.MAY_BE:
        return warning(
            name,
            f"{what}, so what the MESH Client puts there cannot be read.",
            "The MESH Client creates it when it starts; check whether it serves this mailbox.",
        )
    if place.missing is Missing.IS_CREATED:
        parent = next((parent for parent in place.path.parents if os.path.exists(parent)), None)
        if parent is not None and _accessible(parent, os.W_OK | os.X_OK):
            creator = "meshctl bridge" if place.setting.startswith("bridge.") else "meshctl run"
            return note(name, f"{what} yet.", f"Nothing to do: {creator} creates it when it starts.")
        return error(
            name,
            f"{what}, and cannot be created in {parent or place.path.anchor}.",
            f"Create it, and give it to the user that the daemon runs as: mkdir {place.path}",
        )
    create = "Create it" if place.is_ours else "Start the MESH Client, or create it"
    return error(
        name, f"{what}.", f"{create}: mkdir {place.path} — or correct {place.setting} in the settings."
    )


def _why_no_folder(path: Path) -> str:
    try:
        path.stat()
    except FileNotFoundError:
        return "is a link to something that does not exist" if os.path.islink(path) else "does not exist"
    except OSError as problem:
        return _CLOSED if problem.errno == errno.EACCES else f"cannot be used: {_reason(problem)}"
    return "is not a folder"


def _accessible(path: Path, wanted: int) -> bool:
    return os.access(path, wanted, effective_ids=os.access in os.supports_effective_ids)


def _is_read_only(path: Path) -> bool:
    return system.is_read_only(path)


def _reason(problem: OSError) -> str:
    return os.strerror(problem.errno or 0)


def _advice_for(problem: OSError) -> str:
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "Free space on this file system (df -h, df -i), or raise the quota."
    if problem.errno == errno.EROFS:
        return _READ_ONLY_ADVICE
    return _RIGHTS_ADVICE


def check_moves(setup: Setup) -> Iterator[Finding]:
    """Check that files can be moved from the outbox to the work folder."""
    staging = setup.settings.staging
    if not os.path.isdir(staging.outbox) or not os.path.isdir(setup.settings.mailbox.out_folder):
        return
    # A work folder that does not exist yet will be created in the nearest folder that does.
    if on_one_mount(staging.outbox, staging.work):
        yield ok("one_file_system.outbox", "Files can be moved from the outbox to the work folder.")
        return
    yield error(
        "one_file_system.outbox",
        f"{staging.outbox} and {staging.work} (staging.outbox, staging.work) are not on one mount of one file"
        " system, so no file can be taken.",
        "Set staging.work to a folder beside the outbox. Under systemd each ReadWritePaths is a mount of"
        " its own: give the unit one parent of both.",
    )


@dataclass(frozen=True, slots=True)
class _Limits:
    """How much must be left of something: below `error` nothing more fits, below `warning` it is low."""

    name: str
    error: int
    warning: int
    advice: str


_BYTES = _Limits(
    "space",
    100_000_000,
    1_000_000_000,
    "Free space: the MESH Client never empties SENT, and archive/ and rejected/ grow too. du -sh shows which"
    " folder it is.",
)
_INODES = _Limits(
    "inodes",
    1_000,
    20_000,
    "Remove files: df -i shows the file system; look in SENT and archive/ first.",
)


def check_room(setup: Setup) -> Iterator[Finding]:
    """Check how much space is left on each file system that we write to."""
    found: dict[int, tuple[Path, list[str]]] = {}
    for place in setup.places():
        folder = nearest_existing(place.path)
        if place.writes:
            found.setdefault(folder.stat().st_dev, (folder, []))[1].append(place.name)
    for folder, names in found.values():
        where = f"On the file system of {folder} ({', '.join(names)})"
        free_bytes, free_inodes = _free(folder)
        yield _left(_BYTES, names[0], free_bytes, f"{where} {size_text(free_bytes)} are free")
        if free_inodes is not None:
            yield _left(_INODES, names[0], free_inodes, f"{where} there is room for {free_inodes} more files")


def _left(limits: _Limits, place: str, amount: int, text: str) -> Finding:
    name = f"{limits.name}.{place}"
    if amount < limits.error:
        return error(name, f"{text}: almost no {limits.name} left.", limits.advice)
    if amount < limits.warning:
        low = "space is low" if limits is _BYTES else "inodes are low"
        return warning(name, f"{text}: {low}.", limits.advice)
    return ok(name, f"{text}.")


def _free(folder: Path) -> tuple[int, int | None]:
    """Return the bytes and inodes left for ordinary users; None where inodes are not counted."""
    return shutil.disk_usage(folder).free, system.free_inodes(folder)


def check_watching(setup: Setup) -> Iterator[Finding]:
    """Check that the system can report new files, by setting the daemon's watches for a moment."""
    staging = setup.settings.staging
    seconds = f"{staging.rescan_seconds:g} s"
    if staging.watch == "poll":
        yield ok("watching", f"The folders are scanned every {seconds}, as the settings say.")
        return
    problem = _try_watches(setup)
    if problem is None:
        yield ok("watching", "The system reports at once when a file arrives in the outbox.")
    else:
        yield warning(
            "watching",
            f"File-system events are unavailable ({_reason(problem)}{_inotify_limits()}): files are found"
            f" only every {seconds}.",
            "Raise the limit: sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536"
            f" (and in /etc/sysctl.d to keep it). Or: {_POLL_ADVICE}."
            if problem.errno in {errno.EMFILE, errno.ENOSPC}
            else f"{_POLL_ADVICE}.",
        )
    mount = system.mount_of(staging.outbox) if os.path.isdir(staging.outbox) else None
    if mount is not None and mount.is_network:
        yield network_note(mount.type, staging.outbox, seconds)


def network_note(kind: str, outbox: Path, seconds: str) -> Finding:
    """Return the finding for an outbox on a network share."""
    return note(
        "watching.network",
        f"{outbox} is on a network share ({kind}): files that other computers drop there cause no event and"
        f" are found every {seconds}.",
        f"{_POLL_ADVICE}, with rescan_seconds as short as you need.",
    )


def _try_watches(setup: Setup) -> OSError | None:
    mailbox = setup.settings.mailbox
    folders = (setup.settings.staging.outbox, mailbox.in_folder, mailbox.sent_folder)
    watcher = Watcher(lambda: None)
    try:
        return watcher.watch(str(folder) for folder in folders if os.path.isdir(folder))
    finally:
        watcher.close()


def _inotify_limits() -> str:
    try:
        instances, watches = (
            (_INOTIFY / name).read_text().strip() for name in ("max_user_instances", "max_user_watches")
        )
    except OSError:
        return ""
    return f"; max_user_instances is {instances}, max_user_watches {watches}"
