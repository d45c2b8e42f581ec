"""The bridge of one mailbox: a handshake, then send, receive and track until stopped.

Each of the three has a thread and a connection of its own, so that none waits for another's slow answer. Each
works in steps that a kill may end at any point. Nothing else repeats a call to MESH. Only one bridge or
simulator serves a mailbox, and a work folder belongs to one mailbox for good: it is what keeps a message from
going twice.

A stop ends uploads and downloads between two blocks. A thread that still waits for an answer after a few
seconds is left behind, as if it had been killed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread
from typing import NamedTuple

from requests import RequestException
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl import __version__, clock
from meshctl.bridge.answers import BridgeFault, StoppedError, fault_of, problem_of
from meshctl.bridge.client import BridgeClient
from meshctl.bridge.receive import Receiver
from meshctl.bridge.send import PairSender
from meshctl.bridge.tracking import Tracker
from meshctl.clock import Clock
from meshctl.daemon import problems
from meshctl.daemon.alert_test import AlertTests, bridge_of
from meshctl.daemon.alerts import Alerts
from meshctl.daemon.mailbox_lock import serving
from meshctl.daemon.obstacles import Obstacle, ObstacleNote, of_bridge
from meshctl.daemon.reloading import note_settings
from meshctl.daemon.retry import RetriedWork, RetryPolicy
from meshctl.daemon.waiting import FILE_NAME
from meshctl.daemon.wake_ups import Signals
from meshctl.errors import ConfigError, MeshctlError
from meshctl.files.client_folders import ClientFolders
from meshctl.files.durable import make_folder
from meshctl.files.owner import claim
from meshctl.journal.events import Journal
from meshctl.journal.log_file import retry_log
from meshctl.platform import host
from meshctl.platform.systemd import ServiceManager
from meshctl.settings.model import Settings

POLICY = RetryPolicy("bridge", problem_of, longest_pause_seconds=300.0, logs_pause=True)
_HANDSHAKE_EVERY_SECONDS = 86_400.0
_OUT_EVERY_SECONDS = 0.5
_TRACKING_EVERY_SECONDS = 60.0
# Somewhat more than the second that a pair lies in OUT before it is taken.
_PICK_UP_SECONDS = 1.2
_LAST_ALERTS_SECONDS = 1.0
_LAST_STEPS_SECONDS = 3.0
_LOOK_SECONDS = 0.05
_PRIVATE = 0o700
_PRIVATE_FILE = 0o600


class Clients(NamedTuple):
    """The connections of a bridge, one for each thread; the caller closes them."""

    tracking: BridgeClient
    sending: BridgeClient
    receiving: BridgeClient


class BridgePart(NamedTuple):
    """One part of the bridge's work; `step` does one thing and returns whether there was one to do.

    After a step another follows at once; when there was none, `every_seconds` later.
    """

    retried: RetriedWork
    step: Callable[[], bool]
    every_seconds: float

    def turn(self) -> bool:
        """Do a step if it is time for one; return whether there may be another at once."""
        try:
            worked = self.retried.run(self.step)
        except StoppedError:
            return False
        if worked is False:
            self.retried.rest(self.every_seconds)
        return bool(worked)


class Bridge:
    """Serves the mailbox of `settings` over `clients`."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        journal: Journal,
        signals: Signals,
        manager: ServiceManager,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._alerts = Alerts(settings, journal)
        journal = self._journal = journal.with_alerts(self._alerts)
        self._signals = signals
        self._manager = manager
        self._sending: PairSender | None = None
        self._receiving: Receiver | None = None
        self._note = ObstacleNote(settings.bridge_work)
        self._tests = AlertTests(bridge_of(settings), journal)
        self._tracker = Tracker(clients.tracking, settings.state.folder, journal)
        self._ended = Event()
        self._connected = Event()
        for client in clients:
            client.should_stop = self._ended.is_set
        self._handshake = self._part("handshake", self._shake_hands, _HANDSHAKE_EVERY_SECONDS)
        self._out = self._part("sending", self._send, _OUT_EVERY_SECONDS)
        self._in = self._part("receiving", self._receive, settings.bridge.poll.total_seconds())
        self._tracking = self._part("tracking", self._track, _TRACKING_EVERY_SECONDS)
        self._parts = (self._handshake, self._out, self._in, self._tracking)

    def _part(self, name: str, step: Callable[[], bool], every_seconds: float) -> BridgePart:
        return BridgePart(RetriedWork(name, POLICY, Clock(), self._journal), step, every_seconds)

    def run(self) -> None:
        """Work until SIGTERM, SIGINT or SIGHUP.

        Raises MeshctlError if somebody else serves the mailbox, OSError if its folders are missing at the
        start. Retries on any other error.
        """
        with self._alone():
            self._manager.ready()
            threads = self._start(self._go_on)
            while not self._should_stop():
                # Nothing is known before MESH has answered, or is away.
                if self._connected.is_set() or self._handshake.retried.problem is not None:
                    self._tell_obstacles()
                self._tests.answer(self._settings)
                self._break_off()
                self._signals.wait(min(_OUT_EVERY_SECONDS, self._manager.longest_wait_seconds))
            self._manager.stopping()
            self._journal.info("bridge.stopping", asked_by=self._signals.asked_by)
            self._end(threads)
            self._alerts.close(_LAST_ALERTS_SECONDS)

    def run_once(self) -> None:
        """Do all that can be done now. Raises MeshctlError when something stood in the way."""
        with self._alone():
            threads = self._start(self._work_off)
            while any(thread.is_alive() for thread in threads) and not self._should_stop():
                self._break_off()
                self._signals.wait(_LOOK_SECONDS)
            self._end(threads)
            self._tell_obstacles()
            self._alerts.close(_LAST_ALERTS_SECONDS)
        if lines := [
            f"{part.retried.name}: {problem}"
            for part in self._parts
            if (problem := part.retried.problem) is not None
        ]:
            raise MeshctlError("\n".join(lines))

    def _start(self, work: Callable[[Sequence[BridgePart]], None]) -> list[Thread]:
        """Have each connection at work in a thread of its own."""
        shares = ((self._handshake, self._tracking), (self._out,), (self._in,))
        # One that still waits for an answer at the end must not keep the process.
        threads = [
            Thread(target=work, args=(share,), name=share[-1].retried.name, daemon=True) for share in shares
        ]
        for thread in threads:
            thread.start()
        return threads

    def _break_off(self) -> None:
        """End the calls that have waited too long for their answers."""
        for client in self._clients:
            client.waiting.break_off()

    def _end(self, threads: Sequence[Thread]) -> None:
        """End the threads, or leave them behind; a step that was begun is finished if it can be."""
        self._ended.set()
        give_up_at = time.monotonic() + _LAST_STEPS_SECONDS
        for thread in threads:
            thread.join(max(give_up_at - time.monotonic(), 0.0))

    def _go_on(self, parts: Sequence[BridgePart]) -> None:
        """Take turns with the parts of one thread until the end."""
        while not self._ended.is_set():
            # Before that secrets or a certificate may be wrong, and MESH locks out who tries too often.
            able = [part for part in parts if part is self._handshake or self._connected.is_set()]
            if not any(part.turn() for part in able):
                wait_seconds = min([_OUT_EVERY_SECONDS, *(part.retried.wait_seconds for part in able)])
                (self._ended if able else self._connected).wait(wait_seconds)

    def _work_off(self, parts: Sequence[BridgePart]) -> None:
        """Do all that the parts of one thread can do now."""
        if self._handshake in parts:
            self._handshake.turn()
        while not self._connected.wait(_LOOK_SECONDS):
            if self._ended.is_set() or self._handshake.retried.problem is not None:
                return
        self._take_turns(parts)
        if self._out in parts:
            # A pair that was put into OUT just before is too young at first.
            self._ended.wait(_PICK_UP_SECONDS)
            self._out.retried.rest(0)
            self._take_turns(parts)

    def _take_turns(self, parts: Sequence[BridgePart]) -> None:
        while any(part.turn() for part in parts) and not self._ended.is_set():
            pass

    def _should_stop(self) -> bool:
        self._manager.alive()
        # Nothing is read again on SIGHUP: a terminal that has gone away ends the bridge.
        return self._signals.stop_requested or self._signals.reload_requested

    def _tell_obstacles(self) -> None:
        """Publish what blocks the work: to systemd, and in a note for `meshctl status` and `check`."""
        found = [each for part in self._parts for each in part.retried.obstacles()]
        if (error := retry_log()) is not None:
            problem = problems.problem_of(error, [str(self._settings.bridge.log.parent)])
            found.append(Obstacle("log", problem.text, problem.advice, clock.now()))
        self._note.keep(of_bridge(found))
        self._manager.turned([f"{each.part}: {each.text}" for each in found], self._status)

    def _status(self) -> str:
        return f"Serving {self._settings.mailbox.id} over the MESH API."

    def _shake_hands(self) -> bool:
        try:
            self._clients.tracking.handshake()
        except (RequestException, Urllib3Error) as error:
            raise BridgeFault(fault_of(error)) from None
        if not self._connected.is_set():
            self._journal.info("bridge.connected", environment=self._settings.bridge.environment)
        self._connected.set()
        self._note_answer()
        return False

    def _send(self) -> bool:
        if self._sending is None:
            self._sending = self._open_sending()
        return self._sending.step()

    def _receive(self) -> bool:
        if self._receiving is None:
            self._receiving = self._open_receiving()
        worked = self._receiving.step()
        self._note_answer()
        return worked

    def _note_answer(self) -> None:
        """Show the daemon that MESH answers: that the bridge runs shows nothing."""
        with suppress(OSError):
            self._settings.answered_file.touch(_PRIVATE_FILE)

    def _track(self) -> bool:
        return self._tracker.step(clock.now())

    def _folders(self) -> ClientFolders:
        mailbox, bridge = self._settings.mailbox, self._settings.bridge
        return ClientFolders(
            inbox=mailbox.in_folder,
            out=mailbox.out_folder,
            sent=mailbox.sent_folder,
            failed=mailbox.failed_folder,
            work=self._settings.bridge_work,
            save_sent=bridge.save_sent,
            durable=True,
        )

    def _open_sending(self) -> PairSender:
        bridge = self._settings.bridge
        return PairSender(
            client=self._clients.sending,
            folders=self._folders(),
            work=self._settings.bridge_work,
            mailbox_id=self._settings.mailbox.id,
            chunk_bytes=bridge.chunk_bytes,
            journal=self._journal,
            should_stop=self._ended.is_set,
            # No call lasts longer: a message that MESH does not have by then will never arrive.
            settle_seconds=bridge.timeout.total_seconds(),
        )

    def _open_receiving(self) -> Receiver:
        return Receiver(
            client=self._clients.receiving,
            folders=self._folders(),
            inbox=self._settings.mailbox.in_folder,
            work=self._settings.bridge_work,
            journal=self._journal,
            most_bytes=self._settings.bridge.max_download_bytes,
            should_stop=self._ended.is_set,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(serving(self._settings.mailbox, "the bridge"))
                self._claim_work_folder()
                note_settings(self._settings)
            except OSError as error:
                # Its unit may keep the folder closed, which the system's own words do not say.
                problem = problems.problem_of(error, problems.folders_of(self._settings))
                raise MeshctlError(str(problem)) from None
            self._alerts.open(self._settings.bridge_work / FILE_NAME)
            with self._signals.listen():
                mailbox = self._settings.mailbox.id
                self._journal.info("bridge.started", version=__version__, mailbox=mailbox)
                yield
                self._journal.info("bridge.stopped")

    def _claim_work_folder(self) -> None:
        """Make the work folder, for this mailbox. Raises ConfigError if it belongs to another."""
        work, mailbox_id = self._settings.bridge_work, self._settings.mailbox.id
        make_folder(work, _PRIVATE)
        if not host.is_own_folder(work):
            raise ConfigError(
                f"bridge.work: {work} belongs to another user, or is a link. Remove it once its messages are"
                " settled, or run the bridge as its owner."
            )
        claim(work, mailbox_id)
