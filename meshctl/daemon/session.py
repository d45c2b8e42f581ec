"""One session of the daemon: from open services to a stop, a reload or a lost ledger.

Each turn looks at everything that is due: the outbox, then the client's folders. Turns follow each other as
events, waiting files and the rescan demand, and no turn relies on an event having come.
"""

import contextlib
import os
import sqlite3
from enum import Enum, auto

from meshctl.daemon.lock import InstanceLock
from meshctl.daemon.metrics import Metrics
from meshctl.daemon.retry import RetriedParts
from meshctl.daemon.wake_ups import Signals
from meshctl.daemon.watcher import Watcher
from meshctl.errors import MeshctlError
from meshctl.inbound.pipeline import InboundPipeline
from meshctl.ledger import reads
from meshctl.ledger.database import Ailment, ailment_of
from meshctl.ledger.services import Services, keep_clock, keep_keys
from meshctl.outbound.outbox import NextTurn
from meshctl.outbound.pipeline import OutboundPipeline
from meshctl.platform.systemd import ServiceManager
from meshctl.settings.model import Settings

_AT_ONCE_SECONDS = 0.0
# The copying of a large message tells when it is done; this is for when that goes unheard.
_COPY_SECONDS = 1.0


class End(Enum):
    """Why a session ended."""

    STOP = auto()
    RELOAD = auto()
    LEDGER_GONE = auto()
    """The ledger's file or the lock's was removed or replaced."""
    LEDGER_STALE = auto()
    """The ledger has to be opened again to be of use."""
    LEDGER_DAMAGED = auto()
    """The ledger is not a whole database any more."""


_ENDS = {Ailment.STALE: End.LEDGER_STALE, Ailment.DAMAGED: End.LEDGER_DAMAGED}


class Session:
    """The work on one mailbox under one set of settings, for as long as `lock` is held."""

    def __init__(
        self,
        settings: Settings,
        services: Services,
        lock: InstanceLock,
        parts: RetriedParts,
        signals: Signals,
        manager: ServiceManager,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._lock = lock
        self._parts = parts
        self._services = services
        self._signals = signals
        self._manager = manager
        self._metrics = metrics
        self._backlog = False
        self._watcher = Watcher(signals.wake) if settings.staging.watch == "events" else None
        self._watch_problem: str | None = None
        self._outgoing = OutboundPipeline(
            settings, self._services, self._should_stop, self._on_backlog, signals.wake
        )
        self._incoming = InboundPipeline(settings, self._services, self._should_stop)
        self._outbound, self._inbound = parts.outbound, parts.inbound
        self._clock_is_kept = True

    def run(self) -> End:
        """Work until told to stop or reload; the service manager hears of every finished turn."""
        while True:
            pause = self._turn()
            self._manager.turned(self._parts.obstacles(), self._standing)
            self._metrics.turned(self._services.ledger.connection, self._parts)
            if self._signals.stop_requested:
                return End.STOP
            if self._signals.reload_requested:
                return End.RELOAD
            end = self._ledger_end()
            if end is not None:
                return end
            self._signals.wait(min(pause, self._manager.longest_wait_seconds))

    def run_once(self) -> None:
        """Do all that can be done now, waiting out `quiet_seconds` for files just written.

        Raises MeshctlError when a folder, the disk or the ledger stood in the way.
        """
        clock = self._services.clock
        quiet = self._settings.staging.quiet_seconds
        give_up_at: float | None = None
        while True:
            self._backlog = False
            next_turn = self._outbound.run(self._outgoing.work)
            inbound = self._inbound.run(self._incoming.work)
            self._report_obstacles()
            if next_turn is None or inbound is None or self._signals.stop_requested:
                return
            if self._backlog or inbound.busy:
                continue
            if next_turn.copying:
                self._signals.wait(_COPY_SECONDS)
                continue
            if give_up_at is None:
                give_up_at = clock.monotonic() + 2 * quiet + 0.5
            if not next_turn.being_written or clock.monotonic() > give_up_at:
                return
            self._signals.wait(min(next_turn.seconds or quiet, quiet))

    def watch(self) -> set[str]:
        """Watch the folders that are there, and return what was renamed into place in them."""
        if self._watcher is None:
            return set()
        mailbox = self._settings.mailbox
        folders: list[str] = []
        # While something is in the way events say nothing that helps, and each would cost a look.
        if self._inbound.obstacle is None:
            followed = (mailbox.in_folder, mailbox.sent_folder, mailbox.failed_folder)
            folders += [str(folder) for folder in followed]
        if self._outbound.obstacle is None:
            try:
                folders += self._outgoing.outbox.paths()
            except OSError:
                folders.append(self._outgoing.outbox.path)
        problem = self._watcher.watch(folders)
        self._log_watch(None if problem is None else os.strerror(problem.errno or 0))
        return self._watcher.arrivals()

    def close(self) -> None:
        """Stop watching and copying, and close the ledger."""
        self._outgoing.close()
        if self._watcher is not None:
            self._watcher.close()
        self._metrics.turned(self._services.ledger.connection, self._parts, at_once=True)
        with contextlib.suppress(sqlite3.Error):
            self._services.ledger.close()

    def _turn(self) -> float:
        """Do what is due; return how long to wait for the next turn when nothing wakes us."""
        self._notice_clock()
        self._backlog = False
        arrivals = self.watch()
        next_turn = self._outbound.run(lambda: self._send(arrivals))
        inbound = self._inbound.run(self._incoming.work)
        if self._backlog:
            return _AT_ONCE_SECONDS
        waits = [
            self._settings.staging.rescan_seconds,
            next_turn.seconds if next_turn else None,
            inbound.next_look_seconds if inbound else None,
            self._outbound.pause_seconds,
            self._inbound.pause_seconds,
        ]
        if inbound is not None and inbound.busy:
            return _AT_ONCE_SECONDS
        return min(wait for wait in waits if wait is not None)

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

    def _on_backlog(self) -> None:
        """Take the watches down while there is more to do than events could say."""
        self._backlog = True
        if self._watcher is not None:
            self._watcher.pause()

    def _should_stop(self) -> bool:
        # Asked between batches, so a turn that takes long on much work is told from one that hangs.
        self._manager.alive()
        return self._signals.stop_requested or self._has_lost_ledger_or_lock()

    def _send(self, arrivals: set[str]) -> NextTurn:
        if not self._clock_is_kept:
            keep_clock(self._services)
            self._clock_is_kept = True
        written = self._watcher.being_written() if self._watcher is not None else ()
        return self._outgoing.work(arrivals, written)

    def _notice_clock(self) -> None:
        jump = self._services.clock.notice_jump()
        if jump is not None:
            self._services.journal.warning("daemon.clock_jumped", seconds=round(jump))
            self._clock_is_kept = False

    def _ledger_end(self) -> End | None:
        """Return why the ledger has to be opened anew, None when it is as it was."""
        if self._has_lost_ledger_or_lock():
            return End.LEDGER_GONE
        with contextlib.suppress(OSError):
            keep_keys(self._settings.state.folder, self._services)
        ends = {_ENDS.get(ailment) for error in self._parts.errors() if (ailment := ailment_of(error))}
        return next((end for end in (End.LEDGER_DAMAGED, End.LEDGER_STALE) if end in ends), None)

    def _has_lost_ledger_or_lock(self) -> bool:
        """True if the ledger or the lock was removed or replaced."""
        return not (self._services.ledger.is_in_place() and self._lock.is_held())

    def _report_obstacles(self) -> None:
        obstacles = self._parts.obstacles()
        if obstacles:
            raise MeshctlError(" ".join(obstacles))

    def _standing(self) -> str:
        """Return in numbers how the messages stand."""
        connection = self._services.ledger.connection
        try:
            counts, overdue = reads.counts_by_state(connection), reads.count_overdue(connection)
        except sqlite3.Error:
            return "At work; the ledger cannot be read."
        told = [f"{count} {state.value}" for state, count in counts.items() if count]
        return f"At work. Messages: {', '.join(told) or 'none yet'}; {overdue} overdue."
