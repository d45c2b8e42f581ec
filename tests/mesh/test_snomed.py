"""The ids of SNOMED CT concepts: their form, and the check digit that tells a mistyped one."""

import pytest

from meshctl.mesh.snomed import is_concept_id

# From the guides of GP Connect and the examples of SNOMED's own guide.
IDS = ["371531000", "823681000000100", "789718008", "325871000000103", "734163000", "22298006", "138875005"]


@pytest.mark.parametrize("concept", IDS)
def test_an_id_is_known_by_its_check_digit(concept: str) -> None:
    """One digit that is wrong, or two neighbours that changed places, make it wrong."""
    wrong = {
        concept[:place] + digit + concept[place + 1 :]
        for place in range(len(concept))
        for digit in "0123456789"
    }
    wrong |= {
        concept[:place] + concept[place + 1] + concept[place] + concept[place + 2 :]
        for place in range(len(concept) - 1)
    }

    assert is_concept_id(concept)
    assert [one for one in wrong - {concept} if is_concept_id(one)] == []


@pytest.mark.parametrize(
    "code",
    [
        "",
        "12345",
        "0371531000",
        "371531000 ",
        "٣٧١٥٣١٠٠٠",
        "9990000042",
        "MDM",
        # Right by their check digits, but the ids of a description and of a relationship.
        "751689013",
        "100022",
    ],
)
def test_what_is_no_id_of_a_concept_is_told(code: str) -> None:
    """Too short, with a zero first, with a blank, in other digits, and other numbers."""
    assert not is_concept_id(code)
