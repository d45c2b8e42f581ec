"""One part of the bridge: it works in steps, and waits, logs once, alerts and goes on when one fails."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshctl.bridge.answers import ApiFault, BridgeFault, FailureKind, StoppedError
from meshctl.bridge.service import POLICY, BridgePart
from meshctl.clock import Clock, instant, iso
from meshctl.daemon.retry import RetriedWork
from meshctl.errors import MeshctlError
from meshctl.journal.events import Alert, AlertSink, held_back, journal
from meshctl.journal.lines import Entry, parse_line
from meshctl.journal.log_file import configure_log, release_log
from tests.clock import stopped_clock
from tests.settings.loading import MINIMAL, load

AWAY = BridgeFault(ApiFault(FailureKind.LATER, "", "CONNECT", "MESH cannot be reached"))
BUSY = BridgeFault(ApiFault(FailureKind.LATER, "", "HTTP-429", "MESH is busy", retry_after_seconds=120.0))
DENIED = BridgeFault(ApiFault(FailureKind.DENIED, "", "HTTP-403", "MESH does not let this mailbox in"))
FULL = OSError(28, "No space left on device", "/srv/IN/9990000042.dat")


class Worked:
    """The work of a part, as a test has it: each call does the next of `outcomes`, then there is nothing."""

    def __init__(self, *outcomes: bool | Exception) -> None:
        self.calls = 0
        self._outcomes = list(outcomes)

    def __call__(self) -> bool:
        self.calls += 1
        outcome = self._outcomes.pop(0) if self._outcomes else False
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture(name="said")
def _said(tmp_path: Path) -> Iterator[Callable[[], list[Entry]]]:
    """Return what the log has so far."""
    log = load(tmp_path, MINIMAL).log
    # What other tests said while there was no log would come into this one.
    held_back.take()
    configure_log(log)
    yield lambda: [parse_line(line) for line in log.file.read_text().split("\n") if line]
    release_log()


def _part(
    work: Callable[[], bool], clock: Clock, every_seconds: float = 60.0, alert: AlertSink | None = None
) -> BridgePart:
    with_alerts = journal if alert is None else journal.with_alerts(alert)
    return BridgePart(RetriedWork("receiving", POLICY, clock, with_alerts), work, every_seconds)


def test_steps_follow_each_other_until_there_is_none() -> None:
    work, clock = Worked(True, True, False, True), stopped_clock()
    part = _part(work, clock)

    assert [part.turn() for _ in range(4)] == [True, True, False, False]
    assert (work.calls, part.retried.wait_seconds) == (3, 60.0)
    clock.ahead_seconds += 60
    assert part.turn()


def test_failures_wait_ever_longer_and_are_logged_once(said: Callable[[], list[Entry]]) -> None:
    """While the same thing is in the way it is said once, with growing pauses; then that it goes on."""
    work, clock = Worked(AWAY, AWAY, AWAY, True), stopped_clock()
    part, pauses = _part(work, clock), []
    for _ in range(3):
        assert not part.turn()
        pauses.append(part.retried.wait_seconds)
        assert part.retried.obstacle == "MESH cannot be reached"
        assert not part.turn()
        clock.ahead_seconds += part.retried.wait_seconds

    assert part.turn()

    assert work.calls == 4
    assert [0.5 <= pauses[0] <= 1, 1 <= pauses[1] <= 2, 2 <= pauses[2] <= 4] == [True] * 3
    assert part.retried.problem is None
    assert [entry.event for entry in said()] == ["bridge.delayed", "bridge.unblocked"]


@pytest.mark.parametrize(
    ("error", "event", "text", "advice"),
    [
        (AWAY, "bridge.delayed", "MESH cannot be reached", "firewall"),
        (DENIED, "bridge.blocked", "MESH does not let this mailbox in", "clock"),
        (
            FULL,
            "bridge.blocked",
            "a folder or file cannot be used: No space left on device (/srv/IN/**********.dat)",
            "its disk",
        ),
        (MeshctlError("The key is gone."), "bridge.blocked", "The key is gone.", ""),
    ],
    ids=["away", "denied", "disk", "ours"],
)
def test_what_is_in_the_way_is_logged(
    said: Callable[[], list[Entry]], error: Exception, event: str, text: str, advice: str
) -> None:
    """What will pass is a warning, what a person has to mend an error, with advice; no patient is told."""
    part = _part(Worked(error), stopped_clock())

    part.turn()

    (entry,) = said()
    assert (entry.event, entry.values["part"], entry.values["text"]) == (event, "receiving", text)
    assert part.retried.obstacle == text
    assert advice in str(entry.values.get("advice", ""))
    assert entry.values.get("retry_seconds") is not None


def test_the_unforeseen_stops_nothing_and_tells_no_value(said: Callable[[], list[Entry]]) -> None:
    """A fault of meshctl's own is told by kind and place, never by its text, and tried again."""
    work, clock = Worked(ValueError("Smith, 9990000042"), True), stopped_clock()
    part = _part(work, clock)

    part.turn()
    clock.ahead_seconds += part.retried.wait_seconds

    assert part.turn()
    assert [entry.event for entry in said()] == ["daemon.error", "bridge.blocked", "bridge.unblocked"]
    assert "Smith" not in "".join(entry.text for entry in said())


def test_a_pause_that_mesh_asks_for_is_kept_to() -> None:
    work, clock = Worked(BUSY, True), stopped_clock()
    part = _part(work, clock)
    part.turn()

    clock.ahead_seconds += 120
    early = part.turn()
    clock.ahead_seconds += 1

    assert not early
    assert part.turn()


def test_looking_again_does_not_undercut_a_pause() -> None:
    """`rest(0)` ends the wait for the next look, and no wait after a failure."""
    idle, failing = Worked(False, True), Worked(AWAY, True)
    clock = stopped_clock()
    for part in (resting := _part(idle, clock), pausing := _part(failing, clock)):
        part.turn()
        part.retried.rest(0)

    assert (resting.turn(), pausing.turn()) == (True, False)


def test_a_stop_in_the_midst_of_a_step_is_no_failure_and_no_success(
    said: Callable[[], list[Entry]],
) -> None:

    def work() -> bool:
        raise next(outcomes)

    outcomes: Iterator[BaseException] = iter([AWAY, StoppedError()])
    clock = stopped_clock()
    part = _part(work, clock)
    part.turn()
    clock.ahead_seconds += part.retried.wait_seconds

    assert not part.turn()
    assert part.retried.obstacle == "MESH cannot be reached"
    assert [entry.event for entry in said()] == ["bridge.delayed"]


class Switched:
    """The work of a part, which fails as long as `error` is set."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def __call__(self) -> bool:
        if self.error is not None:
            raise self.error
        return False


class Site:
    """A part that looks every second, and the alerts about it."""

    def __init__(self, error: Exception | None) -> None:
        self.work = Switched(error)
        self.alerts: list[Alert] = []
        self._clock = stopped_clock()
        self._part = _part(self.work, self._clock, 1.0, self.alerts.append)

    def live(self, seconds: int) -> None:
        """Let so much time pass, in turns of a second."""
        for _ in range(seconds):
            self._part.turn()
            self._clock.ahead_seconds += 1


@pytest.mark.parametrize(
    ("error", "quiet_seconds", "alerted_by_seconds"),
    [(DENIED, 58, 64), (FULL, 58, 64), (AWAY, 890, 910)],
    ids=["denied", "disk", "away"],
)
def test_what_lasts_is_alerted_once(error: Exception, quiet_seconds: int, alerted_by_seconds: int) -> None:
    """What a person has to clear is alerted after a minute, what may pass after fifteen, each once."""
    site, sent = Site(error), []
    for seconds in (quiet_seconds, alerted_by_seconds - quiet_seconds, 2000):
        site.live(seconds)
        sent.append(len(site.alerts))

    alert = site.alerts[0].as_json()
    assert sent == [0, 1, 1]
    assert (alert["event"], alert["part"]) == ("bridge.blocked", "receiving")
    assert alert["at"] == iso(instant(str(alert["at"])))
    assert alert["text"] == POLICY.explain(error).text
    assert alert["advice"] == POLICY.explain(error).advice


def test_the_end_of_what_was_alerted_is_alerted() -> None:
    """Also a second episode is."""
    site = Site(None)
    for error in (DENIED, None, DENIED):
        site.work.error = error
        site.live(700)

    assert [alert.event for alert in site.alerts] == ["bridge.blocked", "bridge.unblocked", "bridge.blocked"]


def test_what_passes_in_time_is_not_alerted() -> None:
    """Neither is its end."""
    site = Site(BridgeFault(ApiFault(FailureKind.LATER, "", "HTTP-503", "MESH is busy")))
    site.live(300)
    site.work.error = None
    site.live(700)

    assert site.alerts == []
