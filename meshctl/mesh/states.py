"""The states of a message, and what each piece of evidence does to them. Pure.

Every state but `rejected` lies on one ladder, and evidence only moves a message up it: the state after a set
of reports and acknowledgements is the highest that any of them proves. So their order does not matter, a
repeated one changes nothing, and a late one cannot undo what is known. `failed` is the top rung: an
authority that says the message did not arrive is believed over one that only saw it pass, also when the
message had been taken for completed.
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
OPEN = tuple(state for state in LADDER if state not in FINAL)


class Deadline(StrEnum):
    """What has to come in time; the names are those of the settings."""

    COLLECTED = "collected"
    SENT = "sent"
    INFRASTRUCTURE_ACK = "infrastructure_ack"
    BUSINESS_ACK = "business_ack"


class Acknowledgement(StrEnum):
    """The two levels at which a recipient may answer (ITK3 Message Distribution)."""

    INFRASTRUCTURE = "infrastructure"
    BUSINESS = "business"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one message: its state, what was asked for, what is still awaited."""

    state: State
    asked: tuple[Acknowledgement, ...] = ()
    awaiting: tuple[Acknowledgement, ...] = ()
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that happened to a message.

    `event` says what spoke (`COLLECT`, `TRANSFER`, `SEND`, `SENT`, `ITK3` …), `reaches` is the state that it
    proves by itself, if any, and `acknowledges` the acknowledgement it is, when it is a positive one. `code`,
    `text` and `advice` are for people and carry no patient data.
    """

    event: str
    reaches: State | None
    code: str | None = None
    text: str | None = None
    advice: str | None = None
    acknowledges: Acknowledgement | None = None
    mesh_id: str | None = None
    assumed: bool = False


def advance(standing: Standing, evidence: Evidence) -> Standing:
    """Return the standing after `evidence`; equal to `standing` when it proves nothing new."""
    if standing.state is State.REJECTED:
        return standing
    awaiting = tuple(level for level in standing.awaiting if level is not evidence.acknowledges)
    state = standing.state if evidence.reaches is None else _higher(standing.state, evidence.reaches)
    assumed = standing.assumed or (evidence.assumed and state is not standing.state)
    if evidence.acknowledges is not None:
        # An answer proves delivery whatever else is still awaited.
        state = _higher(state, State.SENT)
        if standing.asked and not awaiting:
            state = _higher(state, State.COMPLETED)
            assumed = False
    return replace(
        standing,
        state=state,
        awaiting=() if state is State.FAILED else awaiting,
        assumed=assumed and state is not State.FAILED,
    )


def _higher(one: State, other: State) -> State:
    return one if _RUNG[one] >= _RUNG[other] else other
