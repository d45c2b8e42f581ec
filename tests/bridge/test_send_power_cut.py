"""A power cut at any instant of sending: nothing is lost, sent twice or left half.

One run is recorded call by call, and its disk modelled (tests/crash/power_cut). What MESH has after a cut
depends on whether it came before the upload or after it: the next start finds a sandbox that knows nothing of
the message, or the one that got it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from meshctl.mesh.control_file import ControlFileError
from meshctl.mesh.message_id import new_message_id
from tests.bridge import forked
from tests.bridge.mailbox import LETTER, OTHER, Mailbox
from tests.bridge.sandbox import Sandbox
from tests.crash import strace
from tests.crash.power_cut.disk import Disk
from tests.crash.power_cut.states import CutState, cut_states
from tests.crash.power_cut.steps import Kind, read_steps

OBSTACLE = strace.obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=OBSTACLE or "")

_SEED: Final = 20261122
_DATA: Final = b"".join(f"{number**7:x}".encode() for number in range(500))
_STARTS: Final = 3
VARIANTS: Final = ("letter", "chunks", "refused", "SaveSent=N")
BOTH_KINDS = pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "unordered"])


@dataclass(frozen=True)
class Sandboxes:
    """A sandbox that the recorded runs send to, and one that knows nothing of their messages."""

    used: Sandbox
    unused: Sandbox


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandboxes]:
    """Two sandboxes for all cuts."""
    with (
        Sandbox(tmp_path_factory.mktemp("used")) as used,
        Sandbox(tmp_path_factory.mktemp("unused")) as unused,
    ):
        yield Sandboxes(used, unused)


class Run:
    """One run of one variant that nobody disturbed, recorded with all that it did to its disk."""

    def __init__(self, sandboxes: Sandboxes, folder: Path, variant: str) -> None:
        self._sandboxes = sandboxes
        self._folder = folder
        self._stem = new_message_id(datetime.now(UTC))
        self._is_refused = variant == "refused"
        self.judged = 0
        self._save_sent = variant != "SaveSent=N"
        self._chunk_bytes = len(_DATA) // 3 if variant == "chunks" else 10**9
        self._recorded = self._mailbox("recorded", sandboxes.used)
        to_dts = "NOBODY7" if self._is_refused else OTHER
        self._recorded.put(self._stem, _DATA, replace(LETTER, to_dts=to_dts, local_id=self._stem))
        self._disks = {kind: Disk([self._recorded.root], is_ordered=kind) for kind in (True, False)}
        forked.record(self._recorded.send_all, self._recorded.root, folder / "trace", with_data=True)
        steps = enumerate(read_steps(folder / "trace"))
        self._steps = [replace(step, call=f"{number} {step.call}") for number, step in steps]
        self._last_before_upload = self._find_upload()

    def wrong(self, most: int, *, is_ordered: bool, without_syncs: bool = False) -> list[str]:
        """Return what is wrong after so many of the cuts that the kind of file system allows.

        `without_syncs` leaves out what makes files durable.
        """
        steps = [step for step in self._steps if not (without_syncs and step.kind is Kind.SYNC)]
        states = list(cut_states(self._disks[is_ordered], steps, _SEED))
        if len(states) > most:
            # From the first to the last step, so that every kind of step is among them.
            states = [states[number * len(states) // most] for number in range(most)]
        found = []
        self.judged = len(states)
        for state in states:
            number = int(state.after.split()[0]) if state.after != "None" else -1
            # Between two steps MESH may have got the message, or not.
            ways = (
                [number > self._last_before_upload] if number != self._last_before_upload else [False, True]
            )
            for is_uploaded in ways:
                problem = self._problem_after(state, is_uploaded=is_uploaded and not self._is_refused)
                if problem:
                    found.append(f"after {state.after}, lost {state.lost}: {problem}")
        return found

    def _find_upload(self) -> int:
        """Return the number of the last step before the first call to MESH: the note is durable with it."""
        renames = [n for n, step in enumerate(self._steps) if step.other.endswith(".up")]
        syncs = [n for n, step in enumerate(self._steps) if step.kind is Kind.SYNC and n > renames[0]]
        return syncs[0]

    def _problem_after(self, state: CutState, *, is_uploaded: bool) -> str | None:
        """Start the bridge on what a cut left, until it is quiet, and judge."""
        sandbox = self._sandboxes.used if is_uploaded else self._sandboxes.unused
        # What MESH has not got bears a name that MESH has not got from an earlier cut either.
        stem = self._stem if is_uploaded else new_message_id(datetime.now(UTC))
        root = self._folder / os.urandom(6).hex()
        _lay_out(state, self._recorded.root, root, (self._stem, stem))
        mailbox = self._mailbox(root.name, sandbox)
        known = set(sandbox.inbox(OTHER))
        try:
            for folder in ("SENT", "FAILED"):
                for control in (root / folder).glob("*.ctl"):
                    assert control.with_suffix(".dat").read_bytes() == _DATA, "half a pair is shown"
            for _ in range(_STARTS):
                assert forked.run(mailbox.send_all) == 0
            self._check_end(mailbox, stem)
            come = [one for one in sandbox.inbox(OTHER) if one not in known]
            assert len(come) == (not is_uploaded and not self._is_refused), "not once at MESH"
            with sandbox.client(OTHER) as client:
                for message_id in come:
                    assert client.retrieve_message(message_id).read() == _DATA
                    client.acknowledge_message(message_id)
        except (AssertionError, ControlFileError) as error:
            return f"{type(error).__name__} {error}"
        return None

    def _check_end(self, mailbox: Mailbox, stem: str) -> None:
        """Check that the pair is where it belongs, whole, and told of once."""
        pair, report = [f"{stem}.ctl", f"{stem}.dat"], [f"{stem}.ctl"]
        if self._is_refused:
            assert mailbox.everywhere() == {"FAILED": pair, "IN": report}
            assert (
                mailbox.record_in("FAILED", stem) == mailbox.record_in("IN", stem) == ("SEND", "ERROR", "12")
            )
        elif self._save_sent:
            assert mailbox.everywhere() == {"SENT": pair}
            assert mailbox.record_in("SENT", stem) == ("TRANSFER", "SUCCESS", "00")
        else:
            assert mailbox.everywhere() == {}
        for data in mailbox.root.glob("*/*.dat"):
            assert data.read_bytes() == _DATA

    def _mailbox(self, name: str, sandbox: Sandbox) -> "Sender":
        root = self._folder / name
        return Sender(root, sandbox.url, chunk_bytes=self._chunk_bytes, save_sent=self._save_sent)


class Sender(Mailbox):
    """A mailbox that sends, as the work of a process."""

    def send_all(self) -> None:
        """Send all that can be sent."""
        self.send()


def _lay_out(state: CutState, original: Path, root: Path, renamed: tuple[str, str]) -> None:
    """Make the folders and files as they are after the cut, at a new place, the pair under another name."""
    old, new = renamed
    for path, (_, node, content) in sorted(state.nodes.items()):
        target = root / str(Path(path).relative_to(original)).replace(old, new)
        if node.is_folder:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.write_bytes(content.replace(old.encode(), new.encode()))
            os.utime(target, ns=(node.stamp_ns, node.stamp_ns))


@BOTH_KINDS
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "most",
    [
        pytest.param(25, marks=pytest.mark.slow),
        pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
def test_cuts(sandboxes: Sandboxes, tmp_path: Path, variant: str, is_ordered: bool, most: int) -> None:
    """After a cut that either kind of file system allows, nothing is broken."""
    run = Run(sandboxes, tmp_path, variant)

    assert run.wrong(most, is_ordered=is_ordered) == []
    assert run.judged > 20


@pytest.mark.slow
@BOTH_KINDS
def test_the_model_notices_missing_syncs(sandboxes: Sandboxes, tmp_path: Path, is_ordered: bool) -> None:
    """Without the syncs the model finds faults, so it can find them."""
    assert Run(sandboxes, tmp_path, "letter").wrong(25, is_ordered=is_ordered, without_syncs=True)
