"""What a payload is, what it lacks, and what meshctl would do with it: in plain words, without the patient.

Values of the patient are never shown, because the output ends up in tickets: only which of them are there.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from meshctl.errors import Rejection
from meshctl.journal.masking import mask_file_name
from meshctl.mesh.address import GP_PROVIDER
from meshctl.outbound.compose import Draft
from meshctl.outbound.document import Caution
from meshctl.outbound.letter import Letter
from meshctl.payload.document import JPEG, PDF, RTF, TEXT, TIFF
from meshctl.payload.facts import MessageFacts, MessageKind, PatientFacts
from meshctl.payload.hl7_file import Hl7File
from meshctl.payload.hl7_letter import Hl7Summary, summary_of
from meshctl.payload.hl7_state import Hl7Rules
from meshctl.payload.itk3 import REPORT_OF_ENCOUNTER
from meshctl.payload.reader import Reading
from meshctl.payload.sidecar import Sidecar
from meshctl.settings.model import Settings
from meshctl.sizes import size_text
from meshctl.terminal.dropping import judge_beforehand

_DOCUMENTS: Final = {
    PDF: "A PDF document",
    TIFF: "A TIFF document",
    JPEG: "A JPEG document",
    RTF: "An RTF document",
    TEXT: "A plain text",
}
# Types and codes are short; other text, there by mistake, might name the patient.
_SHOWN_KIND: Final = re.compile("[A-Z]{3}(?: [A-Z][0-9]{2})?")
_SHOWN_CODE: Final = re.compile("[A-Z0-9_-]{1,9}")
_HL7_USE_CASE: Final = "send-document"


def payload_lines(settings: Settings, file: Path) -> list[str]:
    """Return what a file is that may be dropped, and what would become of it under these settings.

    Raises UsageError for a sidecar or an index, Rejection for a name that is never taken, OSError.
    """
    letter, sidecar = judge_beforehand(settings, file, None)
    if _lacks_only_use_case(letter, settings):
        letter, _ = judge_beforehand(settings, file, Sidecar(use_case=_HL7_USE_CASE))
    lines = list(_what_it_is(letter.reading, settings)) if letter.reading else []
    if sidecar is not None:
        lines.append("  Sidecar   lies beside it, and is used")
    if letter.rejection is not None:
        may_wait = sidecar is None and letter.may_get_sidecar
        return [*lines, *_rejected(letter.rejection, may_wait=may_wait)]
    return [*lines, *(_sent(letter.draft, letter.cautions) if letter.draft else ())]


def _lacks_only_use_case(letter: Letter, settings: Settings) -> bool:
    """True if it is an HL7 v2 message that is in no folder of a use case."""
    is_hl7 = letter.reading is not None and letter.reading.hl7 is not None
    code = letter.rejection.code if letter.rejection else None
    return is_hl7 and code == "use_case_missing" and _HL7_USE_CASE in settings.use_cases


def recipient_text(to_dts: str) -> str:
    """Return whom a To_DTS names, without the patient."""
    if to_dts.startswith(GP_PROVIDER):
        return "the patient's registered practice, by endpoint lookup (the patient is not shown)"
    return mask_file_name(to_dts)


def _what_it_is(reading: Reading, settings: Settings) -> Iterator[str]:
    """Yield what kind of file it is, and which values it has."""
    if reading.facts is not None:
        yield _message_text(reading.facts)
        if reading.facts.response is None:
            yield f"  Patient   {_patient_text(reading.facts.patient)}"
            yield f"  Asks for  {_levels_text(reading.facts.acknowledgements)}"
    elif reading.hl7 is not None:
        yield from _hl7_lines(reading.hl7, reading.size_bytes, settings)
    elif reading.content is not None:
        kind = _DOCUMENTS.get(reading.content.content_type or "", "A file that meshctl does not read")
        yield f"{kind}, {size_text(reading.size_bytes)}."


def _hl7_lines(file: Hl7File, size_bytes: int, settings: Settings) -> Iterator[str]:
    """Yield what an HL7 v2 message is and brings; codes of the sending system are shown, no patient."""
    try:
        if isinstance(file.message, Rejection):
            raise file.message
        found = summary_of(file.message, file.document, Hl7Rules(**dict(settings.hl7)))
    except Rejection:
        yield f"An HL7 v2 message, {size_text(size_bytes)}."
        return
    kind = found.kind if _SHOWN_KIND.fullmatch(found.kind) else "of an unknown type"
    meaning = f", which {found.meaning}" if found.meaning else ""
    yield f"An HL7 v2 message, {kind}, {size_text(size_bytes)}{meaning}."
    yield f"  Patient   {_missing_text(found.missing)}"
    if isinstance(file.document, Rejection):
        is_there = file.document.code not in {"hl7_no_document", "hl7_pointer"}
        yield f"  Document  {f'not one that can be sent: {file.document.code}' if is_there else 'none'}"
        return
    document = _DOCUMENTS.get(file.document.content.content_type or "", "A file that no practice can file")
    yield f"  Document  {document}, {size_text(file.document.size_bytes)}"
    yield f"  Type      {_type_text(found, file.words, settings)}"


def _type_text(found: Hl7Summary, words: Collection[str], settings: Settings) -> str:
    codes = found.local_codes
    known = next((code for code in codes if code in settings.hl7.types), None)
    if found.own_code is not None:
        return f"{found.own_code}, a SNOMED code of the message's own"
    if not codes:
        return f"none in the message; {settings.hl7.default_type or REPORT_OF_ENCOUNTER[0]} is sent"
    if known is not None:
        return f"{mask_file_name(known)}, which types of [hl7] knows"
    shown = [code for code in codes if _SHOWN_CODE.fullmatch(code) and code not in words]
    which = f"{' or '.join(shown)}: " if shown else ""
    return f"{which}a code of the sending system, which types of [hl7] does not know"


def _message_text(facts: MessageFacts) -> str:
    if facts.kind is MessageKind.ITK2:
        return _itk2_text(facts)
    what = "An ITK3 message" if facts.response is None else "An ITK3 response, which acknowledges a message"
    return f"{what}, with the event {mask_file_name(facts.event)}." if facts.event else f"{what}."


def _itk2_text(facts: MessageFacts) -> str:
    if facts.response is not None:
        return f"An answer of ITK2 at {facts.response.level} level, which acknowledges a message."
    kind = f" of the type {facts.event}" if facts.event else ""
    place = "in an ITK2 envelope" if facts.rejection is None else "that is not sent in this form"
    return f"A CDA document{kind}, {place}."


def _patient_text(patient: PatientFacts | None) -> str:
    if patient is None:
        return "none that is certain"
    values = {
        "NHS number": patient.nhs_number,
        "date of birth": patient.date_of_birth,
        "surname": patient.surname,
    }
    return _missing_text([name for name, value in values.items() if not value])


def _missing_text(missing: Sequence[str]) -> str:
    if missing:
        return f"{' and '.join(missing)} missing"
    return "NHS number, date of birth and surname are there (not shown)"


def _levels_text(levels: tuple[str, ...] | None) -> str:
    if levels is None:
        return "nothing that it says"
    return f"{' and '.join(levels)} acknowledgement" if levels else "no acknowledgement"


def _rejected(rejection: Rejection, *, may_wait: bool) -> Iterator[str]:
    """Yield why it would be rejected, and what to do."""
    unless = ", unless a sidecar comes that adds what is missing" if may_wait else ""
    yield f"meshctl would reject it{unless}: {rejection.code}"
    yield from (f"  {rejection.text}", f"  {rejection.advice}")


def _sent(draft: Draft, cautions: Iterable[Caution]) -> Iterator[str]:
    """Yield how it would be sent and to whom, and what may go wrong."""
    details = draft.details
    how = "within an ITK3 message" if draft.envelope is not None else "as it is"
    yield f"meshctl would send it {how}."
    yield f"  Use case  {details.use_case} ({details.workflow_id})"
    yield f"  To        {recipient_text(draft.control.to_dts)}"
    yield f"  Awaited   {_levels_text(details.asked)}"
    yield from (f"  Warning   {one.text} {one.advice}" for one in cautions)
