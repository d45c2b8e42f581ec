"""The folders of a mailbox, and the sending and receiving side of a bridge on them, without its loop."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshctl.bridge.answers import BridgeFault
from meshctl.bridge.client import BridgeClient
from meshctl.bridge.receive import Receiver
from meshctl.bridge.send import PairSender
from meshctl.files.client_folders import ClientFolders
from meshctl.journal.events import Alert, EventRecord, Journal
from meshctl.mesh.control_file import ControlFile, read_control_file, write_control_file
from tests.bridge.sandbox import PASSWORD, SHARED_KEY, Sandbox

MAILBOX_ID: Final = "X26ABC1"
OTHER: Final = "X26ABC2"
STEM: Final = "20261122113000123456_A1B2C3"
LETTER: Final = ControlFile(
    from_dts=MAILBOX_ID,
    to_dts=OTHER,
    subject="Outpatient letter for Mrs Zoë Quixworthy, NHS Number: 9990000042",
    workflow_id="GPCONNECT_SEND_DOCUMENT",
    local_id="letter-17",
)
_MOST_STEPS: Final = 200
_MOST_FAULTS: Final = 3


class Said(logging.Handler):
    """What was said in the log: the events, and the fields of each."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[EventRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        assert isinstance(record, EventRecord)
        self.lines.append(record)

    def events(self) -> list[str]:
        """Return the names of the events."""
        return [line.event for line in self.lines]

    def reasons(self) -> list[object]:
        """Return the reasons why messages were left at MESH."""
        return [line.fields["reason"] for line in self.lines if line.event == "bridge.left"]


@dataclass
class Mailbox:
    """A mailbox below `root` whose MESH is at `url`; `elsewhere` is another place for the bridge's folder."""

    root: Path
    url: str
    elsewhere: Path | None = None
    said: Said = field(default_factory=Said)
    alerts: list[Alert] = field(default_factory=list)
    most_bytes: int = 2_000_000_000
    chunk_bytes: int = 20_000_000
    save_sent: bool = True
    settle_seconds: float = 0.0
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Make the folders of the MESH Client."""
        for name in ("IN", "OUT", "SENT", "FAILED"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.work.parent.mkdir(parents=True, exist_ok=True)

    @property
    def inbox(self) -> Path:
        """Return IN."""
        return self.root / "IN"

    @property
    def work(self) -> Path:
        """Return the bridge's own folder."""
        return (self.elsewhere or self.root) / ".bridge"

    @contextmanager
    def client(self, timeout_seconds: float = 10.0) -> Iterator[BridgeClient]:
        """Return a client as the bridge has one."""
        key = SHARED_KEY.encode()
        with BridgeClient(
            self.url, MAILBOX_ID, PASSWORD, key, max_retries=0, timeout=timeout_seconds
        ) as client:
            yield client

    def _folders(self) -> ClientFolders:
        return ClientFolders(
            inbox=self.inbox,
            out=self.root / "OUT",
            sent=self.root / "SENT",
            failed=self.root / "FAILED",
            work=self.work,
            save_sent=self.save_sent,
            durable=True,
        )

    def _journal(self) -> Journal:
        logger = logging.Logger("tests.bridge")
        logger.addHandler(self.said)
        return Journal(logger, self.alerts.append)

    @contextmanager
    def receiving(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Receiver]:
        """Start the receiving side, as after a start of the bridge."""
        with self.client() as client:
            yield Receiver(
                client=client,
                folders=self._folders(),
                inbox=self.inbox,
                work=self.work,
                journal=self._journal(),
                most_bytes=self.most_bytes,
                should_stop=should_stop,
            )

    def receive(self) -> None:
        """Start the receiving side and receive all that is there."""
        with self.receiving() as receiving:
            while receiving.step():
                pass

    def names(self) -> list[str]:
        """Return the names of the files in IN."""
        return sorted(path.name for path in self.inbox.iterdir())

    def control(self, message_id: str) -> ControlFile:
        """Return the control file of what has arrived."""
        return read_control_file((self.inbox / f"{message_id}.ctl").read_bytes())

    def data(self, message_id: str) -> bytes:
        """Return the payload of what has arrived."""
        return (self.inbox / f"{message_id}.dat").read_bytes()

    def left_over(self) -> list[str]:
        """Return what still lies in the bridge's folder, but for the notes of what MESH has been told of."""
        files = [path for path in self.work.rglob("*") if path.is_file()]
        return sorted(
            str(path.relative_to(self.work)) for path in files if path.parent.name != "acknowledged"
        )

    def put(
        self,
        stem: str = STEM,
        data: bytes | None = b"a letter",
        control: ControlFile | bytes = LETTER,
        *,
        age_seconds: float = 2.0,
    ) -> None:
        """Put a pair into OUT, as old as said; without `data` its control file alone."""
        out = self.root / "OUT"
        if data is not None:
            (out / f"{stem}.dat").write_bytes(data)
        written = control if isinstance(control, bytes) else write_control_file(control)
        path = out / f"{stem}.ctl"
        path.with_suffix(".new").write_bytes(written)
        made_at = path.with_suffix(".new").stat().st_mtime - age_seconds
        os.utime(path.with_suffix(".new"), (made_at, made_at))
        path.with_suffix(".new").rename(path)

    @contextmanager
    def sending(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[PairSender]:
        """Start the sending side, as after a start of the bridge."""
        with self.client(self.timeout_seconds) as client:
            yield PairSender(
                client=client,
                folders=self._folders(),
                work=self.work,
                mailbox_id=MAILBOX_ID,
                chunk_bytes=self.chunk_bytes,
                journal=self._journal(),
                should_stop=should_stop,
                settle_seconds=self.settle_seconds,
            )

    def send(self) -> list[BridgeFault]:
        """Start the sending side and send all that can be sent; return the faults there were on the way."""
        with self.sending() as sending:
            return finish(sending)

    def files(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of the MESH Client."""
        return sorted(path.name for path in (self.root / folder).iterdir())

    def everywhere(self) -> dict[str, list[str]]:
        """Return the names of the files in every folder that has some; the bridge's spare one is none."""
        found = {name: self.files(name) for name in ("IN", "OUT", "SENT", "FAILED")}
        found["work"] = [name for name in self.left_over() if name != "taken/.spare"]
        return {name: files for name, files in found.items() if files}

    def control_in(self, folder: str, stem: str = STEM) -> ControlFile:
        """Return a control file in a folder of the MESH Client."""
        return read_control_file((self.root / folder / f"{stem}.ctl").read_bytes())

    def record_in(self, folder: str, stem: str = STEM) -> tuple[str, str, str]:
        """Return event, status and code of a control file in a folder of the MESH Client."""
        status = self.control_in(folder, stem).status
        assert status is not None
        assert len(status.date_time) == len("20261122113000")
        return status.event, status.status, status.status_code

    def log_text(self) -> str:
        """Return all that the log was told, in one text."""
        return "\n".join(f"{line.event} {dict(line.fields)!r}" for line in self.said.lines)


def finish(sending: PairSender) -> list[BridgeFault]:
    """Take steps until there is nothing left to do, or three have failed; return the faults."""
    faults: list[BridgeFault] = []
    for _ in range(_MOST_STEPS):
        try:
            if not sending.step():
                return faults
        except BridgeFault as fault:
            faults.append(fault)
            if len(faults) == _MOST_FAULTS:
                return faults
    raise AssertionError("it never comes to an end")


def arrived(sandbox: Sandbox, mailbox: str = OTHER) -> list[bytes]:
    """Return the payloads that wait in a mailbox at MESH, oldest first."""
    with sandbox.client(mailbox) as client:
        return [client.retrieve_message(message_id).read() for message_id in client.iterate_message_ids()]
