"""Open the ledger's SQLite file: format, journal mode, durability, transactions.

The tables (`schema.sql`) and the number of their format commit together. Reading commands open the file
read-only, and neither create nor change it.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum, auto
from importlib import resources
from pathlib import Path

from meshctl.errors import MeshctlError
from meshctl.files.mounts import FREE_SPACE, has_no_room
from meshctl.platform import system

LEDGER_NAME = "ledger.sqlite"
"""The ledger's name in the state folder."""

LEDGER_FORMAT = 9
"""The format of `schema.sql`, to be changed with its tables. Lower ones were never released."""

# How long a locked ledger is waited for. A stop must not take longer than 5 s, and two parts may wait.
_BUSY_SECONDS = 1.5
_CACHE_KIB = 4096
# How long the write-ahead log grows before it is folded into the ledger: 16 MiB.
_LOG_PAGES = 4096
_PRIMARY_CODE = 0xFF


class LedgerError(MeshctlError):
    """The ledger cannot be opened or read."""


class LedgerReadOnlyError(LedgerError):
    """It was opened for reading, and cannot be read without being written to, or may not be written to."""


class LedgerMissingError(LedgerError):
    """There is no ledger yet, or it is just being made."""


class LedgerDamagedError(LedgerError):
    """The file is there but is not a whole SQLite database."""


class LedgerFormatError(LedgerError):
    """The file was written by another version of meshctl, in a format that this one does not know."""


class Ailment(Enum):
    """What an error of SQLite means for the ledger."""

    PASSING = auto()
    """Locked or full: the next attempt may succeed."""
    STALE = auto()
    """The connection is of no more use, the file may be: open it again."""
    DAMAGED = auto()
    """The file is not a whole database, or no longer."""


_AILMENTS = {
    sqlite3.SQLITE_BUSY: Ailment.PASSING,
    sqlite3.SQLITE_LOCKED: Ailment.PASSING,
    sqlite3.SQLITE_FULL: Ailment.PASSING,
    sqlite3.SQLITE_NOMEM: Ailment.PASSING,
    sqlite3.SQLITE_CORRUPT: Ailment.DAMAGED,
    sqlite3.SQLITE_NOTADB: Ailment.DAMAGED,
}


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 where the error is not SQLite's own."""
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY_CODE


def ailment_of(error: Exception) -> Ailment | None:
    """Return what an error means for the ledger, None when it is not about the ledger."""
    if isinstance(error, LedgerDamagedError):
        return Ailment.DAMAGED
    return _AILMENTS.get(primary_code(error), Ailment.STALE) if isinstance(error, sqlite3.Error) else None


def open_for_writing(path: Path, *, suspect: bool = False) -> sqlite3.Connection:
    """Open the ledger, making its tables if it is empty; the caller holds the daemon's lock.

    A `suspect` ledger is read through to its end. Raises LedgerDamagedError, LedgerFormatError, LedgerError.
    """
    with _closed_on_error(path, _uri(path)) as connection:
        # First of all: a ledger of another format is not changed in any way.
        has_tables = _has_tables(connection, path)
        # FULL: a commit that has returned survives a power cut, which the hand-off relies on.
        connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
            f"PRAGMA cache_size = -{_CACHE_KIB}; PRAGMA temp_store = MEMORY;"
            # A page that many messages change is copied into the ledger once for all of them.
            f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}; PRAGMA journal_size_limit = {_LOG_PAGES * 4096};"
        )
        if not has_tables:
            _make_tables(connection)
        if suspect:
            _read_through(connection, path)
        return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open an existing ledger read-only.

    Raises LedgerMissingError, LedgerError when it cannot be read, LedgerDamagedError, LedgerFormatError.
    """
    missing = LedgerMissingError(f"There is no ledger at {path}. It is made when 'meshctl run' first starts.")
    if not path.exists():
        raise missing
    if _cannot_change(path):
        # SQLite would make files beside it.
        return _open_existing(path, "mode=ro&immutable=1", missing)
    try:
        return _open_existing(path, "mode=ro", missing)
    except LedgerReadOnlyError:
        # A writer was killed while it wrote: its log is recovered, for which who may write is needed.
        return _open_existing(path, "mode=rw", missing)


def _cannot_change(path: Path) -> bool:
    """True if a ledger is whole by itself, on a file system that is mounted read-only."""
    log = path.with_name(f"{path.name}-wal")
    with suppress(OSError):
        return system.is_read_only(path.parent) and (not log.exists() or not log.stat().st_size)
    return False


def _open_existing(path: Path, mode: str, missing: LedgerMissingError) -> sqlite3.Connection:
    with _closed_on_error(path, f"{_uri(path)}?{mode}") as connection:
        # Nothing is changed by a reader, however it was opened.
        connection.execute("PRAGMA query_only = ON")
        if not _has_tables(connection, path):
            raise missing
        return connection


def _uri(path: Path) -> str:
    """Return what SQLite calls a file: it takes the server of a share for a part of the path."""
    return re.sub("^file://(?=[^/])", "file:////", path.as_uri())


def renew(connection: sqlite3.Connection) -> bool:
    """Let a snapshot see the ledger as it is now; True if anything was written since it was taken."""
    before = connection.execute("PRAGMA data_version").fetchone()[0]
    connection.execute("ROLLBACK")
    after = connection.execute("PRAGMA data_version").fetchone()[0]
    connection.execute("BEGIN")
    return bool(before != after)


@contextmanager
def _closed_on_error(path: Path, uri: str) -> Iterator[sqlite3.Connection]:
    """Connect, and leave nothing open when that or the block fails: then a daemon can set the file aside.

    Raises LedgerError for an error of SQLite.
    """
    with ExitStack() as on_error:
        try:
            connection = _connect(uri)
            on_error.callback(connection.close)
            yield connection
        except sqlite3.DatabaseError as error:
            raise translated(error, path) from None
        on_error.pop_all()


@contextmanager
def atomic(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Run a block in one transaction; an error rolls it back and is never masked by the clean-up."""
    connection.execute(begin)
    try:
        yield
        # A commit that fails, on a full disk say, leaves the transaction open: the next could not begin.
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


def _has_tables(connection: sqlite3.Connection, path: Path) -> bool:
    """True if the ledger has its tables, False if it is empty. Raises LedgerFormatError."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found not in (0, LEDGER_FORMAT):
        raise LedgerFormatError(
            f"The ledger at {path} has format {found}, and this version of meshctl reads and writes format "
            f"{LEDGER_FORMAT}. Install the version of meshctl that wrote the ledger, or restore a back-up of "
            "the state folder that this version made. To go on without it, stop the daemon and move it away: "
            "a new one is rebuilt from what the folders prove, without file names and repeats."
        )
    return found == LEDGER_FORMAT


def _make_tables(connection: sqlite3.Connection) -> None:
    schema = (resources.files("meshctl.ledger") / "schema.sql").read_text(encoding="utf-8")
    # executescript commits what is open, so the script brings its own transaction.
    connection.executescript(f"BEGIN IMMEDIATE;\n{schema}\nPRAGMA user_version = {LEDGER_FORMAT};\nCOMMIT;")


def _read_through(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        # SQLite's own texts name tables and pages, never values; this one has several lines.
        raise LedgerDamagedError(f"The ledger at {path} is damaged: {' '.join(str(verdict).split())}.")


def translated(error: sqlite3.DatabaseError, path: Path) -> LedgerError:
    """Return an error of SQLite as a LedgerError; as a LedgerDamagedError if the file is damaged."""
    # SQLite's own texts name tables and pages, never values.
    if ailment_of(error) is not Ailment.DAMAGED:
        kind = LedgerReadOnlyError if primary_code(error) == sqlite3.SQLITE_READONLY else LedgerError
        # SQLite says of a full disk that it fails, where it cannot make a file beside the ledger.
        advice = ""
        if os.path.isdir(path.parent) and has_no_room(path.parent):
            advice = f" {FREE_SPACE}"
        elif os.path.isdir(path.parent) and system.is_read_only(path.parent):
            advice = " It is on a file system that is mounted read-only: mount it for writing."
        return kind(f"The ledger at {path} cannot be used: {error}.{advice}")
    return LedgerDamagedError(f"The ledger at {path} is damaged: {error}.")
