"""HL7 v2: what a message brings, as if a sidecar had said it. Pure.

A use case that makes a message around documents takes the document out of an HL7 v2 message; from then on it
is a document with a sidecar. A sidecar that lies beside it counts more, key by key; but both must be about
the same patient. Other use cases send the file as it was dropped. Which earlier document it replaces is
decided in `hl7_versions.py`.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from meshctl.errors import Rejection
from meshctl.outbound.document import Caution, Origin
from meshctl.outbound.recipient import IncompleteError, check_agreement
from meshctl.payload.facts import PatientFacts
from meshctl.payload.hl7_document import Hl7Document
from meshctl.payload.hl7_file import Hl7File
from meshctl.payload.hl7_letter import Hl7Letter, read_letter
from meshctl.payload.hl7_letter import link_of as letter_link
from meshctl.payload.hl7_state import Hl7Rules
from meshctl.payload.sidecar import Sidecar, laid_over, nested, value_at
from meshctl.settings.load import INVENTED_ODS_CODE
from meshctl.settings.model import Settings

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


@dataclass(frozen=True, slots=True, repr=False)
class Unpacked:
    """The document of an HL7 message, and what message and sidecar say of it together."""

    document: Hl7Document
    sidecar: Sidecar
    origin: Origin
    replaces_same: bool
    is_replacement: bool
    is_report: bool
    other_number: str | None
    """The number of a document that it names, and does not replace."""
    is_new: bool
    """True if the message says that it brings a new document (T02)."""
    cautions: tuple[Caution, ...]

    @property
    def nhs_number(self) -> str:
        """Return the NHS number of its patient."""
        return str(value_at(self.sidecar, "patient.nhs_number") or "")

    @property
    def link(self) -> Origin | None:
        """Return its number and that of the document that it replaces; None where it does not have both."""
        own, parent = self.origin[:2]
        if self.is_report or not own or not parent or own == parent:
            return None
        return Origin(own, parent, None, self.origin.written_at, self.nhs_number)


def link_of(file: Hl7File, settings: Settings) -> Origin | None:
    """Return what `Unpacked.link` is of a file that cannot be unpacked; None where nobody can say."""
    if isinstance(file.message, Rejection):
        return None
    found = letter_link(file.message, Hl7Rules(**dict(settings.hl7)))
    return found and Origin(*found[:2], None, None, found[2])


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
        Origin(
            letter.number,
            letter.replaced_number,
            _content(letter),
            written_at,
            result=letter.result,
            is_edit=letter.is_edit,
        ),
        letter.replaces_same,
        letter.is_replacement,
        letter.is_report,
        letter.other_number,
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
