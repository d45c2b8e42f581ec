"""The ledger, its key and its lock: who works on the mailbox, and whether what it knows can be read."""

from collections.abc import Iterator
from contextlib import suppress

from meshctl.check.finding import Finding, error, remark, right, warning
from meshctl.check.surroundings import Surroundings
from meshctl.check.system import SCHEDULER, START_DAEMON
from meshctl.daemon.lock import holder_of, is_running
from meshctl.errors import MeshctlError
from meshctl.files.owner import ForeignFolderError, owner_of
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

_OUR_USER_ADVICE = "Run meshctl check as the user that the daemon runs as."


def check_daemon(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether a daemon holds the lock."""
    state = surroundings.settings.state.folder
    try:
        running = is_running(state)
    except OSError as problem:
        yield warning(
            "daemon",
            f"It is not known whether a daemon runs: the lock in {state} cannot be opened"
            f" ({problem.strerror}).",
            _OUR_USER_ADVICE,
        )
        return
    if running:
        yield right("daemon", f"The daemon runs: {holder_of(state)}.")
    else:
        yield remark(
            "daemon",
            "No daemon runs, so nothing is sent at present.",
            f"Start it: {START_DAEMON}, or meshctl run. Right as it is if {SCHEDULER} calls"
            " meshctl run --once.",
        )


def check_ledger(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether the ledger is there, whole, and of the format that this meshctl knows."""
    state = surroundings.settings.state.folder
    path = state / LEDGER_NAME
    try:
        is_there = exists(state)
    except OSError as problem:
        yield error("ledger", f"The ledger {path} cannot be looked at: {problem.strerror}.", _OUR_USER_ADVICE)
        return
    if not is_there:
        yield remark(
            "ledger",
            f"There is no ledger at {path} yet.",
            "Nothing need be done before the first start. Later: stop the daemon and restore the state folder"
            " from a back-up; without one the daemon rebuilds what the folders prove.",
        )
        return
    try:
        with snapshot(state) as connection:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            count = int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])
    except LedgerFormatError as problem:
        yield error("ledger", *_halves(problem))
    except LedgerDamagedError as problem:
        yield _damaged(str(problem))
    except LedgerError as problem:
        text = str(problem)
        if "malformed" in text or "not a database" in text:
            yield _damaged(text)
        else:
            yield error(
                "ledger",
                text,
                f"{_OUR_USER_ADVICE} Look whether the disk is full.",
            )
    else:
        if verdict == "ok":
            yield right("ledger", f"The ledger is whole, of format {LEDGER_FORMAT}, with {count} messages.")
        else:
            yield _damaged(f"The ledger at {path} is damaged.")


def check_owners(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether ledger and folders are this mailbox's, and not put here from another's back-up."""
    settings = surroundings.settings
    owners = {folder: owner_of(folder) for folder in (*settings.own_folders, settings.bridge.work)}
    with suppress(LedgerError), snapshot(settings.state.folder) as connection:
        owners[settings.state.folder] = fact(connection, MAILBOX_FACT)
    for folder, owner in owners.items():
        if owner not in (None, settings.mailbox.id):
            yield error("owner", *_halves(ForeignFolderError(str(folder), str(owner), settings.mailbox.id)))


def check_key(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether the key is there and is the one that the ledger was written with."""
    state = surroundings.settings.state.folder
    advice = f"Stop the daemon and restore {state / KEY_NAME} from a back-up; without it earlier messages can"
    advice += " neither be found by NHS number nor matched with acknowledgements."
    try:
        known = _known_fingerprint(surroundings)
        keys = read_keys(state / KEY_NAME)
    except KeyMissingError as problem:
        if (state / KEY_NAME).exists():
            yield error("key", str(problem).split(". ", maxsplit=1)[0] + ".", advice)
        elif (state / LEDGER_NAME).exists():
            yield error("key", f"The key {state / KEY_NAME} is missing, though there is a ledger.", advice)
        else:
            yield remark("key", f"There is no key at {state / KEY_NAME} yet.", "The first start makes it.")
    except OSError as problem:
        yield error(
            "key",
            f"The key {state / KEY_NAME} cannot be read: {problem.strerror}.",
            f"{_OUR_USER_ADVICE} If it does, give it the file: chown.",
        )
    else:
        if known is not None and known != keys.fingerprint:
            yield error("key", "The key is not the one that the ledger was written with.", advice)
        else:
            yield right("key", "The key is there and fits the ledger.")


def _known_fingerprint(surroundings: Surroundings) -> str | None:
    try:
        with snapshot(surroundings.settings.state.folder) as connection:
            return fact(connection, FIRST_KEY_FACT) or fact(connection, KEY_FINGERPRINT_FACT)
    except (LedgerError, OSError):
        return None


def _damaged(text: str) -> Finding:
    return error(
        "ledger",
        text,
        "Stop the daemon and restore the state folder from a back-up; without one the daemon sets the ledger"
        " aside when it starts, and rebuilds what the folders prove.",
    )


def _halves(problem: MeshctlError) -> tuple[str, str]:
    """Part an error's text into what is wrong and what to do."""
    text, _, advice = str(problem).partition(". ")
    return f"{text}.", advice
