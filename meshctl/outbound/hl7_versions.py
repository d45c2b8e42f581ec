"""HL7 v2: which earlier document one replaces, and which may not be sent: a copy, an old version. Pure.

Which documents were sent before, the ledger knows by the keyed hash of the number that the sending system
gives each. Nothing here reads a file or the ledger.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from meshctl.errors import Rejection
from meshctl.outbound.document import Caution, Origin
from meshctl.outbound.hl7 import Unpacked
from meshctl.payload.hl7_state import WithdrawnRejection
from meshctl.payload.sidecar import Sidecar, laid_over, value_at

OTHER_PATIENT: Final = "hl7_other_patient"
"""The code of a caution: a document of the same number went to the practice of another patient."""

WHICH_CORRECTED: Final = "hl7_which_corrected"
"""The code of a caution: which of several results is corrected, is not certain."""

_SHOWN: Final = 5


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
    has_failed: bool
    """True if it did not arrive, and was not sent again as it was."""
    content: bytes
    """A keyed hash, the same for two documents with the same content."""
    is_same_result: bool
    is_edit: bool
    """True if its message said that it is a later version of a document."""

    @property
    def is_there(self) -> bool:
        """True if the practice has it, or will."""
        return not (self.is_withdrawn or self.has_failed)


class Earlier(Protocol):
    """Finds documents by their numbers."""

    def of_number(
        self, number: str, nhs_number: str | None = None, origin: Origin | None = None
    ) -> Sequence[SentDocument]:
        """Return those that were handed over, and those that replaced them, newest first.

        They are compared with the document of this patient and origin.
        """

    def taken_back(self, number: str, nhs_number: str) -> tuple[str, datetime | None] | None:
        """Return the message that took a patient's document back, and when it was written; else None."""


class _Choice(NamedTuple):
    """Which document is replaced, if one is, and what a person should know of that."""

    earlier: SentDocument | None
    cautions: Sequence[Caution] = ()


def with_earlier(found: Unpacked, earlier_messages: Earlier) -> Unpacked:
    """Return it with the message that its document replaces.

    Raises Rejection `hl7_already_sent`, `hl7_replaced`, `hl7_cancelled`. A sidecar with `resend_of` has the
    same document sent again, and one with `document.replaces` says itself what is replaced.
    """
    if value_at(found.sidecar, "document.replaces") is not None:
        return found
    of_number = _at_same_place(found, found.origin.number, earlier_messages)
    own = [one for one in of_number if one.is_there]
    of_replaced = _at_same_place(found, found.origin.replaced_number, earlier_messages)
    parents = [one for one in of_replaced if one.is_there]
    is_again = _check_not_sent(found, own)
    if found.sidecar.resend_of is None:
        _check_not_withdrawn(of_number)
        _check_not_taken_back(found, earlier_messages)
        _check_right_patient(found, [*own, *parents])
    if found.is_report:
        choice = _of_results(found, of_number, is_again=is_again)
    else:
        choice = _of_documents(found, own, parents, is_again=is_again)
    earlier, cautions = choice.earlier, [*found.cautions, *choice.cautions]
    known = own or parents
    if known and not known[0].is_of_patient:
        cautions.append(_other_patient(known[0].message_id))
    elif earlier is None and found.is_replacement and not choice.cautions:
        cautions.append(_NONE_REPLACED)
    sidecar = found.sidecar if earlier is None else _replacing(found.sidecar, earlier.message_id)
    return replace(found, sidecar=sidecar, cautions=tuple(cautions))


def _of_documents(
    found: Unpacked, own: Sequence[SentDocument], parents: Sequence[SentDocument], *, is_again: bool
) -> _Choice:
    """Choose what a document replaces: one of its own number, else of the number that it names.

    Raises Rejection `hl7_replaced`.
    """
    earlier, cautions = None, []
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
        if not found.origin.is_edit:
            _check_not_before_edit(found, [one for one in own if one.is_of_patient and one.is_edit])
    return _Choice(earlier, cautions)


def _of_results(found: Unpacked, of_number: Sequence[SentDocument], *, is_again: bool) -> _Choice:
    """Choose what a report replaces: a correction the one report of its order that it can mean, others none.

    An order may have several results, and each of them a report. Raises Rejection `hl7_replaced`.
    """
    others = [one for one in of_number if one.is_of_patient and not one.is_same_content]
    there = [one for one in others if one.is_there]
    same = [one for one in others if one.is_same_result]
    edits = [one for one in same if one.is_there and one.is_edit]
    if found.is_replacement:
        _check_not_older(found, edits)
    elif found.sidecar.resend_of is None:
        _check_not_before_edit(found, edits)
    if not found.is_replacement:
        return _Choice(None, [_beside(there[0].message_id)] if there and not is_again else ())
    replaced = {one.replaces for one in others}
    current = [one for one in there if one.message_id not in replaced]
    meant = [one for one in current if one.is_same_result]
    if len(meant) == 1:
        # One that never arrived may be another result, which is the one that is corrected.
        at = same.index(meant[0])
        gone = [
            one
            for number, one in enumerate(same)
            if not (one.is_there or one.message_id in replaced or one.content == meant[0].content)
            # What was sent before a correction is what that one has corrected.
            and not (meant[0].is_edit and number > at)
        ]
        if not gone:
            _check_not_older(found, meant)
            return _Choice(meant[0])
    return _Choice(None, [_which(meant or current)] if current else ())


def _at_same_place(found: Unpacked, number: str | None, earlier: Earlier) -> Sequence[SentDocument]:
    """Return the documents of a number that went where this one goes: by endpoint lookup, or to its mailbox.

    What was sent to another mailbox, to try it out, has not reached the practice.
    """
    if number is None:
        return ()
    sent = earlier.of_number(number, _nhs_number(found), found.origin)
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


def _check_right_patient(found: Unpacked, versions: Iterable[SentDocument]) -> None:
    """Raise Rejection for a document that a later version has put right: it was about the wrong patient.

    That one was written later, or is an edit of this one, and this one not certainly later than it.
    """
    written_at = found.origin.written_at
    for one in versions:
        if one.is_of_patient:
            continue
        if written_at is None or one.written_at is None or written_at == one.written_at:
            is_older = one.is_edit and not found.origin.is_edit
        else:
            is_older = written_at < one.written_at
        if is_older:
            raise Rejection(
                "hl7_replaced",
                "The HL7 message brings an older version of a document (by MSH-7, or as it was first written)"
                f" than the one that was sent as {one.message_id}, and that one is about another patient.",
                "See in the sending system whose document it is. Nothing needs to be done if the patient was"
                " corrected; if both are right, drop this one as a PDF with a sidecar, and if the other is"
                " wrong, tell its practice: MESH cannot take it back.",
            )


_FURTHER: Final = "If it is a further result, drop it as a PDF with a sidecar."


def _check_not_before_edit(found: Unpacked, edits: Iterable[SentDocument]) -> None:
    """Raise Rejection for what is no later version by its message, where one was sent.

    It must be certain that it was written later than that: equal times do not say which came first.
    """
    written_at = found.origin.written_at
    for one in edits:
        if written_at is None or one.written_at is None or written_at <= one.written_at:
            further = f" {_FURTHER}" if found.is_report else ""
            raise Rejection(
                "hl7_replaced",
                "The HL7 message brings a document as it was first written, and a later version of it was"
                f" sent as {one.message_id}; this one is not certainly newer (MSH-7).",
                "Nothing needs to be done if the first version came late. If it is to replace the other, add"
                f' a sidecar with "document": {{"replaces": "{one.message_id}"}}.{further}',
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


def _which(results: Sequence[SentDocument]) -> Caution:
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
    known = [one for one in earlier.of_number(taken.number) if one.is_there]
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
