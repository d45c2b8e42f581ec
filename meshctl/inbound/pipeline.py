"""The inbound half of the daemon: all that the MESH Client leaves for us, put together from the settings.

SENT comes before IN, because it teaches the MESH ids by which reports find their messages; FAILED and OUT
come in between, so that the log tells a message's story in order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from meshctl.inbound.archive_reading import ArchiveReading
from meshctl.inbound.client_health import ClientHealth
from meshctl.inbound.control_reader import ControlReader
from meshctl.inbound.date_formats import DateFormats
from meshctl.inbound.deadlines import Deadlines, Retention
from meshctl.inbound.half_pairs import HalfPairs
from meshctl.inbound.in_folder import InFolder
from meshctl.inbound.out_folder import OutFolder
from meshctl.inbound.record import Recorder
from meshctl.inbound.scan import FolderScan
from meshctl.inbound.sent_failed import FAILED, SENT, Kept, SentFailedFolder
from meshctl.inbound.set_aside import UNREADABLE
from meshctl.ledger.services import Services
from meshctl.settings.model import Settings

# Network shares lie about when a folder changed; every so many rescans it is looked through all the same.
_RESCANS_PER_FULL_LOOK: Final = 6
_LEAST_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class InboundWorkLeft:
    """What is left to do: `busy` at once, else after `next_look_seconds` if that is not None."""

    next_look_seconds: float | None
    busy: bool


class InboundPipeline:
    """Follows messages until they have arrived, failed, or a person knows.

    `should_stop` is asked between batches.
    """

    def __init__(self, settings: Settings, services: Services, should_stop: Callable[[], bool]) -> None:
        self._services = services
        self._should_stop = should_stop
        self._has_told_again = False
        self._in_has_new = False
        mailbox, staging = settings.mailbox, settings.staging
        full_look = staging.rescan_seconds * _RESCANS_PER_FULL_LOOK
        reader = ControlReader(services.clock, max(staging.quiet_seconds, _LEAST_PATIENCE_SECONDS))
        self._recorder = Recorder(services, DateFormats(settings.use_cases, services))
        self._in_folder = InFolder(settings, reader, self._recorder, services, full_look)
        self._archived = ArchiveReading(settings, reader, self._recorder, services)

        def kept_pairs(kept: Kept, label: str) -> SentFailedFolder:
            folder_scan = FolderScan(
                label, mailbox, services, full_look, may_be_missing=True, is_open=_is_open
            )
            return SentFailedFolder(
                kept, folder_scan, reader, self._recorder, services, self._in_folder.retry
            )

        self._sent = kept_pairs(SENT, "SENT")
        self._failed = kept_pairs(FAILED, "FAILED")
        self._out = OutFolder(mailbox, self._recorder, services, full_look)
        self._halves = HalfPairs(mailbox, services)
        self._deadlines = Deadlines(settings, self._recorder, services)
        self._client = ClientHealth(settings, services)
        self._retention = Retention(settings.state.keep_days, services)
        self._steps = (
            self._look_into_in,
            self._follow_sent,
            self._follow_failed,
            self._follow_out,
            self._halves.work,
            self._follow_archived,
            self._follow_in,
            self._deadlines.work,
            self._watch_client,
            self._retention.work,
        )

    def work(self) -> InboundWorkLeft:
        """Deal with one batch of each folder and of what is due; return what is left.

        Raises OSError, LedgerError or sqlite3.Error when something keeps it from going on, after having done
        what could be done; the next call takes up where this one stopped.
        """
        if not self._has_told_again:
            self._recorder.log_again(self._deadlines.texts())
            self._has_told_again = True
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
        return self._work_left()

    def _look_into_in(self) -> None:
        self._in_has_new = False
        # Moving files away changes the folder, too: a backlog is worked off before it is looked at again.
        if not self._in_folder.folder_scan.is_busy:
            self._in_has_new = self._in_folder.folder_scan.look()

    def _follow_sent(self) -> None:
        # What came into SENT before something came into IN must be known before that is matched.
        clock = self._services.clock
        began = clock.monotonic()
        self._sent.folder_scan.look(at_once=self._in_has_new)
        if self._in_has_new:
            self._in_folder.folder_scan.change.rest_from(clock.monotonic() - began)
        self._sent.work()

    def _follow_failed(self) -> None:
        self._failed.folder_scan.look()
        self._failed.work()

    def _follow_out(self) -> None:
        if not self._is_behind():
            self._out.work()

    def _follow_archived(self) -> None:
        if not self._is_behind():
            self._archived.work()

    def _follow_in(self) -> None:
        if not self._is_behind():
            self._in_folder.work()

    def _is_behind(self) -> bool:
        """True if SENT or FAILED hold more that is to be dealt with first."""
        return self._sent.folder_scan.is_busy or self._failed.folder_scan.is_busy

    def _watch_client(self) -> None:
        signs = (
            self._sent.folder_scan.take_arrivals(),
            self._failed.folder_scan.take_arrivals(),
            self._in_folder.folder_scan.take_arrivals(),
            self._in_folder.take_polls(),
            self._out.take_left(),
        )
        self._client.work(has_sign=any(signs))

    def _work_left(self) -> InboundWorkLeft:
        folder_scans = (self._sent.folder_scan, self._failed.folder_scan, self._in_folder.folder_scan)
        is_busy = any(
            one.is_busy
            for one in (*folder_scans, self._out, self._archived, self._deadlines, self._retention)
        )
        waits = [folder_scan.next_look_seconds for folder_scan in folder_scans]
        waits += [self._out.change.next_look_seconds, self._deadlines.next_look_seconds]
        return InboundWorkLeft(
            next_look_seconds=min((wait for wait in waits if wait is not None), default=None),
            busy=is_busy,
        )


def _is_open(outcome: str) -> bool:
    """True if a file in SENT or FAILED with this outcome is looked at again after a restart."""
    return outcome == UNREADABLE
