"""Killed at any system call while it receives, the bridge loses, doubles and leaves half nothing.

After each kill it is started again until all is quiet. In between another application, as the daemon would,
may take what has arrived out of IN: that must not bring it back.
"""

import re
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from tests.bridge import forked
from tests.bridge.mailbox import MAILBOX_ID, Mailbox
from tests.bridge.sandbox import Sandbox
from tests.crash import strace
from tests.crash.sweep import thinned

OBSTACLE = strace.obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=OBSTACLE or "")
EVERY = pytest.mark.parametrize(
    "every",
    [
        pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(300)], id="sample"),
        pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(1800)], id="all"),
    ],
)

OTHER = "X26ABC2"
CHUNK_BYTES = 30_000
LONG = b"".join(f"{number**7:x}".encode() for number in range(8_000))
# What arrives: a payload and whether it was compressed, or None for a report.
Arrival = tuple[bytes, bool] | None
VARIANTS: dict[str, tuple[Arrival, ...]] = {
    "letter": ((b"a letter", False),),
    "report": (None,),
    "chunks and a report": ((LONG, True), None),
    "two letters": ((b"one", True), (b"two", False)),
}


@dataclass
class Place:
    """A new mailbox for one kill; what waits for it at MESH, payloads by message id, None for a report."""

    mailbox: Mailbox
    sandbox: Sandbox
    waiting: dict[str, bytes | None]
    taken: dict[str, bytes | None]

    def take_away(self) -> None:
        """Take every complete message out of IN, as another application does."""
        for path in self.mailbox.inbox.glob("[!.]*.ctl"):
            data = path.with_suffix(".dat")
            assert path.stem not in self.taken, f"{path.stem} has come twice"
            self.taken[path.stem] = data.read_bytes() if data.exists() else None
            data.unlink(missing_ok=True)
            path.unlink()

    def check_visible(self) -> None:
        """Check that nothing half is visible, and that MESH was told of nothing that is not there."""
        arrived = dict(self.taken)
        for path in self.mailbox.inbox.glob("[!.]*.ctl"):
            payload = self.waiting[path.stem]
            self.mailbox.control(path.stem)
            arrived[path.stem] = payload
            if payload is not None:
                assert self.mailbox.data(path.stem) == payload
        for message_id in self.waiting:
            if self.sandbox.message(message_id)["status"] != "Accepted":
                assert message_id in arrived, f"{message_id} was acknowledged and is nowhere"

    def check_end(self) -> None:
        """Check that everything has arrived exactly once, and that MESH has been told."""
        self.take_away()
        assert self.taken == self.waiting
        assert list(self.mailbox.inbox.iterdir()) == []
        assert self.mailbox.left_over() == []
        assert self.sandbox.inbox(MAILBOX_ID) == []


def kind_of(call: strace.Call) -> str:
    """Return the kind of a call, by which samples are drawn."""
    return call.kind


class Places:
    """Makes new places for one variant."""

    def __init__(
        self,
        sandbox: Sandbox,
        folder: Path,
        arrivals: tuple[Arrival, ...],
        elsewhere: Path | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._arrivals = arrivals
        self._elsewhere = elsewhere
        self._numbers = count()

    def new(self) -> Place:
        """Return a mailbox that has just begun, with the messages waiting at MESH."""
        number = str(next(self._numbers))
        elsewhere = None if self._elsewhere is None else self._elsewhere / number
        mailbox = Mailbox(self._folder / number, self._sandbox.url, elsewhere)
        waiting: dict[str, bytes | None] = {}
        with self._sandbox.client(OTHER) as client:
            for arrival in self._arrivals:
                if arrival is None:
                    message_id = self._sandbox.report(
                        MAILBOX_ID, code="14", description="no", workflow_id="TEST"
                    )
                    waiting[message_id] = None
                else:
                    payload, compress = arrival
                    message_id = client.send_message(
                        MAILBOX_ID,
                        payload,
                        max_chunk_size=CHUNK_BYTES,
                        compress=compress,
                        workflow_id="TEST",
                    )
                    waiting[message_id] = payload
        return Place(mailbox, self._sandbox, waiting, {})

    def calls(self) -> list[strace.Call]:
        """Return the calls of a receipt that nobody disturbs."""
        place = self.new()
        calls = forked.record(
            place.mailbox.receive,
            place.mailbox.root,
            self._folder / "trace",
            place.mailbox.work.parent,
        )
        place.check_end()
        return calls


@EVERY
@pytest.mark.parametrize("takes_away", [False, True], ids=["left in IN", "taken from IN"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_kill_points(sandbox: Sandbox, tmp_path: Path, variant: str, takes_away: bool, every: int) -> None:
    """Wherever it is killed, a new start finishes the work: each message in IN once, MESH told."""
    places = Places(sandbox, tmp_path, VARIANTS[variant])
    calls = places.calls()

    points = thinned(calls, every, kind_of)
    for call in points:
        kill_at(places, call, takes_away)

    assert len(points) >= len(calls) / every
    assert len(calls) > 15


@EVERY
@pytest.mark.parametrize("takes_away", [False, True], ids=["left in IN", "taken from IN"])
@pytest.mark.parametrize("variant", ["letter", "report"])
def test_kill_points_between_two_file_systems(
    sandbox: Sandbox, tmp_path: Path, other_file_system: Path, variant: str, takes_away: bool, every: int
) -> None:
    """Where nothing can be renamed into IN, nothing comes twice and nothing is left there either."""
    places = Places(sandbox, tmp_path, VARIANTS[variant], other_file_system)
    calls = places.calls()

    for call in thinned(calls, every, kind_of):
        kill_at(places, call, takes_away)

    assert any("/IN/.meshctl-" in call.text for call in calls)


def test_each_step_is_durable_before_the_next(sandbox: Sandbox, tmp_path: Path) -> None:
    """What a power cut finds is in order: files before note, note before IN, payload before control file."""
    places = Places(sandbox, tmp_path, VARIANTS["letter"])

    done = "\n".join(call.text for call in places.calls())

    steps = re.compile(
        r".*fsync\([^\n]*/arriving/(?P<id>\w+)\.dat>"
        r".*fsync\([^\n]*/arriving/(?P=id)\.ctl>"
        r".*fsync\([^\n]*/arriving>"
        r".*openat\([^\n]*/delivered/(?P=id)\""
        r".*fsync\([^\n]*/delivered>"
        r".*rename\([^\n]*/IN/(?P=id)\.dat"
        r".*fsync\([^\n]*/IN>"
        r".*rename\([^\n]*/IN/(?P=id)\.ctl"
        r".*fsync\([^\n]*/IN>"
        r".*rename\([^\n]*/delivered/(?P=id)\", \"[^\n]*/acknowledged/(?P=id)\"",
        re.DOTALL,
    )
    assert steps.match(done), done


@EVERY
@pytest.mark.parametrize("is_apart", [False, True], ids=["one file system", "two"])
@pytest.mark.parametrize("takes_away", [False, True], ids=["left in IN", "taken from IN"])
def test_kill_points_of_the_start_after_a_kill(
    sandbox: Sandbox,
    tmp_path: Path,
    other_file_system: Path,
    takes_away: bool,
    is_apart: bool,
    every: int,
) -> None:
    """A start that is killed while it sorts out what a kill has left leaves what the next can finish."""
    elsewhere = other_file_system if is_apart else None
    places = Places(sandbox, tmp_path, VARIANTS["letter"], elsewhere)
    killed = 0

    for turn, first in enumerate(thinned(places.calls(), every, kind_of)):
        for second in thinned(_calls_after(places, first, tmp_path), every, kind_of, turn):
            place = places.new()
            assert forked.run_until(place.mailbox.receive, first)
            if takes_away:
                place.take_away()
            killed += forked.run_until(place.mailbox.receive, second)
            place.check_visible()
            if takes_away:
                place.take_away()
            assert forked.run(place.mailbox.receive) == 0
            place.check_end()

    assert killed > (100 if every == 1 else 10)


def kill_at(places: Places, call: strace.Call, takes_away: bool) -> None:
    """Kill one receipt at a call, judge what is visible, start again and judge the end.

    The network decides in how many pieces a payload comes and is written: where this receipt makes fewer
    calls of the kind than the recorded one, it is killed at the last of them.
    """
    place = places.new()
    while not forked.run_until(place.mailbox.receive, call):
        place.check_end()
        call = replace(call, number=call.number - 1)
        assert call.number > 0, f"no {call.kind} was made"
        place = places.new()
    place.check_visible()
    if takes_away:
        place.take_away()
    assert forked.run(place.mailbox.receive) == 0
    place.check_end()


def _calls_after(places: Places, first: strace.Call, folder: Path) -> list[strace.Call]:
    place = places.new()
    assert forked.run_until(place.mailbox.receive, first)
    calls = forked.record(
        place.mailbox.receive, place.mailbox.root, folder / "trace", place.mailbox.work.parent
    )
    place.check_end()
    return [call for call in calls if call.is_step]
