"""The outbound half of the daemon: everything between the outbox and OUT, put together from the settings."""

import errno
import os
import sys
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import ParamSpec, TypeVar

from meshctl.errors import ConfigError, Refusal
from meshctl.files import change
from meshctl.files.safe_open import BeingWrittenError, is_being_written
from meshctl.ledger.opening import Books
from meshctl.log.masking import mask_file_name
from meshctl.outbound.claim import Claim, WorkFolder
from meshctl.outbound.examine import Examined, Examiner, Looked, Refused, Sendable
from meshctl.outbound.handoff import HandOff, HandOffDriver
from meshctl.outbound.index import Indexes
from meshctl.outbound.names import NameRules, is_index, is_sidecar
from meshctl.outbound.recover import Recovery
from meshctl.outbound.reject import RejectedFolder, Rejection
from meshctl.outbound.scan import OutboxScan, Ready, WorkLeft
from meshctl.settings.model import Settings

if sys.platform != "win32":
    import grp

# What is waiting goes at once, however little. In a backlog batches grow, so that each wait for the disk
# serves more messages; beyond the largest only latency and memory would grow.
_FIRST_BATCH = 64
_LARGEST_BATCH = 512
_SHARE_OF_A_BATCH = 6
# As many as fit into the processor's caches.
_EXAMINED_AT_ONCE = 64
_COMPARE_EVERY_SECONDS = 60.0
# Errors that say nothing about the file that was being looked at.
_OF_THE_SYSTEM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class OutboundPipeline:
    """Takes what is ready out of the outbox and hands it over.

    `should_stop` is asked between batches, so that a stop never waits for a backlog; `on_backlog` is told
    that there is a whole batch to do, perhaps more.
    """

    def __init__(
        self,
        settings: Settings,
        books: Books,
        should_stop: Callable[[], bool],
        on_backlog: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._books = books
        self._journal = books.journal
        self._should_stop = should_stop
        self._on_backlog = on_backlog
        self._needs_recovery = True
        self._jumps_compared: float | None = None
        self._next_comparison = 0.0
        self._told: set[str] = set()
        self._work = WorkFolder(settings.staging.work)
        self._rejected = RejectedFolder(settings.staging.rejected)
        self._examiner = Examiner(settings)
        self._indexes = Indexes(
            self._work, str(settings.staging.outbox), NameRules(settings.staging), self._rejected, books
        )
        self.staging = OutboxScan(
            settings.staging,
            settings.use_cases.keys(),
            books.clock,
            self._log_waiting,
            self._log_folder,
            self._log_ignored,
        )

    def work(self, arrived: Collection[str] = ()) -> WorkLeft:
        """Finish what was interrupted, then hand over all that is ready; return what is not.

        Raises OSError or LedgerError when it cannot go on; the next call takes up where this one stopped.
        """
        work_left = WorkLeft()
        self.staging.note_arrivals(arrived)
        handoff = self._handoff()
        driver = HandOffDriver(self._work, handoff, self._rejected, self._books, self._log_unreadable)
        if self._needs_recovery:
            self._recover(handoff, driver)
        self._needs_recovery = True
        self._compare_clocks()
        forbidden: PermissionError | None = None
        for folder, use_case in self.staging.folders():
            try:
                self._drain(folder, use_case, driver, work_left)
            except PermissionError as error:
                # One sub-folder with wrong rights keeps nobody from sending by the others.
                if use_case is None or os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                    raise
                forbidden = error
        if forbidden is not None:
            raise forbidden
        self._needs_recovery = driver.left_behind
        self.staging.forget_gone()
        return work_left

    def _compare_clocks(self) -> None:
        clock = self._books.clock
        now, jumps = clock.monotonic(), clock.jumps_seconds
        if jumps != self._jumps_compared or now >= self._next_comparison:
            self.staging.note_file_clock(self._work.file_clock_ns())
            self._jumps_compared, self._next_comparison = jumps, now + _COMPARE_EVERY_SECONDS

    def _drain(
        self,
        folder: str,
        use_case: str | None,
        driver: HandOffDriver,
        work_left: WorkLeft,
    ) -> None:
        ready = self._without_indexes(folder, use_case, driver, work_left)
        try:
            for batch in _batches(ready):
                is_backlog = len(batch) >= _FIRST_BATCH
                if is_backlog:
                    self._on_backlog()
                self._send(folder, use_case, batch, driver, work_left)
                if is_backlog and self._should_stop():
                    return
        except FileNotFoundError:
            # A sub-folder may be removed meanwhile; the outbox itself is missed by folders().
            if use_case is None or os.path.isdir(folder):
                raise
            driver.left_behind = True

    def _without_indexes(
        self, folder: str, use_case: str | None, driver: HandOffDriver, work_left: WorkLeft
    ) -> Iterator[Ready]:
        """Yield what is ready but for indexes, which are turned into sidecars on the way."""
        for ready in self.staging.ready(folder, use_case, work_left):
            if not is_index(ready.name):
                yield ready
            elif any(map(is_being_written, ready.ask)):
                self.staging.note_writing(work_left)
            else:
                self._expand(folder, ready.name, use_case, driver)
                # Its files may have been passed over in this turn already.
                work_left.being_written += 1
                work_left.look_again_in(0.0)

    def _expand(self, folder: str, name: str, use_case: str | None, driver: HandOffDriver) -> None:
        try:
            self.staging.note_arrivals(self._indexes.expand(folder, name, use_case))
        except Refusal as refusal:
            refused = self._examiner.refuse(folder, name, refusal)
            if refused is not None:
                driver.hand_over(folder, use_case, [refused])

    def _send(
        self,
        folder: str,
        use_case: str | None,
        files: list[Ready],
        driver: HandOffDriver,
        work_left: WorkLeft,
    ) -> None:
        outcomes: list[Examined | OSError | None] = []
        for start in range(0, len(files), _EXAMINED_AT_ONCE):
            outcomes += self._examine(folder, use_case, files[start : start + _EXAMINED_AT_ONCE])
        # What goes with another file is not judged by itself.
        attached = {each.name for one in outcomes if isinstance(one, Sendable) for each in one.attachments}
        examined: list[Examined] = []
        for file, outcome in zip(files, outcomes, strict=True):
            if outcome is None or file.name in attached:
                continue
            if isinstance(outcome, OSError):
                self._note_error(f"{folder}/{file.name}", outcome, work_left)
            elif not (
                isinstance(outcome, Refused)
                and outcome.may_wait
                and self.staging.must_wait(folder, outcome, work_left)
            ):
                examined.append(outcome)
        if examined and driver.hand_over(folder, use_case, examined) < len(examined):
            work_left.look_again_in(self._settings.staging.quiet_seconds)

    def _examine(
        self, folder: str, use_case: str | None, files: list[Ready]
    ) -> list[Examined | OSError | None]:
        """Examine files; one that has gone is None, and an error an outcome: it must not keep the others."""
        look, read, judge = self._examiner.look, self._examiner.read, self._examiner.judge
        looked = [_tried(look, folder, one.name, alone=not one.has_sidecar, ask=one.ask) for one in files]
        were_read = [_tried(read, one) if isinstance(one, Looked) else one for one in looked]
        return [_tried(judge, one, use_case) if isinstance(one, Looked) else one for one in were_read]

    def _note_error(self, path: str, error: OSError, work_left: WorkLeft) -> None:
        if isinstance(error, BeingWrittenError) or change.is_held_open(error):
            self.staging.note_writing(work_left)
        elif error.errno in _OF_THE_SYSTEM:
            raise error
        else:
            self._log_unreadable(path, error)

    def _handoff(self) -> HandOff:
        self._work.make()
        self._rejected.make()
        mailbox = self._settings.mailbox
        return HandOff(
            self._work, mailbox.out_folder, mailbox.file_mode, _group_id(mailbox.group), self._books
        )

    def _recover(self, handoff: HandOff, driver: HandOffDriver) -> None:
        self._work.discard_copies()
        self._indexes.recover()
        recovery = Recovery(
            self._work, handoff, self._rejected, self._books, self.staging.outbox, self._client_has
        )
        for claim in recovery.recover():
            self._examine_again(claim, driver)

    def _examine_again(self, claim: Claim, driver: HandOffDriver) -> None:
        attachments = claim.attachments()
        names = [name for name in claim.names() if not is_sidecar(name) and name not in attachments]
        looked = [self._examiner.examine(claim.folder, name, claim.use_case) for name in names]
        examined = [found for found in looked if found is not None]
        driver.hand_over_again(claim, examined)

    def _client_has(self, stem: str) -> bool:
        """True if the MESH Client has kept the pair: it acted before a power cut undid our rename."""
        folders = (self._settings.mailbox.sent_folder, self._settings.mailbox.failed_folder)
        return any(os.path.lexists(folder / f"{stem}{end}") for folder in folders for end in (".ctl", ".dat"))

    def _log_waiting(self, examined: Refused) -> None:
        self._journal.info(
            "file.waiting",
            file=examined.shown_name,
            code=examined.refusal.code,
            text=examined.refusal.text,
            wait_seconds=self._settings.staging.sidecar_wait_seconds,
        )

    def _log_ignored(self, name: str) -> None:
        self._journal.info("file.name_ignored", file=mask_file_name(name))

    def _log_folder(self, path: str) -> None:
        """Log once a sub-folder that is no use case; the explanation in `rejected/` is the memory."""
        if path in self._told:
            return
        self._told.add(path)
        name = os.path.basename(path)
        refusal = Refusal(
            "folder_ignored",
            "The outbox holds a sub-folder that is not named after a use case; it is not looked into.",
            "See 'meshctl use-cases' for the names, or move the folder away.",
        )
        rejection = Rejection(None, name, mask_file_name(name), refusal, self._books.clock.now(), False)
        if self._rejected.explain_only(rejection):
            self._journal.warning(
                "file.folder_ignored", folder=rejection.file_name, text=refusal.text, advice=refusal.advice
            )

    def _log_unreadable(self, path: str, error: OSError) -> None:
        if path in self._told:
            return
        self._told.add(path)
        self._journal.warning(
            "file.ignored", file=mask_file_name(os.path.basename(path)), reason=os.strerror(error.errno or 0)
        )


def _tried(
    step: Callable[_Parameters, _Result], *given: _Parameters.args, **named: _Parameters.kwargs
) -> _Result | OSError:
    try:
        return step(*given, **named)
    except OSError as error:
        return error


def _batches(files: Iterator[Ready]) -> Iterator[list[Ready]]:
    size, seen = _FIRST_BATCH, 0
    while some := list(islice(files, size)):
        yield some
        seen += size
        size = min(max(seen // _SHARE_OF_A_BATCH, _FIRST_BATCH), _LARGEST_BATCH)


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    if sys.platform == "win32":
        raise ConfigError("mailbox.group cannot be used on Windows. Take it out of the settings.")
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"mailbox.group: there is no group {group!r} on this system.") from None
