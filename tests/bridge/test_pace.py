"""How long the bridge waits between attempts."""

from hypothesis import given
from hypothesis import strategies as st

from meshctl.bridge.retry import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    """Without chance the pauses are 1, 2, 4, ... seconds, and stay at the longest."""
    pace = Backoff(1.0, 10.0, chance=lambda: 1.0)

    assert [pace.failed() for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_success_begins_anew() -> None:
    """After a success the next failure waits as the first one did."""
    pace = Backoff(1.0, 10.0, chance=lambda: 1.0)
    pace.failed()
    pace.failed()

    pace.succeeded()

    assert pace.failed() == 1


@given(st.floats(0, 1), st.integers(0, 40))
def test_chance_spreads_a_pause_by_half(chance: float, failures: int) -> None:
    """Whatever chance says, a pause is at least half of what it is at most, and never above the longest."""
    spread, whole = Backoff(1.0, 300.0, lambda: chance), Backoff(1.0, 300.0, lambda: 1.0)
    for _ in range(failures):
        spread.failed()
        whole.failed()

    assert whole.failed() / 2 <= spread.failed() <= 300


@given(st.floats(0, 3600), st.floats(0, 1))
def test_a_pause_that_mesh_asks_for_is_kept_to(asked: float, chance: float) -> None:
    """A Retry-After is never undercut, and not all come back at its very end."""
    pause = Backoff(1.0, 300.0, lambda: chance).failed(asked)

    assert asked + 0.5 <= pause <= asked + 1
