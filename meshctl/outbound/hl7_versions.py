"""HL7 v2: which earlier document one replaces, and which may not be sent: a copy, an old version. Pure.

Which documents were sent before, the ledger knows by the keyed hash of the number that the sending system
gives each. Nothing here reads a file or the ledger.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from meshctl.errors import Rejection
from meshctl.outbound.document import Caution
from meshctl.outbound.hl7 import Unpacked
from meshctl.payload.hl7_state import WithdrawnRejection
from meshctl.payload.sidecar import Sidecar, laid_over, value_at

OTHER_PATIENT: Final = "hl7_other_patient"
"""The code of a caution: a document of the same number went to the practice of another patient."""


class SentDocument(NamedTuple):
    """A document that was sent, as the ledger knows it, and how it compares with the one at hand."""

    message_id: str
    is_of_patient: bool
    is_same_content: bool
    is_queued: bool
    mailbox: str | None
    to_mailbox: str | None
    written_at: datetime | None
    replaces: str | None
    has_other_number: bool
    """True if it only replaces one with the number that was asked for, and has another number itself."""
    is_withdrawn: bool
    """True if it was taken back out of OUT, so the practice does not have it."""


class Earlier(Protocol):
    """Finds documents by their numbers."""

    def of_number(
        self, number: str, nhs_number: str | None = None, content: str | None = None
    ) -> Sequence[SentDocument]:
        """Return those that were sent, or withdrawn, and those that replaced them, newest first.

        They are compared with the document of this patient and content.
        """

    def taken_back(self, number: str, nhs_number: str) -> tuple[str, datetime | None] | None:
        """Return the message that took a patient's document back, and when it was written; else None."""


def with_earlier(found: Unpacked, earlier_messages: Earlier) -> Unpacked:
    """Return it with the message that its document replaces.

    Raises Rejection `hl7_already_sent`, `hl7_replaced`, `hl7_cancelled`. A sidecar with `resend_of` has the
    same document sent again, and one with `document.replaces` says itself what is replaced.
    """
    if value_at(found.sidecar, "document.replaces") is not None:
        return found
    of_number = _at_same_place(found, found.origin.number, earlier_messages)
    own = [one for one in of_number if not one.is_withdrawn]
    of_replaced = _at_same_place(found, found.origin.replaced_number, earlier_messages)
    parents = [one for one in of_replaced if not one.is_withdrawn]
    is_again = _check_not_sent(found, own)
    if found.sidecar.resend_of is None:
        _check_not_withdrawn(of_number)
        _check_not_taken_back(found, earlier_messages)
    earlier, cautions = None, list(found.cautions)
    if found.replaces_same and not is_again:
        earlier = _newest_of_patient(own)
        if earlier is not None and found.is_new:
            cautions.append(_number_again(earlier.message_id))
        named_parents = {one.message_id for one in parents if not one.has_other_number}
        if earlier is not None and earlier.has_other_number and earlier.message_id not in named_parents:
            raise _replaced_already(earlier)
    if earlier is None:
        # The same document again must not replace itself.
        before = [one for one in parents if not (one.has_other_number or one.is_same_content)]
        earlier = _newest_of_patient(before if is_again else parents)
        if earlier is not None and earlier.has_other_number:
            cautions.append(_replaced_before(earlier))
    if earlier is not None:
        _check_not_older(found, [earlier, *own, *parents])
    known = own or parents
    if known and not known[0].is_of_patient:
        cautions.append(_other_patient(known[0].message_id))
    elif earlier is None and found.is_replacement:
        cautions.append(_NONE_REPLACED)
    elif earlier is None and found.is_report and not is_again and (beside := _newest_of_patient(own)):
        cautions.append(_beside(beside.message_id))
    sidecar = found.sidecar if earlier is None else _replacing(found.sidecar, earlier.message_id)
    return replace(found, sidecar=sidecar, cautions=tuple(cautions))


def _at_same_place(found: Unpacked, number: str | None, earlier: Earlier) -> Sequence[SentDocument]:
    """Return the documents of a number that went where this one goes: by endpoint lookup, or to its mailbox.

    What was sent to another mailbox, to try it out, has not reached the practice.
    """
    if number is None:
        return ()
    sent = earlier.of_number(number, _nhs_number(found), found.origin.content)
    to_mailbox = (found.sidecar.to_mailbox or "").upper()
    return [one for one in sent if (one.to_mailbox or "").upper() == to_mailbox]


def _nhs_number(found: Unpacked) -> str:
    return str(value_at(found.sidecar, "patient.nhs_number") or "")


def _check_not_taken_back(found: Unpacked, earlier: Earlier) -> None:
    """Raise Rejection for a document that its sender took back, unless it was certainly written later."""
    if found.origin.number is None:
        return
    taken = earlier.taken_back(found.origin.number, _nhs_number(found))
    if taken is None:
        return
    message_id, at = taken
    if at is not None and found.origin.written_at is not None and at < found.origin.written_at:
        return
    raise Rejection(
        "hl7_cancelled",
        "The HL7 message brings a document that its sender has taken back, in the message that was rejected"
        f" as {message_id}, and was not written later than that (MSH-7), or it cannot be told.",
        "Nothing needs to be done if it was taken back. Else have the sending system send it again, or drop"
        " it without that: as a PDF with a sidecar.",
    )


def _check_not_withdrawn(documents: Iterable[SentDocument]) -> None:
    """Raise Rejection for a document that a person took back here, which its sender only repeats."""
    for one in documents:
        if one.is_withdrawn and one.is_of_patient and one.is_same_content:
            raise Rejection(
                "hl7_cancelled",
                "The HL7 message brings the same document as one that was taken back here (meshctl withdraw),"
                f" {one.message_id}.",
                "Nothing needs to be done if it was not to be sent. To send it after all, put back what was"
                " withdrawn: meshctl redrop, with its name in rejected/; or add a sidecar with"
                f' "resend_of": "{one.message_id}".',
            )


def _check_not_older(found: Unpacked, versions: Iterable[SentDocument]) -> None:
    """Raise Rejection for a document that was written before another version of it that was sent."""
    written_at = found.origin.written_at
    if written_at is None:
        return
    for one in versions:
        if one.is_of_patient and one.written_at is not None and written_at < one.written_at:
            raise Rejection(
                "hl7_replaced",
                "The HL7 message brings an older version of a document (by MSH-7) than the one that was sent"
                f" as {one.message_id}.",
                "Nothing needs to be done if an old version came late. If it is to replace the other, add a"
                f' sidecar with "document": {{"replaces": "{one.message_id}"}}.',
            )


def _newest_of_patient(documents: Iterable[SentDocument]) -> SentDocument | None:
    return next((one for one in documents if one.is_of_patient), None)


def _check_not_sent(found: Unpacked, own: Sequence[SentDocument]) -> bool:
    """True if the same document was sent, and a sidecar wants it sent again; Rejection if none does.

    Each that was sent counts: an old version that comes again must not replace a newer one.
    """
    same = next((one for one in own if one.is_of_patient and one.is_same_content), None)
    if same is None or found.sidecar.resend_of is not None:
        return same is not None
    newest = _newest_of_patient(own) or same
    text = f"The same document was sent before, as {same.message_id}"
    if newest is same:
        raise Rejection(
            "hl7_already_sent",
            f"{text}.",
            f"Nothing needs to be done; meshctl show {same.message_id} says what became of it. To send it"
            f' again, add a sidecar with "resend_of": "{same.message_id}".',
        )
    raise Rejection(
        "hl7_already_sent",
        f"{text}, and a later one of its number as {newest.message_id}.",
        "Nothing needs to be done if an old version came again. If it is to replace the later one, add a"
        f' sidecar with "document": {{"replaces": "{newest.message_id}"}}.',
    )


def _replaced_already(newest: SentDocument) -> Rejection:
    return Rejection(
        "hl7_replaced",
        "The HL7 message brings another version of a document that was replaced by one with another number,"
        f" sent as {newest.message_id}.",
        "See in the sending system which is newer. If this one is, add a sidecar with"
        f' "document": {{"replaces": "{newest.message_id}"}}; else nothing needs to be done.',
    )


_NOT_FOUND: Final = (
    "Look in the sending system: what has another sender (MSH-4) or is longer ago than keep_days is not found"
    " here, nor is a number that is written in another way."
)
_NONE_REPLACED: Final = Caution(
    "The HL7 message replaces a document, and none was found under exactly its number among those that were"
    " sent from here, so it is sent as a new one.",
    f"{_NOT_FOUND} If the practice has an earlier version, tell it.",
)


def _replaced_before(newest: SentDocument) -> Caution:
    return Caution(
        "The document that the HL7 message replaces was replaced before; it is sent to replace that one,"
        f" {newest.message_id}.",
        "See in the sending system that it is the newer of the two.",
    )


def _number_again(message_id: str) -> Caution:
    return Caution(
        f"A new document (T02) has the number of the one that was sent as {message_id}, and replaces it.",
        "See that the sending system numbers documents, not visits, and that it sends a version of a document"
        " as T08 or T10.",
    )


def _beside(message_id: str) -> Caution:
    return Caution(
        f"A result with the number of this one was sent before with another content, as {message_id}, and is"
        " not replaced: this one does not say that it is a correction (OBX-11 or OBR-25 C).",
        "See that it is not an old version that comes late.",
    )


def _other_patient(message_id: str) -> Caution:
    return Caution(
        f"A document with the number of this one was sent before about another patient, as {message_id}.",
        "If that one was about the wrong patient, tell its practice: MESH cannot take it back.",
        OTHER_PATIENT,
    )


def named(taken: WithdrawnRejection, earlier: Earlier) -> Rejection:
    """Return the rejection of what takes a document back, with the messages that it means, if known.

    These are all with its number that no other has replaced: for each patient, for each report of an order.
    """
    if taken.number is None:
        return Rejection(taken.code, f"{taken.text} It gives no number of the document.", taken.advice)
    known = [one for one in earlier.of_number(taken.number) if not one.is_withdrawn]
    if not known:
        text = f"{taken.text} None was found under exactly its number among those that were sent from here."
        return Rejection(taken.code, text, f"{_NOT_FOUND} {taken.advice}")
    replaced = {one.replaces: one.message_id for one in known}
    of_number = [one for one in known if not one.has_other_number] or known
    meant = [one for one in of_number if one.message_id not in replaced] or of_number[:1]
    text = f"{taken.text} It was sent as {' and as '.join(_sent_text(one, replaced) for one in meant)}."
    advice = [
        f"If the MESH Client has not taken it yet: meshctl withdraw {one.message_id}."
        for one in meant
        if one.is_queued
    ]
    shown = ", ".join(f"meshctl show {one.message_id}" for one in meant)
    advice.append(f"Tell the practice, above all if the patient was wrong: {shown}.")
    return Rejection(taken.code, text, " ".join(advice))


def _sent_text(one: SentDocument, replaced: Mapping[str | None, str]) -> str:
    by = replaced.get(one.message_id)
    words = [one.message_id]
    words += [f"which mailbox {one.mailbox} has"] if one.mailbox else []
    words += [f"and {by} has replaced it"] if by else []
    return " ".join((f"{words[0]},", *words[1:])) if len(words) > 1 else words[0]


def _replacing(sidecar: Sidecar, message_id: str) -> Sidecar:
    return laid_over(Sidecar.model_validate({"document": {"replaces": message_id}}), sidecar) or sidecar
