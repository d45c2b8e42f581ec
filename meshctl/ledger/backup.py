"""Back-ups of a mailbox: the ledger, its key and the settings, whole or not at all.

    DIR/ledger.sqlite   a copy by SQLite's own back-up, also while the daemon writes
    DIR/key             the key of the keyed hashes
    DIR/meshctl.toml    the settings
    DIR/manifest.json   whose it is, of which versions, and what the files must be

A back-up is made in a hidden folder beside DIR, the manifest last, made durable, and gets its name by one
rename: half a back-up never has it. What a kill leaves is hidden, and removed by the next back-up of that
mailbox.

To restore, the files are copied into the state folder under hidden names and examined there. The ledger that
is there is folded and kept under another name, and so is the key. Then the key, and last the ledger get their
names: that one rename, of the ledger, is the point of no return. A kill before it leaves the old ledger in
its place, and the restore is to be begun again.
"""

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from meshctl import __version__
from meshctl.clock import instant, iso, now
from meshctl.errors import MeshctlError
from meshctl.files import durable
from meshctl.files.owner import ForeignFolderError
from meshctl.files.reading import open_regular, read_regular
from meshctl.ledger.database import (
    LEDGER_FORMAT,
    LEDGER_NAME,
    LedgerDamagedError,
    LedgerError,
    open_for_reading,
    open_for_writing,
)
from meshctl.ledger.keys import KEY_NAME, read_keys
from meshctl.ledger.reads import fact
from meshctl.ledger.records import MAILBOX_FACT
from meshctl.ledger.services import KEY_FINGERPRINT_FACT
from meshctl.platform import host, system

MANIFEST_NAME: Final = "manifest.json"
SETTINGS_NAME: Final = "meshctl.toml"

_FORMAT: Final = 1
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_CHUNK_BYTES: Final = 1 << 20
_MOST_MANIFEST_BYTES: Final = 1 << 16
_UNFINISHED: Final = ".meshctl-backup-"
_RESTORING: Final = ".restoring-"
_DAY_SECONDS: Final = 86_400.0
_NEWEST = "SELECT count(*), max(updated_at) FROM messages"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a back-up is: whose, when made and by what, and what its files must be."""

    mailbox: str
    made_at: str
    meshctl: str
    ledger_format: int
    messages: int
    last_change: str | None
    """When a message last changed that is in it; None without messages."""
    files: dict[str, str]
    """The SHA-256 of each file, by name."""
    format: int = _FORMAT

    @property
    def made(self) -> datetime:
        """Return when it was made."""
        return instant(self.made_at)


def back_up(target: Path, state_folder: Path, settings: Path, mailbox_id: str, at: datetime) -> Manifest:
    """Make a back-up at a path that must not exist yet; return its manifest. Raises MeshctlError, OSError."""
    if os.path.lexists(target):
        raise MeshctlError(
            f"{target} is already there. Give each back-up a name of its own, such as its date."
        )
    prefix = f"{_UNFINISHED}{mailbox_id}-"
    _remove_left_over(target.parent, prefix)
    unfinished = target.with_name(f"{prefix}{secrets.token_hex(8)}")
    system.make_folder(unfinished, _FOLDER_MODE)
    try:
        ledger = unfinished / LEDGER_NAME
        messages, last_change = _copy_ledger(state_folder / LEDGER_NAME, ledger)
        # After the ledger: a daemon that has just begun makes the key first.
        _check_key(state_folder / KEY_NAME, ledger)
        digests = {LEDGER_NAME: _digest(ledger)}
        for name, source in ((KEY_NAME, state_folder / KEY_NAME), (SETTINGS_NAME, settings)):
            digests[name] = _copy(source, unfinished / name)
        manifest = Manifest(mailbox_id, iso(at), __version__, LEDGER_FORMAT, messages, last_change, digests)
        written = json.dumps(asdict(manifest), indent=2).encode() + b"\n"
        durable.write_new(str(unfinished / MANIFEST_NAME), written, _FILE_MODE)
        files = [str(unfinished / name) for name in (*digests, MANIFEST_NAME)]
        durable.barrier(files, [str(unfinished)])
        system.rename_new(str(unfinished), str(target))
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(unfinished)
        raise
    durable.sync_folder(target.parent)
    return manifest


def read_manifest(folder: Path, mailbox_id: str | None = None) -> Manifest:
    """Return the manifest of a complete back-up; with `mailbox_id`, of one of that mailbox.

    Raises MeshctlError if it is none, or of another mailbox or format.
    """
    try:
        content: dict[str, Any] = json.loads(read_regular(folder / MANIFEST_NAME, _MOST_MANIFEST_BYTES))
        manifest = Manifest(**content)
        whole = {LEDGER_NAME, KEY_NAME, SETTINGS_NAME} <= manifest.files.keys()
    except FileNotFoundError:
        raise MeshctlError(
            f"{folder} is no complete back-up: it has no {MANIFEST_NAME}. Give one that meshctl backup made."
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise MeshctlError(
            f"{folder / MANIFEST_NAME} cannot be read as a back-up's. Take another back-up."
        ) from None
    if manifest.format != _FORMAT or manifest.ledger_format != LEDGER_FORMAT or not whole:
        raise MeshctlError(
            f"The back-up in {folder} was made by meshctl {manifest.meshctl}, and this one cannot read it."
            " Install that version, restore, and then upgrade."
        )
    if mailbox_id is not None and manifest.mailbox != mailbox_id:
        raise ForeignFolderError(f"The back-up in {folder}", manifest.mailbox, mailbox_id, is_backup=True)
    return manifest


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: the manifest, and under which names the ledger and key of before are kept."""

    manifest: Manifest
    kept: tuple[str, ...]


def restore(source: Path, state_folder: Path, mailbox_id: str, *, force: bool) -> Restored:
    """Put the ledger and the key of a back-up into a state folder; the caller holds the lock.

    Raises MeshctlError if it is no complete back-up of the mailbox or, without `force`, if the ledger that is
    there is newer; nothing is changed then. Raises OSError.
    """
    manifest = read_manifest(source, mailbox_id)
    there = state_folder / LEDGER_NAME
    if not force:
        _check_not_newer(there, manifest)
    incoming = {name: state_folder / f"{_RESTORING}{name}" for name in (KEY_NAME, LEDGER_NAME)}
    try:
        for name, path in incoming.items():
            system.unlink_if_there(path)
            if _copy(source / name, path) != manifest.files[name]:
                raise MeshctlError(
                    f"{source / name} is not what was backed up: it is damaged. Take another back-up."
                )
            host.give_to_owner_of(path, state_folder)
        _check_whole(incoming[LEDGER_NAME], source, mailbox_id)
        _check_key(incoming[KEY_NAME], incoming[LEDGER_NAME])
        with host.acting_as_owner_of(state_folder):
            durable.barrier(list(map(str, incoming.values())), [str(state_folder)])
            kept = [_keep_key(state_folder / KEY_NAME, incoming[KEY_NAME]), *_keep_ledger(there)]
            system.rename(incoming[KEY_NAME], state_folder / KEY_NAME)
            durable.sync_folder(state_folder)
            system.rename(incoming[LEDGER_NAME], there)
            durable.sync_folder(state_folder)
    finally:
        for path in incoming.values():
            system.unlink_if_there(path)
    return Restored(manifest, tuple(name for name in kept if name is not None))


def _copy_ledger(source: Path, target: Path) -> tuple[int, str | None]:
    """Copy a ledger at one moment of it; return how many messages it has, and when one last changed."""
    _make_private(target)
    with closing(open_for_reading(source)) as ledger, closing(sqlite3.connect(target)) as copy:
        try:
            ledger.backup(copy)
            # One file: no log beside it that could be forgotten.
            copy.execute("PRAGMA journal_mode = DELETE")
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            messages, last_change = copy.execute(_NEWEST).fetchone()
        except sqlite3.Error as error:
            raise LedgerError(f"The ledger at {source} cannot be copied: {error}.") from None
    if verdict != "ok":
        raise LedgerDamagedError(f"The ledger at {source} is damaged: {' '.join(str(verdict).split())}.")
    return int(messages), last_change


def _check_key(key: Path, ledger: Path) -> None:
    """Raise MeshctlError if a key is not the one that a ledger was written with."""
    with closing(open_for_reading(ledger)) as connection:
        fingerprint = fact(connection, KEY_FINGERPRINT_FACT)
    if fingerprint is not None and read_keys(key).fingerprint != fingerprint:
        raise MeshctlError(
            f"The key at {key} is not the one that the ledger was written with: with it no patient can be"
            " found. Put the right one back first."
        )


def _check_whole(ledger: Path, source: Path, mailbox_id: str) -> None:
    with closing(open_for_reading(ledger)) as connection:
        owner = fact(connection, MAILBOX_FACT)
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if owner != mailbox_id:
        raise ForeignFolderError(f"The back-up in {source}", str(owner), mailbox_id, is_backup=True)
    if verdict != "ok":
        raise LedgerDamagedError(f"The ledger in {source} is damaged: {' '.join(str(verdict).split())}.")


def _check_not_newer(ledger: Path, manifest: Manifest) -> None:
    """Raise MeshctlError if the ledger that is there knows more than the back-up."""
    if not ledger.exists() or not ledger.stat().st_size:
        return
    try:
        with closing(open_for_reading(ledger)) as connection:
            owner = fact(connection, MAILBOX_FACT)
            _, last_change = connection.execute(_NEWEST).fetchone()
            since = manifest.last_change or ""
            (more,) = connection.execute(
                "SELECT count(*) FROM messages WHERE updated_at > ?", (since,)
            ).fetchone()
    except (LedgerDamagedError, sqlite3.DatabaseError):
        # It is kept, and no loss to be put aside.
        return
    if owner not in (None, manifest.mailbox):
        raise ForeignFolderError(f"The ledger in {ledger.parent}", str(owner), manifest.mailbox)
    if last_change is not None and last_change > since:
        raise MeshctlError(
            f"The ledger in {ledger.parent} is newer than the back-up of {manifest.made_at}: {more} of its"
            " messages are missing there, or in an earlier state. --force puts the back-up in its place, and"
            " keeps it."
        )


def _keep_key(key: Path, other: Path) -> str | None:
    """Keep a key that is to be replaced by another; return the name, None if there is nothing to keep."""
    try:
        before = read_regular(key, _CHUNK_BYTES)
    except FileNotFoundError:
        return None
    if before == read_regular(other, _CHUNK_BYTES):
        return None
    kept = _free_name(key)
    durable.write_new(str(kept), before, _FILE_MODE)
    durable.sync_file(kept)
    return kept.name


def _keep_ledger(ledger: Path) -> list[str]:
    """Keep the ledger that is to be replaced, and leave no log of it behind; return the names.

    What SQLite finds beside a ledger it takes for that one's. Raises LedgerError if somebody reads it just
    now.
    """
    beside = [ledger.with_name(f"{ledger.name}{end}") for end in ("-wal", "-shm")]
    kept = _free_name(ledger)
    if ledger.exists():
        try:
            with closing(open_for_writing(ledger)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except LedgerError:
            # Damaged, or of another version: all of it is kept as it is.
            pass
        else:
            beside = [path for path in beside if path.exists()]
            if any(path.stat().st_size for path in beside if path.name.endswith("-wal")):
                raise LedgerError(f"The ledger at {ledger} is in use. End what reads it, and restore again.")
            for path in beside:
                system.unlink_if_there(path)
            beside = []
        _copy(ledger, kept)
        durable.sync_file(kept)
    names = [kept.name] if ledger.exists() else []
    for path in beside:
        if path.exists():
            end = path.name.removeprefix(ledger.name)
            system.rename(path, kept.with_name(f"{kept.name}{end}"))
            names.append(f"{kept.name}{end}")
    return names


def _free_name(path: Path) -> Path:
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.before-restore-{number}")):
        number += 1
    return kept


def _make_private(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE))


def _copy(source: Path, target: Path) -> str:
    """Copy a file to a name that must not exist yet, for its owner alone; return its SHA-256."""
    made = hashlib.sha256()
    _make_private(target)
    with open_regular(source) as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            made.update(chunk)
            writer.write(chunk)
    return made.hexdigest()


def _digest(path: Path) -> str:
    made = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            made.update(chunk)
    return made.hexdigest()


def _remove_left_over(folder: Path, prefix: str) -> None:
    """Remove what back-ups that were killed left a day ago or longer; a younger one may be under way."""
    with suppress(OSError):
        for path in folder.glob(f"{prefix}*"):
            if now().timestamp() - path.lstat().st_mtime > _DAY_SECONDS:
                shutil.rmtree(path)
