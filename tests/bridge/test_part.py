"""One part of the bridge's work: it goes on by steps, and waits, says so once and goes on when it fails."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshctl.bridge.api_errors import ApiFault, BridgeFault, FailureKind
from meshctl.bridge.retry import BridgePart
from meshctl.clock import Clock
from meshctl.errors import MeshctlError
from meshctl.journal.events import held_back, journal
from meshctl.journal.reader import Entry, parse_line
from meshctl.journal.setup import configure_log, release_log
from tests.settings.loading import MINIMAL, load

AWAY = BridgeFault(ApiFault(FailureKind.LATER, "", "CONNECT", "MESH cannot be reached"))
BUSY = BridgeFault(ApiFault(FailureKind.LATER, "", "HTTP-429", "MESH is busy", retry_after_seconds=120.0))
DENIED = BridgeFault(ApiFault(FailureKind.DENIED, "", "HTTP-403", "MESH does not let this mailbox in"))
FULL = OSError(28, "No space left on device", "/srv/IN/9990000042.dat")


class SteppedClock(Clock):
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1000.0

    def monotonic(self) -> float:
        """Return the seconds that were set."""
        return self.seconds


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


def _part(work: Worked, clock: Clock) -> BridgePart:
    return BridgePart("receiving", work, 60.0, clock, journal)


def test_steps_follow_each_other_until_there_is_none() -> None:
    """After a step another may follow at once; when there was none, the next look is a minute later."""
    work, clock = Worked(True, True, False, True), SteppedClock()
    part = _part(work, clock)

    assert [part.turn() for _ in range(4)] == [True, True, False, False]
    assert (work.calls, part.wait_seconds) == (3, 60.0)
    clock.seconds += 60
    assert part.turn()


def test_failures_wait_ever_longer_and_are_said_once(said: Callable[[], list[Entry]]) -> None:
    """While the same thing is in the way it is said once, with growing pauses; then that it goes on."""
    work, clock = Worked(AWAY, AWAY, AWAY, True), SteppedClock()
    part, pauses = _part(work, clock), []
    for _ in range(3):
        assert not part.turn()
        pauses.append(part.wait_seconds)
        assert part.obstacle == "receiving: MESH cannot be reached"
        assert not part.turn()
        clock.seconds += part.wait_seconds

    assert part.turn()

    assert work.calls == 4
    assert [0.5 <= pauses[0] <= 1, 1 <= pauses[1] <= 2, 2 <= pauses[2] <= 4] == [True] * 3
    assert part.obstacle is None
    assert [entry.event for entry in said()] == ["bridge.delayed", "bridge.unblocked"]


@pytest.mark.parametrize(
    ("error", "event", "text", "advice"),
    [
        (AWAY, "bridge.delayed", "MESH cannot be reached", "firewall"),
        (DENIED, "bridge.blocked", "MESH does not let this mailbox in", "clock"),
        (FULL, "bridge.blocked", "No space left on device (/srv/IN/**********.dat)", "its disk"),
        (MeshctlError("The key is gone."), "bridge.blocked", "The key is gone.", ""),
    ],
    ids=["away", "denied", "disk", "ours"],
)
def test_what_is_in_the_way_is_told(
    said: Callable[[], list[Entry]], error: Exception, event: str, text: str, advice: str
) -> None:
    """What will pass is a warning, what a person has to mend an error, with advice; no patient is told."""
    part = _part(Worked(error), SteppedClock())

    part.turn()

    (entry,) = said()
    assert (entry.event, entry.values["part"], entry.values["text"]) == (event, "receiving", text)
    assert part.obstacle == f"receiving: {text}"
    assert advice in part.advice
    assert entry.values.get("advice", "") == part.advice


def test_the_unforeseen_stops_nothing_and_tells_no_value(said: Callable[[], list[Entry]]) -> None:
    """A fault of meshctl's own is told by kind and place, never by its text, and tried again."""
    work, clock = Worked(ValueError("Smith, 9990000042"), True), SteppedClock()
    part = _part(work, clock)

    part.turn()
    clock.seconds += part.wait_seconds

    assert part.turn()
    assert [entry.event for entry in said()] == ["daemon.error", "bridge.blocked", "bridge.unblocked"]
    assert "Smith" not in "".join(entry.text for entry in said())


def test_a_pause_that_mesh_asks_for_is_kept_to() -> None:
    """With a Retry-After of two minutes nothing is asked before they are over."""
    work, clock = Worked(BUSY, True), SteppedClock()
    part = _part(work, clock)
    part.turn()

    clock.seconds += 120
    early = part.turn()
    clock.seconds += 1

    assert not early
    assert part.turn()


def test_looking_again_does_not_undercut_a_pause() -> None:
    """`look_again` ends the wait for the next look, and no wait after a failure."""
    idle, failing = Worked(False, True), Worked(AWAY, True)
    clock = SteppedClock()
    for part in (resting := _part(idle, clock), pausing := _part(failing, clock)):
        part.turn()
        part.look_again()

    assert (resting.turn(), pausing.turn()) == (True, False)
