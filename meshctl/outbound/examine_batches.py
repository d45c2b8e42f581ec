"""Examining files batch by batch, in a backlog by two processes at once.

Reading a letter costs as much processor time as handing it over. So where there are a second processor and
more than one batch to do, the helper (`helper_process`) examines batches beside this process. It also writes
their control files where only we look, but every decision and every other move stays here. Without it, or
when it ends for whatever reason, batches are examined in this process and nothing else changes.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum, auto

from meshctl.files import change
from meshctl.files.safe_open import OPEN_SAFELY, is_being_written
from meshctl.outbound.examine import Examined, Examiner, Sendable
from meshctl.outbound.handoff import ControlStaging
from meshctl.outbound.helper_process import Helper, start_helper
from meshctl.outbound.scan import Ready

# The helper must never run out of work while this process hands a batch over.
_ASKED_AHEAD = 3
# A batch of the largest files takes half a minute; who takes longer than this hangs.
_PATIENCE_SECONDS = 120.0
_PATIENCE_WHEN_LEAVING_SECONDS = 1.0


class NotReady(Enum):
    """What may have happened to a file since it looked ready."""

    GONE = auto()
    BEING_WRITTEN = auto()


Outcome = Examined | OSError | NotReady
"""What became of looking into a file; an OSError when it could not be read."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Ready files in one folder of the outbox."""

    folder: str
    use_case: str | None
    files: list[Ready]


@dataclass(frozen=True, slots=True)
class ExamineTask:
    """A batch to be examined by the helper, with all that it needs for that."""

    batch: Batch
    examiner: Examiner
    control_staging: ControlStaging

    def run(self) -> list[Outcome]:
        """Examine the batch, and stage the control files of what can be sent."""
        return [self._staged(outcome) for outcome in examine_batch(self.examiner, self.batch)]

    def _staged(self, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Sendable) or not self.control_staging.is_aside or outcome.envelope:
            return outcome
        try:
            self.control_staging.write(outcome.message_id, outcome.control)
        except OSError:
            # The hand-off will meet the same and knows what to do about it; half a file would be in its way.
            with suppress(OSError):
                self.control_staging.discard(outcome.message_id)
            return outcome
        return replace(outcome, is_staged=True)


def examine_batch(examiner: Examiner, batch: Batch) -> list[Outcome]:
    """Examine every file of a batch; one that cannot be read does not keep the others."""
    outcomes: list[Outcome] = []
    for file in batch.files:
        if any(is_being_written(path, OPEN_SAFELY) for path in file.ask):
            outcomes.append(NotReady.BEING_WRITTEN)
            continue
        try:
            examined = examiner.examine(batch.folder, file.name, batch.use_case, alone=not file.has_sidecar)
            outcomes.append(examined or NotReady.GONE)
        except OSError as error:
            outcomes.append(NotReady.BEING_WRITTEN if change.is_held_open(error) else error)
    return outcomes


class BatchExaminer:
    """Examines batches, with the helper where there is one and more than one batch to do.

    `left_behind` tells that the helper ended with control files staged, for the next recovery to see to.
    """

    def __init__(self, helper: Helper | None) -> None:
        self._helper = helper
        self.left_behind = False

    def examine(
        self, batches: Iterable[Batch], examiner: Examiner, control_staging: ControlStaging
    ) -> Generator[tuple[Batch, list[Outcome]], None, None]:
        """Yield every batch with the outcomes of its files, in no certain order."""
        source = iter(batches)
        asked: deque[ExamineTask] = deque()
        # One batch is kept for this process: alone it is not worth the way, and when the helper has nothing
        # to give back, it fills the time.
        own = next(source, None)
        try:
            while own is not None or asked:
                self._ask_ahead(source, asked, examiner, control_staging)
                if asked and (own is None or self._has_answered()):
                    yield self._answered(asked.popleft())
                elif own is not None:
                    yield own, examine_batch(examiner, own)
                    own = next(source, None)
        finally:
            self._abandon(asked)

    def _ask_ahead(
        self,
        source: Iterator[Batch],
        asked: deque[ExamineTask],
        examiner: Examiner,
        control_staging: ControlStaging,
    ) -> None:
        while self._helper is not None and self._helper.is_there and len(asked) < _ASKED_AHEAD:
            batch = next(source, None)
            if batch is None:
                return
            asked.append(ExamineTask(batch, examiner, control_staging))
            self._helper.ask(asked[-1])

    def _has_answered(self) -> bool:
        return self._helper is not None and self._helper.has_answered()

    def _answered(self, task: ExamineTask) -> tuple[Batch, list[Outcome]]:
        outcomes = self._answer(_PATIENCE_SECONDS)
        return task.batch, examine_batch(task.examiner, task.batch) if outcomes is None else outcomes

    def _answer(self, patience_seconds: float) -> list[Outcome] | None:
        answer = self._helper.answer(patience_seconds) if self._helper is not None else None
        if isinstance(answer, list):
            return answer
        self.left_behind = True
        return None

    def _abandon(self, asked: Iterable[ExamineTask]) -> None:
        """Take back what the helper has staged for somebody who has gone away since."""
        for task in asked:
            for outcome in self._answer(_PATIENCE_WHEN_LEAVING_SECONDS) or ():
                if isinstance(outcome, Sendable) and outcome.is_staged:
                    task.control_staging.discard(outcome.message_id)


@contextmanager
def batch_examiner() -> Iterator[BatchExaminer]:
    """Open a batch examiner, with a helper if one can be had; enter it before anything else is opened."""
    helper = start_helper()
    try:
        yield BatchExaminer(helper)
    finally:
        if helper is not None:
            helper.close()
