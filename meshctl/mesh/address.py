"""The routing string that sends a message to a patient's registered practice (`To_DTS`, `Mex-To`).

`GPPROVIDER_<NHS number>_<date of birth>_<surname>`: endpoint lookup, "Integration to MESH" in the GP
Connect Messaging specification. Nothing here checks a patient; `meshctl.mesh.patient` does.
"""

from datetime import date
from enum import StrEnum

from meshctl.mesh.patient import Patient

GP_PROVIDER = "GPPROVIDER"
_PARTS = 4
_DATE_DIGITS = 8
_EARLIEST_YEAR = 1850


class DateOfBirthFormat(StrEnum):
    """How a date of birth is written in the routing string.

    Every GP Connect document says DDMMYYYY, NHS England's endpoint-lookup guide YYYYMMDD.
    """

    DDMMYYYY = "DDMMYYYY"
    YYYYMMDD = "YYYYMMDD"


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


def read_date_of_birth(text: str, date_of_birth_format: DateOfBirthFormat) -> date:
    """Return the date that a routing string writes. Raises ValueError when it is not written so.

    A date of the other format is never taken for one of this: it is no date, or of a year long before 1850.
    """
    if len(text) != _DATE_DIGITS or not (text.isascii() and text.isdigit()):
        raise ValueError("not a date of eight digits")
    if date_of_birth_format is DateOfBirthFormat.YYYYMMDD:
        born = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    else:
        born = date(int(text[4:]), int(text[2:4]), int(text[:2]))
    if born.year < _EARLIEST_YEAR:
        raise ValueError(f"a year before {_EARLIEST_YEAR}")
    return born


def _write_date(day: date, date_of_birth_format: DateOfBirthFormat) -> str:
    # Not strftime: its %Y leaves years before 1000 without their zeros on Linux.
    if date_of_birth_format is DateOfBirthFormat.YYYYMMDD:
        return f"{day.year:04}{day.month:02}{day.day:02}"
    return f"{day.day:02}{day.month:02}{day.year:04}"
