"""What stands in the way of the daemon's work, and who hears of it."""

import errno
import os
from collections.abc import Callable

from meshctl.clock import Clock
from meshctl.log.alert import Alert
from meshctl.log.events import journal
from meshctl.process.retry import RetriedWork


class _SetClock(Clock):
    """A clock whose pauses pass when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/mesh/outbox/9990000042.xml")


def _alerts_while(steps: list[tuple[float, Callable[[], object]]]) -> list[dict[str, object]]:
    """Run work at certain seconds; return the alerts that went out."""
    clock = _SetClock()
    alerts: list[Alert] = []
    attempts = RetriedWork("outbound", ["/srv/mesh/outbox"], clock, journal, alerts.append)
    for at_seconds, work in steps:
        clock.seconds = at_seconds
        attempts.run(work)
    return [alert.as_json() for alert in alerts]


def test_lasting_obstacle_is_alerted_once() -> None:
    """What has been in the way for a minute reaches the alert command, once, and so does its end."""
    alerts = _alerts_while([(float(at), _full) for at in range(0, 300, 10)] + [(400.0, lambda: True)])
    assert [alert["event"] for alert in alerts] == ["daemon.blocked", "daemon.unblocked"]
    # `half` is the old name of `part`.
    assert (alerts[0]["part"], alerts[0]["half"]) == ("outbound", "outbound")
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
