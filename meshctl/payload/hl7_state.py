"""What kind of HL7 v2 message it is, and whether its document may be sent: live, final, not withdrawn. Pure.

No text quotes a value, but codes of HL7's own tables.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from meshctl.errors import Rejection
from meshctl.payload.hl7_document import Hl7Document
from meshctl.payload.hl7_patient import Doubt, patient_of
from meshctl.payload.hl7_v2 import Message, Segment
from meshctl.payload.hl7_values import number_of, number_of_report, result_of, written_at


class Hl7Rules(NamedTuple):
    """What a site has decided: `[hl7]` of the settings, which explains each."""

    types: Mapping[str, str] = {}
    default_type: str | None = None
    unsigned_is_final: bool = False
    training: bool = False
    pid_19: bool = False


class WithdrawnRejection(Rejection):
    """The message, written at some time, takes a document of a patient back: `number` says which.

    Of a report `result` says which result of its order it is about. What it does not say is None.
    """

    def __init__(
        self, code: str, text: str, message: Message, number: str | None, result: str | None = None
    ) -> None:
        super().__init__(
            code,
            text,
            "If the document was sent, tell the practice, above all if it was about the wrong patient.",
        )
        self.number = number
        self.result = result
        self.written_at = written_at(message)
        self.nhs_number: str | None = None
        with suppress(Rejection):
            self.nhs_number = patient_of(message, pid_19=False)[0].get("patient.nhs_number")


def message_kind(message: Message) -> tuple[str, str]:
    """Return type and event of a message, as "MDM" and "T02"; empty where it does not say."""
    header = message.first("MSH")
    kind = message.text(header, 9).upper()
    return kind, (message.text(header, 9, 2) or message.text(message.first("EVN"), 1)).upper()


WITH_CONTENT: Final = frozenset({"T02", "T04", "T06", "T08", "T10"})
_WITHOUT_CONTENT: Final = frozenset({"T01", "T03", "T05", "T07", "T09"})


# Table 0103 has D, P and T; systems write words too: TEST, TRAINING, DEBUG, DEV.
_NOT_LIVE: Final = ("T", "D")
_LIVE: Final = ("", "P", "L")
_UNKNOWN_MODE: Final = (
    "The message says in no code of HL7 whether it is from the live system (MSH-11); it was taken for live.",
    "See that no test system writes here; have the live one write P.",
)


def _mode(message: Message) -> str:
    return message.text(message.first("MSH"), 11).upper()


def doubts_about_mode(message: Message) -> Iterator[Doubt]:
    """Yield what is doubtful about whether a message is from the live system."""
    mode = _mode(message)
    if mode[:1] not in _LIVE and not mode.startswith(_NOT_LIVE):
        yield (*_UNKNOWN_MODE, None)


def check_kind(message: Message, kind: str, event: str, rules: Hl7Rules) -> None:
    """Raise Rejection unless a message is of a kind that brings one document, and from the live system.

    `hl7_event`, `hl7_training`, `hl7_no_content`, `hl7_several_documents`; WithdrawnRejection `hl7_cancel`.
    """
    if not (kind == "ORU" and event in {"R01", ""}) and not (kind == "MDM" and event in _MDM_EVENTS):
        raise Rejection(
            "hl7_event",
            "The file is an HL7 v2 message of a type that brings no document (MSH-9).",
            "Have the system send documents as MDM (T02, T04, T06, T08, T10) or ORU R01, and no others here.",
        )
    if _mode(message).startswith(_NOT_LIVE) and not rules.training:
        raise Rejection(
            "hl7_training",
            "The message is marked as training or debugging (MSH-11), so nobody is to act on it.",
            "Send from the live system; to try it out, set training = true in [hl7].",
        )
    if event == "T11":
        raise WithdrawnRejection(
            "hl7_cancel",
            "The message cancels a document (MDM T11), and MESH cannot take back a letter.",
            message,
            number_of(message, message.parts(message.first("TXA"), 12)),
        )
    if event in _WITHOUT_CONTENT:
        raise Rejection(
            "hl7_no_content",
            f"The message only announces a document and does not contain it (MDM {event}).",
            "Have the system send the event that brings the document: T02, T04, T06, T08 or T10.",
        )
    if len(message.all("TXA")) > 1:
        raise Rejection(
            "hl7_several_documents",
            "The message holds several documents; one message to a practice has one.",
            "Have the system send each document in a message of its own.",
        )


_MDM_EVENTS: Final = WITH_CONTENT | _WITHOUT_CONTENT | {"T11"}


# Tables 0271, 0273, 0085 and 0123 of HL7; F as TXA-17 is in no table and in use.
_COMPLETION: Final = {"AU": "", "LA": "", "F": "", "": "", "CA": "withdrawn"}
_AVAILABILITY: Final = {"AV": "", "": "", "OB": "withdrawn", "CA": "withdrawn"}
_RESULT: Final = {
    **dict.fromkeys(("F", "C", "A", "B", "V", ""), ""),
    **dict.fromkeys(("D", "W", "X", "N"), "withdrawn"),
}
_ORDER: Final = {"F": "", "C": "", "": "", "X": "withdrawn"}
_NOT_FINAL: Final = "not_final"
# What these tables have beside: any other value is not shown, and is not final.
_CODES: Final = {
    "TXA-17": {*_COMPLETION, "DI", "DO", "IN", "IP", "PA", "PR"},
    "TXA-19": {*_AVAILABILITY, "UN"},
    "OBX-11": {*_RESULT, "I", "O", "P", "R", "S", "U"},
    "OBR-25": {*_ORDER, "A", "I", "O", "P", "R", "S", "Y", "Z"},
}
_FINAL_CODES: Final = "TXA-17 AU or LA, TXA-19 AV, OBX-11 F or C, OBR-25 F or C"
_WAIT: Final = "Nothing needs to be done if the system sends it again once it is final; see that it does."
_UNSIGNED: Final = (
    "Have the system send it once signed; unsigned_is_final in [hl7] takes those that are not (DO)."
)
_NOT_AGAIN: Final = (
    "U says that an earlier version is final now. Have the system send the final one again, as F."
)
_UNKNOWN: Final = f"Have the system say with a code of HL7 that it is final: {_FINAL_CODES}."


def check_status(message: Message, order: Segment, carriers: Iterable[Segment], rules: Hl7Rules) -> None:
    """Raise Rejection unless all that is said of the state of a document is that it is final."""
    document, carriers = message.first("TXA"), list(carriers)
    completion = {**_COMPLETION, "DO": ""} if rules.unsigned_is_final else _COMPLETION
    statuses = [
        ("TXA-17", code_of(message, document, 17), completion),
        ("TXA-19", code_of(message, document, 19), _AVAILABILITY),
        ("OBR-25", code_of(message, order, 25), _ORDER),
        *(("OBX-11", code_of(message, carrier, 11), _RESULT) for carrier in carriers),
    ]
    for state, text in (
        ("withdrawn", "The message says that its document is cancelled, deleted, obsolete or wrong"),
        (_NOT_FINAL, "The message says that its document is not final"),
    ):
        # In the order above, each once.
        found = dict.fromkeys(
            (place, code) for place, code, states in statuses if states.get(code, _NOT_FINAL) == state
        )
        if found:
            shown = [
                f"{place} {code}" if code in _CODES[place] else f"{place}: no code of HL7"
                for place, code in found
            ]
            sentence = f"{text} ({', '.join(shown)})."
            if state == _NOT_FINAL:
                raise Rejection("hl7_not_final", sentence, _advice(found))
            is_report = message_kind(message)[0] == "ORU"
            number = (
                number_of_report(message, order)
                if is_report
                else number_of(message, message.parts(document, 12))
            )
            names = {carrier.field(3).strip() for carrier in carriers}
            is_one = is_report and len(names) == 1 and all(place == "OBX-11" for place, _ in found)
            # An order that is cancelled (OBR-25) takes all of its results along.
            result = result_of(message, order, carriers) if is_one else None
            raise WithdrawnRejection("hl7_withdrawn", sentence, message, number, result)


def carriers_of(message: Message, document: Hl7Document | Rejection) -> Iterator[Segment]:
    """Yield each OBX where no document is found; of one that cannot be read, those whose state can be."""
    is_broken = isinstance(document, Rejection) and document.code == "hl7_document_broken"
    for one in message.all("OBX"):
        # What is in no table may be the rest of a line of text that was cut off.
        if not is_broken or code_of(message, one, 11) in _CODES["OBX-11"]:
            yield one


def _advice(found: Iterable[tuple[str, str]]) -> str:
    if any(code not in _CODES[place] for place, code in found):
        return _UNKNOWN
    if ("OBX-11", "U") in found:
        return _NOT_AGAIN
    return _UNSIGNED if set(found) == {("TXA-17", "DO")} else _WAIT


def code_of(message: Message, segment: Segment, number: int) -> str:
    """Return a code of HL7's tables, in capitals."""
    return message.text(segment, number).upper()


def order_of(message: Message, carriers: Sequence[Segment]) -> Segment:
    """Return the OBR that a document belongs to: the last before it."""
    order = Segment("OBR", [])
    for segment in message.segments:
        if segment.name == "OBR":
            order = segment
        elif carriers and segment is carriers[0]:
            break
    return order
