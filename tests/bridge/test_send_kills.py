"""Killed at any system call while it sends, the bridge loses and doubles nothing.

After each kill it is started again until all is quiet. Then the recipient has each message once, and each
pair is in SENT or FAILED, once. Killed are the calls that change a file, and those that carry a message to
MESH or its answer back.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from meshctl.mesh.control_file import ControlFile, read_control_file
from meshctl.mesh.message_id import new_message_id
from tests.bridge import forked
from tests.bridge.mailbox import LETTER, OTHER, Mailbox
from tests.bridge.sandbox import Sandbox
from tests.bridge.servers import answering
from tests.crash import strace
from tests.crash.strace import Call
from tests.crash.sweep import thinned

OBSTACLE = strace.obstacle()
needs_strace = pytest.mark.skipif(OBSTACLE is not None, reason=OBSTACLE or "")
EVERY = pytest.mark.parametrize(
    "every",
    [
        pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(300)], id="sample"),
        pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(1800)], id="all"),
    ],
)

CHUNK_BYTES: Final = 30_000
LONG: Final = b"".join(f"{number**7:x}".encode() for number in range(7_000))
NETWORK: Final = ("connect", "sendto", "recvfrom")
SETTLE_SECONDS: Final = 0.2
_STARTS: Final = 8


@dataclass(frozen=True)
class Pair:
    """A pair to send: its payload, its control file, and the code that it is refused with, if it is."""

    data: bytes
    control: ControlFile | bytes = LETTER
    refused: str | None = None
    is_known_by_local_id: bool = True


VARIANTS: Final[dict[str, tuple[Pair, ...]]] = {
    "letter": (Pair(b"a letter"),),
    "chunks": (Pair(LONG),),
    "no local id": (Pair(b"a letter", replace(LETTER, local_id=""), is_known_by_local_id=False),),
    "refused by MESH": (Pair(b"a letter", replace(LETTER, to_dts="NOBODY7"), "12"),),
    "refused before": (Pair(b"a letter", replace(LETTER, subject="łł"), "06"),),
    "unreadable": (Pair(b"a letter", b"not xml", "01"),),
    "two": (Pair(b"one"), Pair(b"two", replace(LETTER, compress=False))),
}


@dataclass
class Place:
    """A new mailbox for one kill, with the pairs to send by stem, and the reports taken out of its IN."""

    mailbox: Mailbox
    sandbox: Sandbox
    pairs: dict[str, Pair]
    reports: dict[str, str] = field(default_factory=dict)

    def take_reports(self) -> None:
        """Take every report out of IN, as the daemon does; none may come twice."""
        for path in self.mailbox.inbox.glob("[!.]*"):
            control = read_control_file(path.read_bytes())
            assert control.is_report
            assert control.status is not None
            assert path.stem not in self.reports, f"{path.stem} is reported twice"
            self.reports[path.stem] = control.status.status_code
            path.unlink()

    def check_visible(self) -> None:
        """Check that what others can see is whole: no control file in part, or without its payload."""
        for folder in ("SENT", "FAILED", "IN"):
            for path in (self.mailbox.root / folder).glob("*.ctl"):
                pair = self.pairs[path.stem]
                if isinstance(pair.control, ControlFile) or folder == "IN":
                    assert read_control_file(path.read_bytes()).status is not None
                if folder != "IN":
                    assert path.with_suffix(".dat").read_bytes() == pair.data

    def start_until_quiet(self) -> None:
        """Start the bridge again and again until nothing is left to do."""
        for _ in range(_STARTS):
            assert forked.run(self.send) == 0
            self.take_reports()
            left = self.mailbox.everywhere()
            if not {"OUT", "work"} & left.keys():
                return
            time.sleep(SETTLE_SECONDS)
        raise AssertionError(f"never quiet: {left}")

    def check_end(self) -> None:
        """Check that each message has arrived once and each pair is in one place; empty the recipient."""
        self.check_visible()
        found = self._arrived()
        sent, failed = self._stems("SENT"), self._stems("FAILED")
        assert sent | failed == (set(self.pairs) if self.mailbox.save_sent else failed)
        assert not sent & failed
        for stem, pair in self.pairs.items():
            if pair.refused is not None:
                assert (stem in failed, self.reports.get(stem)) == (True, pair.refused)
                assert found.count(pair.data) == 0
            elif stem in failed:
                # Only what MESH cannot be asked after, and then it is for a person to find out.
                assert not pair.is_known_by_local_id
                assert self.reports[stem] == "UNSURE"
                assert found.count(pair.data) <= 1
            else:
                assert stem not in self.reports
                assert found.count(pair.data) == 1
        assert len(found) <= len(self.pairs)

    def send(self) -> None:
        """Send all that can be sent, as a new process does."""
        self.mailbox.send()

    def send_if_possible(self) -> None:
        """Send what can be sent; what the bridge cannot even start for is waited for by its loop."""
        with suppress(OSError):
            self.send()

    def _stems(self, folder: str) -> set[str]:
        names = self.mailbox.files(folder)
        stems = {name.removesuffix(".ctl") for name in names if name.endswith(".ctl")}
        assert set(names) == {f"{stem}{kind}" for stem in stems for kind in (".ctl", ".dat")}
        return stems

    def _arrived(self) -> list[bytes]:
        with self.sandbox.client(OTHER) as client:
            found = []
            for message_id in self.sandbox.inbox(OTHER):
                found.append(client.retrieve_message(message_id).read())
                client.acknowledge_message(message_id)
        return found


def kind_of(call: Call) -> str:
    """Return the kind of a call, by which samples are drawn."""
    return call.kind


class Places:
    """Makes new places for one variant."""

    def __init__(
        self,
        sandbox: Sandbox,
        folder: Path,
        variant: str,
        *,
        save_sent: bool = True,
        elsewhere: Path | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._variant = variant
        self._save_sent = save_sent
        self._elsewhere = elsewhere
        self._numbers = count()

    def new(self) -> Place:
        """Return a mailbox that has just begun, with the pairs in OUT."""
        number = str(next(self._numbers))
        mailbox = Mailbox(
            self._folder / number,
            self._sandbox.url,
            None if self._elsewhere is None else self._elsewhere / number,
            chunk_bytes=CHUNK_BYTES,
            save_sent=self._save_sent,
            settle_seconds=SETTLE_SECONDS,
        )
        pairs = {new_message_id(datetime.now(UTC)): pair for pair in VARIANTS[self._variant]}
        for stem, pair in pairs.items():
            control = pair.control
            if isinstance(control, ControlFile) and pair.is_known_by_local_id:
                control = replace(control, local_id=stem)
            mailbox.put(stem, pair.data, control)
        return Place(mailbox, self._sandbox, pairs)

    def calls(self) -> list[Call]:
        """Return the calls that change something when nobody disturbs."""
        place = self.new()
        calls = forked.record(
            place.send, place.mailbox.root, self._folder / "trace", place.mailbox.work.parent
        )
        place.take_reports()
        place.check_end()
        return calls

    def kill_at(self, call: Call) -> bool:
        """Kill a new place's bridge at a call, start it again, judge; False if it did not come to that."""
        place = self.new()
        killed = forked.run_until(place.send, call)
        place.check_visible()
        place.take_reports()
        place.start_until_quiet()
        place.check_end()
        return killed

    def fail_at(self, call: Call, error: str) -> None:
        """Let a call of a new place's bridge fail; it goes on, and is started again until all is quiet."""
        place = self.new()
        forked.run_failing(place.send_if_possible, call, error)
        place.check_visible()
        place.take_reports()
        place.start_until_quiet()
        place.check_end()

    def kill_twice(self, first: Call, every: int, turn: int) -> int:
        """Kill at a call, then the new start at its steps (`thinned`) in turn; return how often that was."""
        place = self.new()
        assert forked.run_until(place.send, first)
        place.take_reports()
        calls = forked.record(
            place.send, place.mailbox.root, self._folder / "trace", place.mailbox.work.parent
        )
        place.take_reports()
        place.start_until_quiet()
        place.check_end()
        steps = thinned([call for call in calls if call.is_step], every, kind_of, turn)
        for second in steps:
            place = self.new()
            assert forked.run_until(place.send, first)
            place.take_reports()
            forked.run_until(place.send, second)
            place.check_visible()
            place.take_reports()
            place.start_until_quiet()
            place.check_end()
        return len(steps)

    def kill_at_the_network(self, every: int = 1) -> int:
        """Kill at each call to the network in turn, or at some of each kind; return how many there were."""
        kills = 0
        for kind in NETWORK:
            for number in count(1, every):
                if not self.kill_at(Call(kind, number, f"{kind} {number}")):
                    break
                kills += 1
        return kills


@needs_strace
@EVERY
@pytest.mark.parametrize("variant", VARIANTS)
def test_kill_points(sandbox: Sandbox, tmp_path: Path, variant: str, every: int) -> None:
    """Wherever it is killed, a new start finishes the work: each message at MESH once, each pair in place."""
    places = Places(sandbox, tmp_path, variant)
    calls = places.calls()

    killed = [places.kill_at(call) for call in thinned(calls, every, kind_of)]

    assert sum(killed) == len(killed) >= len(calls) / every
    assert len(calls) > 15
    reaches_mesh = VARIANTS[variant][0].refused in (None, "12")
    assert (places.kill_at_the_network(every) > (3 if every == 1 else 0)) is reaches_mesh


@needs_strace
@EVERY
def test_kill_points_without_save_sent(sandbox: Sandbox, tmp_path: Path, every: int) -> None:
    """With SaveSent=N nothing of a pair is left, and its message has arrived once all the same."""
    places = Places(sandbox, tmp_path, "letter", save_sent=False)
    calls = places.calls()

    killed = [places.kill_at(call) for call in thinned(calls, every, kind_of)]

    assert sum(killed) == len(killed) >= len(calls) / every
    assert len(calls) > 15
    assert places.kill_at_the_network(every) > (3 if every == 1 else 0)


@needs_strace
@EVERY
@pytest.mark.parametrize("variant", ["letter", "refused by MESH", "unreadable", "two"])
def test_kill_points_between_two_file_systems(
    sandbox: Sandbox, tmp_path: Path, other_file_system: Path, variant: str, every: int
) -> None:
    """Where nothing can be renamed between the mailbox and the bridge's folder, it is no different."""
    places = Places(sandbox, tmp_path, variant, elsewhere=other_file_system)
    calls = places.calls()

    killed = [places.kill_at(call) for call in thinned(calls, every, kind_of)]

    assert sum(killed) == len(killed) >= len(calls) / every
    assert any("/.meshctl-taken/" in call.text for call in calls)


@needs_strace
@EVERY
@pytest.mark.parametrize("variant", ["letter", "refused by MESH"])
def test_killed_again_between_two_file_systems(
    sandbox: Sandbox, tmp_path: Path, other_file_system: Path, variant: str, every: int
) -> None:
    """A start that finishes what a kill left of a copy may be killed as well."""
    places = Places(sandbox, tmp_path, variant, elsewhere=other_file_system)
    firsts = [call for call in places.calls() if call.is_step][:: 2 * every]

    kills = sum(places.kill_twice(first, every, turn) for turn, first in enumerate(firsts))

    assert kills > (30 if every == 1 else 3)


@needs_strace
@EVERY
@pytest.mark.parametrize("variant", ["letter", "chunks", "no local id", "refused by MESH"])
def test_killed_again_while_it_recovers(sandbox: Sandbox, tmp_path: Path, variant: str, every: int) -> None:
    """A start that finishes what a kill left may be killed as well, at each of its steps."""
    places = Places(sandbox, tmp_path, variant)
    firsts = [call for call in places.calls() if call.is_step][:: 3 * every]
    # With the answer on its way, when nobody knows whether the message arrived.
    firsts.append(Call("recvfrom", 1, "recvfrom 1"))

    kills = sum(places.kill_twice(first, every, turn) for turn, first in enumerate(firsts))

    assert kills > (30 if every == 1 else 3)


@needs_strace
@EVERY
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("is_apart", [False, True], ids=["one file system", "two"])
@pytest.mark.parametrize("variant", ["letter", "chunks", "refused by MESH"])
def test_calls_that_fail(
    sandbox: Sandbox,
    tmp_path: Path,
    other_file_system: Path,
    variant: str,
    is_apart: bool,
    error: str,
    every: int,
) -> None:
    """Whichever call to a disk fails, the bridge goes on and nothing is lost or doubled."""
    places = Places(sandbox, tmp_path, variant, elsewhere=other_file_system if is_apart else None)

    for call in thinned(places.calls(), every, kind_of):
        places.fail_at(call, error)


@needs_strace
def test_what_was_rejected_before_a_kill_may_be_taken_after_it(sandbox: Sandbox, tmp_path: Path) -> None:
    """A rejection that a kill kept from coming out is forgotten, report and all: MESH is asked anew."""
    place = Places(sandbox, tmp_path, "letter").new()
    mesh_url = place.mailbox.url
    with answering(417, body='{"errorEvent": "SEND", "errorCode": "12", "errorDescription": "no"}') as url:
        place.mailbox.url = url
        unsettled = Places(sandbox, tmp_path / "recorded", "letter").new()
        unsettled.mailbox.url = url
        calls = forked.record(unsettled.send, unsettled.mailbox.root, tmp_path / "trace")
        (deciding,) = [call for call in calls if call.kind == "rename" and "/.bridge/failed/" in call.text][
            :1
        ]
        assert forked.run_until(place.send, deciding)
        assert any("reports/" in name for name in place.mailbox.left_over())

    place.mailbox.url = mesh_url
    place.start_until_quiet()

    assert place.reports == {}
    place.check_end()


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize("variant", ["letter", "no local id"])
def test_kills_around_the_upload(sandbox: Sandbox, tmp_path: Path, variant: str) -> None:
    """The same at each call to the network of a letter, with a LocalId of its own and without."""
    assert Places(sandbox, tmp_path, variant).kill_at_the_network() > 3
