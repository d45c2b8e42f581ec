"""The checks of NHS number, date of birth and surname, and what their rejections may say."""

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nhs_number.validate import calculate_checksum

from meshctl.errors import Rejection
from meshctl.mesh.address import (
    NhsNumberCheck,
    Patient,
    check_date_of_birth,
    check_nhs_number,
    check_surname,
    fits_header,
)

TODAY = date(2026, 11, 22)


def _valid_nhs_numbers() -> st.SearchStrategy[str]:
    nine_digits = st.integers(999_000_000, 999_999_999).map(str)
    numbers = nine_digits.map(lambda digits: f"{digits}{calculate_checksum(digits)}")
    # A check digit of 10 means that no such number is issued.
    return numbers.filter(lambda number: len(number) == 10)


@given(_valid_nhs_numbers(), st.sampled_from(["", " ", "-", "\u00a0", "\u2011"]))
def test_valid_nhs_number_comes_back_as_ten_digits(number: str, separator: str) -> None:
    """Spaces and hyphens between the groups are dropped, typographic ones too."""
    written = f" {number[:3]}{separator}{number[3:6]}{separator}{number[6:]} "

    assert number == check_nhs_number(written, NhsNumberCheck.MOD11)


@given(_valid_nhs_numbers(), st.integers(1, 9))
def test_any_other_check_digit_is_rejected(number: str, shift: int) -> None:
    wrong = number[:9] + str((int(number[9]) + shift) % 10)

    with pytest.raises(Rejection, match="check digit"):
        check_nhs_number(wrong, NhsNumberCheck.MOD11)


@pytest.mark.parametrize(
    ("written", "check", "text"),
    [
        ("", "mod11", "The NHS number is empty."),
        (" - ", "off", "The NHS number is empty."),
        ("999000004", "mod11", "The NHS number has 9 digits instead of ten."),
        ("99900000420", "mod11", "The NHS number has 11 digits instead of ten."),
        ("12345678", "digits", "The NHS number has 8 digits instead of ten."),
        ("9990000043", "mod11", "The NHS number fails its check digit (Mod 11)."),
        ("0000000000", "mod11", "The NHS number fails its check digit (Mod 11)."),
        ("999000004A", "mod11", "The NHS number holds a character that is not a digit."),
        ("999_000_0042", "off", "The NHS number holds a character that is not a digit."),
        ("9990000042\n", "mod11", "The NHS number holds a character that is not a digit."),
        ("٩٩٩٠٠٠٠٠٤٢", "mod11", "The NHS number holds a character that is not a digit."),
        ("999000004²", "digits", "The NHS number holds a character that is not a digit."),
    ],
)
def test_wrong_nhs_number_is_rejected_with_its_reason(written: str, check: str, text: str) -> None:
    with pytest.raises(Rejection) as caught:
        check_nhs_number(written, NhsNumberCheck(check))

    assert ("nhs_number_invalid", text) == (caught.value.code, caught.value.text)


@pytest.mark.parametrize(
    ("written", "check"),
    [
        ("1234567890", "digits"),
        ("485 777 3456", "digits"),
        ("12345678", "off"),
    ],
)
def test_published_examples_pass_the_looser_checks(written: str, check: str) -> None:
    """The NHS numbers of the published examples fail Mod 11, so the check can be loosened."""
    assert written.replace(" ", "") == check_nhs_number(written, NhsNumberCheck(check))


@given(st.dates(max_value=TODAY))
def test_whole_past_date_comes_back(day: date) -> None:
    """Every day up to today can be a date of birth."""
    assert day == check_date_of_birth(f" {day.isoformat()} ", TODAY)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("", "The date of birth is empty."),
        ("1980", "The date of birth is not a whole date."),
        ("1980-02", "The date of birth is not a whole date."),
        ("19800214", "The date of birth is not a whole date."),
        ("1980-W07-4", "The date of birth is not a whole date."),
        ("14/02/1980", "The date of birth is not a whole date."),
        ("1980-02-14T00:00:00Z", "The date of birth is not a whole date."),
        ("١٩٨٠-٠٢-١٤", "The date of birth is not a whole date."),
        ("1980-02-30", "The date of birth is not a day of the calendar."),
        ("0000-01-01", "The date of birth is not a day of the calendar."),
        ("2026-11-23", "The date of birth is in the future."),
    ],
)
def test_wrong_date_of_birth_is_rejected_with_its_reason(written: str, text: str) -> None:
    with pytest.raises(Rejection) as caught:
        check_date_of_birth(written, TODAY)

    assert ("date_of_birth_invalid", text) == (caught.value.code, caught.value.text)


@pytest.mark.parametrize(
    "surname", ["Smith", "O'Neill", "Smith-Jones", "de la Cruz", "Müller", "Łukasz", "D`Arcy", "N" * 35, "李"]
)
def test_real_surnames_pass_and_are_trimmed(surname: str) -> None:
    """Spaces, hyphens, apostrophes and accents belong to names."""
    assert surname == check_surname(f"  {surname} ")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("", "The surname is empty."),
        ("  ", "The surname is empty."),
        ("Smith_Jones", "The surname holds an underscore."),
        ("Smith\nJones", "The surname holds a line break or another control character."),
        ("Smith\n", "The surname holds a line break or another control character."),
        ("Smi\u200bth", "The surname holds a line break or another control character."),
        ("Smi\u2028th", "The surname holds a line break or another control character."),
        ("Smi\ud800th", "The surname holds a line break or another control character."),
        ("N" * 36, "The surname has 36 characters; PDS holds at most 35."),
    ],
)
def test_wrong_surname_is_rejected_with_its_reason(written: str, text: str) -> None:
    """A surname must not break the routing string nor exceed what PDS holds."""
    with pytest.raises(Rejection) as caught:
        check_surname(written)

    assert ("surname_invalid", text) == (caught.value.code, caught.value.text)


@given(st.text())
def test_no_rejection_quotes_what_it_rejects(text: str) -> None:
    marked = f"§{text}_§"
    for check in (
        lambda: check_nhs_number(marked, NhsNumberCheck.MOD11),
        lambda: check_date_of_birth(marked, TODAY),
        lambda: check_surname(marked),
    ):
        with pytest.raises(Rejection) as caught:
            check()

        assert "§" not in f"{caught.value.text}{caught.value.advice}{caught.value!r}"


def test_patient_shows_nothing_in_its_repr() -> None:
    # The address of an object may hold any digits.
    shown = re.sub("0x[0-9A-Fa-f]+", "", repr(Patient("9990000042", date(2001, 2, 14), "Smith")))

    assert not any(secret in shown for secret in ("9990000042", "2001", "Smith"))


@pytest.mark.parametrize("typographic", "\u2018\u2019\u201b\u02bc\u2032\uff07")
def test_a_typographic_apostrophe_becomes_that_of_pds(typographic: str) -> None:
    """Word processors turn apostrophes; PDS holds the ASCII one."""
    assert check_surname(f"O{typographic}Neill") == "O'Neill"


@pytest.mark.parametrize("typographic", "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d")
def test_a_typographic_hyphen_becomes_that_of_pds(typographic: str) -> None:
    """Word processors turn hyphens; PDS holds the ASCII one."""
    assert check_surname(f"Smith{typographic}Jones") == "Smith-Jones"


@pytest.mark.parametrize(
    ("surname", "fits"),
    [("Smith", True), ("M\u00fcller", True), ("Wa\u0142\u0119sa", False), ("\u674e", False)],
)
def test_a_header_carries_latin_1_and_no_more(surname: str, fits: bool) -> None:
    """Latin-1 is what the header of the MESH API can carry."""
    assert fits_header(check_surname(surname)) is fits
