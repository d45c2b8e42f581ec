"""The life of the daemon process: lock, services, sessions, reload, stop."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from meshctl import __version__
from meshctl.clock import Clock
from meshctl.daemon.alerts import Alerts
from meshctl.daemon.lock import AlreadyRunningError, InstanceLock, single_instance
from meshctl.daemon.metrics import Metrics
from meshctl.daemon.retry import RetriedParts
from meshctl.daemon.session import End, Session
from meshctl.daemon.wake_ups import Signals
from meshctl.errors import ConfigError, MeshctlError
from meshctl.files.owner import ForeignFolderError, claim
from meshctl.journal.events import Alert, Journal
from meshctl.journal.log_file import configure_log
from meshctl.ledger.database import Ailment, LedgerFormatError, ailment_of
from meshctl.ledger.services import open_services
from meshctl.outbound.recover import complete
from meshctl.platform import system
from meshctl.platform.systemd import ServiceManager
from meshctl.settings.model import Settings

_LAST_ALERTS_SECONDS = 3.0
# Nothing but a person can mend these, and the daemon must not go on meanwhile.
_ENDING = (AlreadyRunningError, LedgerFormatError, ForeignFolderError)
# Nobody waits for a run that is to end by itself, and no later turn would send what is left.
_ALERTS_OF_ONE_RUN_SECONDS = 300.0


class Daemon:
    """Works on one mailbox until told to stop. `load` reads the settings again."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        journal: Journal,
        signals: Signals,
        manager: ServiceManager,
    ) -> None:
        self._settings = settings
        self._load = load
        self._journal = journal.with_alerts(self._alert)
        self._signals = signals
        self._manager = manager
        self._alerts = Alerts(settings.alerts, journal, settings.bridge.secret_variables)
        self._parts = RetriedParts(settings, self._journal)
        self._metrics = Metrics(settings, journal)

    def run(self) -> None:
        """Work until SIGTERM.

        Raises AlreadyRunningError, LedgerFormatError, ForeignFolderError; OSError at the start only. Whatever
        else stands in the way is waited for.
        """
        with self._alone() as lock:
            session, end = self._begin_patiently(lock), End.STOP
            if session is not None:
                # Who reads this line and drops a file must find us listening.
                session.watch()
            self._journal.info("daemon.started", version=__version__, mailbox=self._settings.mailbox.id)
            try:
                while session is not None:
                    end = self._work(session)
                    session = None if end is End.STOP else self._begin_patiently(lock, after=end)
            finally:
                self._alerts.close(_LAST_ALERTS_SECONDS)
            self._journal.info("daemon.stopped")

    def run_once(self) -> None:
        """Do all that can be done now. Raises MeshctlError when something stood in the way."""
        with self._alone() as lock:
            try:
                self._work_once(lock, after=None)
            except (MeshctlError, sqlite3.Error) as error:
                errors = [error, *self._parts.errors()]
                if Ailment.DAMAGED not in map(ailment_of, errors):
                    raise
                self._parts = RetriedParts(self._settings, self._journal)
                self._work_once(lock, after=End.LEDGER_DAMAGED)
            finally:
                self._alerts.close(_ALERTS_OF_ONE_RUN_SECONDS)

    def _work(self, session: Session) -> End:
        """Run a session until the services have to be opened anew, and close it and them."""
        try:
            end = session.run()
            while end is End.RELOAD and not self._reload():
                end = session.run()
            if end is End.STOP:
                self._manager.stopping()
                self._journal.info("daemon.stopping")
        finally:
            session.close()
        if end is End.LEDGER_GONE:
            self._journal.error(
                "daemon.ledger_gone",
                text="The ledger or its lock was removed or replaced while the daemon ran.",
            )
        return end

    def _work_once(self, lock: InstanceLock, after: End | None) -> None:
        session = self._begin(lock, after)
        try:
            session.run_once()
        finally:
            session.close()

    def _begin_patiently(self, lock: InstanceLock, after: End | None = None) -> Session | None:
        """Begin a session as soon as the services can be opened; None when told to stop before."""
        attempts = self._parts.ledger
        while not self._signals.stop_requested:
            session = attempts.run(partial(self._begin, lock, after))
            if session is not None:
                return session
            if isinstance(attempts.error, _ENDING):
                raise attempts.error
            if attempts.error is not None and ailment_of(attempts.error) is Ailment.DAMAGED:
                after = End.LEDGER_DAMAGED
            self._manager.turned(self._parts.obstacles(), lambda: "")
            self._metrics.turned(None, self._parts)
            if self._signals.reload_requested and self._reload():
                attempts = self._parts.ledger
            self._signals.wait(min(attempts.pause_seconds or 0.0, self._manager.longest_wait_seconds))
        return None

    def _begin(self, lock: InstanceLock, after: End | None) -> Session:
        """Open the services and begin a session; `after` is why the one before ended.

        Raises AlreadyRunningError, ForeignFolderError, LedgerError, OSError, sqlite3.Error.
        """
        folder = self._settings.state.folder
        # Not its parents: a share that is away must not come into being on the disk below.
        folder.mkdir(mode=0o700, exist_ok=True)
        lock.hold()
        self._claim_folders()
        mailbox_id, is_suspect = self._settings.mailbox.id, after is End.LEDGER_DAMAGED
        services = open_services(folder, mailbox_id, self._journal, suspect=is_suspect)
        try:
            # One that was put back from a back-up, now or while nobody ran, may lack what was sent since.
            complete(self._settings, services)
            self._parts.forget_errors()
            return Session(
                self._settings,
                services,
                lock,
                self._parts,
                self._signals,
                self._manager,
                self._metrics,
            )
        except BaseException:
            services.ledger.close()
            raise

    def _claim_folders(self) -> None:
        """Have each folder of ours say whose it is. Raises ForeignFolderError."""
        for folder in self._settings.own_folders:
            claim(folder, self._settings.mailbox.id)

    def _alert(self, alert: Alert) -> None:
        self._metrics.count_alert(alert.event)
        self._alerts.send(alert)

    def _reload(self) -> bool:
        """Read the settings again; False when the old ones stay in force."""
        self._signals.reload_requested = False
        self._manager.reloading()
        try:
            settings = self._load()
            _check_unchanged(self._settings, settings)
        except ConfigError as error:
            self._journal.error("daemon.reload_failed", text=str(error))
            return False
        self._metrics.retire(settings)
        self._metrics = Metrics(settings, self._journal)
        self._settings = settings
        # What was in the way under the old settings need not be under the new ones.
        self._parts = RetriedParts(settings, self._journal)
        self._alerts.close(_LAST_ALERTS_SECONDS)
        self._alerts = Alerts(settings.alerts, self._journal, settings.bridge.secret_variables)
        configure_log(settings.log)
        self._journal.info("daemon.reloaded")
        return True

    @contextmanager
    def _alone(self) -> Iterator[InstanceLock]:
        folder = self._settings.state.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with single_instance(folder, Clock().now()) as lock:
            if threading.current_thread() is threading.main_thread():
                system.ignore_lease_breaks()
            with self._signals.listen(folder):
                yield lock


def _check_unchanged(old: Settings, new: Settings) -> None:
    for key, before, after in (
        ("state.folder", old.state.folder, new.state.folder),
        ("mailbox.id", old.mailbox.id, new.mailbox.id),
    ):
        if before != after:
            raise ConfigError(f"{key} cannot change while the daemon runs: restart it instead.")
