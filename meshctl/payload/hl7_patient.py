"""Who the patient of an HL7 v2 message is (PID), in the keys of a sidecar. Pure.

An NHS number counts only where the message labels it as one, and two that differ are a rejection: which
patient it is, is never guessed. No text quotes a value.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from meshctl.errors import Rejection
from meshctl.mesh.nhs_number import NHS_NUMBER_DIGITS, is_nhs_number
from meshctl.payload.facts import NHS_NUMBER_OIDS
from meshctl.payload.hl7_v2 import Message, Parts, Segment, one_line, text_of, whole_text
from meshctl.payload.hl7_values import PLACEHOLDERS

Doubt = tuple[str, str, str | None]
"""Why a letter that is sent may be wrong: a sentence, what to do, and a code if it is to be alerted."""

# What is not an NHS number, whatever authority is beside it.
_LOCAL: Final = frozenset({"MR", "PI", "PAS", "PE", "FACIL", "AN", "VN"})
# The numbers of Scotland and Northern Ireland, which MESH does not look up, whatever type is beside them.
_ELSEWHERE: Final = frozenset({"CHI", "HSNI"})
# Of table 0203. Any other text in their place might be a name.
_SHOWN: Final = (
    _LOCAL
    | _ELSEWHERE
    | {
        "HC",
        "IN",
        "LR",
        "NH",
        "NHS",
        "NI",
        "PN",
        "PRN",
        "PT",
        "SS",
        "U",
        "XX",
    }
)
_STATUS_IN_TYPE: Final = re.compile(r"\{STATUS:(0[1-8])\}")
_STATUS: Final = re.compile(r"(?:NSTS)?(0[1-8])")
_SEPARATORS: Final = str.maketrans("", "", " -")
_NOT_IN_USE: Final = frozenset({"A", "M", "N", "S"})
_OF_HOME: Final = ("H", "L", "C", "P", "")
_GENDERS: Final = {
    "M": "male", "1": "male", "F": "female", "2": "female", "O": "other", "A": "other", "9": "other",
    "U": "unknown", "N": "unknown", "0": "unknown",
}  # fmt: skip
_PDS: Final = "MESH looks the patient up; if it finds none (EPL-154), trace the patient on PDS."
_DOUBTS: Final = {
    "04": "The message says that PDS had no match, or many, for the patient (PID-32).",
    "05": "The message says that the NHS number conflicts with PDS (PID-32).",
    "UD": "The message says that the patient's date of birth is a default (PID-32).",
    "AL": "The message says that the patient's name is an alias (PID-32).",
}
_WRONG_BESIDE: Final = (
    "The message labels another number as an NHS number that is none (PID); the one that is was taken.",
    "See that both are of this patient, and correct the wrong one in the sending system.",
)
_NUMBER_ENDED: Final = (
    "The message says that the patient's NHS number is no longer in use (PID, CX.8).",
    "Trace the patient on PDS: the number may have been replaced by another.",
)
_WHOLE_DATE: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")

# Midnight of the next day, in summer, as UTC has it.
_SUMMER_MIDNIGHT: Final = re.compile(
    r"[0-9]{4}-?(?:0[3-9]|10)-?[0-9]{2}[T ]?23:?00(?::?00(?:\.0*)?)?(?:Z|[+-]00:?00)?"
)
_BORN_AT_23: Final = (
    "The date of birth is at 23:00 (PID-7), as a system that converts to UTC writes the next day, in summer.",
    "See that the day is right; have the sending system write the day alone: YYYYMMDD.",
)
_POSTCODE: Final = re.compile(r"[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}", re.IGNORECASE)

_PID_19: Final = 19
_DAY_DIGITS: Final = 8

Values = dict[str, Any]


@dataclass(slots=True, repr=False)
class _Numbers:
    """The NHS numbers of a patient, the trace status of each, and the types of all identifiers.

    `has_wrong` if a number beside a valid one is labelled as an NHS number and is none. `have_ended` are
    those whose time is over.
    """

    found: list[str] = field(default_factory=list)
    statuses: set[str] = field(default_factory=set)
    types: list[str] = field(default_factory=list)
    has_wrong: bool = False
    have_ended: set[str] = field(default_factory=set)


def patient_of(message: Message, *, pid_19: bool) -> tuple[Values, dict[str, Rejection], list[Doubt]]:
    """Return what PID says, the rejections due for what it lacks, and what is doubtful.

    Values and rejections are by the names of sidecar keys. With `pid_19` a number there counts unlabelled.
    Raises Rejection: `hl7_several_patients`,
    `hl7_two_nhs_numbers`, `hl7_character_set`.
    """
    if len(message.all("PID")) > 1:
        raise Rejection(
            "hl7_several_patients",
            "The message has several patients (PID).",
            "Have the system send a message for each patient.",
        )
    pid = message.first("PID")
    numbers = _nhs_numbers(message, pid, pid_19=pid_19)
    states = {text_of(one, 1).upper() for one in message.repetitions(pid, 32)}
    statuses = {match[1] for state in states if (match := _STATUS.fullmatch(state))} | numbers.statuses
    today = _day_of(message)
    name = _name(message.repetitions(pid, 5), today)
    born_at = message.text(pid, 7)
    written = _WHOLE_DATE.match(born_at.replace("-", ""))
    born = "-".join(written.groups()) if written else ""
    given = " ".join(filter(None, (text_of(name, 2), text_of(name, 3))))
    values = {
        "patient.nhs_number": numbers.found[0] if numbers.found else None,
        "patient.date_of_birth": born if born and born not in PLACEHOLDERS else None,
        "patient.surname": text_of(name, 1) or None,
        "patient.given": one_line(given),
        "patient.prefix": one_line(text_of(name, 5)).removesuffix("."),
        "patient.gender": _GENDERS.get(message.text(pid, 8).upper()),
        "patient.verified": statuses == {"01"} or None,
        **_address(message.repetitions(pid, 11), today),
    }
    missing = {}
    if not numbers.found:
        missing["patient.nhs_number"] = _no_nhs_number(numbers.types)
    for key, what in (
        ("patient.date_of_birth", "whole date of birth (PID-7)"),
        ("patient.surname", "surname (PID-5)"),
    ):
        if values[key] is None:
            missing[key] = Rejection(
                "hl7_patient_incomplete",
                f"The message gives no {what} of the patient, by which MESH finds the practice.",
                "Have the system send it, or add it in a sidecar.",
            )
    doubts: list[Doubt] = [
        (text, _PDS, None) for state, text in _DOUBTS.items() if state in statuses | states
    ]
    if numbers.have_ended:
        doubts.append((*_NUMBER_ENDED, None))
    if numbers.has_wrong:
        doubts.append((*_WRONG_BESIDE, None))
    if _SUMMER_MIDNIGHT.fullmatch(born_at):
        doubts.append((*_BORN_AT_23, None))
    return {key: value for key, value in values.items() if value}, missing, doubts


def _nhs_numbers(message: Message, pid: Segment, *, pid_19: bool) -> _Numbers:
    """Return the NHS numbers in PID-3, 2, 4 and 19: only what is labelled as one counts."""
    valid, others, today = _Numbers(), _Numbers(), _day_of(message)
    for number in (3, 2, 4, _PID_19):
        for parts in message.repetitions(pid, number):
            value = text_of(parts, 1).translate(_SEPARATORS)
            kind = text_of(parts, 5).upper()
            is_plain = number == _PID_19 and pid_19 and len(parts) == 1
            if value:
                others.types += _elsewhere(parts) or [kind]
            if not value or not (is_plain or _is_labelled(parts, kind)):
                continue
            is_valid = len(value) == NHS_NUMBER_DIGITS and value.isascii() and is_nhs_number(value)
            if is_plain and not is_valid:
                continue
            one = valid if is_valid else others
            if value not in one.found:
                one.found.append(value)
            if _has_ended(today, text_of(parts, 8)):
                one.have_ended.add(value)
            inside = _STATUS_IN_TYPE.search(kind)
            beside = _STATUS.fullmatch(text_of(parts, 2)) if kind == "NI" else None
            one.statuses.update(match[1] for match in (inside, beside) if match)
    # A wrong one is checked, and reported, like that of a sidecar.
    numbers = valid if valid.found else others
    if len(numbers.found) > 1:
        raise Rejection(
            "hl7_two_nhs_numbers",
            "The message gives two NHS numbers that differ (PID).",
            "Correct the patient in the sending system, and have it send the message again.",
        )
    numbers.types = others.types
    numbers.has_wrong = bool(valid.found and others.found)
    return numbers


def _day_of(message: Message) -> str:
    """Return when a message was written, as a stamp of HL7."""
    return message.text(message.first("MSH"), 7)


def _elsewhere(parts: Parts) -> list[str]:
    """Return which other country's number a repetition of CX says that it is, in its authority or type."""
    named = (part.upper() for component in parts[3:5] for part in component)
    return [part for part in named if part in _ELSEWHERE][:1]


def _is_labelled(parts: Parts, kind: str) -> bool:
    """True if a repetition of CX says that it is an NHS number."""
    if kind in _LOCAL or _elsewhere(parts):
        return False
    authority = text_of(parts, 4).upper()
    oids = {part.lower().removeprefix("urn:oid:") for component in parts[3:5] for part in component}
    return kind.startswith("NH") or kind == "NI" or authority == "NHS" or bool(oids & NHS_NUMBER_OIDS)


def _no_nhs_number(types: Iterable[str]) -> Rejection:
    shown = sorted({kind if kind in _SHOWN else "another" for kind in types if kind})
    found = f" Its identifiers are of type {', '.join(shown)}." if shown else ""
    return Rejection(
        "hl7_no_nhs_number",
        f"The message gives no NHS number of the patient (PID-3 or PID-2, type NH or NI).{found}",
        "Have the system send the NHS number, or add it in a sidecar.",
    )


def _name(names: Sequence[Parts], today: str) -> Parts:
    """Return the legal name on a day, else the first that is neither an alias nor a former one."""
    in_use = [name for name in names if not _has_ended(today, text_of(name, 13) or text_of(name, 10, 2))]
    legal = (name for name in in_use if text_of(name, 7).upper() == "L")
    others = (name for name in in_use if text_of(name, 7).upper() not in _NOT_IN_USE)
    return next(legal, next(others, ()))


def _address(addresses: Sequence[Parts], today: str) -> Values:
    """Return the patient's home on a day, as values of `patient.address`."""
    here = [one for one in addresses if not _has_ended(today, text_of(one, 14) or text_of(one, 12, 2))]
    ranked = [(text_of(one, 7).upper(), one) for one in here]
    homes = [one for kind in _OF_HOME for found, one in ranked if found == kind]
    if not homes:
        return {}
    home = homes[0]
    whole, street_name, house = (text_of(home, 1, number) for number in (1, 2, 3))
    street = whole or f"{house} {street_name}"
    # The first sub-component should be all of it; then the second repeats its street.
    if whole and street_name.casefold() not in whole.casefold():
        street += f", {street_name}"
    county, postcode = whole_text(home, 4), text_of(home, 5)
    if not postcode and _POSTCODE.fullmatch(county):
        county, postcode = "", county
    lines = [one_line(line) for line in (street, whole_text(home, 2), whole_text(home, 3), county)]
    return {
        "patient.address.lines": tuple(filter(None, lines)),
        "patient.address.postcode": one_line(postcode),
    }


def _has_ended(today: str, until: str) -> bool:
    """True if a name, a number or an address was in use until a day before today; both are stamps of HL7."""
    ended, now = (stamp.replace("-", "")[:_DAY_DIGITS] for stamp in (until, today))
    return ended.isdigit() and len(ended) == _DAY_DIGITS and ended < now
