"""Who is told when the bridge's work does not go on, by a real alert command."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshctl.bridge.api_errors import ApiFault, BridgeFault, FailureKind
from meshctl.bridge.retry import BlockedAlerts, BridgePart
from meshctl.clock import instant, iso
from meshctl.daemon.alerts import Alerts
from meshctl.journal.events import journal
from tests.bridge.test_part import AWAY, DENIED, FULL, SteppedClock
from tests.settings.loading import MINIMAL, load

Told = Callable[[], list[dict[str, str]]]


class Switched:
    """The work of a part, which fails as long as `error` is set."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def __call__(self) -> bool:
        if self.error is not None:
            raise self.error
        return False


@pytest.fixture(name="alerts")
def _alerts(tmp_path: Path) -> Iterator[tuple[Alerts, Told]]:
    """An alert command that writes down what it is told, and a way to read that when all is sent."""
    file = tmp_path / "told"
    file.touch()
    script = f"import sys; open({str(file)!r}, 'a').write(sys.stdin.read())"
    command = json.dumps([sys.executable, "-c", script])
    alerts = Alerts(load(tmp_path, f"{MINIMAL}[alerts]\ncommand = {command}\n").alerts, journal)

    def told() -> list[dict[str, str]]:
        alerts.close(20)
        return [json.loads(line) for line in file.read_text().splitlines()]

    yield alerts, told
    alerts.close(0)


def _live(part: BridgePart, alarm: BlockedAlerts, clock: SteppedClock, seconds: float) -> None:
    """Let so much time pass, in turns of a second."""
    for _ in range(int(seconds)):
        part.turn()
        alarm.look([part])
        clock.seconds += 1


@pytest.mark.parametrize(
    ("error", "quiet_seconds", "told_by_seconds"),
    [(DENIED, 58, 64), (FULL, 58, 64), (AWAY, 890, 910)],
    ids=["denied", "disk", "away"],
)
def test_what_lasts_is_told_once(
    alerts: tuple[Alerts, Told], error: Exception, quiet_seconds: int, told_by_seconds: int
) -> None:
    """What a person has to mend is told after a minute, what may pass after fifteen, each once."""
    clock = SteppedClock()
    part, alarm = (
        BridgePart("receiving", Switched(error), 1.0, clock, journal),
        BlockedAlerts(journal.with_alerts(alerts[0].send)),
    )
    sent: list[int] = []
    for seconds in (quiet_seconds, told_by_seconds - quiet_seconds, 2000):
        _live(part, alarm, clock, seconds)
        sent.append(len(alarm.told))

    (alert,) = alerts[1]()
    assert sent == [0, 1, 1]
    assert (alert["event"], alert["part"]) == ("bridge.blocked", "receiving")
    assert alert["at"] == iso(instant(alert["at"]))
    assert alert["text"] == f"{part.obstacle}."
    assert alert["advice"] == part.advice


def test_its_end_is_told(alerts: tuple[Alerts, Told]) -> None:
    """When what was told is mended that is told, and a new episode is told again."""
    clock, work = SteppedClock(), Switched(DENIED)
    part, alarm = (
        BridgePart("sending", work, 1.0, clock, journal),
        BlockedAlerts(journal.with_alerts(alerts[0].send)),
    )
    for error in (DENIED, None, DENIED):
        work.error = error
        _live(part, alarm, clock, 700)

    assert [alert["event"] for alert in alerts[1]()] == [
        "bridge.blocked",
        "bridge.unblocked",
        "bridge.blocked",
    ]


def test_what_passes_at_once_is_not_told(alerts: tuple[Alerts, Told]) -> None:
    """A failure that is over within its time is nobody's alert, and neither is its end."""
    busy = BridgeFault(ApiFault(FailureKind.LATER, "", "HTTP-503", "MESH is busy"))
    clock, work = SteppedClock(), Switched(busy)
    part, alarm = (
        BridgePart("sending", work, 1.0, clock, journal),
        BlockedAlerts(journal.with_alerts(alerts[0].send)),
    )

    _live(part, alarm, clock, 300)
    work.error = None
    _live(part, alarm, clock, 700)

    assert alerts[1]() == []
