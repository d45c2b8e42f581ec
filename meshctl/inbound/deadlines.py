"""Deadlines: messages of which something expected has not come in time, and those that are done by waiting.

Time is measured on the steady clock, so a clock that is set back or forward makes no message late or early.
The ledger is asked only for messages whose time ran out since the last look, and each is announced once.

Final messages that have not changed for `keep_days` leave the ledger, in steps that hold nothing up.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from meshctl.inbound.folders import BATCH
from meshctl.inbound.record import FoundEvidence, Recorder
from meshctl.ledger import reads
from meshctl.ledger.reads import Waiting
from meshctl.ledger.services import Services
from meshctl.mesh.states import Acknowledgement, Deadline, Evidence, State
from meshctl.settings.model import Settings
from meshctl.settings.types import format_duration

_OPEN: Final = (State.QUEUED, State.COLLECTED, State.SENT, State.RECEIVED)
# A look costs little, but more with many open messages, and deadlines are hours and days.
_LOOKS_PER_DEADLINE: Final = 20
_SHORTEST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0

_ASSUMED = Evidence(
    "DEADLINE",
    State.COMPLETED,
    text="No acknowledgement was asked for, and no report came: taken for delivered.",
    assumed=True,
)


@dataclass(frozen=True, slots=True)
class _Expectation:
    """One deadline: of which messages it expects what. `{time}` stands for the setting."""

    name: Deadline
    waiting: Waiting
    text: str
    advice: str


_EXPECTATIONS: Final = (
    _Expectation(
        Deadline.COLLECTED,
        Waiting((State.QUEUED,)),
        "The MESH Client has not taken the pair from OUT within {time}.",
        "Check that the MESH Client (or meshctl bridge) runs, its log, and that it may read what is in OUT.",
    ),
    _Expectation(
        Deadline.SENT,
        Waiting((State.QUEUED, State.COLLECTED)),
        "Nothing shows within {time} that MESH has the message.",
        "Check the MESH Client's log and its connection to MESH, and that SaveSent=Y or TransferReport=Y.",
    ),
    _Expectation(
        Deadline.INFRASTRUCTURE_ACK,
        Waiting(_OPEN, Acknowledgement.INFRASTRUCTURE),
        "The infrastructure acknowledgement has not come within {time}.",
        "Ask the recipient whether its system has the message; until this acknowledgement comes it counts as"
        " not arrived.",
    ),
    _Expectation(
        Deadline.BUSINESS_ACK,
        Waiting(_OPEN, Acknowledgement.BUSINESS),
        "The business acknowledgement has not come within {time}.",
        "Ask the recipient whether somebody has dealt with the message.",
    ),
)


@dataclass(slots=True)
class _Progress:
    """Up to which clock reading one deadline has been checked; `due` are messages not yet flagged."""

    until: float = float("-inf")
    due: deque[str] = field(default_factory=deque)


class Deadlines:
    """The deadlines of one mailbox."""

    def __init__(self, settings: Settings, recorder: Recorder, services: Services) -> None:
        self._times = {one: getattr(settings.deadlines, one.value) for one in Deadline}
        self._undelivered_after = settings.deadlines.undelivered_after.total_seconds()
        self._recorder = recorder
        self._services = services
        shows_sent = _can_show_sent(settings)
        self._expectations = tuple(
            one for one in _EXPECTATIONS if one.name is not Deadline.SENT or shows_sent
        )
        # Where nothing can show that MESH has it, a collected message is the best evidence we get.
        self._delivered_states = (State.SENT, State.RECEIVED) + (() if shows_sent else (State.COLLECTED,))
        self._progress = {one.name: _Progress() for one in self._expectations}
        shortest = min(*(time.total_seconds() for time in self._times.values()), self._undelivered_after)
        self._pause = min(
            max(shortest / _LOOKS_PER_DEADLINE, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS
        )
        self._next_look = float("-inf")
        self._may_assume = False

    def work(self) -> None:
        """Look if that is due, and deal with one batch of each deadline. Raises sqlite3.Error."""
        now = self._services.clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + self._pause
            self._look()
        for expectation in self._expectations:
            self._flag(expectation)
        self._assume_delivered()

    def texts(self) -> dict[Deadline, tuple[str, str]]:
        """Return text and advice by deadline."""
        return {one.name: self._text_and_advice(one) for one in _EXPECTATIONS}

    @property
    def is_busy(self) -> bool:
        """True if more messages are due."""
        return self._may_assume or any(progress.due for progress in self._progress.values())

    @property
    def next_look_seconds(self) -> float:
        """Return in how many seconds to look again."""
        return max(0.0, self._next_look - self._services.clock.monotonic())

    def _look(self) -> None:
        steady = self._services.clock.steady()
        for one in self._expectations:
            progress = self._progress[one.name]
            until = steady - self._times[one.name].total_seconds()
            connection = self._services.ledger.connection
            progress.due.extend(reads.missed(connection, one.waiting, one.name, progress.until, until))
            progress.until = until
        self._may_assume = True

    def _flag(self, expectation: _Expectation) -> None:
        due = self._progress[expectation.name].due
        batch = list(islice(due, BATCH))
        if not batch:
            return
        # Evidence may have come since the look.
        late = reads.still_missed(self._services.ledger.connection, expectation.waiting, batch)
        if late:
            self._recorder.mark_overdue(late, expectation.name, *self._text_and_advice(expectation))
        for _ in batch:
            due.popleft()

    def _assume_delivered(self) -> None:
        if not self._may_assume:
            return
        until = self._services.clock.steady() - self._undelivered_after
        done = reads.unasked(self._services.ledger.connection, self._delivered_states, until, BATCH)
        self._recorder.record([FoundEvidence(message_id, _ASSUMED) for message_id in done])
        self._may_assume = len(done) == BATCH

    def _text_and_advice(self, expectation: _Expectation) -> tuple[str, str]:
        time = format_duration(self._times[expectation.name])
        return expectation.text.format(time=time), expectation.advice


def _can_show_sent(settings: Settings) -> bool:
    """True if anything can show that MESH has a message, unless the client's flags rule it out."""
    client = settings.client
    return client is None or client.save_sent is not False or client.transfer_report is not False


_STEP = 500
_LOOK_EVERY_SECONDS = 3600.0


class Retention:
    """Removes final messages that have not changed for `keep_days`."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._keep = timedelta(days=settings.state.keep_days)
        self._services = services
        self._next_look = float("-inf")
        self._removed = 0

    def work(self) -> None:
        """Take one step if there is one to take. Raises LedgerError, sqlite3.Error."""
        now = self._services.clock.monotonic()
        if now < self._next_look:
            return
        # The steady clock: one that was set forward by mistake must not empty the ledger.
        before = datetime.fromtimestamp(self._services.clock.steady(), UTC) - self._keep
        removed = self._services.ledger.remove_final(before, _STEP, self._services.clock.now())
        self._removed += removed
        if removed == _STEP:
            return
        self._next_look = now + _LOOK_EVERY_SECONDS
        if self._removed:
            self._services.journal.info("daemon.retention", messages=self._removed, keep_days=self._keep.days)
            self._removed = 0

    @property
    def is_busy(self) -> bool:
        """True if there may be more to remove."""
        return self._services.clock.monotonic() >= self._next_look
