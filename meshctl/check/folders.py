"""Whether each folder exists, what we may do there, whether files can be moved, and how much space is left.

Our own folders are tried out, with a hidden, empty file that the daemon ignores and that never stays. Of the
MESH Client's folders only the permissions are asked; on Windows, where no permission tells all, OUT is tried
out too. Two mounts of one file system, or two shares of one server, count as two, because a rename between
them fails.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshctl.check.finding import Finding, Setup, error, listed, note, ok, warning
from meshctl.check.rights import who_we_are
from meshctl.files.durable import HIDDEN_PREFIX
from meshctl.files.mounts import NO_LETTER, away, nearest_existing, on_one_mount
from meshctl.files.reading import reason_of
from meshctl.platform import host, shell, system
from meshctl.settings.folders import Missing, UsedFolder, used_folders
from meshctl.sizes import size_text

PROBE_NAME = f"{HIDDEN_PREFIX}probe"
"""How the names of our trial files begin: the daemon deletes them in `rejected/`, else ignores them."""

_READ_ONLY_ADVICE = "Look at dmesg for disk errors, then mount it for writing (mount -o remount,rw)."
_WORDS = ((os.R_OK, "read"), (os.W_OK, "write in"), (os.X_OK, "enter"))


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a trial: when the file system says that a file was made, in seconds since 1970.

    `keeps_identity` if the number of the file stayed the same, from look to look and over a move.
    """

    created_at: float
    keeps_identity: bool


def try_out(folder: Path, other: Path | None = None) -> Trial:
    """Create, rename and remove a file; with `other`, move it to that folder.

    Raises OSError where one of these fails.
    """
    first = folder / f"{PROBE_NAME}-{os.getpid()}"
    second = (other or folder) / f"{PROBE_NAME}-{os.getpid()}-renamed"
    try:
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            made = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        looked_at = os.stat(first)
        system.rename_new(str(first), str(second))
        keeps_identity = os.path.samestat(made, looked_at) and os.path.samestat(made, os.stat(second))
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                system.unlink(path)
    return Trial(made.st_mtime, keeps_identity)


def check_folders(setup: Setup) -> Iterator[Finding]:
    """Check that each folder exists and can be used."""
    mailbox = setup.settings.mailbox.folder
    has_mailbox = os.path.isdir(mailbox)
    if not has_mailbox:
        why, advice = _why_no_folder(mailbox)
        yield error(
            "folder.mailbox",
            f"The mailbox's folder {mailbox} {why}.",
            advice
            or "Correct folder in [mailbox], or client_config; mount the share that it is on; or start the"
            " MESH Client once, which creates it.",
        )
    for place in used_folders(setup.settings):
        if place.setting == "mailbox.folder" and not has_mailbox:
            continue
        if os.path.isdir(place.path):
            yield ok(f"folder.{place.name}", f"{place.path} exists.")
            yield _rights(place)
        else:
            yield _missing(place)


def check_drives(setup: Setup) -> Iterator[Finding]:
    """Report drive letters that only the session of the user who checks has; only Windows has any."""
    found: dict[tuple[str, str], list[str]] = {}
    paths = {
        "settings": setup.settings.file,
        **{place.setting: place.path for place in used_folders(setup.settings)},
    }
    for name, path in paths.items():
        letter = system.session_drive(path)
        if letter is not None:
            found.setdefault(letter, []).append(name)
    for (drive, target), names in found.items():
        yield warning(
            "drive",
            f"{drive} ({listed(names)}) is a drive letter of this logon session, for {target}.",
            NO_LETTER,
        )


def _rights(place: UsedFolder) -> Finding:
    """Check that we may use a folder that exists."""
    name, where = f"rights.{place.name}", f"{place.path} ({place.setting})"
    wanted = os.R_OK | os.X_OK | (os.W_OK if place.writes else 0)
    if place.writes and system.is_read_only(place.path):
        return error(name, f"{where} is on a read-only file system.", _READ_ONLY_ADVICE)
    if not system.may_use(place.path, wanted):
        lacking = [word for bit, word in _WORDS if wanted & bit and not system.may_use(place.path, bit)]
        text = f"{who_we_are()} may not {' or '.join(lacking)} {where}."
        return error(name, text, _rights_advice(place.path))
    if place.is_ours or (place.name == "OUT" and not host.HAS_MODES):
        try:
            try_out(place.path)
        except OSError as problem:
            text = f"No file can be created, renamed and removed in {where}: {reason_of(problem)}."
            return error(name, text, _advice_for(problem, place.path))
    return ok(name, f"{place.path} can be {'read and changed' if place.writes else 'read'}.")


def _missing(place: UsedFolder) -> Finding:
    why, advice = _why_no_folder(place.path)
    name, what = f"folder.{place.name}", f"{place.path} ({place.setting}) {why}"
    if advice is not None:
        return error(name, f"{what}.", advice)
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
        if parent is not None and system.may_use(parent, os.W_OK | os.X_OK):
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


def _why_no_folder(path: Path) -> tuple[str, str | None]:
    """Return why there is no folder, and what to do; None where that depends on whose folder it is."""
    gone = away(path)
    if gone is not None:
        what, advice = gone
        return f"cannot be found: {what} is not there", advice
    try:
        path.stat()
    except FileNotFoundError:
        return "is a link to something that does not exist" if os.path.islink(
            path
        ) else "does not exist", None
    except OSError as problem:
        if problem.errno == errno.EACCES:
            return "cannot be examined, for lack of rights on a folder above it", _rights_advice(path)
        return f"cannot be used: {reason_of(problem)}", None
    return "is not a folder", None


def _rights_advice(folder: Path) -> str:
    return (
        "Run meshctl check as the user that the daemon runs as. If that is this user, give it the right:"
        f" {shell.let_in(folder)}."
    )


def _advice_for(problem: OSError, folder: Path) -> str:
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"Free space on this file system ({shell.SEE_ROOM}), or raise the quota."
    if problem.errno == errno.EROFS:
        return _READ_ONLY_ADVICE
    return _rights_advice(folder)


def check_moves(setup: Setup) -> Iterator[Finding]:
    """Check that files can be moved from the outbox to the work folder."""
    staging = setup.settings.staging
    if not os.path.isdir(staging.outbox) or not os.path.isdir(setup.settings.mailbox.out_folder):
        return
    if away(staging.work) is not None:
        # A finding of its own.
        return
    # A work folder that does not exist yet will be created in the nearest folder that does.
    if on_one_mount(staging.outbox, staging.work):
        yield ok("one_file_system.outbox", "Files can be moved from the outbox to the work folder.")
        yield from _identity(staging.outbox, nearest_existing(staging.work))
        return
    yield error(
        "one_file_system.outbox",
        f"{staging.outbox} and {staging.work} (staging.outbox, staging.work) are not on one mount of one file"
        " system, or on one share, so no file can be taken.",
        "Set staging.work to a folder beside the outbox. Under systemd each ReadWritePaths is a mount of"
        " its own: give the unit one parent of both.",
    )


def _identity(outbox: Path, work: Path) -> Iterator[Finding]:
    """Check that the file system recognises a file, without which nobody knows whether it is complete."""
    try:
        keeps_identity = try_out(outbox, work).keeps_identity
    except OSError:
        # That no file can be created there is a finding of its own.
        return
    if not keeps_identity:
        yield error(
            "file_identity",
            f"The file system of {outbox} gives a file another number from one look to the next, or when it"
            " is moved: no file there counts as complete.",
            "Put outbox and work folder on another file system: not FAT or exFAT, and on a share only where"
            " its server keeps the numbers of files.",
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
    "Free space: the MESH Client never empties SENT, and archive/ and rejected/ grow too."
    f" {shell.SEE_FOLDERS}.",
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
    for place in used_folders(setup.settings):
        if place.writes and away(place.path) is None:
            folder = nearest_existing(place.path)
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
