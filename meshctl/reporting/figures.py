"""The numbers of a report, counted from messages. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import Final

from meshctl.ledger.records import Reason
from meshctl.mesh.states import FINAL, State
from meshctl.reporting.period import Columns, Taken, Wait

LIMITS_SECONDS: Final = (10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86_400, 3 * 86_400)
"""The upper limits of a distribution's bins; a last bin has everything that took longer."""

MILESTONES: Final = (State.SENT, State.RECEIVED, State.COMPLETED)
"""The states whose times are reported."""

_AT_LEAST: Final = {
    State.SENT: (State.SENT, State.RECEIVED, State.COMPLETED),
    State.RECEIVED: (State.RECEIVED,),
    State.COMPLETED: (State.COMPLETED,),
}
_EXAMPLES: Final = 3


@dataclass(slots=True)
class Durations:
    """How long messages took to reach a state."""

    seconds: list[float] = field(default_factory=list)

    def bins(self) -> list[int]:
        """Return how many took up to each of LIMITS_SECONDS, and how many longer."""
        counts = [0] * (len(LIMITS_SECONDS) + 1)
        for took in self.seconds:
            counts[next((n for n, limit in enumerate(LIMITS_SECONDS) if took <= limit), -1)] += 1
        return counts

    def quantile(self, share: float) -> float | None:
        """Return the time within which this share of the messages got there; None when there are none."""
        ordered = sorted(self.seconds)
        return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None


@dataclass(slots=True)
class FailureCount:
    """All messages that one code ended: ours (rejected), or one that came back (failed)."""

    state: State
    reason: Reason
    count: int = 0
    sent_again: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Figures:
    """The figures of one period."""

    columns: Columns
    states: Counter[State] = field(default_factory=Counter)
    assumed: int = 0
    by_use_case: dict[str | None, list[int]] = field(default_factory=dict)
    durations: dict[State, Durations] = field(
        default_factory=lambda: {state: Durations() for state in MILESTONES}
    )
    failures: list[FailureCount] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return how many messages were taken."""
        return self.states.total()

    @property
    def under_way(self) -> int:
        """Return how many are not in a final state."""
        return sum(count for state, count in self.states.items() if state not in FINAL)


@dataclass(frozen=True, slots=True)
class Quiet:
    """A time without a sign of the MESH Client; `waiting` pairs were in OUT for some of it."""

    start_at: datetime
    end_at: datetime
    waiting: int


def figures_of(messages: Iterable[Taken], columns: Columns) -> Figures:
    """Count messages; use cases and failures are sorted, the most frequent first."""
    figures = Figures(columns)
    failures: dict[tuple[State, str | None, str | None], FailureCount] = {}
    for message in messages:
        figures.states[message.state] += 1
        figures.assumed += message.assumed
        counts = figures.by_use_case.setdefault(message.use_case, [0] * len(columns))
        counts[columns.index(message.created_at)] += 1
        _note_times(figures, message)
        if message.state in (State.REJECTED, State.FAILED):
            key = (message.state, message.reason.code, message.reason.event)
            failure = failures.setdefault(key, FailureCount(message.state, message.reason))
            failure.count += 1
            failure.sent_again += message.sent_again
            if len(failure.examples) < _EXAMPLES:
                failure.examples.append(message.message_id)
    figures.by_use_case = dict(sorted(figures.by_use_case.items(), key=lambda item: -sum(item[1])))
    figures.failures = sorted(failures.values(), key=lambda failure: -failure.count)
    return figures


def quiet_periods(
    signs: Iterable[datetime],
    waits: Iterable[Wait],
    limits: tuple[datetime, datetime],
    at_least: timedelta,
) -> list[Quiet]:
    """Return the times within `limits` without a sign of the client for `at_least` this long."""
    start_at, end_at = limits
    marks = [start_at, *sorted(sign for sign in signs if start_at <= sign < end_at), end_at]
    pairs = list(waits)
    return [
        Quiet(one, other, _count_waiting(pairs, one, other))
        for one, other in pairwise(marks)
        if other - one >= at_least
    ]


def _count_waiting(waits: Iterable[Wait], start_at: datetime, end_at: datetime) -> int:
    return sum(
        wait.queued_at < end_at and (wait.left_at is None or wait.left_at > start_at) for wait in waits
    )


def _note_times(figures: Figures, message: Taken) -> None:
    for milestone, durations in figures.durations.items():
        if milestone is State.COMPLETED and message.assumed:
            continue
        # Where a step was skipped, the first later step counts.
        instants = [at for state, at in message.reached if state in _AT_LEAST[milestone]]
        if instants:
            durations.seconds.append(max(0.0, (min(instants) - message.created_at).total_seconds()))
