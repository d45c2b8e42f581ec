"""A site whose ledger holds what a test wants, written as the daemon writes it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from click.testing import CliRunner, Result

from meshctl.cli import cli
from meshctl.journal.events import Journal
from meshctl.ledger.records import NewMessage
from meshctl.ledger.services import Services, open_services
from meshctl.mesh.message_id import new_message_id
from meshctl.mesh.states import Deadline, Evidence, State
from meshctl.settings.load import load_settings
from tests.site import Site


def invoke(site: Site, *arguments: str) -> Result:
    """Run one command in this process, with the environment of the site."""
    runner = CliRunner(env=site.environ)
    return runner.invoke(cli, ["-c", str(site.settings_file), *arguments], prog_name="meshctl")


@dataclass
class Recorder:
    """Writes messages into a ledger; each is a minute younger than the one before, the first a day old."""

    services: Services
    now: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(days=1))

    def enter(self, state: State = State.QUEUED, *, nhs_number: str | None = None, **fields: Any) -> str:
        """Enter a message that has come as far as `state`; return its id."""
        self.now += timedelta(minutes=1)
        message = NewMessage(
            **{
                "message_id": new_message_id(self.now),
                "file_name": "letter.pdf",
                "size_bytes": 10,
                "sha256": None,
                "created_at": self.now,
                "use_case": "send-document",
                "workflow_id": "GPCONNECT_SEND_DOCUMENT",
                "patient_key": self.services.keys.of(nhs_number) if nhs_number else None,
                **fields,
            }
        )
        if state is State.REJECTED:
            self.services.ledger.enter([], [message])
            return message.message_id
        self.services.ledger.enter([message])
        if state is not State.CLAIMED:
            self.services.ledger.mark_queued([message.message_id], self.now, self.services.clock.steady())
        if state not in (State.CLAIMED, State.QUEUED):
            self.record(message.message_id, Evidence("SENT", state, "00"))
        return message.message_id

    def record(self, message_id: str, evidence: Evidence) -> None:
        """Apply evidence to a message."""
        self.services.ledger.record([(message_id, evidence)], self.now, self.services.clock.steady())

    def overdue(self, message_id: str) -> None:
        """Let a message have missed the deadline for being sent."""
        self.services.ledger.mark_overdue([message_id], Deadline.SENT, self.now, "Not sent in time.")


@contextmanager
def recording(site: Site) -> Iterator[Recorder]:
    """Open the ledger of a site as the daemon does, for as long as the block lasts."""
    mailbox_id = load_settings(site.settings_file, {}).mailbox.id
    services = open_services(site.state, mailbox_id, Journal(logging.getLogger("tests")))
    # These messages need not survive a power cut, and a thousand of them would wait long for the disk.
    services.ledger.connection.execute("PRAGMA synchronous = OFF")
    try:
        yield Recorder(services)
    finally:
        services.ledger.close()
