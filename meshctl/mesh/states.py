"""The states of a message, and what each piece of evidence does to them. Pure.

Every state but `rejected` lies on one ladder, and evidence only moves a message up it: the state after a set
of reports and acknowledgements is the highest that any of them proves. So their order does not matter, a
repeated one changes nothing, and a late one cannot undo what is known. `failed` is the top rung: an
authority that says the message did not arrive takes precedence over one that only saw it pass, also when the
message had counted as completed.

A message that was withdrawn from OUT counts as failed, for certain until anything but its absence shows that
the client had it all the same.

Not every failure comes from such an authority. A client that could not transfer a message, and a bridge whose
upload broke off, do not know whether MESH has it; a recipient that could not read the id does not know which
message it rejects. An acknowledgement that names the message takes precedence.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """Where a message is; see the table of states in the README."""

    REJECTED = "rejected"
    CLAIMED = "claimed"
    QUEUED = "queued"
    COLLECTED = "collected"
    SENT = "sent"
    RECEIVED = "received"
    COMPLETED = "completed"
    FAILED = "failed"


LADDER = (
    State.CLAIMED,
    State.QUEUED,
    State.COLLECTED,
    State.SENT,
    State.RECEIVED,
    State.COMPLETED,
    State.FAILED,
)
_RUNG = {state: rung for rung, state in enumerate(LADDER)}

FINAL = frozenset({State.REJECTED, State.COMPLETED, State.FAILED})
_ANSWERED = frozenset({State.RECEIVED, State.COMPLETED})
AT_MESH = frozenset({State.SENT, State.FAILED, *_ANSWERED})
"""The states of a message that MESH has or had, as far as the state alone can show it."""


class Deadline(StrEnum):
    """What has to come in time, named as in the settings."""

    COLLECTED = "collected"
    SENT = "sent"
    INFRASTRUCTURE_ACK = "infrastructure_ack"
    BUSINESS_ACK = "business_ack"


class Acknowledgement(StrEnum):
    """The two levels of acknowledgement (ITK3 Message Distribution)."""

    INFRASTRUCTURE = "infrastructure"
    BUSINESS = "business"


UNREADABLE_ID = "UNREADABLE"
"""The event of an acknowledgement whose sender could not read the message id: the message is inferred."""

WITHDRAWN = "WITHDRAW"
"""The event of a message that was taken back out of OUT before the client took it."""

LEFT_OUT_EVENT = "OUT"
"""The event of a pair that is no longer in OUT, which says nothing of who took it."""

_UNSURE_EVENTS = frozenset({"TRANSFER", "FAILED", UNREADABLE_ID, WITHDRAWN})
# MESH's own rejection of an upload, which the bridge reports under TRANSFER too.
_REJECTED_BY_MESH = "HTTP-"


def is_unsure(event: str | None, code: str | None) -> bool:
    """True if a failure is the client's own, or inferred: the message may have arrived all the same."""
    return event in _UNSURE_EVENTS and not (code or "").startswith(_REJECTED_BY_MESH)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one message: its state, what was asked for, what is still awaited.

    A failure `is_unsure` if the message may have arrived all the same: then an acknowledgement is still
    awaited. `is_withdrawn` is one where the client may have taken the pair all the same.
    """

    state: State
    asked: tuple[Acknowledgement, ...] = ()
    awaiting: tuple[Acknowledgement, ...] = ()
    assumed: bool = False
    is_unsure: bool = False
    is_withdrawn: bool = False

    @property
    def is_answered(self) -> bool:
        """True if the recipient is known to have it."""
        has_some = any(level not in self.awaiting for level in self.asked)
        return (self.state in _ANSWERED and not self.assumed) or (self.state not in FINAL and has_some)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that happened to a message.

    `event` says where it comes from (`COLLECT`, `TRANSFER`, `SEND`, `SENT`, `ITK3` …), `reaches` is the
    state that it proves by itself, if any, and `acknowledges` its level, if it is a positive
    acknowledgement. `code`, `text` and `advice` are for people and carry no patient data.
    """

    event: str
    reaches: State | None
    code: str | None = None
    text: str | None = None
    advice: str | None = None
    acknowledges: Acknowledgement | None = None
    mesh_id: str | None = None
    assumed: bool = False
    mailbox: str | None = None
    """The mailbox that it came from, for an acknowledgement."""
    outweighs_absence: bool = False
    """True for a withdrawal that is certain, although the absence from OUT was taken for a collection."""

    @property
    def is_answer(self) -> bool:
        """True if the recipient says that it has the message."""
        return self.acknowledges is not None or self.reaches in _ANSWERED


def advance(standing: Standing, evidence: Evidence) -> Standing:
    """Return the standing after `evidence`; equal to `standing` when it proves nothing new."""
    if standing.state is State.REJECTED:
        return standing
    state: State = standing.state
    unsure = standing.is_unsure
    awaiting = tuple(level for level in standing.awaiting if level is not evidence.acknowledges)
    withdrawn = standing.is_withdrawn
    if state is State.FAILED and unsure and evidence.is_answer:
        state, unsure, withdrawn = State.SENT, False, False
    last = State.COLLECTED if evidence.outweighs_absence else State.QUEUED
    if evidence.event == WITHDRAWN and _RUNG[state] > _RUNG[last]:
        # The client was quicker.
        return standing
    if withdrawn and evidence.event not in (WITHDRAWN, LEFT_OUT_EVENT) and evidence.reaches is not None:
        # The client had it all the same.
        state, unsure, withdrawn = State.COLLECTED, False, False
    if evidence.reaches is State.FAILED:
        may_have_arrived = is_unsure(evidence.event, evidence.code)
        if not may_have_arrived or not (standing.is_answered or state is State.FAILED):
            state, unsure, withdrawn = State.FAILED, may_have_arrived, evidence.event == WITHDRAWN
    elif evidence.reaches is not None:
        state = _higher(state, evidence.reaches)
    assumed = standing.assumed or (evidence.assumed and state is not standing.state)
    if evidence.acknowledges is not None:
        # An acknowledgement proves delivery whatever else is still awaited, also one that nobody asked for.
        is_asked = evidence.acknowledges in standing.asked
        state = _higher(state, State.SENT if is_asked else State.RECEIVED)
        if standing.asked and not awaiting:
            state = _higher(state, State.COMPLETED)
            assumed = False
    if (state is State.FAILED and not unsure) or evidence.reaches is State.COMPLETED:
        awaiting = ()
    return replace(
        standing,
        state=state,
        awaiting=awaiting,
        assumed=assumed and state is not State.FAILED,
        is_unsure=unsure,
        is_withdrawn=withdrawn,
    )


def _higher(one: State, other: State) -> State:
    return one if _RUNG[one] >= _RUNG[other] else other
