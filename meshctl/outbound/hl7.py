"""HL7 v2: what a message brings, as if a sidecar had said it, and which earlier document it replaces.

A use case that makes a message around documents takes the document out of an HL7 v2 message; from then on it
is a document with a sidecar. A sidecar that lies beside it counts more, key by key; but both must be about
the same patient. Other use cases send the file as it was dropped.

Which documents were sent before, the ledger knows by the keyed hash of the number that the sending system
gives each. Nothing here reads a file or the ledger.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from pydantic import ValidationError

from meshctl.errors import Rejection
from meshctl.outbound.document import Caution, Origin
from meshctl.outbound.recipient import IncompleteError, check_agreement
from meshctl.payload.facts import PatientFacts
from meshctl.payload.hl7_document import Hl7Document
from meshctl.payload.hl7_file import Hl7File
from meshctl.payload.hl7_letter import Hl7Letter, read_letter
from meshctl.payload.hl7_state import Hl7Rules, WithdrawnRejection
from meshctl.payload.sidecar import Sidecar, laid_over, nested, value_at
from meshctl.settings.load import INVENTED_ODS_CODE
from meshctl.settings.model import Settings

OTHER_PATIENT: Final = "hl7_other_patient"
"""The code of a caution: a document of the same number went to the practice of another patient."""

# Of these a sidecar gives all or nothing: a name and another person's id would not fit together.
_UNITS: Final = ("document.type", "document.author", "patient.address")
_ODS_CODE: Final = re.compile(r"R[A-Z0-9]{2}(?:[A-Z0-9]{2})?")
_TRUST_CHARACTERS: Final = 3
_FIELDS: Final = {
    "patient.nhs_number": "PID-3",
    "patient.date_of_birth": "PID-7",
    "patient.surname": "PID-5",
    "patient.given": "PID-5",
    "patient.prefix": "PID-5",
    "patient.address": "PID-11",
    "document.type": "TXA-2 or OBX-3",
    "document.title": "TXA-25, OBX-3 or OBR-4",
    "document.date": "TXA-4 or OBR-22",
    "document.author": "TXA-9 or OBR-32",
    "document.sender_reference": "MSH-10",
}
_NEW: Final = "MDM^T02"


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


@dataclass(frozen=True, slots=True, repr=False)
class Unpacked:
    """The document of an HL7 message, and what message and sidecar say of it together."""

    document: Hl7Document
    sidecar: Sidecar
    origin: Origin
    replaces_same: bool
    is_replacement: bool
    is_report: bool
    is_new: bool
    """True if the message says that it brings a new document (T02)."""
    cautions: tuple[Caution, ...]


def unpacked(file: Hl7File, given: Sidecar, settings: Settings, now: datetime) -> Unpacked:
    """Return what an HL7 file brings.

    Raises Rejection as the readers do, WithdrawnRejection; IncompleteError for what a sidecar could add;
    `patient_disagreement`, `hl7_wrong_value`.
    """
    if isinstance(file.message, Rejection):
        raise file.message
    letter = read_letter(file.message, file.document, Hl7Rules(**dict(settings.hl7)))
    cautions = _cautions(letter, settings)
    written_at = letter.written_at
    if written_at is not None and written_at > now + _MOST_AHEAD:
        # Every later version would count as older.
        written_at = None
        cautions = [*cautions, _AHEAD]
    elif written_at is not None and written_at < now - timedelta(days=settings.state.keep_days):
        cautions = [*cautions, _OLD]
    return Unpacked(
        letter.document,
        _merged(letter, given),
        Origin(letter.number, letter.replaced_number, _content(letter), written_at),
        letter.replaces_same,
        letter.is_replacement,
        letter.is_report,
        letter.kind == _NEW,
        tuple(cautions),
    )


# What a replay by the sending system does not change, and a correction does.
_COMPARED: Final = (
    "patient.date_of_birth",
    "patient.surname",
    "patient.given",
    "document.title",
    "document.author.name",
    "document.confidential",
)


def _content(letter: Hl7Letter) -> str:
    """Return what is compared with earlier documents of a number: all that makes it another version.

    A corrected surname counts, as the first may never arrive; of the type, the codes of the sending system.
    What a sidecar says does not: a replay has none, and must not replace what a person has corrected.
    """
    keys = (*_COMPARED, "document.date") if letter.is_dated else _COMPARED
    said = (str(letter.values.get(key)).casefold() for key in keys)
    return hashlib.sha256(
        "\x1f".join((letter.document.sha256, *letter.type_codes, *said)).encode()
    ).hexdigest()


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


def _merged(letter: Hl7Letter, given: Sidecar) -> Sidecar:
    """Return what letter and sidecar say together."""
    _check_same_patient(letter, given)
    for key, rejection in letter.missing.items():
        if value_at(given, key) is None:
            raise IncompleteError(rejection.code, rejection.text, rejection.advice)
    units = tuple(f"{unit}." for unit in _UNITS if value_at(given, unit) is not None)
    values = {
        key: value
        for key, value in letter.values.items()
        if not key.startswith(units or " ") and value_at(given, key) is None
    }
    try:
        sidecar = Sidecar.model_validate(nested(values))
    except ValidationError as error:
        raise _wrong_value(error) from None
    return laid_over(given, sidecar) or sidecar


def _check_same_patient(letter: Hl7Letter, given: Sidecar) -> None:
    """Raise Rejection `patient_disagreement` where letter and sidecar are about two people.

    If the letter has an NHS number, that says who it is, and a sidecar may give another name; if the sidecar
    has the only one, nothing but the rest says that it is of the same person.
    """
    number, born, surname = (
        str(letter.values.get(f"patient.{key}", "")) for key in ("nhs_number", "date_of_birth", "surname")
    )
    if number:
        check_agreement(PatientFacts(number, None, None, None), given.patient)
    elif value_at(given, "patient.nhs_number") is not None:
        check_agreement(PatientFacts(None, born, surname, None), given.patient)


def _wrong_value(error: ValidationError) -> Rejection:
    places = [
        ".".join(map(str, fault["loc"][:2]))
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    fields = dict.fromkeys(_FIELDS.get(place, "PID, TXA or OBX") for place in places)
    return Rejection(
        "hl7_wrong_value",
        f"A value of the HL7 message is too long, or holds a control character: {', '.join(fields)}.",
        "Correct it in the sending system, or give the value in a sidecar.",
    )


_MOST_AHEAD: Final = timedelta(days=1)
_AHEAD: Final = Caution(
    "The HL7 message says that it was written tomorrow or later (MSH-7), so which version of its document is"
    " newer cannot be told.",
    "Correct the clock of the sending system.",
)
_OLD: Final = Caution(
    "The HL7 message was written longer ago (MSH-7) than the ledger keeps messages (keep_days), so whether"
    " its document was sent before is not known.",
    "See why the sending system sends it now.",
)
_NO_NUMBER: Final = Caution(
    "The HL7 message gives its document no number (TXA-12; of results OBR-3), so neither a later version nor"
    " a copy of it can be recognised.",
    "Have the sending system number its documents; until then, see that it sends each once.",
)


def _cautions(letter: Hl7Letter, settings: Settings) -> Sequence[Caution]:
    cautions = [Caution(text, advice, code) for text, advice, code in letter.doubts]
    if letter.number is None:
        cautions.append(_NO_NUMBER)
    own = settings.mailbox.ods_code
    is_known = own not in (None, INVENTED_ODS_CODE) and _ODS_CODE.fullmatch(letter.sender)
    # The code of a site begins with that of its organisation.
    if own and is_known and letter.sender[:_TRUST_CHARACTERS] != own[:_TRUST_CHARACTERS]:
        cautions.append(
            Caution(
                "The HL7 message comes from another organisation (MSH-4) than ods_code in [mailbox] says.",
                "See that the right system writes into this outbox.",
            )
        )
    return cautions
