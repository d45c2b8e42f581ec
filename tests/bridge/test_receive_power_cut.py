"""A power cut at any instant of receiving: nothing is lost, doubled or half, and MESH is told of no more.

One receipt is recorded call by call, and its disk modelled (tests/crash/power_cut). Before the
acknowledgement the next start finds a MESH that still lists the message, after it one that does not.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from meshctl.mesh.control_file import ControlFileError
from tests.bridge import forked
from tests.bridge.mailbox import Mailbox
from tests.bridge.odd_mesh import Answer, odd_mesh
from tests.crash import strace
from tests.crash.power_cut.disk import Disk
from tests.crash.power_cut.states import CutState, cut_states
from tests.crash.power_cut.steps import Kind, read_steps

OBSTACLE = strace.obstacle()
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=OBSTACLE or "")

ID = "20261122091502480113_7F3A9C"
PAYLOAD: Final = b"".join(f"{number**7:x}".encode() for number in range(500))
HALF: Final = len(PAYLOAD) // 2
# What MESH gives out, a chunk each.
VARIANTS: Final = {
    "letter": (Answer(PAYLOAD, {"Mex-MessageType": "DATA"}),),
    "chunks": (
        Answer(PAYLOAD[:HALF], {"Mex-MessageType": "DATA", "Mex-Chunk-Range": "1:2"}, 206),
        Answer(PAYLOAD[HALF:], {"Mex-Chunk-Range": "2:2"}),
    ),
    "report": (Answer(headers={"Mex-MessageType": "REPORT"}),),
}
_SEED: Final = 20261122
BOTH_KINDS = pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "unordered"])


class Run:
    """One receipt of one variant that nobody disturbed, recorded with all that it did to its disk."""

    def __init__(self, folder: Path, variant: str, *, is_ordered: bool) -> None:
        self._folder = folder
        self._variant = variant
        with odd_mesh() as mesh:
            recorded = Mailbox(folder / "recorded", mesh.url)
            self._root = recorded.root
            self._disk = Disk([self._root], is_ordered=is_ordered)
            for number, answer in enumerate(VARIANTS[variant], start=1):
                mesh.hold(ID, answer, chunk=number)
            forked.record(recorded.receive, self._root, folder / "trace", with_data=True)
            assert mesh.acknowledged == [ID]
        steps = enumerate(read_steps(folder / "trace"))
        self._steps = [replace(step, call=f"{number} {step.call}") for number, step in steps]
        [self._told_before] = [n for n, step in enumerate(self._steps) if "/acknowledged/" in step.other]

    def wrong(self, most: int, *, without_syncs: bool = False) -> list[str]:
        """Return what is wrong after so many of the cuts that the kind of file system allows.

        `without_syncs` leaves out what makes files durable.
        """
        steps = [step for step in self._steps if not (without_syncs and step.kind is Kind.SYNC)]
        states = list(cut_states(self._disk, steps, _SEED))
        if len(states) > most:
            # From the first to the last step, so that every kind of step is among them.
            states = [states[number * len(states) // most] for number in range(most)]
        assert len(states) > 10
        found = []
        for state in states:
            number = -1 if state.after == "None" else int(state.after.split()[0])
            is_past = number >= self._told_before
            # What is found durable in IN may be what MESH was told of, right before the cut.
            is_in = all(str(self._root / "IN" / name) in state.nodes for name in self._names())
            # And somebody may take it from there before the bridge starts again.
            for is_told, is_taken in {
                (one, other) for one in (is_past, is_past or is_in) for other in (False, is_in)
            }:
                problem = self._problem_after(state, is_told=is_told, is_taken=is_taken)
                if problem:
                    found.append(f"after {state.after}, lost {state.lost}, told {is_told}: {problem}")
        return found

    def _problem_after(self, state: CutState, *, is_told: bool, is_taken: bool) -> str | None:
        """Start on what a cut left, with a MESH that was told or was not, and judge."""
        root = self._folder / os.urandom(6).hex()
        for path, (_, node, content) in sorted(state.nodes.items()):
            target = root / Path(path).relative_to(self._root)
            if node.is_folder:
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.write_bytes(content)
        with odd_mesh() as mesh:
            mailbox = Mailbox(root, mesh.url)
            if not is_told:
                for number, answer in enumerate(VARIANTS[self._variant], start=1):
                    mesh.hold(ID, answer, chunk=number)
            try:
                self._judge_visible(mailbox)
                if is_taken:
                    for name in self._names():
                        (mailbox.inbox / name).unlink()
                mailbox.receive()
                assert mesh.inbox == [], "MESH was not told"
                assert mailbox.names() == ([] if is_taken else self._names()), "not once in IN"
                self._judge_visible(mailbox)
                assert mailbox.left_over() == [], "something is left over"
            except (AssertionError, ControlFileError) as error:
                return str(error)
        return None

    def _judge_visible(self, mailbox: Mailbox) -> None:
        if f"{ID}.ctl" in mailbox.names():
            assert mailbox.control(ID).is_report == (self._variant == "report")
            assert mailbox.names() == self._names(), "a control file without its payload"
            assert self._variant == "report" or mailbox.data(ID) == PAYLOAD, "half a payload is shown"

    def _names(self) -> list[str]:
        return [f"{ID}.ctl"] if self._variant == "report" else [f"{ID}.ctl", f"{ID}.dat"]


@pytest.mark.timeout(600)
@BOTH_KINDS
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "most", [pytest.param(40, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.long)]
)
def test_cuts(tmp_path: Path, variant: str, is_ordered: bool, most: int) -> None:
    """After a cut that either kind of file system allows, nothing is broken."""
    assert Run(tmp_path, variant, is_ordered=is_ordered).wrong(most) == []


@pytest.mark.slow
@BOTH_KINDS
def test_the_model_notices_missing_syncs(tmp_path: Path, is_ordered: bool) -> None:
    """Without the syncs the model finds faults, so it can find them."""
    assert Run(tmp_path, "letter", is_ordered=is_ordered).wrong(60, without_syncs=True)
