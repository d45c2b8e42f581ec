"""What an HL7 v2 message says of its document, in the keys of a sidecar: patient, type, title, date, author.

MDM messages (chapter 9 of the standard) and results (ORU) are read. A message that takes a document back, has
none, or whose document is not final is a rejection. Nothing is guessed: a value that is missing or doubtful
is left out, or is a rejection unless a sidecar gives it. No text quotes a value.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PureWindowsPath
from typing import Final

from meshctl.errors import Rejection
from meshctl.mesh.snomed import is_concept_id
from meshctl.payload.hl7_document import Hl7Document
from meshctl.payload.hl7_patient import Doubt, Values, patient_of
from meshctl.payload.hl7_state import (
    Hl7Rules,
    carriers_of,
    check_kind,
    check_status,
    code_of,
    doubts_about_mode,
    message_kind,
    order_of,
)
from meshctl.payload.hl7_v2 import Message, Parts, Segment, one_line, text_of, whole_text
from meshctl.payload.hl7_values import instant_of, number_of, number_of_report, result_of, written_at
from meshctl.payload.sidecar import SDS_USER_ID


@dataclass(frozen=True, slots=True, repr=False)
class Hl7Letter:
    """A document and what its message says of it.

    `values` are those of sidecar keys, by name with dots. `missing` has the rejections that are due for keys
    that no sidecar gives. `number` identifies the document at its sender, `replaced_number` an earlier one
    that it replaces, `other_number` one that it names and does not replace; they are no use to anybody but as
    keyed hashes. `written_at` is when the sending system wrote the message, None where that is not certain;
    `result` says which result of its order a report is about, or that it is an addendum: of these only an
    edit replaces another. `is_edit` if the message says that it brings a later version of a document.
    `is_dated` if the date is the document's own and not that of its message. `type_codes` are those of the
    document's type, as the sending system writes them. `replaces_same` is true if a document of the same
    number is replaced by it.
    """

    kind: str
    sender: str
    document: Hl7Document
    values: Mapping[str, object]
    missing: Mapping[str, Rejection]
    number: str | None
    replaced_number: str | None
    other_number: str | None
    written_at: datetime | None
    is_dated: bool
    type_codes: tuple[str, ...]
    replaces_same: bool
    is_replacement: bool
    is_report: bool
    result: str | None
    is_edit: bool
    doubts: tuple[Doubt, ...] = ()


def read_letter(message: Message, document: Hl7Document | Rejection, rules: Hl7Rules) -> Hl7Letter:
    """Return the letter of a message; `document` may be why it has none.

    Raises Rejection: `hl7_event`, `hl7_training`, `hl7_cancel`, `hl7_no_content`, `hl7_not_final`,
    `hl7_withdrawn`, `hl7_several_patients`, `hl7_two_nhs_numbers`, `hl7_character_set`, that of the document.
    """
    kind, event = message_kind(message)
    check_kind(message, kind, event, rules)
    carriers = () if isinstance(document, Rejection) else document.segments
    order = order_of(message, carriers)
    check_status(message, order, carriers or carriers_of(message, document), rules)
    patient, missing, doubts = patient_of(message, pid_19=rules.pid_19)
    if isinstance(document, Rejection):
        raise document
    header = message.first("MSH")
    sender = message.parts(header, 4)
    is_report = kind == "ORU"
    about = _of_report(message, order, carriers) if is_report else _of_document(message, carriers)
    is_corrected = any(code_of(message, one, 11) == "C" for one in carriers)
    is_corrected |= is_report and code_of(message, order, 25) == "C"
    dated = next(filter(None, map(instant_of, about.dates)), None)
    is_replacement = event == "T10" or is_corrected
    is_addendum = event == "T06" and not is_corrected
    own, parent = about.numbers
    if own is not None and event == "T06" and parent in (None, own):
        # It is that of the document to which it adds, of which later versions must replace that alone.
        own += _ADDENDUM
    values = {
        **patient,
        **_type(about.types, rules),
        "document.title": next((title for title in about.titles if title), None),
        "document.date": dated or instant_of(message.text(header, 7)),
        **next(filter(None, map(_author, about.people)), {}),
        "document.confidential": bool(about.confidentiality & _RESTRICTED) or None,
        "document.sender_reference": message.text(header, 10) or None,
    }
    born = str(patient.get("patient.date_of_birth", ""))
    doubts += _about_date(about.dates, message.text(header, 7), born)
    if about.confidentiality & _VERY_RESTRICTED:
        doubts.append((_IS_VERY_RESTRICTED, _SEE_CONFIDENTIAL, None))
    elif about.confidentiality - _RESTRICTED - _USUAL:
        doubts.append((*_UNKNOWN_CONFIDENTIALITY, None))
    doubts += doubts_about_mode(message)
    if (sent := message.text(header, 7)) and instant_of(sent) is None and written_at(message) is None:
        doubts.append((*_UNREADABLE_TIME, None))
    if not message.has_end and any(len(one.fields) <= _RESULT_STATUS for one in carriers[-1:]):
        doubts.append((*_MAY_BE_CUT, None))
    if is_replacement and len(message.repetitions(message.first("TXA"), 13)) > 1:
        doubts.append((*_SEVERAL_REPLACED, None))
    doubts += [(text, advice, None) for text, advice in (*message.cautions, *document.cautions)]
    return Hl7Letter(
        kind=f"{kind}^{event}",
        sender=text_of(sender, 1),
        document=document,
        values={key: value for key, value in values.items() if value is not None},
        missing=missing,
        number=own,
        # What an addendum adds to stays valid, also when the addendum is corrected.
        replaced_number=parent if is_replacement and event != "T06" else None,
        other_number=None if is_report or is_replacement or event == "T06" or parent == own else parent,
        written_at=written_at(message),
        is_dated=dated is not None,
        type_codes=tuple(text_of(parts, 1) for parts in about.types),
        # An addendum replaces nothing, even if it has the number of the document that it is about.
        replaces_same=is_corrected if is_report else not is_addendum,
        is_replacement=is_replacement,
        is_report=is_report,
        result=result_of(message, order, carriers) if is_report else _ADDENDUM if is_addendum else None,
        is_edit=is_replacement or event == "T08",
        doubts=tuple(doubts),
    )


def link_of(message: Message, rules: Hl7Rules) -> tuple[str, str, str | None] | None:
    """Return the number of a document, that of the one that it replaces, and the NHS number.

    None where it does not have both numbers. The message need not be readable in all else.
    """
    kind, event = message_kind(message)
    txa = message.first("TXA")
    try:
        check_kind(message, kind, event, rules)
        own, parent = (number_of(message, message.parts(txa, number)) for number in (12, 13))
        is_corrected = any(code_of(message, one, 11) == "C" for one in message.all("OBX"))
        if kind != "MDM" or not own or not parent or own == parent:
            return None
        if event != "T10" and not (is_corrected and event != "T06"):
            return None
        nhs_number = patient_of(message, pid_19=rules.pid_19)[0].get("patient.nhs_number")
    except Rejection:
        return None
    return own, parent, None if nhs_number is None else str(nhs_number)


_UNREADABLE_DATE: Final = (
    "The date of the document is none (TXA-4 or OBR-22, or one in their place); another was taken.",
    "Look at the date in what was sent; have the system write a real day as YYYYMMDD.",
)
_UNREADABLE_TIME: Final = (
    "MSH-7 is no time that can be read, so which version of the document is newer cannot be told.",
    "Have the sending system write date and time as YYYYMMDDHHMMSS.",
)
_RESULT_STATUS: Final = 11
_MAY_BE_CUT: Final = (
    "The HL7 message ends in the segment of its document, without a line end and without a state (OBX-11).",
    "See that the sending system has written all of it; have it end each segment with a line end.",
)
_SEVERAL_REPLACED: Final = (
    "The HL7 message replaces several documents (TXA-13), and only the first is marked as replaced.",
    "Tell the practice of the others.",
)
_BEFORE_BIRTH: Final = (
    "The document is dated earlier than the patient's birth (PID-7).",
    "See that the date of the document is right; a practice files it by that.",
)
_LATER_DATE: Final = (
    "The document is dated later than its message (MSH-7).",
    "See that the date of the document is right; a practice files it by that.",
)


def _about_date(dates: Iterable[str], sent: str, born: str) -> Iterator[Doubt]:
    """Yield what is doubtful about the first date of a document.

    The message was written at `sent`, as MSH-7 has it; the patient was born on `born`.
    """
    first = next(filter(None, dates), None)
    if first is None:
        return
    written, message_written = instant_of(first), instant_of(sent)
    if written is None:
        yield (*_UNREADABLE_DATE, None)
    elif written < born:
        yield (*_BEFORE_BIRTH, None)
    elif message_written is not None:
        # A day more, as either may be without an offset.
        latest = datetime.fromisoformat(message_written).date() + timedelta(days=1)
        if datetime.fromisoformat(written).date() > latest:
            yield (*_LATER_DATE, None)


# Table 0272 has U, R and V; others are from HL7 version 3, or words.
_VERY_RESTRICTED: Final = frozenset({"V", "VR", "VERY RESTRICTED"})
_RESTRICTED: Final = _VERY_RESTRICTED | {"R", "S", "T", "RESTRICTED", "SENSITIVE", "CONFIDENTIAL", "TABOO"}
_USUAL: Final = frozenset({"U", "N", "L", "M", "NORMAL", "USUAL", "USUAL CONTROL", "LOW", "MODERATE"})
_UNKNOWN_CONFIDENTIALITY: Final = (
    "TXA-18 says in no code of HL7 how confidential the document is; it goes as an ordinary one.",
    "Have the system write U, R or V; if it is confidential, give confidential in a sidecar.",
)
_IS_VERY_RESTRICTED: Final = "The message marks its document as very restricted (TXA-18)."
_SEE_CONFIDENTIAL: Final = "Look at whether the sending system marks all documents so."


@dataclass(frozen=True, slots=True, repr=False)
class Hl7Summary:
    """What kind of message it is, for a person: without any value of the patient.

    `missing` names what it does not give of the patient; `local_codes` are those of the document's type,
    empty where it has a SNOMED code of its own, which is `own_code`, with the field that it is from.
    """

    kind: str
    meaning: str
    missing: tuple[str, ...]
    local_codes: tuple[str, ...]
    own_code: str | None


def summary_of(message: Message, document: Hl7Document | Rejection, rules: Hl7Rules) -> Hl7Summary:
    """Return what kind of message it is. Raises Rejection where nobody can say which patient it is about."""
    kind, event = message_kind(message)
    patient, _, _ = patient_of(message, pid_19=rules.pid_19)
    carriers = () if isinstance(document, Rejection) else document.segments
    fields = {
        "TXA-2": message.parts(message.first("TXA"), 2),
        "OBX-3": message.parts(carriers[0], 3) if carriers else (),
        "OBR-4": message.parts(order_of(message, carriers), 4) if kind == "ORU" else (),
    }
    own = (
        f"{code} ({place})"
        for place, parts in fields.items()
        if (code := _type([parts], Hl7Rules()).get("document.type.code"))
    )
    own_code = next(own, None)
    local = dict.fromkeys(filter(None, (text_of(parts, 1) for parts in fields.values())))
    return Hl7Summary(
        " ".join(filter(None, (kind, event))),
        _MEANINGS.get(event if kind == "MDM" else kind, ""),
        tuple(name for key, name in _ROUTED.items() if key not in patient),
        () if own_code else tuple(local),
        own_code,
    )


_ROUTED: Final = {
    "patient.nhs_number": "NHS number",
    "patient.date_of_birth": "date of birth",
    "patient.surname": "surname",
}
_MEANINGS: Final = {
    "T01": "announces a new document",
    "T02": "contains a new document",
    "T03": "announces that the state of a document has changed",
    "T04": "contains a document whose state has changed",
    "T05": "announces an addendum",
    "T06": "contains an addendum to a document",
    "T07": "announces that a document was edited",
    "T08": "contains a document that was edited",
    "T09": "announces that a document was replaced",
    "T10": "contains a document that replaces an earlier one",
    "T11": "cancels a document",
    "ORU": "contains results, perhaps as a document",
}


@dataclass(frozen=True, slots=True, repr=False)
class _About:
    """What a message says of its document, in the order in which it counts."""

    types: Sequence[Parts]
    titles: Sequence[str]
    dates: Sequence[str]
    people: Sequence[Parts]
    numbers: tuple[str | None, str | None]
    confidentiality: AbstractSet[str] = frozenset()


def _of_document(message: Message, carriers: Sequence[Segment]) -> _About:
    """Return what TXA says, and OBX."""
    txa, obx = message.first("TXA"), carriers[0]
    kind, name = message.parts(txa, 2), message.parts(obx, 3)
    return _About(
        types=(kind, name),
        titles=(
            _without_ending(whole_text(message.parts(txa, 25), 1)),
            _name_of(name),
            _name_of(kind),
            _without_ending(whole_text(message.parts(txa, 16), 1)),
        ),
        dates=[*(message.text(txa, number) for number in (4, 6, 7)), message.text(obx, 14)],
        people=[one for number in (9, 5, 10, 22) for one in message.repetitions(txa, number)],
        numbers=(number_of(message, message.parts(txa, 12)), number_of(message, message.parts(txa, 13))),
        confidentiality={text_of(one, 1).upper() for one in message.repetitions(txa, 18)},
    )


def _of_report(message: Message, order: Segment, carriers: Sequence[Segment]) -> _About:
    """Return what OBR says, and OBX."""
    obx = carriers[0]
    name, kind = message.parts(obx, 3), message.parts(order, 4)
    number = number_of_report(message, order)
    dates = [message.text(order, 22), message.text(order, 7), message.text(obx, 14)]
    people = [*map(_within, message.repetitions(order, 32)), *message.repetitions(obx, 16)]
    return _About((name, kind), (_name_of(name), _name_of(kind)), dates, people, (number, number))


def _within(person: Parts) -> Parts:
    """Return a person who stands in the sub-components of the first component (type NDL) as one of XCN."""
    first = person[0] if person else ()
    return tuple((part,) for part in first) if len(first) > 1 else person


_SNOMED: Final = frozenset(
    {"SNM3", "SCT", "SNOMEDCT", "SNOMED", "2.16.840.1.113883.6.96", "HTTP://SNOMED.INFO/SCT"}
)
_FILE_ENDING: Final = re.compile(r"\.(?:pdf|docx?|rtf|tiff?|jpe?g|png|txt|html?|xml)", re.IGNORECASE)


def _type(kinds: Sequence[Parts], rules: Hl7Rules) -> Values:
    """Return the type of a document: a SNOMED code of its own, else the site's for a local code.

    A code that is said to be of SNOMED and fails its check digit is a local one.
    """
    for parts in kinds:
        for at in (1, 4):
            code, text, system = (whole_text(parts, at + number) for number in range(3))
            is_snomed = re.sub(r"[\s_-]", "", system.upper()) in _SNOMED
            if is_snomed and is_concept_id(code):
                return {"document.type.code": code, "document.type.display": one_line(text) or None}
    local = [text_of(parts, at) for parts in kinds for at in (1, 4)]
    mapped = next((rules.types[code] for code in local if code in rules.types), rules.default_type)
    return {} if mapped is None else {"document.type.code": mapped}


def _name_of(parts: Parts) -> str:
    """Return the name of a code; some systems write the name of a file there."""
    return _without_ending(whole_text(parts, 2) or whole_text(parts, 5) or whole_text(parts, 9))


def _without_ending(text: str) -> str:
    """Return a title; of the name of a file what stands before its ending."""
    name = PureWindowsPath(text)
    return one_line(name.stem if _FILE_ENDING.fullmatch(name.suffix) else text)


# Of a name that is one text; without a title it may be that of a ward.
_TITLED: Final = re.compile(
    r"(?:Dr|Mr|Mrs|Ms|Miss|Mx|Prof|Professor|Sir|Dame|Sister|Nurse)\.? .+", re.IGNORECASE
)


def _author(person: Parts) -> Values:
    """Return a person as the author; nothing without a name."""
    surname = text_of(person, 2)
    if not surname:
        # Some systems write nothing but a name, as one text.
        alone = one_line(text_of(person, 1))
        is_name = not any(map(any, person[1:])) and _TITLED.fullmatch(alone)
        return {"document.author.name": alone} if is_name else {}
    words = (text_of(person, 6), text_of(person, 3), text_of(person, 4), surname, text_of(person, 5))
    authority = text_of(person, 9).upper()
    identity = text_of(person, 1)
    # SDS numbers roles too.
    is_sds = "SDS" in authority and "ROLE" not in authority and SDS_USER_ID.fullmatch(identity)
    return {
        "document.author.name": one_line(" ".join(words)),
        "document.author.sds_user_id": identity if is_sds else None,
    }


_ADDENDUM: Final = "\x1eaddendum"
