"""ITK3 acknowledgements: which message one answers, and what it says of it.

The level is that of the code (prefix 1 and 2 infrastructure, 3 business), the sign that of the table, for an
unknown code that of `response.code`. In ITK3 an `ok` without a code says nothing of a level: it is noted, and
the answer goes on being awaited; in R4, which has no such codes, it says that the message was processed, and
so it is taken with a code that no table has. An error without a code is a failure. Several codes are several
pieces of evidence.
"""

import os
import stat
from dataclasses import dataclass, replace
from typing import Final

from meshctl.errors import Rejection
from meshctl.files import change
from meshctl.files.safe_open import OPEN_SAFELY
from meshctl.inbound.control_reader import fault_text
from meshctl.ledger.keys import Keys
from meshctl.mesh.codes import SUCCESS, CodeMeaning, Effect, explain_response
from meshctl.mesh.states import UNREADABLE_ID, Evidence, State
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
_SIGNS = frozenset({"ok", "transient-error", "fatal-error"})


class UnreadableAcknowledgementError(Exception):
    """The payload is no ITK3 response; the text says why and holds nothing of it."""


UNREADABLE_IDENTIFIER: Final = "UNREADABLE-IN-ORIGINAL-MESSAGE"
"""What a recipient answers that could not read the id of the message (ITK3 response structure)."""

_PROCESSED: Final = "The recipient's system has processed the message (ok), without a code of ITK3."
_PROCESSED_ANYHOW: Final = (
    "The recipient's system has processed the message (ok), with a code that no table has."
)
_INFERRED: Final = (
    " It does not say which message it answers; of those that may have reached its sender, only this one is"
    " unanswered."
)
_ASKS: Final = " It asks for an infrastructure response of its own."


@dataclass(frozen=True, slots=True, repr=False)
class ReceivedAcknowledgement:
    """An acknowledgement: the id of what it answers, and its evidence.

    `unknown_codes` are those that no table has; `asks` if it wants an infrastructure response itself, to its
    `own_identifier`.
    """

    identifier: str
    evidence: tuple[Evidence, ...]
    unknown_codes: tuple[str, ...] = ()
    asks: bool = False
    own_identifier: str = ""

    @property
    def is_negative(self) -> bool:
        """True if the recipient refuses the message, and says nothing else."""
        return all(one.reaches is State.FAILED for one in self.evidence)


def read_acknowledgement(path: str) -> ReceivedAcknowledgement:
    """Read the payload of an acknowledgement.

    Raises UnreadableAcknowledgementError for what it is or holds, OSError for what the system says of it.
    """
    try:
        facts = _facts(path)
    except Rejection as rejection:
        raise UnreadableAcknowledgementError(rejection.text) from None
    except (UnreadableAcknowledgementError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - one file never stops the others
        raise UnreadableAcknowledgementError(fault_text(error)) from None
    if facts is None or facts.response is None:
        raise UnreadableAcknowledgementError("Its payload is no ITK3 response.")
    response, asks = facts.response, "infrastructure" in (facts.acknowledgements or ())
    evidence = evidence_of(response)
    if response.identifier == UNREADABLE_IDENTIFIER:
        evidence = tuple(replace(one, event=UNREADABLE_ID, text=f"{one.text}{_INFERRED}") for one in evidence)
    if asks:
        evidence = tuple(replace(one, text=f"{one.text}{_ASKS}") for one in evidence)
    meanings = [explain_response(code, response.response_code) for code in response.codes]
    unknown = tuple(meaning.code for meaning in meanings if not meaning.known)
    own_identifier = next(iter(facts.references), "")
    return ReceivedAcknowledgement(response.identifier, evidence, unknown, asks, own_identifier)


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
    return tuple(_evidence_of_code(code, response) for code in codes)


def _evidence_of_code(code: str, response: ResponseFacts) -> Evidence:
    meaning = explain_response(code, response.response_code)
    evidence = _evidence(meaning)
    if meaning.effect is Effect.NOTE and meaning.status == SUCCESS and (code or response.is_r4):
        text = _PROCESSED_ANYHOW if code else _PROCESSED
        return replace(evidence, reaches=State.COMPLETED, text=text, advice="Nothing to do.")
    sign = response.response_code.strip().lower()
    if meaning.known and sign and (sign == "ok") is not (meaning.status == SUCCESS):
        shown = sign if sign in _SIGNS else "something else"
        return replace(evidence, text=f"{evidence.text} Its response.code says the opposite ({shown}).")
    return evidence


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
