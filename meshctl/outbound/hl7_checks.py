"""Which documents of HL7 v2 messages are refused, by what was sent before: a copy, an old version. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from meshctl.errors import Rejection
from meshctl.outbound.hl7 import Unpacked
from meshctl.outbound.hl7_sent import Earlier, NewerSentRejection, SentDocument, newest_of_patient


def check_not_taken_back(found: Unpacked, earlier: Earlier) -> None:
    """Raise Rejection for a document that its sender took back, unless it was certainly written later."""
    if found.origin.number is None:
        return
    taken = earlier.taken_back(found.origin.number, found.nhs_number, found.origin.result)
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


def check_not_withdrawn(documents: Iterable[SentDocument]) -> None:
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


def check_not_older(found: Unpacked, versions: Iterable[SentDocument]) -> None:
    """Raise Rejection for a document that was written before another version of it that was sent."""
    written_at = found.origin.written_at
    if written_at is None:
        return
    for one in versions:
        if one.is_of_patient and one.written_at is not None and written_at < one.written_at:
            raise NewerSentRejection(
                "hl7_replaced",
                "The HL7 message brings an older version of a document (by MSH-7) than the one that was sent"
                f" as {one.message_id}.",
                "Nothing needs to be done if an old version came late. If it is to replace the other, add a"
                f' sidecar with "document": {{"replaces": "{one.message_id}"}}.',
                one.message_id,
            )


def check_right_patient(found: Unpacked, versions: Iterable[SentDocument]) -> None:
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
            raise NewerSentRejection(
                "hl7_replaced",
                "The HL7 message brings an older version of a document (by MSH-7, or as it was first written)"
                f" than the one that was sent as {one.message_id}, and that one is about another patient.",
                "See in the sending system whose document it is. Nothing needs to be done if the patient was"
                " corrected; if both are right, drop this one as a PDF with a sidecar, and if the other is"
                " wrong, tell its practice: MESH cannot take it back.",
                one.message_id,
            )


_FURTHER: Final = "If it is a further result, drop it as a PDF with a sidecar."


def check_not_before_edit(found: Unpacked, edits: Iterable[SentDocument]) -> None:
    """Raise Rejection for what is no later version by its message, where one was sent.

    It must be certain that it was written later than that: equal times do not say which came first.
    """
    written_at = found.origin.written_at
    for one in edits:
        if written_at is None or one.written_at is None or written_at <= one.written_at:
            further = f" {_FURTHER}" if found.is_report else ""
            raise NewerSentRejection(
                "hl7_replaced",
                "The HL7 message brings a document as it was first written, and a later version of it was"
                f" sent as {one.message_id}; this one is not certainly newer (MSH-7).",
                "Nothing needs to be done if the first version came late. If it is to replace the other, add"
                f' a sidecar with "document": {{"replaces": "{one.message_id}"}}.{further}',
                one.message_id,
            )


def check_not_sent(found: Unpacked, own: Sequence[SentDocument]) -> bool:
    """True if the same document was sent, and a sidecar wants it sent again; Rejection if none does.

    Each that was sent counts: an old version that comes again must not replace a newer one.
    """
    same = next((one for one in own if one.is_of_patient and one.is_same_content), None)
    if same is None or found.sidecar.resend_of is not None:
        return same is not None
    newest = newest_of_patient(own) or same
    text = f"The same document was sent before, as {same.message_id}"
    if newest is same:
        raise NewerSentRejection(
            "hl7_already_sent",
            f"{text}.",
            f"Nothing needs to be done; meshctl show {same.message_id} says what became of it. To send it"
            f' again, add a sidecar with "resend_of": "{same.message_id}".',
            same.message_id,
        )
    raise NewerSentRejection(
        "hl7_already_sent",
        f"{text}, and a later one of its number as {newest.message_id}.",
        "Nothing needs to be done if an old version came again. If it is to replace the later one, add a"
        f' sidecar with "document": {{"replaces": "{newest.message_id}"}}.',
        newest.message_id,
    )


def replaced_already(newest: SentDocument) -> NewerSentRejection:
    """Return the rejection of a version of what a document with another number has replaced."""
    return NewerSentRejection(
        "hl7_replaced",
        "The HL7 message brings another version of a document that was replaced by one with another number,"
        f" sent as {newest.message_id}.",
        "See in the sending system which is newer. If this one is, add a sidecar with"
        f' "document": {{"replaces": "{newest.message_id}"}}; else nothing needs to be done.',
        newest.message_id,
    )
