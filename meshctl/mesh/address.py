"""Where a message goes (`To_DTS`, `Mex-To`): a mailbox, or the practice where a patient is registered.

`GPPROVIDER_<NHS number>_<date of birth>_<surname>`: endpoint lookup, "Integration to MESH" in the GP
Connect Messaging specification. Nothing here checks a patient; `meshctl.mesh.patient` does.
"""

import re
from datetime import date
from enum import StrEnum

from meshctl.mesh.patient import Patient

GP_PROVIDER = "GPPROVIDER"
MAILBOX_ID_RULE = "3 to 32 capital letters, digits, hyphens and underscores, a letter or digit first"
"""The one rule for every mailbox id, for a person."""

_MAILBOX_ID = re.compile(r"[A-Z0-9][A-Z0-9_-]{2,31}")
_PARTS = 4
_DATE_DIGITS = 8
_MONTHS = 12
_EARLIEST_YEAR = 1850


class DateOfBirthFormat(StrEnum):
    """How a date of birth is written in the routing string; which one, the table of use cases says."""

    DDMMYYYY = "DDMMYYYY"
    YYYYMMDD = "YYYYMMDD"


def is_mailbox_id(text: str) -> bool:
    """True if `text` can be the id of a MESH mailbox."""
    return _MAILBOX_ID.fullmatch(text) is not None and not text.startswith(f"{GP_PROVIDER}_")


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
    """Return the date that a routing string writes, in whichever format. Raises ValueError for no date.

    One format is never taken for the other: read in the wrong one, a date of birth has a thirteenth month
    or later, or a year long before 1850.
    """
    if len(text) != _DATE_DIGITS or not (text.isascii() and text.isdigit()):
        raise ValueError("not a date of eight digits")
    year_first = int(text[:4]) >= _EARLIEST_YEAR and 1 <= int(text[4:6]) <= _MONTHS
    year, month, day = (text[:4], text[4:6], text[6:]) if year_first else (text[4:], text[2:4], text[:2])
    if int(year) < _EARLIEST_YEAR:
        raise ValueError(f"a year before {_EARLIEST_YEAR}")
    return date(int(year), int(month), int(day))


def _write_date(day: date, date_of_birth_format: DateOfBirthFormat) -> str:
    # Not strftime: its %Y leaves years before 1000 without their zeros on Linux.
    if date_of_birth_format is DateOfBirthFormat.YYYYMMDD:
        return f"{day.year:04}{day.month:02}{day.day:02}"
    return f"{day.day:02}{day.month:02}{day.year:04}"
