"""NHS numbers as they stand in texts: ten digits that pass Mod 11, in whatever groups. Pure.

A person writes `999 000 0042`, a scanner `99900-00042`, a form with a box a digit `9 9 9 0 0 0 0 0 4 2`. One
blank, hyphen, dot or underscore may stand between two digits. A number begins and ends where a group of
digits does: within longer runs, such as the stamp of a message id, one is soon found by chance.
"""

import re
from collections.abc import Iterator
from typing import Final

from nhs_number.validate import is_valid

NHS_NUMBER_DIGITS: Final = 10
"""How many digits each has."""

_PLACEHOLDER: Final = "0" * NHS_NUMBER_DIGITS
# As in the address of a page: a blank, a hyphen, a dot, an underscore. It is as long as what stands for it.
_ESCAPED: Final = re.compile("%(?:20|2[DdEe]|5[Ff])")
_STANDS_FOR_ESCAPED: Final = "\0\0-"
_SEPARATOR: Final = r"(?:(?:\0\0)?[-._\u2010-\u2015\u2212\ufe63\uff0d]|[^\S\r\n])"
_CHAIN: Final = re.compile(rf"\d(?:{_SEPARATOR}?\d){{{NHS_NUMBER_DIGITS - 1},}}")
_GROUP: Final = re.compile(r"\d+")
_YEAR, _MONTH, _DAY = "(?:19|20)[0-9]{2}", "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
_HOUR, _SIXTY, _OCTET = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]", "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_S: Final = f"{_SEPARATOR}?"
# Of ten digits that are something else one in eleven passes Mod 11. A day is, perhaps with the time of day.
_INSTANT: Final = re.compile(
    rf"(?<!\d)(?:{_YEAR}{_S}{_MONTH}{_S}{_DAY}|{_DAY}{_S}{_MONTH}{_S}{_YEAR})"
    rf"(?:{_S}{_HOUR}(?:{_S}{_SIXTY}(?:{_S}{_SIXTY}(?:{_S}[0-9]{{1,9}})?)?)?)?(?!\d)"
)
# So is the address of a server, as hospitals have them; no NHS number in use in England begins with 1 or 2.
_ADDRESS: Final = re.compile(rf"(?=[12]){_OCTET}(?:\.{_OCTET}){{3}}")


def is_nhs_number(digits: str) -> bool:
    """True if ten digits pass Mod 11, and are not the ten zeros that systems write for an unknown number."""
    return digits != _PLACEHOLDER and is_valid(digits)


def nhs_numbers_in(text: str) -> Iterator[tuple[int, int]]:
    """Yield where NHS numbers begin and end in a text. They may overlap, as nobody knows which is meant."""
    if "%" in text:
        text = _ESCAPED.sub(_STANDS_FOR_ESCAPED, text)
    for chain in _CHAIN.finditer(text):
        start, end = chain.span()
        groups = [group.span() for group in _GROUP.finditer(text, start, end)]
        instants = [instant.span() for instant in _INSTANT.finditer(text, start, end)]
        for number, (begin, _) in enumerate(groups):
            if not any(first <= begin < last for first, last in instants):
                digits = ""
                for first, last in groups[number : number + NHS_NUMBER_DIGITS]:
                    digits += text[first:last]
                    if len(digits) >= NHS_NUMBER_DIGITS:
                        if _is_written_number(digits) and not _ADDRESS.fullmatch(text, begin, last):
                            yield begin, last
                        break


def _is_written_number(digits: str) -> bool:
    """True if digits of any script are an NHS number."""
    is_as_long = len(digits) == NHS_NUMBER_DIGITS
    return is_as_long and is_nhs_number("".join(str(int(digit)) for digit in digits))


def holds_nhs_number(text: str) -> bool:
    """True if a text contains an NHS number."""
    return next(nhs_numbers_in(text), None) is not None
