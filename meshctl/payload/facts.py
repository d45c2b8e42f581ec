"""What one file says about itself: the values that addressing and matching need.

Values are as the sender wrote them, unchecked; checks belong to `meshctl.mesh`. No record shows its content
in a repr, so that neither a traceback nor a log line can name a patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from meshctl.errors import Rejection

SEVERAL_PATIENTS = "several_patients"
SEVERAL_NHS_NUMBERS = "several_nhs_numbers"
CONFIDENTIAL = frozenset({"R", "V", "S", "T"})
"""Restricted, very restricted, sensitive, taboo: codes of HL7 v3 Confidentiality, which CDA and FHIR take."""
NHS_NUMBER_OIDS = frozenset({"2.16.840.1.113883.2.1.4.1", "2.16.840.1.113883.2.1.3.2.4.18.23"})
"""Of NHS numbers that were verified with PDS, and that were not."""


class MessageKind(Enum):
    """What a message is written in."""

    FHIR = auto()
    """A FHIR message: ITK3 (STU3) or R4."""
    ITK2 = auto()
    """CDA in an ITK2 envelope, the answer to one, or a bare CDA document."""


@dataclass(frozen=True, slots=True, repr=False)
class PatientFacts:
    """The patient of a message, each value None where the message does not give it.

    `date_of_birth` is as written and may be `1957` or `1957-01`, which FHIR allows and MESH cannot route.
    `display_name` is for the Subject: "Mr Richard Smith".
    """

    nhs_number: str | None
    date_of_birth: str | None
    surname: str | None
    display_name: str | None


def one_patient(
    candidates: Sequence[tuple[PatientFacts, str | None]],
) -> tuple[PatientFacts | None, str | None]:
    """Return the patient that all candidates are, or why there is none; each comes with its own problem."""
    if not candidates:
        return None, None
    first, problem = candidates[0]
    if any(candidate != first for candidate, _ in candidates[1:]):
        return None, SEVERAL_PATIENTS
    return (None, problem) if problem else (first, None)


@dataclass(frozen=True, slots=True, repr=False)
class ResponseFacts:
    """What an ITK3 response (event ITK008M) or an answer of ITK2 is about, and what it says.

    `identifier` names the request by one of its `MessageFacts.references`; it is empty where the sender left
    it out. `response_code` is `ok`, `transient-error` or `fatal-error`; `codes` are the ITK3 codes in the
    OperationOutcome, in order. `is_r4` for a response of R4, which may have no such codes.

    Of ITK2, `level` is "infrastructure" or "business", and `response_code` the result (`OK`, `Failure`) or
    the type of acknowledgement (`AA`, `AE`); `codes` are those of the errors.
    """

    identifier: str
    response_code: str
    codes: tuple[str, ...]
    is_r4: bool = False
    level: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class MessageFacts:
    """What a message says about its handling, its document and its patient.

    `event` is the code of the header's event, or an R4 header's eventUri; of CDA, the document's type.
    `references` are the ids by which a response can refer to it: the Bundle's identifier, the Bundle's id,
    the MessageHeader's id; of ITK2, the tracking id as it is written, and in small letters.
    `acknowledgements` are those requested ("infrastructure", "business"), None where the message says nothing
    about either. `practice_name` and `ods_code` are those of the document's custodian, else of the sender.
    `patient_problem` says why `patient` is None although there are candidates: `SEVERAL_PATIENTS` (and the
    document's subject names none of them) or `SEVERAL_NHS_NUMBERS` (the patient has two that differ).
    `practice_codes` are the ODS codes of the patient's practice and of the receiver; `identity` is the id of
    a CDA document, which is the same in whatever envelope it comes. `doubts` are sentences about what may be
    wrong with it, each with what to do. `rejection` says why a use case whose
    receivers take its kind alone does not send it.
    """

    event: str | None
    endpoint: str | None
    references: tuple[str, ...]
    acknowledgements: tuple[str, ...] | None
    title: str | None
    confidential: bool
    practice_name: str | None
    ods_code: str | None
    patient: PatientFacts | None
    patient_problem: str | None
    document_version: str | None
    response: ResponseFacts | None
    practice_codes: frozenset[str] = frozenset()
    identity: str | None = None
    kind: MessageKind = MessageKind.FHIR
    doubts: tuple[tuple[str, str], ...] = ()
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What kind of document an opaque file is; `content_type` is None for one that no practice can file.

    `problems` are sentences about what may keep the recipient from showing it. `cut_off` is a clause that
    says how a file shows that it is not whole. No content is quoted.
    """

    content_type: str | None
    problems: tuple[str, ...] = ()
    cut_off: str | None = None
