"""The cautions about documents that an HL7 v2 message replaces, or does not. Pure."""

from collections.abc import Sequence
from typing import Final

from meshctl.errors import Rejection
from meshctl.outbound.document import Caution
from meshctl.outbound.hl7_sent import NewerSentRejection, SentDocument

STILL_VALID: Final = "hl7_still_valid"
"""The code of a caution: a document that was replaced, stands at the practice as if it was not."""

OTHER_PATIENT: Final = "hl7_other_patient"
"""The code of a caution: a document of the same number went to the practice of another patient."""

WHICH_CORRECTED: Final = "hl7_which_corrected"
"""The code of a caution: which of several results is corrected, is not certain."""

_SHOWN: Final = 5


NOT_FOUND: Final = (
    "Look in the sending system: what has another sender (MSH-4) or is longer ago than keep_days is not found"
    " here, nor is a number that is written in another way."
)
NONE_REPLACED: Final = Caution(
    "The HL7 message replaces a document, and none was found under exactly its number among those that were"
    " sent from here, so it is sent as a new one.",
    f"{NOT_FOUND} If the practice has an earlier version, tell it.",
)


def replaced_before(newest: SentDocument) -> Caution:
    """Return the caution about what was replaced by another document before."""
    return Caution(
        "The document that the HL7 message replaces was replaced before; it is sent to replace that one,"
        f" {newest.message_id}.",
        "See in the sending system that it is the newer of the two.",
    )


def number_again(message_id: str) -> Caution:
    """Return the caution about a new document (T02) with a number that was sent before."""
    return Caution(
        f"A new document (T02) has the number of the one that was sent as {message_id}, and replaces it.",
        "See that the sending system numbers documents, not visits, and that it sends a version of a document"
        " as T08 or T10.",
    )


def beside(message_id: str) -> Caution:
    """Return the caution about a further result of an order."""
    return Caution(
        f"A result with the number of this one was sent before with another content, as {message_id}, and is"
        " not replaced: this one does not say that it is a correction (OBX-11 or OBR-25 C).",
        "See that it is not an old version that comes late.",
    )


def not_replaced(message_id: str) -> Caution:
    """Return the caution about a document that is named (TXA-13) by what is no replacement."""
    return Caution(
        f"The HL7 message names another document (TXA-13), sent as {message_id}, and does not say that it"
        " replaces that (T10, or OBX-11 C): it was sent beside it, and both are valid.",
        "If it is a later version of that one, tell the practice, and have the sending system write T10.",
    )


def order_unknown(message_id: str) -> Caution:
    """Return the caution about two versions of which the second came later, and may be older."""
    return Caution(
        f"The document replaces the one that was sent as {message_id}, and which of the two is newer is not"
        " certain: the times of their HL7 messages (MSH-7) are missing, without a time of day, or the same.",
        "See that it is not an old version that came late; have the sending system write the time to the"
        " second.",
    )


def which(results: Sequence[SentDocument]) -> Caution:
    """Return the alert about a correction that may be of any of some results."""
    return Caution(
        "The HL7 message corrects a result (OBX-11 or OBR-25 C), and which one is not certain, so it replaces"
        f" none. Of its order {_names(results)} sent.",
        "See in the sending system which one it corrects, and tell the practice, where that one is still"
        " valid.",
        WHICH_CORRECTED,
    )


def _names(documents: Sequence[SentDocument]) -> str:
    """Return the ids of some messages, with "was" or "were"."""
    words = [one.message_id for one in documents[:_SHOWN]]
    if len(documents) > len(words):
        words.append(f"{len(documents) - len(words)} more")
    return f"{words[0]} was" if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]} were"


def other_patient(message_id: str) -> Caution:
    """Return the alert about a number that was sent before about another patient."""
    return Caution(
        f"A document with the number of this one was sent before about another patient, as {message_id}.",
        "If that one was about the wrong patient, tell its practice: MESH cannot take it back.",
        OTHER_PATIENT,
    )


def with_valid(rejection: Rejection, valid: Sequence[SentDocument]) -> Rejection:
    """Return a rejection that names the documents that are still valid."""
    if not valid:
        return rejection
    text = f"{rejection.text} {_valid_text(valid)}"
    if isinstance(rejection, NewerSentRejection):
        return Rejection(
            rejection.code, text, f"{_tell(valid)} See in the sending system which version is the newest."
        )
    return type(rejection)(rejection.code, text, f"{_tell(valid)} {rejection.advice}")


def _valid_text(valid: Sequence[SentDocument]) -> str:
    return " ".join(
        f"An earlier version, {one.message_id}, is still valid at the practice, though it was replaced."
        for one in valid[:_SHOWN]
    )


def _tell(valid: Sequence[SentDocument]) -> str:
    shown = ", ".join(f"meshctl show {one.message_id}" for one in valid[:_SHOWN])
    return f"Tell the practice which version counts: {shown}."


def number_shared(mine: Sequence[SentDocument]) -> Caution:
    """Return the alert about a number that the sending system gives to documents of several patients."""
    return Caution(
        "The number of the document was given to documents of other patients too, so it is no document's own,"
        f" and this one replaces nothing. About this patient {_names(mine)} sent with it.",
        "Have the sending system give each document a number of its own (TXA-12). If this one replaces"
        " another, tell the practice.",
        OTHER_PATIENT,
    )


def others_valid(valid: Sequence[SentDocument]) -> Caution:
    """Return the alert about documents that are still valid beside the one that is replaced."""
    return Caution(_valid_text(valid), _tell(valid), STILL_VALID)
