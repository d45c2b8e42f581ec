"""Sizes for people."""

import pytest

from meshctl.journal.masking import mask_numbers
from meshctl.sizes import size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (48_213, "48.2 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1 MB"),
        (5_000_000, "5 MB"),
        (2_147_483_648, "2.1 GB"),
        (20_000_000_000, "20 GB"),
        (1_500_000_000_000, "1.5 TB"),
        (9_990_000_042_000_000, "9990 TB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_fits(size_bytes: int, text: str) -> None:
    """One decimal at most, in steps of a thousand, and never anything that the log masks."""
    assert size_text(size_bytes) == text
    assert mask_numbers(text) == text
