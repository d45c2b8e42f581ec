"""The routing string: both date formats, the published examples, and taking it apart again."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.mesh.address import (
    DateOfBirthFormat,
    Patient,
    check_surname,
    gp_provider,
    is_mailbox_id,
    read_date_of_birth,
    split_gp_provider,
)


@pytest.mark.parametrize(
    ("patient", "date_of_birth_format", "routing_string"),
    [
        (
            Patient("12345678", date(2001, 2, 14), "Smith"),
            DateOfBirthFormat.DDMMYYYY,
            "GPPROVIDER_12345678_14022001_Smith",
        ),
        (
            Patient("1234567890", date(1955, 1, 9), "Smith"),
            DateOfBirthFormat.DDMMYYYY,
            "GPPROVIDER_1234567890_09011955_Smith",
        ),
        (
            Patient("1234567890", date(1967, 1, 26), "Smith"),
            DateOfBirthFormat.YYYYMMDD,
            "GPPROVIDER_1234567890_19670126_Smith",
        ),
        (
            Patient("9990000042", date(987, 6, 5), "O'Neill-Smith"),
            DateOfBirthFormat.YYYYMMDD,
            "GPPROVIDER_9990000042_09870605_O'Neill-Smith",
        ),
    ],
)
def test_published_examples_come_out_to_the_letter(
    patient: Patient, date_of_birth_format: DateOfBirthFormat, routing_string: str
) -> None:
    """The routing string is that of the specifications, with the date in the chosen format."""
    assert routing_string == gp_provider(patient, date_of_birth_format)


_SURNAMES = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="_"), min_size=1, max_size=35
)


@given(st.from_regex("[0-9]{10}", fullmatch=True), st.dates(), _SURNAMES, st.sampled_from(DateOfBirthFormat))
def test_routing_string_always_splits_into_what_it_was_made_of(
    nhs_number: str, day: date, surname: str, date_of_birth_format: DateOfBirthFormat
) -> None:
    """Whatever passed the checks, MESH can tell the three parts apart."""
    checked = check_surname(surname)

    routing_string = gp_provider(Patient(nhs_number, day, checked), date_of_birth_format)

    parts = split_gp_provider(routing_string)
    assert parts is not None
    written = parts[1] if date_of_birth_format is DateOfBirthFormat.YYYYMMDD else _day_last(parts[1])
    assert (nhs_number, day, checked) == (parts[0], date.fromisoformat(written), parts[2])


def _day_last(written: str) -> str:
    return f"{written[4:]}{written[2:4]}{written[:2]}"


@pytest.mark.parametrize(
    "text",
    ["", "GP0001", "GPPROVIDER", "GPPROVIDER_1_2", "GPPROVIDER_1_2_A_B", "gpprovider_1_2_A", "X_1_2_A"],
)
def test_anything_else_is_no_routing_string(text: str) -> None:
    assert split_gp_provider(text) is None


@pytest.mark.parametrize("written_as", list(DateOfBirthFormat))
@given(born=st.dates(min_value=date(1850, 1, 1)))
def test_a_date_is_read_as_it_is_written(written_as: DateOfBirthFormat, born: date) -> None:
    routed = split_gp_provider(gp_provider(Patient("9990000042", born, "Smith"), written_as))

    assert routed is not None
    assert read_date_of_birth(routed[1]) == born


@pytest.mark.parametrize(
    "text",
    [
        "30022001",
        "20010230",
        "14131849",
        "18491302",
        "1402200",
        "14-02-01",
        "\u0661\u0664\u0660\u0662\u0662\u0660\u0660\u0661",
        "",
    ],
)
def test_what_is_no_date_is_not_read(text: str) -> None:
    """A text that is not eight digits, or no day that anyone was born on, is a ValueError."""
    with pytest.raises(ValueError, match=r"day|month|eight digits|1850"):
        read_date_of_birth(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("X26ABC1", True),
        ("X26-AB_C1", True),
        ("A" * 32, True),
        ("ABC", True),
        ("AB", False),
        ("A" * 33, False),
        ("x26abc1", False),
        ("_X26ABC1", False),
        ("X26ABC1\n", False),
        ("GPPROVIDER 1", False),
        ("GPPROVIDER_9990000042_14022001", False),
        ("../X26", False),
        ("", False),
        ("YGM24GXXX", True),
        ("A81001", True),
        ("9990000043", True),
        ("9990000042", False),
        ("9434765919", False),
        ("999-000-0042", False),
        ("X9990000042", False),
        ("99900_00042A", False),
    ],
)
def test_one_rule_for_mailbox_ids(text: str, is_one: bool) -> None:
    assert is_mailbox_id(text) is is_one


@given(st.from_regex(r"[A-Z0-9]{3,9}|[A-Z][A-Z0-9]{2}[A-Z]{2}[0-9]{3}", fullmatch=True))
def test_an_id_as_mesh_gives_them_is_one(text: str) -> None:
    """Whatever digits it has: those of MESH are shorter than an NHS number."""
    assert is_mailbox_id(text)
