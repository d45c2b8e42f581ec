"""ITK3 acknowledgements: which message one answers, and what it says of it.

The level is that of the code (prefix 1 and 2 infrastructure, 3 business), the sign that of the table, for an
unknown code that of `response.code`. An `ok` without a code says nothing of a level: it is noted, and the
answer goes on being awaited. An error without a code is a failure. Several codes are several pieces of
evidence.
"""

import os
import stat
from dataclasses import dataclass

from meshctl.errors import Refusal
from meshctl.files import change
from meshctl.files.safe_open import OPEN_SAFELY
from meshctl.inbound.control_reader import fault_text
from meshctl.ledger.keys import Keys
from meshctl.mesh.codes import CodeMeaning, Effect, explain_response
from meshctl.mesh.states import Evidence, State
from meshctl.payload.facts import MessageFacts, ResponseFacts
from meshctl.payload.reader import read_payload

_REACHES = {
    Effect.INFRASTRUCTURE_POSITIVE: State.RECEIVED,
    Effect.INFRASTRUCTURE_NEGATIVE: State.FAILED,
    Effect.BUSINESS_NEGATIVE: State.FAILED,
    Effect.FAILED: State.FAILED,
}
_POSITIVE = frozenset({Effect.INFRASTRUCTURE_POSITIVE, Effect.BUSINESS_POSITIVE})
_URN = "urn:uuid:"


class UnreadableAcknowledgementError(Exception):
    """The payload is no ITK3 response; the text says why and holds nothing of it."""


@dataclass(frozen=True, slots=True, repr=False)
class ReceivedAcknowledgement:
    """An acknowledgement: the id of what it answers, and its evidence."""

    identifier: str
    evidence: tuple[Evidence, ...]


def read_acknowledgement(path: str) -> ReceivedAcknowledgement:
    """Read the payload of an acknowledgement.

    Raises UnreadableAcknowledgementError for what it is or holds, OSError for what the system says of it.
    """
    try:
        facts = _facts(path)
    except Refusal as refusal:
        raise UnreadableAcknowledgementError(refusal.text) from None
    except (UnreadableAcknowledgementError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - one file never stops the others
        raise UnreadableAcknowledgementError(fault_text(error)) from None
    if facts is None or facts.response is None:
        raise UnreadableAcknowledgementError("Its payload is no ITK3 response.")
    return ReceivedAcknowledgement(facts.response.identifier, evidence_of(facts.response))


def _facts(path: str) -> MessageFacts | None:
    descriptor = change.open_file(path, OPEN_SAFELY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableAcknowledgementError("Its payload is no ordinary file.")
        return read_payload(descriptor, status.st_size).facts
    finally:
        os.close(descriptor)


def evidence_of(response: ResponseFacts) -> tuple[Evidence, ...]:
    """Return what a response proves, a piece for each of its codes."""
    codes = tuple(dict.fromkeys(response.codes)) or ("",)
    return tuple(_evidence(explain_response(code, response.response_code)) for code in codes)


def reference_keys(identifier: str, keys: Keys) -> list[bytes]:
    """Return the keyed hashes under which the request may be known: systems change the case of a UUID."""
    bare = identifier[len(_URN) :] if identifier.lower().startswith(_URN) else identifier
    if not bare:
        return []
    spellings = (bare, bare.lower(), bare.upper(), identifier, f"{_URN}{bare}", f"{_URN}{bare.lower()}")
    return [keys.of(text) for text in dict.fromkeys(spellings)]


def _evidence(meaning: CodeMeaning) -> Evidence:
    return Evidence(
        event=meaning.event,
        reaches=_REACHES.get(meaning.effect),
        code=meaning.code or None,
        text=meaning.meaning,
        advice=meaning.advice,
        acknowledges=meaning.level if meaning.effect in _POSITIVE else None,
    )
