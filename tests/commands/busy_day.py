"""A ledger that holds a whole day of a busy mailbox: dropped, taken, answered, refused, forgotten."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import cycle

from meshctl.ledger.records import Reason
from meshctl.mesh.codes import explain_report
from meshctl.mesh.states import Acknowledgement, Evidence, State
from tests.commands.recorded import Recorder, recording
from tests.site import Site

MESSAGES = 1000
FAILED, REJECTED, OVERDUE = 20, 10, 10
REST_FROM, REST_UNTIL = (12, 0), (15, 0)
USE_CASES = ("send-document", "update-record", "discharge-summary", "ed-summary", "vaccination")
_REASON = Reason("patient_missing", "CHECK", "No patient is named.", "Give a sidecar with <patient>.")


@dataclass
class BusyDay:
    """Writes the day of `day`, local time, message by message; the MESH Client has a rest."""

    site: Site
    day: date

    def record(self) -> list[str]:
        """Write the ledger and return the ids of the messages, oldest first."""
        ids = []
        use_cases = cycle(USE_CASES)
        with recording(self.site) as recorder:
            for number in range(MESSAGES):
                dropped_at = self.at(7, 0) + timedelta(seconds=number * 43)
                recorder.now = dropped_at - timedelta(minutes=1)  # which enter() goes on by
                ids.append(self._message(recorder, number, next(use_cases), dropped_at))
        return ids

    def at(self, hour: int, minute: int) -> datetime:
        """Return a local time of the day."""
        return datetime.combine(self.day, time(hour, minute)).astimezone().astimezone(UTC)

    def _message(self, recorder: Recorder, number: int, use_case: str, dropped_at: datetime) -> str:
        levels = tuple(Acknowledgement)
        if number % 100 == 7:
            return recorder.enter(State.REJECTED, use_case=None, reason=_REASON)
        message_id = recorder.enter(use_case=use_case, asked=levels, file_name=f"smith-{number}.xml")
        if number % 100 == 9:
            recorder.overdue(message_id)
            return message_id
        recorder.now += timedelta(seconds=65 + number % 90)
        self._record(recorder, message_id, Evidence("TRANSFER", State.SENT, "00"))
        recorder.now += timedelta(seconds=30 + number % 1700)
        if number % 50 == 3:
            meaning = explain_report("SEND", "ERROR", "EPL-152" if number % 100 == 3 else "14")
            failed = Evidence("SEND", State.FAILED, meaning.code, meaning.meaning, meaning.advice)
            self._record(recorder, message_id, failed)
            return message_id
        for level, code in zip(levels, ("20013", "30001"), strict=True):
            state = State.RECEIVED if level is Acknowledgement.INFRASTRUCTURE else None
            self._record(recorder, message_id, Evidence("ITK3", state, code, acknowledges=level))
            recorder.now += timedelta(minutes=2 + number % 200)
        return message_id

    def _record(self, recorder: Recorder, message_id: str, evidence: Evidence) -> None:
        """Record what the client brings; what it would have brought in its rest comes after it."""
        if self.at(*REST_FROM) <= recorder.now < self.at(*REST_UNTIL):
            recorder.now = self.at(*REST_UNTIL)
        recorder.record(message_id, evidence)
