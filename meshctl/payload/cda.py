"""What an NHS CDA document (HL7 v3 ClinicalDocument) says: its type, its patient, who sent it. Pure.

Missing or odd parts never raise an error: what is not there is None. A patient is never guessed: where two
patients or two NHS numbers differ, the result is the name of the problem and no patient.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from meshctl.payload.facts import (
    CONFIDENTIAL,
    NHS_NUMBER_OIDS,
    SEVERAL_NHS_NUMBERS,
    PatientFacts,
    one_patient,
)
from meshctl.payload.outline import TEXT, Element, Outline

NAMESPACES: Final = {"hl7": "urn:hl7-org:v3", "npfit": "NPFIT:HL7:Localisation"}

ROOT: Final = "hl7:ClinicalDocument"

NULLIFICATION: Final = "POCD_MT130001UK05"
"""The type of a document that takes another one back."""

# Of table EntityNamePartQualifier: a name that the patient had at birth or adoption.
_FORMER: Final = frozenset({"BR", "AD"})

_VALUE: Final[Outline] = {}
_TEXT: Final[Outline] = {TEXT: {}}
_NAME: Final[Outline] = {
    "hl7:prefix": _TEXT,
    "hl7:given": _TEXT,
    "hl7:family": _TEXT,
    "hl7:validTime": {"hl7:high": _VALUE},
    TEXT: {},
}
_ORGANISATION: Final[Outline] = {"hl7:id": _VALUE, "hl7:name": _TEXT}
OUTLINE: Final[Outline] = {
    "npfit:messageType": _VALUE,
    "hl7:id": _VALUE,
    "hl7:title": _TEXT,
    "hl7:confidentialityCode": _VALUE,
    "hl7:versionNumber": _VALUE,
    "hl7:recordTarget": {
        "hl7:patientRole": {
            "hl7:id": _VALUE,
            "hl7:patient": {"hl7:name": _NAME, "hl7:birthTime": _VALUE},
            "hl7:providerOrganization": _ORGANISATION,
        }
    },
    "hl7:custodian": {"hl7:assignedCustodian": {"hl7:representedCustodianOrganization": _ORGANISATION}},
    "hl7:informationRecipient": {"hl7:intendedRecipient": {"hl7:receivedOrganization": _ORGANISATION}},
}
"""What is read of a ClinicalDocument."""

# Organisations and sites of the Organisation Data Service.
_ODS_ROOTS: Final = frozenset({"2.16.840.1.113883.2.1.3.2.4.19.1", "2.16.840.1.113883.2.1.3.2.4.19.2"})
_MESSAGE_TYPE: Final = re.compile(r"[A-Z]{4}_[A-Z]{2}[0-9]{6}[A-Z]{2}[0-9]{2}")
# HL7 v3 dates: digits without separators, with as much of a time as is known, and a zone.
_DATE: Final = re.compile(r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})[0-9]*(?:\.[0-9]+)?(?:[+-][0-9]+)?)?)?")
_LEGAL: Final = "L"
# An alias, and names that were: PREVIOUS, PREVIOUS-BIRTH, PREVIOUS-MAIDEN ...
_NOT_IN_USE: Final = re.compile(r"A|PREVIOUS.*")


class DocumentFacts(NamedTuple):
    """What a document says; see `MessageFacts`, whose values these become."""

    message_type: str | None
    title: str | None
    confidential: bool
    custodian_name: str | None
    custodian_ods_code: str | None
    patient: PatientFacts | None
    patient_problem: str | None
    version: str | None
    practice_codes: frozenset[str]
    identity: str | None

    def __repr__(self) -> str:
        return "DocumentFacts()"


def document_facts(document: Element, today: str) -> DocumentFacts:
    """Return the facts of a ClinicalDocument; all are None or empty for an empty element.

    `today` is an ISO date, for names that have ended.
    """
    message_type = document.first("npfit:messageType").get("extension") or ""
    custodian = document.first(
        "hl7:custodian", "hl7:assignedCustodian", "hl7:representedCustodianOrganization"
    )
    roles = document.all("hl7:recordTarget", "hl7:patientRole")
    patient, problem = one_patient([_patient_facts(role, today) for role in roles])
    return DocumentFacts(
        message_type=message_type if _MESSAGE_TYPE.fullmatch(message_type) else None,
        title=document.first("hl7:title").text,
        confidential=(document.first("hl7:confidentialityCode").get("code") or "").upper() in CONFIDENTIAL,
        custodian_name=custodian.first("hl7:name").text,
        custodian_ods_code=next(_ids(custodian, _ODS_ROOTS), None),
        patient=patient,
        patient_problem=problem,
        version=document.first("hl7:versionNumber").get("value"),
        practice_codes=frozenset(code.upper() for code in _practice_codes(document)),
        identity=_identity(document.first("hl7:id")),
    )


def _identity(found: Element) -> str | None:
    """Return what no other document has: a UUID as the root, or a root and an extension."""
    parts = [part.lower() for name in ("root", "extension") if (part := found.get(name))]
    return " ".join(parts) or None


def _practice_codes(document: Element) -> Iterator[str]:
    """Yield the ODS codes of the patient's practice and of the receivers."""
    organisations = [
        *document.all("hl7:recordTarget", "hl7:patientRole", "hl7:providerOrganization"),
        *document.all("hl7:informationRecipient", "hl7:intendedRecipient", "hl7:receivedOrganization"),
    ]
    for organisation in organisations:
        yield from _ids(organisation, _ODS_ROOTS)


def _ids(holder: Element, roots: frozenset[str]) -> Iterator[str]:
    """Yield the values of the ids under these roots; one with a nullFlavor has none."""
    for one in holder.all("hl7:id"):
        value = one.get("extension")
        if one.get("root") in roots and value is not None and one.get("nullFlavor") is None:
            yield value


def _patient_facts(role: Element, today: str) -> tuple[PatientFacts, str | None]:
    numbers = list(_ids(role, NHS_NUMBER_OIDS))
    name = _name_in_use(list(role.all("hl7:patient", "hl7:name")), today)
    family = _texts(name, "hl7:family")
    words = [*_texts(name, "hl7:prefix"), *_texts(name, "hl7:given"), *family]
    facts = PatientFacts(
        nhs_number=numbers[0] if numbers else None,
        date_of_birth=_iso_date(role.first("hl7:patient", "hl7:birthTime").get("value")),
        surname=" ".join(family) or None,
        display_name=" ".join(words) if family else name.text or " ".join(words) or None,
    )
    several = len({number.replace(" ", "").replace("-", "") for number in numbers}) > 1
    return facts, SEVERAL_NHS_NUMBERS if several else None


def _texts(name: Element, part: str) -> list[str]:
    """Return the parts of a name of one kind; those of birth and adoption only where there are no others."""
    parts = [one for one in name.all(part) if one.text]
    now = [one for one in parts if _FORMER.isdisjoint(_qualifiers(one))]
    return [one.text or "" for one in now or parts]


def _qualifiers(part: Element) -> list[str]:
    return (part.get("qualifier") or "").upper().split()


def _name_in_use(names: Sequence[Element], today: str) -> Element:
    """Return the legal name, else the first one in use, else the first; of those not ended, if any."""
    current = [one for one in names if not _has_ended(one, today)] or names
    legal = [one for one in current if _LEGAL in _uses(one)]
    in_use = [one for one in current if not any(map(_NOT_IN_USE.fullmatch, _uses(one)))]
    return next(iter([*legal, *in_use, *current]), Element())


def _has_ended(name: Element, today: str) -> bool:
    """True if a name has ended; a period includes its last day, month or year."""
    end = _iso_date(name.first("hl7:validTime", "hl7:high").get("value")) or ""
    return bool(end) and end < today[: len(end)]


def _uses(name: Element) -> list[str]:
    return (name.get("use") or "").upper().split()


def _iso_date(written: str | None) -> str | None:
    """Return a date as FHIR writes it, `YYYY-MM-DD` or less; what is no date of HL7 stays as it is."""
    found = _DATE.fullmatch(written) if written else None
    return written if found is None else "-".join(part for part in found.groups() if part)
