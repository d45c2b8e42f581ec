"""The life of the daemon process: lock, books, sessions, reload, stop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from meshctl import __version__
from meshctl.clock import Clock
from meshctl.daemon.lock import single_instance
from meshctl.daemon.service import Service
from meshctl.daemon.session import End, Session
from meshctl.daemon.signals import Inbox
from meshctl.errors import ConfigError
from meshctl.journal.events import Journal
from meshctl.journal.setup import configure_log
from meshctl.ledger.opening import Opened, open_books
from meshctl.outbound.rebuild import rebuild
from meshctl.outbound.writers import ignore_lease_breaks
from meshctl.settings.model import Settings


class Daemon:
    """Works on one mailbox until told to stop. `load` reads the settings again."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        journal: Journal,
        inbox: Inbox,
        service: Service,
    ) -> None:
        self._settings = settings
        self._load = load
        self._journal = journal
        self._inbox = inbox
        self._service = service

    def run(self) -> None:
        """Work until SIGTERM. Raises AlreadyRunningError, LedgerError, OSError at the start only."""
        with self._alone():
            self._journal.info("daemon.started", version=__version__, mailbox=self._settings.mailbox.id)
            end = End.RELOAD
            while end is not End.STOP:
                end = self._run_session()
            self._journal.info("daemon.stopped")

    def run_once(self) -> None:
        """Do all that can be done now. Raises MeshctlError when something stood in the way."""
        with self._alone(), self._opened() as opened:
            session = Session(self._settings, opened, self._inbox, self._service)
            try:
                session.run_once()
            finally:
                session.close()

    def _run_session(self) -> End:
        with self._opened() as opened:
            session = Session(self._settings, opened, self._inbox, self._service)
            try:
                end = session.run()
                while end is End.RELOAD and not self._reload():
                    end = session.run()
                if end is End.STOP:
                    self._service.stopping()
                    self._journal.info("daemon.stopping")
            finally:
                session.close()
        if end is End.LEDGER_GONE:
            self._journal.error(
                "daemon.ledger_gone", text="The ledger was removed or replaced while the daemon ran."
            )
        return end

    def _reload(self) -> bool:
        """Read the settings again; False when the old ones stay in force."""
        self._inbox.reload_requested = False
        self._service.reloading()
        try:
            settings = self._load()
            _check_unchanged(self._settings, settings)
        except ConfigError as error:
            self._journal.error("daemon.reload_failed", text=str(error))
            return False
        self._settings = settings
        configure_log(settings.log)
        self._journal.info("daemon.reloaded")
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        folder = self._settings.state.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with single_instance(folder, Clock().stamp()):
            if threading.current_thread() is threading.main_thread():
                ignore_lease_breaks()
                self._inbox.listen()
            yield

    @contextmanager
    def _opened(self) -> Iterator[Opened]:
        opened = open_books(self._settings.state.folder, self._journal)
        try:
            if opened.is_new_ledger:
                rebuild(self._settings, opened.books)
            yield opened
        finally:
            opened.books.ledger.close()


def _check_unchanged(old: Settings, new: Settings) -> None:
    for key, before, after in (
        ("state.folder", old.state.folder, new.state.folder),
        ("mailbox.id", old.mailbox.id, new.mailbox.id),
    ):
        if before != after:
            raise ConfigError(f"{key} cannot change while the daemon runs: restart it instead.")
