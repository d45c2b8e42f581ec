"""What a command does by itself where no daemon works, and what it asks of the daemon that does.

Only the holder of the lock moves letters and writes the ledger. A command that has asked for something either
gets the lock, and does what the daemon would have done, or waits for the daemon to do it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from meshctl.daemon.lock import AlreadyRunningError, InstanceLock
from meshctl.files import durable
from meshctl.files.owner import claim
from meshctl.journal.log_file import configure_log
from meshctl.ledger import reads
from meshctl.ledger.services import Services, keys_of, open_services
from meshctl.platform import system
from meshctl.settings.model import Settings

WAIT_SECONDS: Final = 30.0
"""How long a command waits for the daemon, which looks at everything twice in that time by default."""

_LOOK_SECONDS: Final = 0.05
_WAKE_EVERY_SECONDS: Final = 1.0
_WAKE_MODE = 0o600


@contextmanager
def standing_in(settings: Settings) -> Iterator[Services | None]:
    """Hold the lock, and open what a daemon writes with, while the block lasts; None where a daemon works.

    Raises ForeignFolderError, KeyMissingError, LedgerError, OSError.
    """
    folder = settings.state.folder
    lock = InstanceLock(folder)
    try:
        lock.hold()
    except AlreadyRunningError:
        yield None
        return
    try:
        for own in settings.own_folders:
            claim(own, settings.mailbox.id)
        _check_key(folder)
        services = open_services(folder, settings.mailbox.id, configure_log(settings.log))
        try:
            yield services
        finally:
            services.ledger.close()
    finally:
        lock.release()


def _check_key(state_folder: Path) -> None:
    """Raise KeyMissingError if there is a ledger without its key: no command makes another one."""
    if reads.exists(state_folder):
        with reads.snapshot(state_folder) as connection:
            keys_of(connection, state_folder)


def wait_for_daemon(settings: Settings, is_done: Callable[[], bool]) -> bool:
    """Wake the daemon until something is done; False if it has not done it in time. Raises OSError."""
    # Scans pass over the name; the events of it wake the daemon.
    wake = settings.staging.outbox / f"{durable.HIDDEN_PREFIX}wake"
    give_up_at = time.monotonic() + WAIT_SECONDS
    wake_at = 0.0
    while not is_done():
        now = time.monotonic()
        if now >= give_up_at:
            return False
        if now >= wake_at:
            _wake(wake)
            wake_at = now + _WAKE_EVERY_SECONDS
        time.sleep(_LOOK_SECONDS)
    return True


def _wake(path: Path) -> None:
    """Write a file where the daemon watches: it looks through all its folders then."""
    with suppress(OSError):
        system.unlink_if_there(path)
        durable.write_new(str(path), b"", _WAKE_MODE)
    with suppress(OSError):
        system.unlink_if_there(path)
