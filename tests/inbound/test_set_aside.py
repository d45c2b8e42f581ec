"""Files in IN that cannot be handled: left, named once over all looks and restarts, and no reason to stop."""

from collections.abc import Callable
from pathlib import Path

import pytest

from meshctl.inbound.client import CLIENT_FACT, client_view
from meshctl.mesh.control_file import write_control_file
from meshctl.mesh.states import Acknowledgement, State
from tests import no_files
from tests.inbound.inbound_site import LONG_NAME, InboundSite, report_on
from tests.inbound.test_others import DELIVER, LETTER

REQUEST = "0bcb5098-ce5a-4a85-a547-2574f90310e4"
# The longest time after which something that is set aside is tried again.
RETRY = 61


def _link(path: Path) -> None:
    path.symlink_to("nowhere")


NO_FILES = (_link, no_files.link_to_itself, no_files.fifo, no_files.bound_socket, no_files.folder)
no_file = pytest.mark.parametrize("make", NO_FILES, ids=lambda make: make.__name__)
Make = Callable[[Path], None]


@pytest.mark.sampled(6)
@no_file
@pytest.mark.parametrize("folder", ["IN", "SENT", "FAILED"])
def test_a_control_file_that_is_none_stops_no_other(mailbox: InboundSite, make: Make, folder: str) -> None:
    """Whatever has the name of a control file is named once, and what lies beside it is recorded."""
    unlucky, lucky = mailbox.messages(2)
    make(mailbox.folder(folder) / f"{unlucky}.ctl")
    mailbox.report("report", report_on(lucky, "SEND", "ERROR", "14"))
    mailbox.save_sent(lucky)

    mailbox.turns()
    mailbox.later(RETRY)

    assert (mailbox.state(unlucky), mailbox.state(lucky)) == (State.QUEUED, State.FAILED)
    assert [line["file"] for line in mailbox.logged("report.unreadable")] == [f"{unlucky}.ctl"]
    mailbox.restart()
    mailbox.later(RETRY)
    assert mailbox.logged("report.unreadable") == []


@no_file
def test_a_payload_that_is_none_stops_no_other(open_mailbox: Callable[..., InboundSite], make: Make) -> None:
    """So it is with the payloads of an acknowledgement and of a message that is to be delivered."""
    mailbox = open_mailbox(DELIVER)
    message_id = mailbox.message(asked=[Acknowledgement.INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("unlucky-ack", "some-other-request")
    (mailbox.folder("IN") / "unlucky-ack.dat").unlink()
    make(mailbox.folder("IN") / "unlucky-ack.dat")
    make(mailbox.folder("IN") / "unlucky-letter.dat")
    mailbox.put("IN", "unlucky-letter.ctl", write_control_file(LETTER))
    mailbox.put("IN", "letter.dat", b"payload")
    mailbox.put("IN", "letter.ctl", write_control_file(LETTER))
    mailbox.acknowledge("zz-ack", REQUEST)

    for _ in range(3):
        mailbox.later(RETRY)

    assert mailbox.state(message_id) is State.COMPLETED
    assert [line["file"] for line in mailbox.logged("file.delivered")] == ["letter.ctl"]
    assert len(mailbox.names("IN")) == 4
    told = [line for line in mailbox.lines if line.level == "WARNING"]
    assert sorted((line.event, line.fields["file"]) for line in told) == [
        ("ack.unreadable", "unlucky-ack.ctl"),
        ("file.set_aside", "unlucky-letter.ctl"),
    ]
    assert all(line.fields["advice"] for line in told)
    assert [alert["file"] for alert in mailbox.alerts] == ["unlucky-letter.ctl"]


def test_an_acknowledgement_is_read_when_its_payload_can_be(mailbox: InboundSite) -> None:
    """One whose payload the system did not let us read is tried again, after a restart too."""
    message_id = mailbox.message(asked=[Acknowledgement.INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST)
    payload = mailbox.folder("IN") / "ack.dat"
    data = payload.read_bytes()
    payload.unlink()
    no_files.link_to_itself(payload)
    mailbox.turns()
    assert len(mailbox.logged("ack.unreadable")) == 1

    mailbox.restart()
    mailbox.later(RETRY)
    assert mailbox.logged("ack.unreadable") == []
    payload.unlink()
    payload.write_bytes(data)
    mailbox.later(RETRY)

    assert mailbox.state(message_id) is State.COMPLETED
    assert mailbox.names("IN") == []


def test_an_unmatched_report_that_cannot_be_moved_is_logged_once(
    open_mailbox: Callable[..., InboundSite],
) -> None:
    """With unmatched = "archive" one that stays in IN is tried again for ever, and alerts nobody again."""
    mailbox = open_mailbox('[reports]\nunmatched = "archive"\n')
    mailbox.take_in_archive(LONG_NAME)
    mailbox.report(LONG_NAME, report_on("UNKNOWN-1", "SEND", "ERROR", "14"))
    mailbox.later(1)

    for _ in range(3):
        mailbox.later(RETRY)
    assert len(mailbox.logged("report.unmatched")) == len(mailbox.alerted("report.unmatched")) == 1
    assert len(mailbox.logged("file.set_aside")) == len(mailbox.alerted("file.set_aside")) == 1
    assert mailbox.names("IN") == [f"{LONG_NAME}.ctl"]

    mailbox.restart()
    mailbox.later(RETRY)
    assert mailbox.logged("report.unmatched") == mailbox.logged("file.set_aside") == []


def test_a_poll_report_that_cannot_be_moved_is_one_sign_of_life(mailbox: InboundSite) -> None:
    """It is tried again every minute; the MESH Client has polled but once."""
    mailbox.take_in_archive(LONG_NAME)
    mailbox.report(LONG_NAME, report_on("", "RECEIVE", "ERROR", "15"))
    mailbox.later(1)
    mailbox.later(RETRY)
    before = client_view(mailbox.ledger.fact(CLIENT_FACT))
    assert before.last_seen is not None

    for _ in range(3):
        mailbox.later(RETRY)

    assert len(mailbox.logged("client.poll_failed")) == 1
    assert len(mailbox.logged("file.set_aside")) == 1
    assert client_view(mailbox.ledger.fact(CLIENT_FACT)) == before
