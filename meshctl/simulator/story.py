"""The story of one message at the far end: where its pair ends up, and what comes back about it, and when.

Collects answers and writes nothing. The same pair told again, as after a kill, gets the same names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from meshctl.files.client_folders import PairOutcome, TakenPair
from meshctl.mesh.codes import SUCCESS, CodeMeaning, explain_report, explain_response
from meshctl.mesh.control_file import ControlFile, ControlFileError, write_report
from meshctl.simulator import answers

NOW: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class FarEndAnswer:
    """Something that comes into IN under `stem` at `due_at` (seconds from 1970); `says` is for people."""

    due_at: float
    stem: str
    control: bytes
    payload: bytes | str | None
    says: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a pair, and at `finish_at`; `control` None leaves its control file as it is."""

    outcome: PairOutcome
    control: bytes | None
    finish_at: float
    answers: Sequence[FarEndAnswer]
    says: str


class Story:
    """Tells what happens to `pair`, taken at `taken_at`, in a world that is `speed` times as fast as life."""

    def __init__(
        self, pair: TakenPair, control: ControlFile | None, mailbox_id: str, taken_at: float, speed: float
    ) -> None:
        self._pair = pair
        self._control = control
        self._mailbox_id = mailbox_id
        self._taken_at = taken_at
        self._speed = speed
        self._answers: list[FarEndAnswer] = []
        self.mesh_id = self._id("message")

    def report(self, meaning: CodeMeaning, after: timedelta, *, times: int = 1, with_id: bool = True) -> None:
        """Let a report come; `with_id` false before MESH has given the message an id."""
        due_at = self._at(after)
        control = write_report(
            self._control,
            self._mailbox_id,
            self.mesh_id if with_id else "",
            answers.status_record(meaning, due_at),
        )
        for time in range(times):
            self._add(due_at, f"{meaning.label} {after} {time}", control, None, f"report {meaning.label}")

    def acknowledgement(self, request: answers.Request, code: str, after: timedelta, times: int) -> None:
        """Let the practice answer with an ITK3 code."""
        due_at, meaning = self._at(after), explain_response(code)
        for time in range(times):
            stem = self._id(f"acknowledgement {code} {time}")
            control, payload = answers.acknowledgement(request, meaning, stem, due_at)
            self._answers.append(FarEndAnswer(due_at, stem, control, payload, f"acknowledgement {code}"))

    def arrival(self, control: ControlFile, after: timedelta) -> None:
        """Let the message arrive in our own IN, as one that was sent to ourselves."""
        due_at = self._at(after)
        arrived = answers.arrived(control, self.mesh_id, due_at)
        self._answers.append(
            FarEndAnswer(due_at, self.mesh_id, arrived, self._pair.data, "message to ourselves")
        )

    def failed(self, meaning: CodeMeaning) -> Verdict:
        """End the story in FAILED."""
        try:
            control = self._final(meaning, "", NOW)
        except ControlFileError:
            control = None
        return Verdict(
            PairOutcome.FAILED, control, self._taken_at, self._answers, f"to FAILED, {meaning.label}"
        )

    def sent(self, after: timedelta) -> Verdict:
        """End the story in SENT; raises ControlFileError if there can be no such control file."""
        control = self._final(explain_report("TRANSFER", SUCCESS, "00"), self.mesh_id, after)
        says = f"to SENT as {self.mesh_id}" + (f", in {after}" if after else "")
        return Verdict(PairOutcome.SENT, control, self._at(after), self._answers, says)

    def _final(self, meaning: CodeMeaning, dts_id: str, after: timedelta) -> bytes | None:
        if self._control is None:
            return None
        status = answers.status_record(meaning, self._at(after))
        return answers.with_status(self._control, dts_id, status)

    def _add(self, due_at: float, seed: str, control: bytes, payload: bytes | None, says: str) -> None:
        self._answers.append(FarEndAnswer(due_at, self._id(seed), control, payload, says))

    def _at(self, after: timedelta) -> float:
        return self._taken_at + after.total_seconds() / self._speed

    def _id(self, part: str) -> str:
        return answers.mesh_id(f"{self._pair.fingerprint} {part}", self._pair.put_at)
