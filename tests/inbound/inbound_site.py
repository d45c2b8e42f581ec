"""A mailbox to test the inbound part on: real folders, a real ledger, a clock that can be put forward.

A test enters messages, plays the MESH Client by writing into SENT, FAILED and IN, lets the daemon's inbound
part take its turns, and judges by ledger, log, alerts and folders.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from meshctl.inbound.pipeline import InboundNextTurn, InboundPipeline
from meshctl.journal.events import Alert, EventRecord, Journal
from meshctl.ledger import reads
from meshctl.ledger.database import LEDGER_NAME
from meshctl.ledger.keys import Keys
from meshctl.ledger.records import Message, NewMessage
from meshctl.ledger.services import Services
from meshctl.ledger.writes import Ledger
from meshctl.mesh.control_file import ControlFile, StatusRecord, write_control_file
from meshctl.mesh.message_id import new_message_id
from meshctl.mesh.states import Acknowledgement, State
from meshctl.settings.load import load_settings
from tests.clock import FakeClock, stopped_clock
from tests.payloads import make_response_xml

MAILBOX_ID = "X26ABC1"
PRACTICE = "P81001"
WORKFLOW = "GPCONNECT_SEND_DOCUMENT"
ACK_WORKFLOW = "GPCONNECT_SEND_DOCUMENT_ACK"
MESH_ID = "20260712103016418053_B8CF9A"
# So long that no number fits on the end of it.
LONG_NAME = "x" * 251
_MOST_TURNS = 10_000
# A folder rests for this long at most between two looks, if there is little in it.
_SOON_SECONDS = 0.5


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    level: str
    event: str
    fields: dict[str, Any]


class _Lines(logging.Handler):
    def __init__(self, lines: list[Line]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record, EventRecord)
        fields = {key: value for key, value in record.fields.items() if value is not None}
        self._lines.append(Line(record.levelname, record.event, fields))


@dataclass
class InboundSite:
    """One mailbox with its services. `settings_text` is added to the essentials of the settings."""

    root: Path
    settings_text: str = ""
    client_config: str | None = None
    clock: FakeClock = field(default_factory=stopped_clock)
    lines: list[Line] = field(default_factory=list)
    alerts: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("IN", "OUT", "SENT", "FAILED", "TEMP"):
            self.folder(name).mkdir(parents=True)
        (self.root / "state").mkdir()
        self.start()

    def start(self) -> None:
        """Open the services and put the inbound part together, as a start of the daemon does."""
        text = f'[mailbox]\nid = "{MAILBOX_ID}"\nfolder = "mailbox"\n'
        if self.client_config is not None:
            (self.root / "meshclient.cfg").write_text(self.client_config)
            text += 'client_config = "meshclient.cfg"\n'
        (self.root / "meshctl.toml").write_text(text + self.settings_text)
        self.settings = load_settings(self.root / "meshctl.toml", {})
        logger = logging.Logger("test", logging.DEBUG)
        logger.addHandler(_Lines(self.lines))
        self.ledger = Ledger(self.root / "state" / LEDGER_NAME)
        self.keys = Keys(b"k" * 32)
        journal = Journal(logger, self._note_alert)
        self.services = Services(self.ledger, self.keys, self.clock, journal)
        self.incoming = InboundPipeline(self.settings, self.services, lambda: False)

    def _note_alert(self, alert: Alert) -> None:
        self.alerts.append(alert.as_json())

    def restart(self) -> None:
        """Close the services and start again; what the log said before is forgotten."""
        self.close()
        self.lines.clear()
        self.alerts.clear()
        self.start()

    def close(self) -> None:
        """Close the services."""
        self.ledger.close()

    def folder(self, name: str) -> Path:
        """Return one of the client's folders."""
        return self.root / "mailbox" / name

    def message(self, **options: Any) -> str:
        """Enter a message as `messages` does; return its id."""
        return self.messages(1, **options)[0]

    def messages(
        self,
        count: int,
        *,
        asked: Sequence[Acknowledgement] = (),
        local_id: str | None = None,
        references: Sequence[str] = (),
        use_case: str = "send-document",
        in_out: bool = True,
        queued: bool = True,
        created_at: datetime | None = None,
        **more: Any,
    ) -> list[str]:
        """Enter messages, put their pairs into OUT and mark them as queued; return their ids.

        `local_id` None stands for the message's own id; `more` are further columns of the ledger.
        """
        at = created_at or self.clock.now()
        rows = []
        for _ in range(count):
            message_id = new_message_id(self.clock.now())
            rows.append(
                NewMessage(
                    message_id=message_id,
                    file_name="letter.xml",
                    size_bytes=5,
                    sha256=None,
                    created_at=at,
                    use_case=use_case,
                    workflow_id=self.settings.use_cases[use_case].workflow_id,
                    asked=tuple(asked),
                    local_id_key=self.keys.of(message_id if local_id is None else local_id)
                    if local_id != ""
                    else None,
                    reference_keys=tuple(self.keys.of(reference) for reference in references),
                    **more,
                )
            )
        self.ledger.enter(rows)
        ids = [row.message_id for row in rows]
        if in_out:
            for message_id in ids:
                self.put("OUT", f"{message_id}.dat", b"hello")
                self.put("OUT", f"{message_id}.ctl", write_control_file(sent_control(message_id)))
        if queued:
            self.ledger.mark_queued(ids, at, self.clock.steady())
        return ids

    def put(self, folder: str, name: str, data: bytes, *, age_seconds: float = 0.0) -> Path:
        """Write a file as the client does: under another name first; `age_seconds` ago."""
        path = self.folder(folder) / name
        temporary = self.root / "temporary"
        temporary.write_bytes(data)
        if age_seconds:
            changed_at = time.time() - age_seconds
            os.utime(temporary, (changed_at, changed_at))
        temporary.replace(path)
        return path

    def take_from_out(self, message_id: str) -> None:
        """Remove a pair from OUT, as the client does when it takes it."""
        (self.folder("OUT") / f"{message_id}.ctl").unlink()
        (self.folder("OUT") / f"{message_id}.dat").unlink()

    def save_sent(self, message_id: str, *, mesh_id: str = MESH_ID, local_id: str | None = None) -> Path:
        """Put a pair into SENT, as the client does with SaveSent=Y."""
        control = sent_control(message_id, local_id=local_id)
        status = StatusRecord("20260712103016", "TRANSFER", "SUCCESS", "00", "")
        data = write_control_file(replace(control, dts_id=mesh_id, status=status))
        self.put("SENT", f"{message_id}.dat", b"hello")
        return self.put("SENT", f"{message_id}.ctl", data)

    def report(self, name: str, control: ControlFile) -> Path:
        """Put a report into IN."""
        return self.put("IN", f"{name}.ctl", write_control_file(control))

    def acknowledge(
        self, name: str, request_id: str, codes: tuple[str, ...] = ("20013",), **more: Any
    ) -> Path:
        """Put an acknowledgement into IN, payload first; return its control file."""
        changes = {key: more.pop(key) for key in ("workflow_id", "to_dts", "from_dts") if key in more}
        self.put("IN", f"{name}.dat", make_response_xml(request_id=request_id, codes=codes, **more))
        return self.put("IN", f"{name}.ctl", write_control_file(replace(ACKNOWLEDGEMENT_CONTROL, **changes)))

    def turns(self) -> InboundNextTurn:
        """Let the inbound part work until there is nothing left to do at once."""
        for _ in range(_MOST_TURNS):
            work_left = self.incoming.work()
            if work_left.busy:
                continue
            if work_left.next_look_seconds is None or work_left.next_look_seconds > _SOON_SECONDS:
                return work_left
            self.clock.ahead_seconds += work_left.next_look_seconds
        raise AssertionError("the inbound part never comes to rest")

    def later(self, seconds: float) -> InboundNextTurn:
        """Put the clock forward and let the inbound part work."""
        self.clock.ahead_seconds += seconds
        return self.turns()

    def row(self, message_id: str) -> Message:
        """Return a message as the ledger has it."""
        with reads.snapshot(self.root / "state") as connection:
            found = reads.message(connection, message_id)
        assert found is not None
        return found

    def state(self, message_id: str) -> State:
        """Return the state of a message."""
        return self.row(message_id).state

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of each line of this event that is not for debugging."""
        return [line.fields for line in self.lines if line.event == event and line.level != "DEBUG"]

    def alerted(self, event: str) -> list[dict[str, object]]:
        """Return the alerts of this event."""
        return [alert for alert in self.alerts if alert["event"] == event]

    def names(self, folder: str) -> list[str]:
        """Return what lies in one of the client's folders."""
        return sorted(path.name for path in self.folder(folder).iterdir())

    def archive_days(self) -> list[Path]:
        """Return the archive's folders of today and of tomorrow, for a test that midnight may fall into."""
        days = (self.clock.now() + timedelta(days=number) for number in (0, 1))
        return [self.root / "archive" / f"{day:%Y/%m/%d}" for day in days]

    def take_in_archive(self, name: str) -> None:
        """Put a control file of this name into the archive; no other fits beside one with `LONG_NAME`."""
        for folder in self.archive_days():
            folder.mkdir(parents=True)
            (folder / f"{name}.ctl").write_bytes(b"taken")

    def archived(self) -> list[str]:
        """Return the names of all archived files."""
        return sorted(path.name for path in (self.root / "archive").rglob("*") if path.is_file())


def sent_control(message_id: str, *, local_id: str | None = None) -> ControlFile:
    """Return the control file of a message of ours."""
    return ControlFile(
        from_dts=MAILBOX_ID,
        to_dts=PRACTICE,
        subject="",
        workflow_id=WORKFLOW,
        local_id=message_id if local_id is None else local_id,
    )


def report_on(
    local_id: str, event: str, status: str, code: str, *, mesh_id: str = "", **changes: Any
) -> ControlFile:
    """Return a report on a message; `changes` are fields of the control file."""
    control = replace(
        sent_control("", local_id=local_id),
        address_type="ALL",
        message_type="Report",
        dts_id=mesh_id,
        status=StatusRecord("20260712103016", event, status, code, "As the code says"),
    )
    return replace(control, **changes)


ACKNOWLEDGEMENT_CONTROL = ControlFile(
    from_dts=PRACTICE,
    to_dts=MAILBOX_ID,
    subject="",
    workflow_id=ACK_WORKFLOW,
    dts_id="20260712110000000000_ACACAC",
    status=StatusRecord("20260712110000", "TRANSFER", "SUCCESS", "00", ""),
)


def closing(mailbox: InboundSite) -> Iterator[InboundSite]:
    """Yield the mailbox and close its services afterwards, for a fixture."""
    yield mailbox
    mailbox.close()
