"""Who a message is about and where it goes: the patient of a payload and of its sidecar, and To_DTS. Pure.

Both must agree on the patient (GPCM-SD-038: surname, date of birth and NHS number in To_DTS are those of the
Patient in the payload).
"""

from collections.abc import Callable
from datetime import date

from meshctl.errors import Rejection
from meshctl.mesh.address import (
    NhsNumberCheck,
    Patient,
    check_date_of_birth,
    check_mailbox_id,
    check_nhs_number,
    check_surname,
    fits_header,
    gp_provider,
    plain_surname,
)
from meshctl.mesh.use_cases import UseCase
from meshctl.outbound.document import Caution
from meshctl.payload.facts import SEVERAL_NHS_NUMBERS, MessageFacts, MessageKind, PatientFacts
from meshctl.payload.sidecar import Sidecar, SidecarPatient

# Of the ITK3 Response, which travels under the `_ACK` workflow id to a mailbox. So does an answer of ITK2.
_RESPONSE_EVENT = "ITK008M"


class IncompleteError(Rejection):
    """The file cannot be sent as it is, but a sidecar could add what it lacks."""


def recipient_of(
    facts: MessageFacts | None, sidecar: Sidecar, use_case: UseCase, today: date
) -> tuple[str, str | None, tuple[Caution, ...]]:
    """Return To_DTS, the patient's NHS number if it is known, and why MESH may not find the practice."""
    check = use_case.nhs_number_check
    if sidecar.to_mailbox is not None:
        named = facts.patient if facts else None
        return check_mailbox_id(sidecar.to_mailbox), _known_nhs_number(named, sidecar.patient, check), ()
    if is_response(facts):
        raise IncompleteError(
            "response_without_mailbox",
            "The file is a response, which goes to a mailbox, and nothing says to which.",
            "Add a sidecar with to_mailbox.",
        )
    patient = routed_patient(facts, sidecar.patient, check, today)
    to_dts = gp_provider(patient, use_case.date_of_birth_format)
    return to_dts, patient.nhs_number, surname_cautions(patient.surname)


def check_agreement(named: PatientFacts | None, given: SidecarPatient | None) -> None:
    """Raise Rejection `patient_disagreement` where payload and sidecar are about two people."""
    if named is None or given is None:
        return
    pairs = (
        ("NHS number", named.nhs_number, given.nhs_number, _digits),
        ("date of birth", named.date_of_birth, given.date_of_birth, _date_prefix),
        ("surname", named.surname, given.surname, _folded),
    )
    for what, one, other, comparable in pairs:
        if not one or not other:
            continue
        left, right = comparable(one), comparable(other)
        # A payload may hold only the year, or year and month; the sidecar's whole date must begin with it.
        if left != right and not (what == "date of birth" and right.startswith(f"{left}-")):
            raise Rejection(
                "patient_disagreement",
                f"Payload and sidecar disagree on the patient: the {what} differs.",
                "Check that the sidecar belongs to this file, correct it and drop both again.",
            )


def is_response(facts: MessageFacts | None) -> bool:
    """True if a file is an acknowledgement itself: an ITK3 Response, or an answer of ITK2."""
    if facts is None:
        return False
    is_itk2 = facts.kind is MessageKind.ITK2 and facts.response is not None
    return is_itk2 or facts.event == _RESPONSE_EVENT


def surname_cautions(surname: str) -> tuple[Caution, ...]:
    """Return a caution about a surname that the header of the MESH API cannot carry."""
    if fits_header(surname):
        return ()
    return (
        Caution(
            "The surname has a character beyond Latin-1, which the header of the MESH API cannot carry: MESH"
            " will hardly find the patient's practice by it (EPL-154).",
            "Give the surname as PDS holds it, in payload and sidecar alike, or name the practice's mailbox"
            " with to_mailbox; 'meshctl lookup' finds it.",
        ),
    )


def routed_patient(
    facts: MessageFacts | None, given: SidecarPatient | None, check: NhsNumberCheck, today: date
) -> Patient:
    """Return the patient by whom MESH finds the practice; what a sidecar says comes first.

    Raises IncompleteError where a part is missing, Rejection where one is wrong.
    """
    named = facts.patient if facts else None
    nhs_number = _either(given and given.nhs_number, named and named.nhs_number)
    date_of_birth = _either(given and given.date_of_birth, named and named.date_of_birth)
    surname = _either(given and given.surname, named and named.surname)
    missing = [
        what
        for what, value in {
            "NHS number": nhs_number,
            "date of birth": date_of_birth,
            "surname": surname,
        }.items()
        if value is None
    ]
    if nhs_number is None or date_of_birth is None or surname is None:
        raise _missing_patient(facts, given, missing)
    try:
        return Patient(
            nhs_number=check_nhs_number(nhs_number, check),
            date_of_birth=check_date_of_birth(date_of_birth, today),
            surname=check_surname(surname),
        )
    except Rejection as first:
        raise with_others(
            first,
            lambda: check_nhs_number(nhs_number, check),
            lambda: check_date_of_birth(date_of_birth, today),
            lambda: check_surname(surname),
        ) from None


def check_given(given: SidecarPatient | None, use_case: UseCase, today: date) -> None:
    """Raise Rejection if a sidecar has all that is needed of a patient, and some of it is wrong."""
    if given is not None and None not in (given.nhs_number, given.date_of_birth, given.surname):
        routed_patient(None, given, use_case.nhs_number_check, today)


def with_others(first: Rejection, *checks: Callable[[], object]) -> Rejection:
    """Return a rejection that also names what the other checks find: whoever corrects one should see all."""
    found = [first]
    for check in checks:
        try:
            check()
        except Rejection as other:
            if other.text not in [each.text for each in found]:
                found.append(other)
    texts, advices = (
        dict.fromkeys(each) for each in zip(*((one.text, one.advice) for one in found), strict=True)
    )
    return type(first)(first.code, " ".join(texts), " ".join(advices))


def _missing_patient(
    facts: MessageFacts | None, given: SidecarPatient | None, missing: list[str]
) -> IncompleteError:
    advice = (
        "Add a sidecar NAME.meta.json with patient (nhs_number, date_of_birth and surname),"
        " or with to_mailbox."
    )
    incomplete = IncompleteError(
        "patient_incomplete", f"The patient's {' and '.join(missing)} is missing.", advice
    )
    if facts is None:
        if given is not None and given != SidecarPatient():
            return incomplete
        return IncompleteError(
            "patient_missing", "The file does not say which patient it is about, and no sidecar does.", advice
        )
    if facts.patient_problem == SEVERAL_NHS_NUMBERS:
        return IncompleteError(
            "patient_ambiguous", "The patient has several NHS numbers that differ.", advice
        )
    if facts.patient_problem is not None:
        return IncompleteError(
            "patient_ambiguous", "The message holds several patients and no subject that names one.", advice
        )
    if facts.patient is None:
        return IncompleteError("patient_missing", "The message names no patient.", advice)
    return incomplete


def _known_nhs_number(
    named: PatientFacts | None, given: SidecarPatient | None, check: NhsNumberCheck
) -> str | None:
    """Return the patient's NHS number for `meshctl find`, of a message that is not addressed by it."""
    number = _either(given and given.nhs_number, named and named.nhs_number)
    if number is None:
        return None
    try:
        return check_nhs_number(number, check)
    except Rejection:
        return None


def _either(given: str | SidecarPatient | None, named: str | PatientFacts | None) -> str | None:
    """Return the sidecar's value where it has one, else the payload's; an empty one is a value."""
    return next((value for value in (given, named) if isinstance(value, str)), None)


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _date_prefix(text: str) -> str:
    return text.strip()[:10]


def _folded(text: str) -> str:
    return " ".join(plain_surname(text).split()).casefold()
