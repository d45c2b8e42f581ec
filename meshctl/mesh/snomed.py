"""The ids of SNOMED CT concepts, which say what kind of document a message carries. Pure."""

import re
from functools import lru_cache
from typing import Final

# 6 to 18 digits; the last is the check digit, the two before it say that the id is a concept's, in the
# international edition (00) or in an extension, such as the UK's (10). SNOMED CT Technical Implementation
# Guide, "SCTID".
_CONCEPT: Final = re.compile("[1-9][0-9]{2,14}[01]0[0-9]")
_TURNS: Final = 5
# Verhoeff's permutation of the digits.
_PERMUTED: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


@lru_cache(maxsize=64)
def is_concept_id(code: str) -> bool:
    """True if a text can be the id of a concept: its form and its check digit (Verhoeff) are right."""
    if _CONCEPT.fullmatch(code) is None:
        return False
    check = 0
    for place, character in enumerate(reversed(code)):
        digit = int(character)
        for _ in range(place % 8):
            digit = _PERMUTED[digit]
        check = _combined(check, digit)
    return check == 0


def _combined(one: int, other: int) -> int:
    """Combine two symmetries of a pentagon: the first five turn it, the others turn and mirror it."""
    is_mirrored = one >= _TURNS
    turn = (one - other if is_mirrored else one + other) % _TURNS
    return turn + (_TURNS if is_mirrored != (other >= _TURNS) else 0)
