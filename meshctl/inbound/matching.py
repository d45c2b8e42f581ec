"""Which message a report or an acknowledgement is about. Pure: from candidates to a decision, never a guess.

A report names its message by up to three ids. Those that point to a message must all point to the same one;
an id that points to several, or to none, says nothing. A LocalId that is an ODS code says nothing either,
however many messages bear it (GP Connect wants the same code on all of them).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from meshctl.ledger.lookups import Candidate
from meshctl.mesh.codes import ITK3
from meshctl.mesh.evidence import State

MOST_CANDIDATES = 5
"""So many candidates at most are named where a match would be a guess."""

# Organisation and site codes of the Organisation Data Service.
_ODS_SHAPE = re.compile(r"(?=[A-Z0-9]*[A-Z])[A-Z0-9]{3,8}", re.IGNORECASE)


class Doubt(StrEnum):
    """Why no message is named."""

    UNKNOWN = "None of its ids belongs to a message."
    SEVERAL = "Several messages bear its LocalId."
    ODS_CODE = "Its LocalId is an ODS code, which tells no message from another."
    WORKFLOW = "Its LocalId belongs to a message of another workflow."
    CONTRADICTION = "Its ids belong to different messages."
    UNKNOWN_REFERENCE = "No message bears the id that it answers."
    SEVERAL_REFERENCES = "Several messages bear the id that it answers."


@dataclass(frozen=True, slots=True)
class Identification:
    """What a report's ids found in the ledger.

    `mesh_id` is the report's own; `local_id_identifies` tells whether its LocalId can mean one message.
    """

    mesh_id: str | None
    workflow_id: str
    local_id_key: bytes | None
    by_mesh_id: Sequence[Candidate]
    by_stem: Candidate | None
    by_local_id: Sequence[Candidate]
    local_id_identifies: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """The message, or the doubt and the candidates there were."""

    message: Candidate | None
    doubt: Doubt | None = None
    candidates: tuple[str, ...] = ()


def may_identify(local_id: str, own_ods_code: str | None, template: str | None) -> bool:
    """Tell whether a LocalId can tell one message from another; `template` is that of its use case."""
    if own_ods_code is not None and local_id.casefold() == own_ods_code.casefold():
        return False
    holds_ods_code = template is not None and "{ods_code}" in template and "{message_id}" not in template
    return not (holds_ods_code and _ODS_SHAPE.fullmatch(local_id))


def decide_report(found: Identification) -> Decision:
    """Return the one message that a report is about."""
    named = {one.message_id: one for one in (*found.by_mesh_id, *_just(found.by_stem))}
    if len(named) > 1:
        return _undecided(Doubt.CONTRADICTION, named.values())
    if not named:
        return _decide_by_local_id(found)
    message = next(iter(named.values()))
    others = found.by_local_id if found.local_id_identifies else ()
    names_another = bool(others) and message.local_id_key != found.local_id_key
    if names_another or _bears_other_mesh_id(message, found):
        return _undecided(Doubt.CONTRADICTION, [message, *others])
    return Decision(message)


def decide_acknowledgement(candidates: Sequence[Candidate]) -> Decision:
    """Return the one message whose payload bears the id that an acknowledgement answers.

    The same payload sent again has the same ids. What never arrived cannot have been answered, so it steps
    back where there is another.
    """
    if not candidates:
        return Decision(None, Doubt.UNKNOWN_REFERENCE)
    arrived = candidates if len(candidates) == 1 else [one for one in candidates if not _never_arrived(one)]
    if len(arrived) != 1:
        return _undecided(Doubt.SEVERAL_REFERENCES, candidates)
    return Decision(arrived[0])


def _decide_by_local_id(found: Identification) -> Decision:
    if not found.by_local_id:
        return Decision(None, Doubt.UNKNOWN)
    if not found.local_id_identifies:
        return _undecided(Doubt.ODS_CODE, found.by_local_id)
    if len(found.by_local_id) > 1:
        return _undecided(Doubt.SEVERAL, found.by_local_id)
    message = found.by_local_id[0]
    # A LocalId is the host's own, so another application may use the same one for something else.
    if found.workflow_id and message.workflow_id and found.workflow_id != message.workflow_id:
        return _undecided(Doubt.WORKFLOW, [message])
    if _bears_other_mesh_id(message, found):
        return _undecided(Doubt.CONTRADICTION, [message])
    return Decision(message)


def _bears_other_mesh_id(message: Candidate, found: Identification) -> bool:
    return found.mesh_id is not None and message.mesh_id not in (None, found.mesh_id)


def _never_arrived(message: Candidate) -> bool:
    return message.state is State.FAILED and message.failed_by != ITK3


def _just(candidate: Candidate | None) -> tuple[Candidate, ...]:
    return () if candidate is None else (candidate,)


def _undecided(doubt: Doubt, candidates: Iterable[Candidate]) -> Decision:
    ids = sorted({one.message_id for one in candidates})
    return Decision(None, doubt, tuple(ids[:MOST_CANDIDATES]))
