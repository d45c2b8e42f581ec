"""Where a message goes (`To_DTS`, `Mex-To`): a mailbox, or the practice where a patient is registered.

MESH finds that practice by three values, written as `GPPROVIDER_<NHS number>_<date of birth>_<surname>`
(endpoint lookup, "Integration to MESH" in the GP Connect Messaging specification). MESH reports a wrong one
hours later, with EPL-152, 153 or 154; the checks here report it at once. No error text and no repr shows a
value.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from meshctl.errors import Rejection
from meshctl.mesh.nhs_number import NHS_NUMBER_DIGITS, holds_nhs_number, is_nhs_number

GP_PROVIDER = "GPPROVIDER"
MAILBOX_ID_RULE = (
    "3 to 32 capital letters, digits, hyphens and underscores, a letter or digit first, no NHS number"
)
"""The one rule for every mailbox id, for a person."""

_MAILBOX_ID = re.compile(r"[A-Z0-9][A-Z0-9_-]{2,31}")
_PARTS = 4
_DATE_DIGITS = 8
_MONTHS = 12
_EARLIEST_YEAR = 1850

SURNAME_MAX_CHARACTERS = 35
"""The longest family name that PDS holds."""

# What people and word processors put between the groups of an NHS number.
_SEPARATORS = dict.fromkeys(map(ord, " \t\u00a0\u2007\u2009\u202f-\u2010\u2011\u2012\u2013"))
# What word processors make of an apostrophe, a hyphen and a blank, and what PDS holds instead.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07", "'"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),
    }
)
_LAST_OF_LATIN_1 = "\u00ff"
_WHOLE_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class NhsNumberCheck(StrEnum):
    """How strictly an NHS number is checked before it is sent."""

    MOD11 = "mod11"
    DIGITS = "digits"
    OFF = "off"


class DateOfBirthFormat(StrEnum):
    """How a date of birth is written in the routing string; the table of use cases says which."""

    DDMMYYYY = "DDMMYYYY"
    YYYYMMDD = "YYYYMMDD"


@dataclass(frozen=True, slots=True, repr=False)
class Patient:
    """A patient for endpoint lookup; each value has passed its check below."""

    nhs_number: str
    date_of_birth: date
    surname: str


def check_nhs_number(text: str, check: NhsNumberCheck) -> str:
    """Return the digits of an NHS number, without the spaces and hyphens people write in it.

    `mod11` demands ten digits and the right check digit, `digits` ten digits, `off` digits of any count:
    the published examples (12345678, 1234567890) fail the stricter ones.

    Raises:
        Rejection: `nhs_number_invalid`, when the check is not passed.

    """
    digits = text.translate(_SEPARATORS)
    if not digits:
        raise _nhs_number_rejection("The NHS number is empty.")
    # str.isdigit and \d accept the digits of other scripts; MESH does not.
    if not (digits.isascii() and digits.isdigit()):
        raise _nhs_number_rejection("The NHS number holds a character that is not a digit.")
    if check is NhsNumberCheck.OFF:
        return digits
    if len(digits) != NHS_NUMBER_DIGITS:
        raise _nhs_number_rejection(f"The NHS number has {len(digits)} digits instead of ten.")
    if check is NhsNumberCheck.MOD11 and not is_nhs_number(digits):
        raise _nhs_number_rejection("The NHS number fails its check digit (Mod 11).")
    return digits


def check_date_of_birth(text: str, today: date) -> date:
    """Return the date that `text` gives as YYYY-MM-DD; `today` is the date where the sender is.

    FHIR also allows YYYY and YYYY-MM, but MESH cannot route by those.

    Raises:
        Rejection: `date_of_birth_invalid`, for anything but a whole, real date up to `today`.

    """
    written = text.strip()
    if not written:
        raise _date_of_birth_rejection("The date of birth is empty.")
    if _WHOLE_DATE.fullmatch(written) is None:
        raise _date_of_birth_rejection("The date of birth is not a whole date.")
    try:
        date_of_birth = date.fromisoformat(written)
    except ValueError:
        raise _date_of_birth_rejection("The date of birth is not a day of the calendar.") from None
    if date_of_birth > today:
        raise _date_of_birth_rejection("The date of birth is in the future.")
    return date_of_birth


def check_surname(text: str) -> str:
    """Return the surname as PDS holds it: without the blanks around it, with ASCII apostrophes and hyphens.

    Spaces, hyphens, apostrophes and accents within it are allowed; an underscore would break the routing
    string, which MESH splits at underscores.

    Raises:
        Rejection: `surname_invalid`, for an empty or too long surname, an underscore, a control character.

    """
    # Before trimming: a line break is the sign of a broken export, even at the end.
    if not text.isprintable() and any(_is_control(character) for character in text):
        raise _surname_rejection("The surname holds a line break or another control character.")
    surname = plain_surname(text)
    if not surname:
        raise _surname_rejection("The surname is empty.")
    if "_" in surname:
        raise _surname_rejection("The surname holds an underscore.")
    if len(surname) > SURNAME_MAX_CHARACTERS:
        raise _surname_rejection(
            f"The surname has {len(surname)} characters; PDS holds at most {SURNAME_MAX_CHARACTERS}."
        )
    return surname


def plain_surname(text: str) -> str:
    """Return a surname with the apostrophes, hyphens and blanks that PDS has, and composed accents (NFC)."""
    return unicodedata.normalize("NFC", text).translate(_PLAIN).strip()


def fits_header(surname: str) -> bool:
    """True if the header of the MESH API (Mex-To) can carry a surname: it has nothing beyond Latin-1."""
    return all(character <= _LAST_OF_LATIN_1 for character in surname)


def _is_control(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) != "Zs"


def _nhs_number_rejection(text: str) -> Rejection:
    return Rejection(
        "nhs_number_invalid",
        text,
        "Correct it in the sidecar or the payload and drop the file again;"
        ' for test data set nhs_number_check = "digits" or "off".',
    )


def _date_of_birth_rejection(text: str) -> Rejection:
    return Rejection(
        "date_of_birth_invalid", text, "Give the full date of birth as YYYY-MM-DD and drop the file again."
    )


def _surname_rejection(text: str) -> Rejection:
    return Rejection("surname_invalid", text, "Give the family name as PDS holds it and drop the file again.")


def check_mailbox_id(text: str) -> str:
    """Return the id of a mailbox that a sidecar gives.

    Raises:
        Rejection: `to_mailbox_invalid`, when it cannot be one.

    """
    if not is_mailbox_id(text):
        raise Rejection(
            "to_mailbox_invalid",
            "The to_mailbox of the sidecar is not a mailbox id.",
            f"Give the recipient's MESH mailbox id, such as X26ABC1: {MAILBOX_ID_RULE}.",
        )
    return text


def check_no_nhs_number(text: str, where: str) -> None:
    """Raise Rejection `nhs_number_misplaced` for a value that is shown or kept as it is, and holds one."""
    if holds_nhs_number(text):
        raise Rejection(
            "nhs_number_misplaced",
            f"An NHS number is where {where} should be: a shifted column does that.",
            "Check all values of the file, as others may be shifted too; drop it again with the right ones.",
        )


def is_mailbox_id(text: str) -> bool:
    """True if `text` can be the id of a MESH mailbox, which ledger and log show: no patient is in it."""
    is_like_one = _MAILBOX_ID.fullmatch(text) is not None and not text.startswith(f"{GP_PROVIDER}_")
    return is_like_one and not holds_nhs_number(text)


def gp_provider(patient: Patient, date_of_birth_format: DateOfBirthFormat) -> str:
    """Return the routing string for a patient (GPCM-SD-038: from the payload's own Patient)."""
    written = _write_date(patient.date_of_birth, date_of_birth_format)
    return f"{GP_PROVIDER}_{patient.nhs_number}_{written}_{patient.surname}"


def split_gp_provider(text: str) -> tuple[str, str, str] | None:
    """Return NHS number, date of birth and surname of a routing string, as written and unchecked.

    None when `text` is not a routing string of four parts: a mailbox id, for one.
    """
    parts = text.split("_")
    if len(parts) != _PARTS or parts[0] != GP_PROVIDER:
        return None
    return parts[1], parts[2], parts[3]


def read_date_of_birth(text: str) -> date:
    """Return the date in a routing string, in either format. Raises ValueError for no date.

    The formats cannot be confused: read in the wrong one, a date of birth has a month above 12 or a year
    before 1850.
    """
    if len(text) != _DATE_DIGITS or not (text.isascii() and text.isdigit()):
        raise ValueError("not a date of eight digits")
    year_first = int(text[:4]) >= _EARLIEST_YEAR and 1 <= int(text[4:6]) <= _MONTHS
    year, month, day = (text[:4], text[4:6], text[6:]) if year_first else (text[4:], text[2:4], text[:2])
    if int(year) < _EARLIEST_YEAR:
        raise ValueError(f"a year before {_EARLIEST_YEAR}")
    return date(int(year), int(month), int(day))


def _write_date(day: date, date_of_birth_format: DateOfBirthFormat) -> str:
    # On Linux, strftime's %Y writes years before 1000 without their zeros.
    if date_of_birth_format is DateOfBirthFormat.YYYYMMDD:
        return f"{day.year:04}{day.month:02}{day.day:02}"
    return f"{day.day:02}{day.month:02}{day.year:04}"
