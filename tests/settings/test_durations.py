"""Durations in settings: what they mean, what is rejected, and that they read back."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.settings.types import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("5d", timedelta(days=5)),
        ("1h30m", timedelta(minutes=90)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("0d5s", timedelta(seconds=5)),
    ],
)
def test_units_add_up(text: str, expected: timedelta) -> None:
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "90",
        "s",
        "5 d",
        "1.5h",
        "-5s",
        "30m1h",
        "5D",
        "0s",
        "0d0h",
        "5w",
        "٣s",
        "1h\n",
        "3661d",
        "9999999999s",
    ],
)
def test_other_texts_are_rejected(value: str) -> None:
    """A duration has units, in order, without blanks or fractions, above zero and at most ten years."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(value)


@pytest.mark.parametrize("value", [90, 1.5, True, None, ["5s"], timedelta(seconds=5)])
def test_a_bare_number_is_rejected(value: object) -> None:
    """A value without a unit is rejected, whatever its type: nobody can tell seconds from minutes."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(value)


@given(st.integers(min_value=1, max_value=3660 * 86_400))
def test_written_durations_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)

    assert duration == parse_duration(format_duration(duration))
