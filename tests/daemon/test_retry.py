"""What stands in the way of the daemon's work, and who hears of it."""

import errno
import os
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshctl.daemon.retry import Pauses, RetriedWork, daemon_policy
from meshctl.journal.events import Alert, journal
from tests.clock import stopped_clock


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/mesh/outbox/9990000042.xml")


def _alerts_while(steps: list[tuple[float, Callable[[], object]]]) -> list[dict[str, object]]:
    """Run work at certain seconds; return the alerts that went out."""
    clock = stopped_clock()
    alerts: list[Alert] = []
    policy = daemon_policy(["/srv/mesh/outbox"])
    attempts = RetriedWork("outbound", policy, clock, journal.with_alerts(alerts.append))
    for at_seconds, work in steps:
        clock.ahead_seconds = at_seconds
        attempts.run(work)
    return [alert.as_json() for alert in alerts]


def test_lasting_obstacle_is_alerted_once() -> None:
    """What has been in the way for a minute reaches the alert command, once, and so does its end."""
    alerts = _alerts_while([(float(at), _full) for at in range(0, 300, 10)] + [(400.0, lambda: True)])
    assert [alert["event"] for alert in alerts] == ["daemon.blocked", "daemon.unblocked"]
    assert alerts[0]["part"] == "outbound"
    assert "/srv/mesh/outbox" in str(alerts[0]["text"])
    assert "999" not in str(alerts)


def test_brief_obstacle_alerts_nobody() -> None:
    """What is mended within a minute reaches the log alone."""
    assert not _alerts_while([(0.0, _full), (5.0, _full), (15.0, lambda: True), (100.0, lambda: True)])


def test_later_obstacle_is_alerted_again() -> None:
    """An obstacle that comes again after it was mended is a new one."""
    once = [(0.0, _full), (61.0, _full), (130.0, lambda: True)]
    again = [(at + 1000.0, work) for at, work in once]
    assert len(_alerts_while([*once, *again])) == 4


def _renewed(then: Callable[[], object]) -> list[str]:
    """Return the alerts where other settings come after a lasting obstacle, and what comes of the work."""
    clock = stopped_clock()
    alerts: list[Alert] = []
    policy = daemon_policy(["/srv/mesh/outbox"])
    attempts = RetriedWork("outbound", policy, clock, journal.with_alerts(alerts.append))
    for at_seconds in (0.0, 61.0, 130.0):
        clock.ahead_seconds = at_seconds
        attempts.run(_full)
    attempts.renew(policy)
    # A look, which foresees nothing, does not know yet whether the work is possible.
    attempts.foresee([])
    for at_seconds in (131.0, 200.0, 270.0):
        clock.ahead_seconds = at_seconds
        attempts.run(then)
    return [str(alert.as_json()["event"]).removeprefix("daemon.") for alert in alerts]


def _gone() -> None:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/srv/mesh/outbox")


def test_what_other_settings_have_mended_is_told_as_resolved() -> None:
    """What they have not is no new alert, and another obstacle is one of its own."""
    assert _renewed(lambda: True) == ["blocked", "unblocked"]
    assert _renewed(_full) == ["blocked"]
    assert _renewed(_gone) == ["blocked", "unblocked", "blocked"]


def test_work_is_not_tried_before_its_pause_is_over() -> None:
    """Within ten minutes of an obstacle it is tried so often as pauses of up to a minute allow."""
    clock = stopped_clock()
    attempts = RetriedWork("outbound", daemon_policy([]), clock, journal)
    tried: list[float] = []

    def fail() -> None:
        tried.append(clock.ahead_seconds)
        _full()

    for tenth in range(6000):
        clock.ahead_seconds = tenth / 10
        attempts.run(fail)

    pauses = [after - before for before, after in pairwise(tried)]
    assert all(0.5 <= pause <= 60.1 for pause in pauses)
    assert pauses[0] <= 1.1
    assert pauses[5] >= 16.0
    assert attempts.pause_seconds is not None


def test_pauses_double_up_to_the_longest() -> None:
    """Without chance the pauses are 1, 2, 4, ... seconds, and stay at the longest."""
    pauses = Pauses(10.0, lambda: 1.0)

    assert [pauses.failed() for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_success_begins_again() -> None:
    """After a success the next failure waits as the first one did."""
    pauses = Pauses(10.0, lambda: 1.0)
    pauses.failed()
    pauses.failed()

    pauses.succeeded()

    assert pauses.failed() == 1


@given(st.floats(0, 1), st.integers(0, 40))
def test_chance_spreads_a_pause_by_half(chance: float, failures: int) -> None:
    """Whatever chance says, a pause is at least half of what it is at most, and never above the longest."""
    spread, whole = Pauses(300.0, lambda: chance), Pauses(300.0, lambda: 1.0)
    for _ in range(failures):
        spread.failed()
        whole.failed()

    assert whole.failed() / 2 <= spread.failed() <= 300


@given(st.floats(0, 3600), st.floats(0, 1))
def test_a_pause_that_is_asked_for_is_kept_to(asked: float, chance: float) -> None:
    """A pause that the far end asks for is never undercut, and not all come back at its very end."""
    pause = Pauses(300.0, lambda: chance).failed(asked)

    assert asked + 0.5 <= pause <= asked + 1
