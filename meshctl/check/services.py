"""What the daemon writes with: its lock, ledger, key and clock, then log and metrics."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meshctl.check.finding import Finding, Setup, error, note, ok, warning
from meshctl.check.folders import try_out
from meshctl.check.rights import who_we_are
from meshctl.daemon.clock_guard import CLOCK_ADVICE, CLOCK_BEHIND_FACT, MOST_BEHIND, behind_of
from meshctl.daemon.lock import holder_of, is_running
from meshctl.daemon.obstacles import METRICS_PART, Obstacle, obstacles_of, read_obstacles
from meshctl.errors import MeshctlError
from meshctl.files.owner import ForeignFolderError, owner_of
from meshctl.files.reading import advice_on
from meshctl.ledger.database import (
    LEDGER_FORMAT,
    LEDGER_NAME,
    LedgerDamagedError,
    LedgerError,
    LedgerFormatError,
)
from meshctl.ledger.keys import KEY_NAME, KeyMissingError, read_keys
from meshctl.ledger.reads import exists, fact, snapshot
from meshctl.ledger.records import MAILBOX_FACT
from meshctl.ledger.services import FIRST_KEY_FACT, KEY_FINGERPRINT_FACT
from meshctl.platform import host, shell, system
from meshctl.sizes import span_text

_OUR_USER_ADVICE = "Run meshctl check as the user that the daemon runs as."
_NTP_ADVICE = f"Let the system keep time by NTP: {shell.KEEP_TIME}"
_SANE_YEARS = range(2025, 2100)
_CLOSE = timedelta(seconds=2)
_NEWEST = "SELECT updated_at FROM messages ORDER BY message_id DESC LIMIT 1"


def check_daemon(setup: Setup) -> Iterator[Finding]:
    """Check whether a daemon holds the lock."""
    state = setup.settings.state.folder
    try:
        running = is_running(state)
    except OSError as problem:
        yield warning(
            "daemon",
            f"The lock in {state} cannot be opened ({problem.strerror}), so it is not known whether a daemon"
            " is running.",
            _OUR_USER_ADVICE,
        )
        return
    if running:
        yield ok("daemon", f"The daemon is running: {holder_of(state)}.")
    else:
        yield note(
            "daemon",
            "No daemon is running, so nothing is sent at present.",
            f"Start it: {shell.start_service(setup.option)}, or meshctl run. Nothing to do if"
            f" {shell.SCHEDULER} calls meshctl run --once.",
        )


def check_blocked(setup: Setup) -> Iterator[Finding]:
    """Tell what blocks daemon and bridge, as these see their folders from within unit or container."""
    # The metrics keep no letter: they are a finding of their own.
    obstacles = [each for each in obstacles_of(setup.settings) if each.part != METRICS_PART]
    has_bridge = setup.settings.bridge.environment is not None
    for process in ("daemon", "bridge") if has_bridge else ("daemon",):
        found = [each for each in obstacles if each.process == process]
        for obstacle in found:
            yield _blocked(obstacle, setup.now)
        if not found:
            yield ok(f"{process}.blocked", f"Nothing blocks the {process}, as far as it has looked.")


def _blocked(obstacle: Obstacle, now: datetime) -> Finding:
    process, part = obstacle.process, obstacle.part.removeprefix("bridge.")
    since = span_text(max((now - obstacle.since).total_seconds(), 0.0))
    find, what = (warning, "delayed") if obstacle.is_warning else (error, "blocked")
    log = "meshctl logs --bridge" if process == "bridge" else "meshctl logs"
    return find(
        f"{process}.blocked",
        f"Something has {what} the {process} ({part}) for {since}: {obstacle.text}.",
        obstacle.advice or f"See {log} --level WARNING.",
    )


def check_ledger(setup: Setup) -> Iterator[Finding]:
    """Check that the ledger exists, is undamaged, and is of the format that this meshctl knows."""
    state = setup.settings.state.folder
    path = state / LEDGER_NAME
    mount = system.mount_of(state) if os.path.isdir(state) else None
    if mount is not None and mount.is_network:
        # https://sqlite.org/wal.html: "WAL does not work over a network filesystem."
        yield warning(
            "ledger.network",
            f"The ledger's folder {state} is on a network share ({mount.type}), where SQLite's way to keep a"
            " database whole (its write-ahead log) is not reliable.",
            "Set state.folder to a folder on a disk of this computer; all others may stay on the share.",
        )
    try:
        has_ledger = exists(state)
    except OSError as problem:
        yield error("ledger", f"The ledger {path} cannot be read: {problem.strerror}.", _OUR_USER_ADVICE)
        return
    if not has_ledger:
        yield note(
            "ledger",
            f"There is no ledger at {path} yet.",
            "Before the first start there is nothing to do. Later: stop the daemon and restore the state"
            " folder from a back-up; without one the daemon rebuilds what the folders prove.",
        )
        return
    try:
        with snapshot(state) as connection:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            count = int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])
    except LedgerFormatError as problem:
        yield error("ledger", *_text_and_advice(problem))
    except LedgerError as problem:
        text = str(problem)
        is_damaged = isinstance(problem, LedgerDamagedError)
        if is_damaged or "malformed" in text or "not a database" in text:
            yield _damaged(text)
        else:
            yield error("ledger", text, f"{_OUR_USER_ADVICE} Check whether the disk is full.")
    else:
        if verdict == "ok":
            yield ok(
                "ledger", f"The ledger is undamaged (format {LEDGER_FORMAT}) and holds {count} messages."
            )
        else:
            yield _damaged(f"The ledger at {path} is damaged.")


def check_owners(setup: Setup) -> Iterator[Finding]:
    """Check that ledger and folders belong to this mailbox, and were not restored from another's back-up."""
    settings = setup.settings
    owners = {folder: owner_of(folder) for folder in (*settings.own_folders, settings.bridge_work)}
    with suppress(LedgerError), snapshot(settings.state.folder) as connection:
        owners[settings.state.folder] = fact(connection, MAILBOX_FACT)
    for folder, owner in owners.items():
        if owner not in (None, settings.mailbox.id):
            problem = ForeignFolderError(str(folder), str(owner), settings.mailbox.id)
            yield error("owner", *_text_and_advice(problem))


def check_key(setup: Setup) -> Iterator[Finding]:
    """Check that the key exists and is the one that the ledger was written with."""
    state = setup.settings.state.folder
    path = state / KEY_NAME
    advice = (
        f"Stop the daemon and restore {path} from a back-up; without it earlier messages can be neither"
        " found by NHS number nor matched with acknowledgements."
    )
    fingerprint = setup.from_ledger(_fingerprint)
    try:
        keys = read_keys(path)
    except KeyMissingError as problem:
        if path.exists():
            yield error("key", str(problem).split(". ", maxsplit=1)[0] + ".", advice)
        elif _has_ledger(state):
            yield error("key", f"The key {path} is missing, although there is a ledger.", advice)
        else:
            yield note("key", f"There is no key at {path} yet.", "Nothing to do: the first start creates it.")
    except OSError as problem:
        yield error(
            "key",
            f"The key {path} cannot be read: {problem.strerror}.",
            f"{_OUR_USER_ADVICE} If this is that user, {shell.let_write(path)}",
        )
    else:
        if fingerprint is not None and fingerprint != keys.fingerprint:
            yield error("key", "The key is not the one that the ledger was written with.", advice)
        else:
            yield ok("key", "The key exists and fits the ledger.")


def _has_ledger(state: Path) -> bool:
    try:
        return exists(state)
    except OSError:
        # One that may not be looked at.
        return True


def _fingerprint(connection: sqlite3.Connection) -> str | None:
    return fact(connection, FIRST_KEY_FACT) or fact(connection, KEY_FINGERPRINT_FACT)


def _damaged(text: str) -> Finding:
    return error(
        "ledger",
        text,
        "Stop the daemon and restore the state folder from a back-up; without one the daemon sets the ledger"
        " aside when it starts, and rebuilds what the folders prove.",
    )


def _text_and_advice(problem: MeshctlError) -> tuple[str, str]:
    """Split an error's text into what is wrong and what to do."""
    text, _, advice = str(problem).partition(". ")
    return f"{text}.", advice


def check_clock(setup: Setup) -> Iterator[Finding]:
    """Compare the clock with the ledger and with the file system that files are dropped on.

    Message ids, deadlines and the age of files depend on it.
    """
    now = setup.now
    if now.year not in _SANE_YEARS:
        yield error("clock", f"The clock says {now:%Y-%m-%d}, which cannot be right.", _NTP_ADVICE)
        return
    newest = setup.from_ledger(_newest_record)
    behind = setup.from_ledger(lambda connection: behind_of(fact(connection, CLOCK_BEHIND_FACT)))
    if behind is not None and behind.is_right:
        yield ok(
            "clock",
            f"The clock says {now:%Y-%m-%d %H:%M} UTC, which was confirmed to be right (--clock-is-right).",
        )
    elif newest is not None and newest > now + MOST_BEHIND:
        newest_at = f"{newest:%Y-%m-%d %H:%M} UTC"
        yield error(
            "clock",
            f"The clock says {now:%Y-%m-%d %H:%M} UTC, more than a day before the ledger's newest record, of"
            f" {newest_at}: a daemon that starts now sends nothing.",
            CLOCK_ADVICE,
        )
    elif newest is not None and newest > now + _CLOSE:
        yield warning(
            "clock",
            f"The clock says {now:%Y-%m-%d %H:%M} UTC, but the ledger has a record of {newest:%Y-%m-%d %H:%M}"
            f" UTC, {span_text((newest - now).total_seconds())} later: it was set back.",
            _NTP_ADVICE,
        )
    else:
        yield ok("clock", f"The clock says {now:%Y-%m-%d %H:%M} UTC.")
    outbox = setup.settings.staging.outbox
    try:
        created_at = datetime.fromtimestamp(try_out(outbox).created_at, UTC)
    except OSError:
        # That no file can be created there is a finding of its own.
        return
    apart = abs(created_at - now)
    if apart > _CLOSE:
        yield warning(
            "clock.files",
            f"The clocks of this computer and of the file system of {outbox} are"
            f" {span_text(apart.total_seconds())} apart, so the age of a file there is not certain.",
            f"Let the server of the share and this computer keep the same time. {_NTP_ADVICE}",
        )
    else:
        yield ok("clock.files", f"The file system of {outbox} has the same time.")


def _newest_record(connection: sqlite3.Connection) -> datetime | None:
    row = connection.execute(_NEWEST).fetchone()
    with suppress(ValueError):
        return None if row is None else datetime.fromisoformat(row[0])
    return None


def check_log(setup: Setup) -> Iterator[Finding]:
    """Check that the log can be appended to; nothing is written."""
    file = setup.settings.log.file
    if not os.path.exists(file):
        # Whether it can be created is a finding about its folder.
        return
    if not file.is_file():
        yield error(
            "log", f"{file} (log.file) is not a file.", "Move it away, or name another file in log.file."
        )
        return
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND))
    except OSError as problem:
        of_user = f"{_OUR_USER_ADVICE} If this is that user, {shell.let_write(file)}"
        yield error(
            "log",
            f"{who_we_are()} cannot append to the log {file}: {os.strerror(problem.errno or 0)}.",
            of_user if problem.errno in (errno.EACCES, errno.EPERM) else advice_on(problem),
        )
    else:
        yield ok("log", f"The log {file} can be written.")


def check_metrics(setup: Setup) -> Iterator[Finding]:
    """Check that the metrics file can be written into the collector's folder, if the settings name one."""
    file = setup.settings.metrics.textfile
    if file is None:
        return
    folder = file.parent
    # A unit may keep the folder closed that is open from here.
    for met in read_obstacles(setup.settings.state.folder):
        if met.part == METRICS_PART:
            yield warning("metrics", f"The daemon says: {met.text}.", met.advice or "")
            return
    if os.path.isdir(file):
        yield warning(
            "metrics",
            f"{file} (metrics.textfile) is a folder, so no metrics can be written.",
            "Move it away, or name another file in [metrics] textfile.",
        )
        return
    try:
        try_out(folder)
    except (FileNotFoundError, NotADirectoryError):
        yield warning(
            "metrics",
            f"The folder {folder} (metrics.textfile) does not exist, so no metrics are written.",
            "Install node_exporter, or correct textfile in [metrics]: its folder is the one that"
            " --collector.textfile.directory names.",
        )
    except OSError as problem:
        yield warning(
            "metrics",
            f"No metrics can be written in {folder} (metrics.textfile): {os.strerror(problem.errno or 0)}.",
            f"Let meshctl's user write there: chgrp meshctl {folder} && chmod g+w {folder}; under systemd"
            f" also ReadWritePaths={folder} in the unit."
            if host.HAS_MODES
            else f"Let the service's account write there: {shell.let_in(folder)}",
        )
    else:
        yield ok("metrics", f"The metrics can be written in {folder}.")
