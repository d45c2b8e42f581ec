"""The inbound part of the daemon: all that the MESH Client leaves for us, put together from the settings.

SENT comes before IN, because it gives the MESH ids by which reports find their messages; FAILED and OUT come
in between, so that the log tells a message's story in order.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meshctl.inbound.archive import Archive, ArchiveReading
from meshctl.inbound.client import ClientHealth
from meshctl.inbound.deadlines import Deadlines, Retention
from meshctl.inbound.folders import ControlReader
from meshctl.inbound.follow import FAILED, SENT, KeptFolder, LoneParts, OutFolder
from meshctl.inbound.in_folder import InFolder
from meshctl.inbound.match import Matcher
from meshctl.inbound.record import Recorder
from meshctl.ledger.services import Services
from meshctl.settings.model import Settings


@dataclass(frozen=True, slots=True)
class InboundNextTurn:
    """When the next turn is due: `busy` at once, else after `next_look_seconds` if that is not None."""

    next_look_seconds: float | None
    busy: bool


class InboundPipeline:
    """Follows messages until they have arrived or failed, or a person was alerted.

    `should_stop` is asked between batches.
    """

    def __init__(self, settings: Settings, services: Services, should_stop: Callable[[], bool]) -> None:
        self._clock = services.clock
        self._should_stop = should_stop
        self._has_announced_again = False
        self._in_has_new = False
        reader = self._reader = ControlReader(settings, services.clock)
        matcher = Matcher(settings, services)
        archive = Archive(settings.reports.archive)
        self._recorder = Recorder(services, settings.use_cases)
        self._in = InFolder(settings, reader, matcher, archive, self._recorder, services)
        self._archived = ArchiveReading(archive, reader, matcher, self._recorder, services)
        self._sent = KeptFolder(SENT, settings, reader, self._recorder, services)
        self._failed = KeptFolder(FAILED, settings, reader, self._recorder, services)
        self._out = OutFolder(settings, self._recorder, services)
        self._deadlines = Deadlines(settings, self._recorder, services)
        self._client = ClientHealth(settings, services)
        self._retention = Retention(settings, services)
        self._scans = (self._sent.scan, self._failed.scan, self._in.scan)
        self._steps = (
            self._look_into_in,
            self._follow_sent,
            self._follow_failed,
            self._unless_behind(self._out.work),
            LoneParts(settings.mailbox, services).work,
            self._unless_behind(self._archived.work),
            self._unless_behind(self._in.work),
            self._deadlines.work,
            self._watch_client,
            self._retention.work,
        )

    def work(self) -> InboundNextTurn:
        """Deal with one batch of each folder and of what is due; return when the next turn is due.

        Raises OSError, LedgerError or sqlite3.Error when something keeps it from going on, after having done
        what could be done; the next call takes up where this one stopped.
        """
        if not self._has_announced_again:
            self._recorder.announce_again(self._deadlines.texts())
            self._has_announced_again = True
        obstacle: OSError | None = None
        for step in self._steps:
            if self._should_stop():
                break
            try:
                step()
            except OSError as error:
                obstacle = obstacle or error
        if obstacle is not None:
            raise obstacle
        return self._next_turn()

    def _look_into_in(self) -> None:
        # Moving files away changes the folder, too: a backlog is worked off before it is looked at again.
        self._in_has_new = False
        if not self._in.scan.is_busy:
            self._in_has_new = self._in.scan.look()

    def _follow_sent(self) -> None:
        # What came into SENT before something came into IN must be recorded before that is matched.
        began = self._clock.monotonic()
        self._sent.scan.look(at_once=self._in_has_new)
        if self._in_has_new:
            self._in.scan.poll.rest_from(self._clock.monotonic() - began)
        self._in.reopen(self._sent.work())

    def _follow_failed(self) -> None:
        self._failed.scan.look()
        self._in.reopen(self._failed.work())

    def _unless_behind(self, step: Callable[[], None]) -> Callable[[], None]:
        """Return a step that waits while SENT or FAILED hold more that is to be dealt with first."""

        def work() -> None:
            if not (self._sent.scan.is_busy or self._failed.scan.is_busy):
                step()

        return work

    def _watch_client(self) -> None:
        came = sum(scan.take_arrivals() for scan in self._scans)
        self._client.work(came=came, left=self._out.take_left(), written_ns=self._reader.take_newest_ns())

    def _next_turn(self) -> InboundNextTurn:
        working = (*self._scans, self._out, self._archived, self._deadlines, self._retention)
        waits = [scan.next_look_seconds for scan in self._scans]
        waits += [self._out.poll.next_look_seconds, self._deadlines.next_look_seconds]
        return InboundNextTurn(
            next_look_seconds=min((wait for wait in waits if wait is not None), default=None),
            busy=any(one.is_busy for one in working),
        )
