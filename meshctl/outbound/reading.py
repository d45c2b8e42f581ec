"""Examining files batch by batch, and in a backlog by a second process that reads one batch ahead.

Reading a letter costs more processor time than handing it over. Where there is a second processor and more
than one batch to do, a helper process (`reading_helper`) reads the next batch while this one is made
durable. It only looks, as the examiner does; every decision and every move stays here. Without it, or when
it ends for whatever reason, batches are examined in this process and nothing else changes.
"""

import contextlib
import os
import pickle
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshctl.outbound.examine import Examined, Examiner

_ENOUGH_PROCESSORS = 2
_IDLE_SECONDS = 20.0
# Starting it costs as much processor time as reading a thousand letters.
_WORTH_A_HELPER = 1500
# Room for a whole batch of names, whatever their length: neither side may wait for the other to read.
_PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Names of ready files in one folder of the outbox."""

    folder: str
    use_case: str | None
    names: list[str]


Outcome = Examined | OSError | None
"""What became of looking into a file; None when it is gone, an OSError when it could not be read."""


def examine_batch(examiner: Examiner, batch: Batch) -> list[Outcome]:
    """Examine every file of a batch; one that cannot be read does not keep the others."""
    outcomes: list[Outcome] = []
    for name in batch.names:
        try:
            outcomes.append(examiner.examine(batch.folder, name, batch.use_case))
        except OSError as error:
            outcomes.append(error)
    return outcomes


class ReadingRoom:
    """Examines batches in order, with a helper where that is quicker."""

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner
        self._helper: _Helper | None = None
        self._used_at = 0.0

    def examine(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Outcome]]]:
        """Yield every batch with the outcomes of its files."""
        ahead: deque[Batch] = deque()
        try:
            seen = 0
            for batch in batches:
                seen += len(batch.names)
                if seen > _WORTH_A_HELPER:
                    self._call_helper()
                if self._helper is not None and self._helper.is_ready() and self._helper.ask(batch):
                    ahead.append(batch)
                    if len(ahead) > 1:
                        yield self._answered(ahead.popleft())
                else:
                    yield from map(self._answered, _drain(ahead))
                    yield batch, examine_batch(self._examiner, batch)
            yield from map(self._answered, _drain(ahead))
        finally:
            if ahead:
                # Whoever asked has gone away; the answers still in the pipe must not be taken for later ones.
                self.close()

    def rest(self) -> None:
        """Let the helper go when there has been no backlog for a while."""
        if self._helper is not None and time.monotonic() - self._used_at > _IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """End the helper."""
        if self._helper is not None:
            self._helper.close()
            self._helper = None

    def _call_helper(self) -> None:
        self._used_at = time.monotonic()
        if self._helper is None and os.name == "posix" and (os.cpu_count() or 1) >= _ENOUGH_PROCESSORS:
            # At a limit of processes or open files the work is done here, as on one processor.
            with contextlib.suppress(OSError):
                self._helper = _Helper(self._examiner)

    def _answered(self, batch: Batch) -> tuple[Batch, list[Outcome]]:
        answer = self._helper.answer() if self._helper is not None else None
        if answer is None:
            self.close()
            answer = examine_batch(self._examiner, batch)
        return batch, answer


class _Helper:
    """The helper process, spoken to over pipes; it ends when this process does."""

    def __init__(self, examiner: Examiner) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "meshctl.outbound.reading_helper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=_PIPE_BYTES,
            start_new_session=True,
        )
        self._is_ready = False
        self._send(examiner)

    def is_ready(self) -> bool:
        """Tell whether the process has started up, without waiting for it."""
        if not self._is_ready and self._process.stdout is not None:
            readable, _, _ = select.select([self._process.stdout], [], [], 0)
            self._is_ready = bool(readable) and self.answer() is not None
        return self._is_ready

    def ask(self, batch: Batch) -> bool:
        """Hand a batch to the process; False when it is gone."""
        return self._send(batch)

    def answer(self) -> list[Outcome] | None:
        """Wait for the next answer; None when the process is gone."""
        stream = self._process.stdout
        try:
            answer = pickle.load(stream) if stream is not None else None
        except (EOFError, OSError, pickle.UnpicklingError):
            return None
        return answer if isinstance(answer, list) else None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
        self._process.wait()

    def _send(self, message: object) -> bool:
        stream = self._process.stdin
        try:
            if stream is None:
                return False
            pickle.dump(message, stream, protocol=pickle.HIGHEST_PROTOCOL)
            stream.flush()
        except OSError:
            return False
        return True


def _drain(batches: deque[Batch]) -> Iterator[Batch]:
    while batches:
        yield batches.popleft()
