"""What one file says about itself: the values that addressing and matching need.

Values are as the sender wrote them, unchecked; checks belong to `meshctl.mesh`. No record shows its content
in a repr, so that neither a traceback nor a log line can name a patient.
"""

from dataclasses import dataclass

SEVERAL_PATIENTS = "several_patients"
SEVERAL_NHS_NUMBERS = "several_nhs_numbers"


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


@dataclass(frozen=True, slots=True, repr=False)
class ResponseFacts:
    """What an ITK3 response (event ITK008M) is about, and what it says.

    `identifier` names the request by one of its `MessageFacts.references`; it is empty where the sender left
    it out. `response_code` is `ok`, `transient-error` or `fatal-error`; `codes` are the ITK3 codes in the
    OperationOutcome, in order. `is_r4` for a response of R4, which may have no such codes.
    """

    identifier: str
    response_code: str
    codes: tuple[str, ...]
    is_r4: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class MessageFacts:
    """What a FHIR message says about its handling, its document and its patient.

    `event` is the code of the header's event, or an R4 header's eventUri. `references` are the ids by which
    a response can refer to it: the Bundle's identifier, the Bundle's id, the MessageHeader's id.
    `acknowledgements` are those requested ("infrastructure", "business"), None where the message says nothing
    about either. `practice_name` and `ods_code` are those of the document's custodian, else of the sender.
    `patient_problem` says why `patient` is None although there are candidates: `SEVERAL_PATIENTS` (and the
    document's subject names none of them) or `SEVERAL_NHS_NUMBERS` (the patient has two that differ).
    `practice_codes` are the ODS codes of the patient's practice and of the receiver.
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


@dataclass(frozen=True, slots=True)
class Content:
    """What kind of document an opaque file is; `content_type` is None for one that no practice can file.

    `problems` are sentences about what may keep the recipient from showing it. `cut_off` is a clause that
    says how a file shows that it is not whole. No content is quoted.
    """

    content_type: str | None
    problems: tuple[str, ...] = ()
    cut_off: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The outcome of reading one file.

    `facts` is None for an opaque file, which only a sidecar can address; it has `content` instead. `sha256`
    is lower-case hex, None for an opaque file too large to be worth reading. `oddities` are reasons for which
    a recipient's system may reject a message that is readable here, each with what to do: sentences.
    """

    facts: MessageFacts | None
    sha256: str | None
    size_bytes: int
    content: Content | None = None
    oddities: tuple[tuple[str, str], ...] = ()
