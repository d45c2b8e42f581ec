"""Message ids: the shape of MESH's own, and the time in them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.mesh.message_id import is_message_id, made_at, new_message_id


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_id_has_the_time_that_it_was_made(at: datetime) -> None:
    """To the microsecond, also after the prefix of a mailbox's files."""
    made = new_message_id(at)

    assert is_message_id(made)
    assert made_at(made) == made_at(f"OURS-{made}") == at


def test_the_time_is_utc() -> None:
    at = datetime(2026, 7, 20, 0, 30, tzinfo=timezone(timedelta(hours=1)))

    assert new_message_id(at).startswith("20260719233000000000_")
    assert made_at(new_message_id(at)) == at


@pytest.mark.parametrize("odd", ["20261322091502480113_7F3A9C", "", "letter"])
def test_what_names_no_time(odd: str) -> None:
    """A month 13 has the shape, and is no time."""
    assert made_at(odd) is None
