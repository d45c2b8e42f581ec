"""The bridge at work on one mailbox: a handshake, then sending, receiving and asking after, until a stop.

Each part goes on by steps that a kill may end at any point, and takes turns with the others; what is in the
way of one does not hold up the rest. Calls to MESH are repeated by nobody but the parts, each at its pace.
Only one bridge or stand-in serves a mailbox, and a work folder belongs to one mailbox for good: it is what
keeps a message from going twice.

A stop ends uploads and downloads between two blocks. What waits for an answer of MESH is waited for, no
longer than the settings' timeout.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from requests import RequestException
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl import __version__
from meshctl.bridge.api_errors import BridgeFault, fault_of
from meshctl.bridge.client import BridgeClient
from meshctl.bridge.receive import Receiver
from meshctl.bridge.retry import BlockedAlerts, BridgePart
from meshctl.bridge.send import PairSender
from meshctl.bridge.track import Tracker
from meshctl.clock import Clock
from meshctl.errors import ConfigError, MeshctlError
from meshctl.files.client_folders import ClientFolders
from meshctl.log.events import Journal
from meshctl.process.alerts import Alerts
from meshctl.process.lock import serving
from meshctl.process.systemd import Service
from meshctl.process.wake_ups import Signals
from meshctl.settings.model import Settings

_HANDSHAKE_EVERY_SECONDS = 86_400.0
_OUT_EVERY_SECONDS = 0.5
_TRACKING_EVERY_SECONDS = 60.0
# Somewhat more than the second that a pair lies in OUT before it is taken.
_PICK_UP_SECONDS = 1.2
_LAST_ALERTS_SECONDS = 2.0
_OWNER = "mailbox"
_PRIVATE = 0o700


class Bridge:
    """Serves the mailbox of `settings` over `client`; the caller closes that."""

    def __init__(
        self,
        settings: Settings,
        client: BridgeClient,
        journal: Journal,
        signals: Signals,
        service: Service,
    ) -> None:
        self._settings = settings
        self._client = client
        self._journal = journal
        self._signals = signals
        self._service = service
        self._sending: PairSender | None = None
        self._receiving: Receiver | None = None
        self._tracking = Tracker(client, settings.state.folder, journal)
        self._is_connected = False
        clock = Clock()
        self._alerts = Alerts(settings.alerts, journal)
        self._blocked_alerts = BlockedAlerts(self._alerts, clock)

        def part(name: str, work: Callable[[], bool], every_seconds: float) -> BridgePart:
            return BridgePart(name, work, every_seconds, clock, journal)

        self._handshake = part("handshake", self._shake_hands, _HANDSHAKE_EVERY_SECONDS)
        self._out = part("sending", self._send, _OUT_EVERY_SECONDS)
        poll_seconds = settings.bridge.poll.total_seconds()
        self._parts = (
            self._out,
            part("receiving", self._receive, poll_seconds),
            part("tracking", self._track, _TRACKING_EVERY_SECONDS),
        )

    def run(self) -> None:
        """Work until SIGTERM, SIGINT or SIGHUP.

        Raises MeshctlError if somebody else serves the mailbox, OSError if its folders are not there at the
        start. Whatever else stands in the way is waited for.
        """
        with self._alone():
            while not self._should_stop():
                worked = self._turn()
                self._service.turned(self._obstacles(), self._status)
                self._blocked_alerts.look((self._handshake, *self._parts))
                if not worked:
                    self._signals.wait(self._pause_seconds())
            self._service.stopping()
            self._journal.info("bridge.stopping")
            self._alerts.close(_LAST_ALERTS_SECONDS)

    def run_once(self) -> None:
        """Do all that can be done now. Raises MeshctlError when something stood in the way."""
        with self._alone():
            self._work_off()
            # What somebody has put into OUT just before us would be found too young.
            time.sleep(_PICK_UP_SECONDS)
            self._out.look_again()
            self._work_off()
        if blocked := [part for part in (self._handshake, *self._parts) if part.obstacle is not None]:
            raise MeshctlError("\n".join(f"{part.obstacle}. {part.advice}".rstrip() for part in blocked))

    def _work_off(self) -> None:
        while self._turn() and not self._should_stop():
            pass

    def _turn(self) -> bool:
        """Do one step of each part; return whether there may be more at once."""
        worked = self._handshake.turn()
        if not self._is_connected:
            # Secrets or a certificate may be wrong, and who comes too often is locked out.
            return worked
        # Each has its turn, whatever the one before it did.
        queue = [part.turn() for part in self._parts]
        return any(queue)

    def _should_stop(self) -> bool:
        """True if it is time to end; asked between blocks, so it also says that we live."""
        self._service.alive()
        # Nothing is read again on SIGHUP: a terminal that has gone away ends the bridge.
        return self._signals.stop_requested or self._signals.reload_requested

    def _pause_seconds(self) -> float:
        parts = (self._handshake, *self._parts) if self._is_connected else (self._handshake,)
        longest_seconds = min(_OUT_EVERY_SECONDS, self._service.longest_wait_seconds)
        return min(longest_seconds, *(part.wait_seconds for part in parts))

    def _obstacles(self) -> list[str]:
        found = (part.obstacle for part in (self._handshake, *self._parts))
        return [obstacle for obstacle in found if obstacle is not None]

    def _status(self) -> str:
        return f"Serving {self._settings.mailbox.id} over the MESH API."

    def _shake_hands(self) -> bool:
        try:
            self._client.handshake()
        except (RequestException, Urllib3Error) as error:
            raise BridgeFault(fault_of(error)) from None
        if not self._is_connected:
            self._journal.info("bridge.connected", environment=self._settings.bridge.environment)
        self._is_connected = True
        return False

    def _send(self) -> bool:
        if self._sending is None:
            sending = self._open_sending()
            sending.recover()
            self._sending = sending
        return self._sending.step()

    def _receive(self) -> bool:
        if self._receiving is None:
            receiving = self._open_receiving()
            receiving.recover()
            self._receiving = receiving
        return self._receiving.step()

    def _track(self) -> bool:
        return self._tracking.step(datetime.now(UTC))

    def _folders(self) -> ClientFolders:
        mailbox, bridge = self._settings.mailbox, self._settings.bridge
        return ClientFolders(
            inbox=mailbox.in_folder,
            out=mailbox.out_folder,
            sent=mailbox.sent_folder,
            failed=mailbox.failed_folder,
            work=bridge.work,
            save_sent=bridge.save_sent,
            durable=True,
        )

    def _open_sending(self) -> PairSender:
        bridge = self._settings.bridge
        return PairSender(
            client=self._client,
            folders=self._folders(),
            work=bridge.work,
            mailbox_id=self._settings.mailbox.id,
            chunk_bytes=bridge.chunk_bytes,
            journal=self._journal,
            should_stop=self._should_stop,
            # No call lasts longer, so what MESH has not got by then it will never have.
            settle_seconds=bridge.timeout.total_seconds(),
        )

    def _open_receiving(self) -> Receiver:
        return Receiver(
            client=self._client,
            folders=self._folders(),
            inbox=self._settings.mailbox.in_folder,
            work=self._settings.bridge.work,
            journal=self._journal,
            should_stop=self._should_stop,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with serving(self._settings.mailbox, "the bridge"):
            self._claim_work_folder()
            with self._signals.listen():
                mailbox = self._settings.mailbox.id
                self._journal.info("bridge.started", version=__version__, mailbox=mailbox)
                yield
                self._journal.info("bridge.stopped")

    def _claim_work_folder(self) -> None:
        """Make the work folder, for this mailbox. Raises ConfigError if it is another's."""
        work, mailbox_id = self._settings.bridge.work, self._settings.mailbox.id
        work.mkdir(mode=_PRIVATE, exist_ok=True)
        owner = work / _OWNER
        if not owner.exists():
            owner.write_text(f"{mailbox_id}\n")
        elif (found := owner.read_text().strip()) and found != mailbox_id:
            raise ConfigError(
                f"bridge.work: {work} belongs to the bridge of the mailbox {found}; give {mailbox_id} a"
                " folder of its own."
            )
