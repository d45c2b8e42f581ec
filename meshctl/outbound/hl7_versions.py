"""HL7 v2: which earlier document one replaces. Pure.

Which documents were sent before, the ledger knows by the keyed hash of the number that the sending system
gives each. Nothing here reads a file or the ledger.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from meshctl.errors import Rejection
from meshctl.outbound.document import Caution, Origin
from meshctl.outbound.hl7 import Unpacked
from meshctl.outbound.hl7_cautions import (
    NONE_REPLACED,
    NOT_FOUND,
    beside,
    not_replaced,
    number_again,
    number_shared,
    order_unknown,
    other_patient,
    others_valid,
    replaced_before,
    which,
    with_valid,
)
from meshctl.outbound.hl7_checks import (
    check_not_before_edit,
    check_not_older,
    check_not_sent,
    check_not_taken_back,
    check_not_withdrawn,
    check_right_patient,
    replaced_already,
)
from meshctl.outbound.hl7_sent import Earlier, NewerSentRejection, SentDocument, newest_of_patient
from meshctl.payload.hl7_state import WithdrawnRejection
from meshctl.payload.sidecar import Sidecar, laid_over, value_at


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
    above = _above(found, earlier_messages)
    valid = _still_valid(own, above)
    try:
        choice = _choice(found, of_number, above, earlier_messages)
    except NewerSentRejection as rejection:
        raise with_valid(rejection, [one for one in valid if one.message_id != rejection.newer]) from None
    earlier, cautions = choice.earlier, [*found.cautions, *choice.cautions]
    others = [one for one in valid if earlier is not None and one.message_id != earlier.message_id]
    cautions += [others_valid(others)] if others else []
    named_one = newest_of_patient(
        [one for one in _at_same_place(found, found.other_number, earlier_messages) if one.is_there]
    )
    if earlier is None and named_one is not None:
        cautions.append(not_replaced(named_one.message_id))
    sidecar = found.sidecar if earlier is None else _replacing(found.sidecar, earlier.message_id)
    return replace(found, sidecar=sidecar, cautions=tuple(cautions))


def _choice(
    found: Unpacked,
    of_number: Sequence[SentDocument],
    above: Sequence[SentDocument],
    earlier_messages: Earlier,
) -> _Choice:
    own = [one for one in of_number if one.is_there]
    of_replaced = _at_same_place(found, found.origin.replaced_number, earlier_messages)
    parents = [one for one in of_replaced if one.is_there]
    is_again = check_not_sent(found, own)
    if found.sidecar.resend_of is None:
        check_not_withdrawn(of_number)
        check_not_taken_back(found, earlier_messages)
        check_right_patient(found, [*own, *parents])
    if found.is_report:
        choice = _of_results(found, of_number, is_again=is_again)
    else:
        if not any(one.is_of_patient for one in (*own, *parents)):
            # What it replaces did not arrive, and was to replace an earlier one itself.
            parents += [one for one in above if one.is_there]
        choice = _of_documents(found, own, parents, is_again=is_again)
        if choice.earlier is not None and (mine := _of_shared_number(found, own, parents)):
            return _Choice(None, [number_shared(mine)])
    cautions = [*choice.cautions]
    known = own or parents
    if known and not known[0].is_of_patient:
        cautions.append(other_patient(known[0].message_id))
    elif choice.earlier is None and found.is_replacement and not choice.cautions:
        cautions.append(NONE_REPLACED)
    return _Choice(choice.earlier, cautions)


def _of_documents(
    found: Unpacked, own: Sequence[SentDocument], parents: Sequence[SentDocument], *, is_again: bool
) -> _Choice:
    """Choose what a document replaces: one of its own number, else of the number that it names.

    Raises Rejection `hl7_replaced`.
    """
    earlier, cautions = None, []
    if found.replaces_same and not is_again:
        earlier = newest_of_patient(own)
        if earlier is not None and found.is_new:
            cautions.append(number_again(earlier.message_id))
        named_parents = {one.message_id for one in parents if not one.has_other_number}
        if earlier is not None and earlier.has_other_number and earlier.message_id not in named_parents:
            raise replaced_already(earlier)
    if earlier is None:
        # The same document again must not replace itself.
        before = [one for one in parents if not (one.has_other_number or one.is_same_content)]
        earlier = newest_of_patient(before if is_again else parents)
        if earlier is not None and earlier.has_other_number:
            cautions.append(replaced_before(earlier))
    if earlier is not None:
        check_not_older(found, [earlier, *own, *parents])
        if not found.origin.is_edit:
            check_not_before_edit(found, [one for one in own if one.is_of_patient and one.is_edit])
        if earlier in own and not _is_certainly_later(found.origin, earlier):
            cautions.append(order_unknown(earlier.message_id))
    return _Choice(earlier, cautions)


def _of_shared_number(
    found: Unpacked, own: Sequence[SentDocument], parents: Sequence[SentDocument]
) -> Sequence[SentDocument]:
    """Return the documents of the patient that it might replace, if the number is no document's own.

    Then other patients have it too. A new document (T02) replaces none of them, others the only one there is.
    """
    documents = [one for one in own or parents if not one.has_other_number]
    if all(one.is_of_patient for one in documents):
        return ()
    replaced = {one.replaces for one in (*own, *parents)}
    mine = [one for one in documents if one.is_of_patient and one.message_id not in replaced]
    return mine if found.is_new or len(mine) > 1 else ()


def _is_certainly_later(origin: Origin, earlier: SentDocument) -> bool:
    """True if the events, or the times, of two versions of a document say that the second is later."""
    if origin.is_edit and not earlier.is_edit:
        return True
    return None not in (origin.written_at, earlier.written_at) and origin.written_at != earlier.written_at


def _of_results(found: Unpacked, of_number: Sequence[SentDocument], *, is_again: bool) -> _Choice:
    """Choose what a report replaces: a correction the one report of its order that it can mean, others none.

    An order may have several results, and each of them a report. Raises Rejection `hl7_replaced`.
    """
    others = [one for one in of_number if one.is_of_patient and not one.is_same_content]
    there = [one for one in others if one.is_there]
    same = [one for one in others if one.is_same_result]
    edits = [one for one in same if one.is_there and one.is_edit]
    if found.is_replacement:
        check_not_older(found, edits)
    elif found.sidecar.resend_of is None:
        check_not_before_edit(found, edits)
    if not found.is_replacement:
        return _Choice(None, [beside(there[0].message_id)] if there and not is_again else ())
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
            check_not_older(found, meant)
            return _Choice(meant[0])
    return _Choice(None, [which(meant or current)] if current else ())


def _at_same_place(found: Unpacked, number: str | None, earlier: Earlier) -> Sequence[SentDocument]:
    """Return the documents of a number that went where this one goes: by endpoint lookup, or to its mailbox.

    What was sent to another mailbox, to try it out, has not reached the practice.
    """
    if number is None:
        return ()
    return _there(found, earlier.of_number(number, found.nhs_number, found.origin))


def _there(found: Unpacked, documents: Iterable[SentDocument]) -> Sequence[SentDocument]:
    to_mailbox = (found.sidecar.to_mailbox or "").upper()
    return [one for one in documents if (one.to_mailbox or "").upper() == to_mailbox]


def _above(found: Unpacked, earlier: Earlier) -> Sequence[SentDocument]:
    """Return the documents of the numbers that a document follows; nothing follows from that of a result."""
    if found.is_report or not found.replaces_same:
        return ()
    return _there(found, earlier.replaced_by_number(found.nhs_number, found.origin))


def _still_valid(own: Sequence[SentDocument], above: Sequence[SentDocument]) -> Sequence[SentDocument]:
    """Return the documents that the practice takes for valid, though others have replaced their numbers.

    Of each number that is the newest at most.
    """
    newest = newest_of_patient(own)
    is_replaced = newest is not None and newest.has_other_number
    documents = [one for one in (*above, *(own if is_replaced else ())) if one.is_there and one.is_of_patient]
    replaced = {one.replaces for one in (*own, *above) if one.is_there}
    valid: dict[bytes, SentDocument] = {}
    for one in documents:
        if not one.has_other_number:
            valid.setdefault(one.number, one)
        elif one.is_sent_again:
            # Then it was linked with the earlier one, which the ledger does not know.
            replaced |= {each.message_id for each in documents if each.message_id < one.message_id}
    return [one for one in valid.values() if one.message_id not in replaced]


def with_standing(rejection: Rejection, link: Origin, earlier: Earlier) -> Rejection:
    """Return the rejection of what cannot be read, with the documents that are still valid, if known.

    `link` says which document it was to bring, and to replace, and whose it is.
    """
    if not link.number or link.nhs_number is None:
        return rejection
    own = [one for one in earlier.of_number(link.number, link.nhs_number, link) if one.is_there]
    if newest_of_patient(own) is None:
        # What it was to replace is the newest version that the practice has.
        return rejection
    return with_valid(rejection, _still_valid(own, earlier.replaced_by_number(link.nhs_number, link)))


def named(taken: WithdrawnRejection, earlier: Earlier) -> Rejection:
    """Return the rejection of what takes a document back, with the messages that it means, if known.

    These are all with its number that no other has replaced: for each patient, and for each report of an
    order, unless the message says which result it means.
    """
    if taken.number is None:
        return Rejection(taken.code, f"{taken.text} It gives no number of the document.", taken.advice)
    origin = Origin(taken.number, None, None, taken.written_at, result=taken.result)
    known = [one for one in earlier.of_number(taken.number, None, origin) if one.is_there]
    if not known:
        text = f"{taken.text} None was found under exactly its number among those that were sent from here."
        return Rejection(taken.code, text, f"{NOT_FOUND} {taken.advice}")
    replaced = {one.replaces: one.message_id for one in known}
    of_number = [one for one in known if not one.has_other_number] or known
    of_number = [one for one in of_number if one.is_same_result] or of_number
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
