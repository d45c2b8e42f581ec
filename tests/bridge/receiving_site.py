"""The folders of a mailbox, and the receiving side of a bridge on them, without the loop around it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from meshctl.bridge.client import BridgeClient
from meshctl.bridge.receive import Receiver
from meshctl.files.client_folders import ClientFolders
from meshctl.journal.events import Alert, EventRecord, Journal
from meshctl.mesh.control_file import ControlFile, read_control_file
from tests.bridge.sandbox import PASSWORD, SHARED_KEY

MAILBOX_ID = "X26ABC1"
NAMES = ("IN", "OUT", "SENT", "FAILED")


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
class ReceivingSite:
    """A mailbox below `root` whose far end is at `url`."""

    root: Path
    url: str
    said: Said = field(default_factory=Said)
    alerts: list[Alert] = field(default_factory=list)
    most_bytes: int = 2_000_000_000

    def __post_init__(self) -> None:
        """Make the folders of the MESH Client."""
        for name in NAMES:
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @property
    def inbox(self) -> Path:
        """Return IN."""
        return self.root / "IN"

    @property
    def work(self) -> Path:
        """Return the bridge's own folder."""
        return self.root / ".bridge"

    @contextmanager
    def client(self) -> Iterator[BridgeClient]:
        """Return a client as the bridge has one."""
        with BridgeClient(
            self.url, MAILBOX_ID, PASSWORD, SHARED_KEY.encode(), max_retries=0, timeout=10
        ) as client:
            yield client

    @contextmanager
    def receiving(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Receiver]:
        """Start the receiving side, as after a start of the bridge."""
        logger = logging.Logger("tests.bridge")
        logger.addHandler(self.said)
        sent, failed = self.root / "SENT", self.root / "FAILED"
        with self.client() as client:
            receiving = Receiver(
                client=client,
                folders=ClientFolders(
                    inbox=self.inbox,
                    out=self.root / "OUT",
                    sent=sent,
                    failed=failed,
                    work=self.work,
                    save_sent=True,
                    durable=True,
                ),
                inbox=self.inbox,
                work=self.work,
                journal=Journal(logger, self.alerts.append),
                most_bytes=self.most_bytes,
                should_stop=should_stop,
            )
            receiving.recover()
            yield receiving

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
