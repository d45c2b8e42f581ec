"""Open what every worker of the daemon writes with: ledger, key, clock and journal of a mailbox.

A damaged ledger is set aside, never deleted, and a new one begun; the daemon then rebuilds what the folders
prove. A lost key is replaced: what was hashed with the old one can no longer be found, and that is logged.
"""

import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

from meshctl.clock import Clock
from meshctl.files.durable import make_folder
from meshctl.files.owner import ForeignFolderError
from meshctl.journal.events import Journal
from meshctl.ledger import reads
from meshctl.ledger.database import LEDGER_NAME, LedgerDamagedError, translated
from meshctl.ledger.keys import KEY_NAME, KeyMissingError, Keys, make_keys, read_keys, write_keys
from meshctl.ledger.records import CLOCK_JUMPS_FACT, MAILBOX_FACT
from meshctl.ledger.writes import Ledger

KEY_FINGERPRINT_FACT = "key_fingerprint"
FIRST_KEY_FACT = "first_key_fingerprint"
"""The fact that names the key of the ledger's oldest messages, if another one has come since."""

_DAMAGED_ADVICE = (
    "A new ledger is rebuilt from what the folders prove. Check the disk; put a back-up of the ledger back if"
    " there is one, while the daemon is stopped."
)

# The files of a ledger: SQLite's own, its write-ahead log, the log's index.
_FILE_ENDS = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one mailbox, held by one daemon."""

    ledger: Ledger
    keys: Keys
    clock: Clock
    journal: Journal


def open_services(
    state_folder: Path, mailbox_id: str, journal: Journal, *, suspect: bool = False
) -> Services:
    """Open ledger and key, making what is missing; the caller holds the lock.

    Pages of a `suspect` ledger that nobody has read yet are read, too.
    Raises ForeignFolderError if the ledger is another mailbox's, LedgerError, OSError.
    """
    make_folder(state_folder, 0o700)
    path = state_folder / LEDGER_NAME
    _keep_left_over_log(path, journal)
    suspect = suspect or _was_put_beside_a_log(path)
    try:
        return _open(path, mailbox_id, journal, suspect=suspect)
    except LedgerDamagedError as error:
        kept = _free_name(path)
        # Logged first: once the ledger is set aside, a restart sees no damage that it could log.
        about = {"folder": str(state_folder), "kept_as": kept.name}
        journal.tell("daemon.ledger_damaged", about, **about, text=str(error), advice=_DAMAGED_ADVICE)
        _set_aside(path, kept)
        return _open(path, mailbox_id, journal, suspect=False)


def _open(path: Path, mailbox_id: str, journal: Journal, *, suspect: bool) -> Services:
    _make_private(path)
    ledger = Ledger(path, suspect=suspect)
    try:
        # Before the key, which is not here for another mailbox's ledger.
        _claim(path.parent, ledger, mailbox_id)
        keys = _open_keys(path.with_name(KEY_NAME), ledger, journal)
        clock = Clock(float(ledger.fact(CLOCK_JUMPS_FACT) or 0.0))
        return Services(ledger, keys, clock, journal)
    except sqlite3.DatabaseError as error:
        ledger.close()
        raise translated(error, path) from None
    except BaseException:
        ledger.close()
        raise


def _claim(state_folder: Path, ledger: Ledger, mailbox_id: str) -> None:
    """Write into a ledger whose it is. Raises ForeignFolderError if it is another mailbox's."""
    owner = ledger.fact(MAILBOX_FACT)
    if owner is None:
        ledger.set_fact(MAILBOX_FACT, mailbox_id)
    elif owner != mailbox_id:
        raise ForeignFolderError(f"The ledger in {state_folder}", owner, mailbox_id)


def keep_keys(state_folder: Path, services: Services) -> None:
    """Write the key again if its file was lost while the daemon holds it. Raises OSError."""
    path = state_folder / KEY_NAME
    if not path.exists():
        write_keys(path, services.keys)
        services.journal.tell(
            "daemon.key_restored",
            {"folder": str(state_folder)},
            folder=state_folder,
            text="The key file was gone. It was written again from the running daemon.",
            advice="Find out who removes files from that folder, which is the daemon's alone.",
        )


def keys_of(connection: sqlite3.Connection, state_folder: Path) -> Keys:
    """Return the key that a ledger is written with. Raises KeyMissingError, saying what to do; OSError."""
    path = state_folder / KEY_NAME
    fingerprint = reads.fact(connection, KEY_FINGERPRINT_FACT)
    try:
        keys = read_keys(path)
    except KeyMissingError:
        if fingerprint is None or path.exists():
            raise
        raise KeyMissingError(
            f"The key {path} is missing, and without it no patient can be found. A running daemon writes it"
            " again within a minute. Where none runs, put it back from a back-up before one starts: it would"
            " make another one."
        ) from None
    if fingerprint not in (None, keys.fingerprint):
        raise KeyMissingError(
            f"The key {path} is not the one that the ledger was written with, and finds nobody. Put the right"
            " one back from a back-up."
        )
    return keys


def has_older_key(connection: sqlite3.Connection) -> bool:
    """True if the ledger's oldest messages were written with another key, by which alone they are found."""
    first = reads.fact(connection, FIRST_KEY_FACT)
    return first not in (None, reads.fact(connection, KEY_FINGERPRINT_FACT))


def keep_clock(services: Services) -> None:
    """Keep the sum of the clock's jumps, on which deadlines depend."""
    services.ledger.set_fact(CLOCK_JUMPS_FACT, repr(services.clock.jumps_seconds))


def _open_keys(path: Path, ledger: Ledger, journal: Journal) -> Keys:
    fingerprint = ledger.fact(KEY_FINGERPRINT_FACT)
    try:
        keys = read_keys(path)
    except KeyMissingError:
        keys = make_keys(path)
    if fingerprint == keys.fingerprint:
        return keys
    first = ledger.fact(FIRST_KEY_FACT) or fingerprint
    if fingerprint is not None and first == keys.fingerprint:
        journal.warning(
            "daemon.key_back",
            text="The key is again the one that the ledger was first written with.",
            advice="Nothing to do; what was sent with the other key meanwhile cannot be found by NHS number.",
        )
    elif fingerprint is not None:
        journal.tell(
            "daemon.key_changed",
            {"folder": str(path.parent)},
            folder=path.parent,
            text="The key is not the one that the ledger was written with.",
            advice="Restore state/key from a back-up; until then older messages cannot be found by NHS "
            "number, and acknowledgements of them cannot be matched.",
        )
    ledger.set_fact(FIRST_KEY_FACT, first or keys.fingerprint)
    ledger.set_fact(KEY_FINGERPRINT_FACT, keys.fingerprint)
    return keys


def _make_private(path: Path) -> None:
    """Make the file if it is missing, so that nobody else can read it whatever the umask is."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _keep_left_over_log(path: Path, journal: Journal) -> None:
    """Set a write-ahead log aside whose ledger is gone: SQLite would throw it away."""
    if path.exists() or not _beside(path, "-wal").exists():
        return
    kept = _free_name(path)
    about = {"folder": str(path.parent), "kept_as": _beside(kept, "-wal").name}
    text = f"The ledger at {path} is gone; only its write-ahead log was left."
    journal.tell("daemon.ledger_damaged", about, **about, text=text, advice=_DAMAGED_ADVICE)
    _set_aside(path, kept)


def _was_put_beside_a_log(path: Path) -> bool:
    """True if a ledger may have been put back beside the log of another, which SQLite takes for its own.

    A daemon that is killed leaves a log that is younger than the ledger, except in the midst of a checkpoint.
    """
    log = _beside(path, "-wal")
    if not path.exists() or not log.exists() or log.stat().st_size == 0:
        return False
    status = path.stat()
    # A copy may keep the time of its last change; when it was put here is in the other one, which Windows
    # does not have.
    put_at = status.st_mtime_ns if sys.platform == "win32" else max(status.st_mtime_ns, status.st_ctime_ns)
    return put_at > log.stat().st_mtime_ns


def _free_name(path: Path) -> Path:
    number = 1
    while any(_beside(path, f".damaged-{number}{end}").exists() for end in _FILE_ENDS):
        number += 1
    return _beside(path, f".damaged-{number}")


def _set_aside(path: Path, kept: Path) -> None:
    # The ledger itself goes last: SQLite throws a write-ahead log away that has no ledger beside it.
    for end in reversed(_FILE_ENDS):
        if _beside(path, end).exists():
            _beside(path, end).replace(_beside(kept, end))


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)
