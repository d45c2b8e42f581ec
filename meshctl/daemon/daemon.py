"""The daemon: its lock, its services, its turns, reload and stop.

Each turn does everything that is due: the outbox, then the client's folders. The next turn comes with an
event, when a waiting file is due, or at the rescan; no turn relies on an event having come. A session
of turns ends with a stop, a reload, or a ledger that has to be opened again.
"""

import contextlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from functools import partial

from meshctl import __version__
from meshctl.daemon.alert_test import AlertTests, daemon_of
from meshctl.daemon.alerts import Alerts
from meshctl.daemon.clock_guard import ClockGuard
from meshctl.daemon.lock import AlreadyRunningError
from meshctl.daemon.mailbox_lock import Locks
from meshctl.daemon.metrics import Metrics
from meshctl.daemon.obstacles import ObstacleNote, read_obstacles
from meshctl.daemon.problems import folders_of, problem_of
from meshctl.daemon.reloading import answer_reload, forget_answer
from meshctl.daemon.retry import RetriedParts
from meshctl.daemon.waiting import FILE_NAME
from meshctl.daemon.wake_ups import Signals
from meshctl.daemon.watcher import Watcher
from meshctl.errors import ConfigError, MeshctlError
from meshctl.files.durable import make_folder
from meshctl.files.owner import ForeignFolderError, claim, new_id_advice
from meshctl.inbound.pipeline import InboundPipeline
from meshctl.journal.events import Journal
from meshctl.journal.log_file import configure_log
from meshctl.ledger import reads
from meshctl.ledger.database import Ailment, LedgerFormatError, ailment_of
from meshctl.ledger.services import Services, keep_clock, keep_keys, open_services
from meshctl.outbound.outbox import NextTurn
from meshctl.outbound.pipeline import OutboundPipeline
from meshctl.outbound.recover import complete_ledger
from meshctl.platform import system
from meshctl.platform.systemd import ServiceManager
from meshctl.settings.model import Settings

_LAST_ALERTS_SECONDS = 3.0
# Nobody waits for a run that ends by itself, and no later turn would send what is left.
_ALERTS_OF_ONE_RUN_SECONDS = 300.0
# Only a person can resolve these, and the daemon must not go on meanwhile.
_ENDING = (AlreadyRunningError, LedgerFormatError, ForeignFolderError)
_RELOAD_ADVICE = "Correct the settings, and reload again: meshctl reload, or systemctl reload."
_AT_ONCE_SECONDS = 0.0
# The copying of a large message wakes the loop when it is done; this is for when it does not.
_COPY_SECONDS = 1.0


class End(Enum):
    """Why a session of turns ended."""

    STOP = auto()
    RELOAD = auto()
    LEDGER_GONE = auto()
    """The file of the ledger or of the lock was removed or replaced."""
    LEDGER_STALE = auto()
    """The ledger has to be opened again to be usable."""
    LEDGER_DAMAGED = auto()
    """The ledger is no longer a whole database."""


_ENDS = {Ailment.STALE: End.LEDGER_STALE, Ailment.DAMAGED: End.LEDGER_DAMAGED}


class Session:
    """The work on one mailbox under one set of settings, for as long as `locks` are held."""

    def __init__(
        self,
        settings: Settings,
        services: Services,
        guard: ClockGuard,
        locks: Locks,
        parts: RetriedParts,
        signals: Signals,
        manager: ServiceManager,
    ) -> None:
        self._settings = settings
        self._locks = locks
        self._parts = parts
        self._services = services
        self._guard = guard
        self._signals = signals
        self._manager = manager
        self._backlog = False
        self._watcher = Watcher(signals.wake) if settings.staging.watch == "events" else None
        self._watch_problem: str | None = None
        self._outbound_pipeline = OutboundPipeline(
            settings, services, self._should_stop, self._on_backlog, signals.wake
        )
        self._inbound_pipeline = InboundPipeline(settings, services, self._should_stop)
        self._outbound_part, self._inbound_part = parts.outbound, parts.inbound
        self._clock_is_kept = True

    @property
    def connection(self) -> sqlite3.Connection:
        """Return the ledger's connection."""
        return self._services.ledger.connection

    def turn(self) -> float:
        """Do what is due; return how many seconds later the next turn is due if no event comes before."""
        self._notice_clock()
        # Mailbox's folder and outbox may have come, or gone and come back, since the last turn.
        self._locks.hold_folders()
        self._locks.note()
        self._backlog = False
        arrivals = self.watch()
        next_turn = self._outbound_part.run(lambda: self._send(arrivals))
        inbound = self._inbound_part.run(self._inbound_pipeline.work)
        if self._backlog or (inbound is not None and inbound.busy):
            return _AT_ONCE_SECONDS
        waits = [
            self._settings.staging.rescan_seconds,
            next_turn.seconds if next_turn else None,
            inbound.next_look_seconds if inbound else None,
            self._outbound_part.pause_seconds,
            self._inbound_part.pause_seconds,
        ]
        return min(wait for wait in waits if wait is not None)

    def run_once(self) -> None:
        """Do all that can be done now, waiting out `quiet_seconds` for files just written.

        Raises MeshctlError when a folder, the disk or the ledger blocks the work, or would block a letter.
        """
        self._work_off()
        if obstacles := self._parts.obstacles():
            raise MeshctlError(" ".join(map(str, obstacles)))

    def _work_off(self) -> None:
        clock = self._services.clock
        quiet = self._settings.staging.quiet_seconds
        give_up_at: float | None = None
        following = math.inf
        while True:
            # It reads its settings once.
            self._signals.reload_requested = False
            self._backlog = False
            next_turn = self._outbound_part.run(self._send)
            inbound = self._inbound_part.run(self._inbound_pipeline.work)
            if next_turn is None or inbound is None or self._signals.stop_requested:
                return
            if self._backlog or inbound.busy:
                continue
            if next_turn.copying:
                self._signals.wait(_COPY_SECONDS)
                continue
            if give_up_at is None or 0 < next_turn.following < following:
                # Fewer than ever wait for another letter; a file that is changed all the time moves no limit.
                following = next_turn.following or math.inf
                give_up_at = clock.monotonic() + 2 * quiet + 0.5
            if not next_turn.being_written or clock.monotonic() > give_up_at:
                return
            self._signals.wait(min(next_turn.seconds or quiet, quiet))

    def watch(self) -> set[str]:
        """Watch the folders that exist, and return what was renamed into place in them."""
        if self._watcher is None:
            return set()
        mailbox = self._settings.mailbox
        folders: list[str] = []
        # While a part is blocked, events would only cost scans.
        if self._inbound_part.obstacle is None:
            followed = (mailbox.in_folder, mailbox.sent_folder, mailbox.failed_folder)
            folders += [str(folder) for folder in followed]
        if self._outbound_part.obstacle is None:
            try:
                folders += self._outbound_pipeline.outbox.paths()
            except OSError:
                folders.append(self._outbound_pipeline.outbox.path)
        problem = self._watcher.watch(folders)
        self._log_watch(None if problem is None else os.strerror(problem.errno or 0))
        return self._watcher.arrivals()

    def ledger_end(self) -> End | None:
        """Return why the ledger has to be opened again, None if it need not be."""
        if self._has_lost_ledger_or_lock():
            return End.LEDGER_GONE
        with contextlib.suppress(OSError):
            keep_keys(self._settings.state.folder, self._services)
        ends = {_ENDS.get(ailment) for error in self._parts.errors() if (ailment := ailment_of(error))}
        return next((end for end in (End.LEDGER_DAMAGED, End.LEDGER_STALE) if end in ends), None)

    def status(self) -> str:
        """Return for `systemctl status` how many messages there are, by state."""
        try:
            counts, overdue = reads.counts_by_state(self.connection), reads.count_overdue(self.connection)
        except sqlite3.Error:
            return "At work; the ledger cannot be read."
        shown = [f"{count} {state.value}" for state, count in counts.items() if count]
        return f"At work. Messages: {', '.join(shown) or 'none yet'}; {overdue} overdue."

    def close(self) -> None:
        """Stop watching and copying, and close the ledger."""
        self._outbound_pipeline.close()
        if self._watcher is not None:
            self._watcher.close()
        with contextlib.suppress(sqlite3.Error):
            self._services.ledger.close()

    def _send(self, arrivals: Collection[str] = ()) -> NextTurn:
        self._guard.check()
        if not self._clock_is_kept:
            keep_clock(self._services)
            self._clock_is_kept = True
        written = self._watcher.being_written() if self._watcher is not None else ()
        return self._outbound_pipeline.work(arrivals, written)

    def _should_stop(self) -> bool:
        # Asked between batches, which shows systemd that a long turn does not hang.
        self._manager.alive()
        self._locks.note()
        # A reload is answered after the batch in hand, not after the backlog.
        is_asked = self._signals.stop_requested or self._signals.reload_requested
        return is_asked or self._has_lost_ledger_or_lock()

    def _on_backlog(self) -> None:
        """Pause the watches while there is more to do than events could add."""
        self._backlog = True
        if self._watcher is not None:
            self._watcher.pause()

    def _has_lost_ledger_or_lock(self) -> bool:
        """True if the ledger or the lock was removed or replaced."""
        return not (self._services.ledger.is_in_place() and self._locks.has_state())

    def _notice_clock(self) -> None:
        jump = self._services.clock.notice_jump()
        if jump is not None:
            self._services.journal.warning("daemon.clock_jumped", seconds=round(jump))
            self._clock_is_kept = False

    def _log_watch(self, problem: str | None) -> None:
        journal = self._services.journal
        if problem is not None and problem != self._watch_problem:
            journal.warning(
                "daemon.watch_lost",
                text=problem,
                advice="Files are still found every rescan_seconds. Raise fs.inotify.max_user_watches or "
                'max_user_instances, or set watch = "poll".',
            )
        elif problem is None and self._watch_problem is not None:
            journal.info("daemon.watch_restored")
        self._watch_problem = problem


class Daemon:
    """Works on one mailbox until it has to stop. `load` reads the settings again.

    `clock_is_right` if a person says so, whatever the ledger's newest message is.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        journal: Journal,
        signals: Signals,
        manager: ServiceManager,
        *,
        clock_is_right: bool = False,
    ) -> None:
        self._settings = settings
        self._clock_is_right = clock_is_right
        self._load = load
        self._alerts = Alerts(settings, journal)
        self._journal = journal.with_alerts(self._alerts)
        self._signals = signals
        self._manager = manager
        self._parts = RetriedParts(settings, self._journal)
        self._metrics = Metrics(settings, journal, self._alerts)
        self._note = ObstacleNote(settings.state.folder)
        self._locks = Locks(settings, self._journal)
        self._tests = AlertTests(daemon_of(settings), self._journal)

    def run(self) -> None:
        """Work until SIGTERM.

        Raises AlreadyRunningError, LedgerFormatError, ForeignFolderError; MeshctlError at the start only, if
        the state folder cannot be used. Retries on any other error.
        """
        with self._alone() as locks:
            forget_answer(self._settings.state.folder)
            self._manager.ready()
            with contextlib.suppress(PermissionError):
                self._parts.go_on_from(read_obstacles(self._settings.state.folder))
            self._parts.look()
            if self._parts.obstacles():
                self._answer_who_asks(None)
            session, end = self._begin_patiently(locks), End.STOP
            if session is not None:
                # Whoever reads this line and drops a file must find its folder watched.
                session.watch()
            self._journal.info("daemon.started", version=__version__, mailbox=self._settings.mailbox.id)
            try:
                while session is not None:
                    end = self._work(session)
                    session = None if end is End.STOP else self._begin_patiently(locks, after=end)
            finally:
                self._alerts.close(_LAST_ALERTS_SECONDS)
            self._journal.info("daemon.stopped")

    def run_once(self) -> None:
        """Do all that can be done now. Raises MeshctlError when something blocks the work."""
        with self._alone() as locks:
            try:
                self._work_once(locks, after=None)
            except (MeshctlError, sqlite3.Error) as error:
                errors = [error, *self._parts.errors()]
                if Ailment.DAMAGED not in map(ailment_of, errors):
                    raise
                self._parts = RetriedParts(self._settings, self._journal)
                self._work_once(locks, after=End.LEDGER_DAMAGED)
            finally:
                self._alerts.close(_ALERTS_OF_ONE_RUN_SECONDS)

    def _work(self, session: Session) -> End:
        """Do the turns of a session until the services have to be opened again; close them."""
        try:
            end = self._turns(session)
            while end is End.RELOAD and not self._reload():
                end = self._turns(session)
            if end is End.STOP:
                self._manager.stopping()
                self._journal.info("daemon.stopping", asked_by=self._signals.asked_by)
        finally:
            self._close(session)
        if end is End.LEDGER_GONE:
            folder = str(self._settings.state.folder)
            self._journal.tell(
                "daemon.ledger_gone",
                {"folder": folder},
                folder=folder,
                text="The ledger or its lock was removed or replaced while the daemon ran.",
                advice="Find out who changes that folder, which is the daemon's alone. A ledger that is gone"
                " is rebuilt from the other folders; put the newest back-up back if there is one.",
            )
        return end

    def _turns(self, session: Session) -> End:
        while True:
            pause_seconds = session.turn()
            self._answer_who_asks(session)
            if self._signals.stop_requested:
                return End.STOP
            if self._signals.reload_requested:
                return End.RELOAD
            end = session.ledger_end()
            if end is not None:
                return end
            self._signals.wait(min(pause_seconds, self._manager.longest_wait_seconds))

    def _answer_who_asks(self, session: Session | None) -> None:
        """Publish the state of the work, what blocks it, and whether alerts arrive."""
        self._locks.note()
        self._parts.look()
        obstacles = self._parts.obstacles()
        self._metrics.turned(None if session is None else session.connection, self._parts)
        self._note.keep([*obstacles, *self._metrics.obstacles()])
        self._tests.answer(self._settings)
        counts = (lambda: "") if session is None else session.status
        self._manager.turned([each.text for each in obstacles], counts)

    def _work_once(self, locks: Locks, after: End | None) -> None:
        self._parts.look()
        try:
            session = self._parts.ledger.do(partial(self._begin, locks, after))
            try:
                session.run_once()
            finally:
                self._close(session)
        finally:
            self._note.keep([*self._parts.obstacles(), *self._metrics.obstacles()])

    def _close(self, session: Session) -> None:
        self._metrics.turned(session.connection, self._parts, at_once=True)
        session.close()

    def _begin_patiently(self, locks: Locks, after: End | None = None) -> Session | None:
        """Begin a session as soon as the services can be opened; return None if a stop comes first."""
        attempts = self._parts.ledger
        while not self._signals.stop_requested:
            session = attempts.run(partial(self._begin, locks, after))
            if session is not None:
                return session
            if isinstance(attempts.error, _ENDING):
                raise attempts.error
            if attempts.error is not None and ailment_of(attempts.error) is Ailment.DAMAGED:
                after = End.LEDGER_DAMAGED
            self._answer_who_asks(None)
            if self._signals.reload_requested and self._reload():
                attempts = self._parts.ledger
            self._signals.wait(min(attempts.pause_seconds or 0.0, self._manager.longest_wait_seconds))
        return None

    def _begin(self, locks: Locks, after: End | None) -> Session:
        """Open the services and begin a session; `after` is why the one before ended.

        Raises AlreadyRunningError, ForeignFolderError, LedgerError, OSError, sqlite3.Error.
        """
        folder = self._settings.state.folder
        # Not its parents: a share that is away must not be made on the disk below.
        make_folder(folder, 0o700)
        locks.hold()
        _claim_folders(self._settings)
        mailbox_id, is_suspect = self._settings.mailbox.id, after is End.LEDGER_DAMAGED
        services = open_services(folder, mailbox_id, self._journal, suspect=is_suspect)
        try:
            guard = ClockGuard(services, clock_is_right=self._clock_is_right)
            # A ledger that was restored from a back-up lacks what was sent since.
            complete_ledger(self._settings, services)
            # That has made the folders that were missing.
            _claim_folders(self._settings)
            self._parts.forget_errors()
            return Session(self._settings, services, guard, locks, self._parts, self._signals, self._manager)
        except BaseException:
            services.ledger.close()
            raise

    def _reload(self) -> bool:
        """Read the settings again, and answer who asked; return False if the old ones stay in force."""
        self._signals.reload_requested = False
        began_clock, fault = time.monotonic(), None
        self._manager.reloading()
        try:
            settings = self._load()
            _check_unchanged(self._settings, settings)
            _claim_folders(settings)
            self._locks.change_to(settings)
        except (ConfigError, AlreadyRunningError) as error:
            fault = str(error)
            self._metrics.note_reload_failed()
            self._journal.tell("daemon.reload_failed", {}, text=fault, advice=_RELOAD_ADVICE)
        else:
            self._put_in_force(settings)
        finally:
            self._manager.reloaded()
        answer_reload(self._settings.state.folder, os.getpid(), began_clock, fault)
        return fault is None

    def _put_in_force(self, settings: Settings) -> None:
        self._metrics.retire(settings)
        self._metrics = Metrics(settings, self._journal, self._alerts)
        self._settings = settings
        self._parts.renew(settings)
        self._alerts.renew(settings, _LAST_ALERTS_SECONDS)
        configure_log(settings.log)
        self._journal.info("daemon.reloaded")

    @contextmanager
    def _alone(self) -> Iterator[Locks]:
        folder = self._settings.state.folder
        with self._locks as locks:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                make_folder(folder, 0o700)
                locks.hold()
            except OSError as error:
                raise MeshctlError(str(problem_of(error, folders_of(self._settings)))) from None
            self._alerts.open(folder / FILE_NAME)
            if threading.current_thread() is threading.main_thread():
                system.ignore_lease_breaks()
            with self._signals.listen(folder):
                yield locks


def _claim_folders(settings: Settings) -> None:
    """Mark our own folders that are nobody's. Raises ForeignFolderError if one is another mailbox's."""
    for own in settings.own_folders:
        claim(own, settings.mailbox.id)


def _check_unchanged(old: Settings, new: Settings) -> None:
    if old.mailbox.id != new.mailbox.id:
        raise ConfigError(
            "mailbox.id cannot change while the daemon runs, nor with the folders of the old one."
            f" {new_id_advice(old.mailbox.id)}"
        )
    if old.state.folder != new.state.folder:
        raise ConfigError("state.folder cannot change while the daemon runs: restart it instead.")
