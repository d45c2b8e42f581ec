"""Values written as TOML: whatever they hold, they read back as the same value."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.settings.types import toml_value

_SCALARS = (
    st.text(alphabet=st.characters(exclude_categories=["Cs"]))
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False)
)


@given(_SCALARS | st.lists(_SCALARS))
def test_values_read_back(value: object) -> None:
    """Quotes, backslashes, control characters and large numbers survive the way into a file and back."""
    assert value == tomllib.loads(f"value = {toml_value(value)}")["value"]


def test_other_values_are_rejected() -> None:
    """A value that TOML has no form for is a fault of the program, not silently a text."""
    with pytest.raises(TypeError, match="no TOML for a set"):
        toml_value({1})
