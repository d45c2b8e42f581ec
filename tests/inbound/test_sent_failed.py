"""SENT and FAILED: what the pairs that the client kept prove, and that old ones cost nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.mesh.control_file import StatusRecord, write_control_file
from meshctl.mesh.states import Evidence, State
from tests.inbound.inbound_site import MESH_ID, InboundSite, report_on, sent_control

# The SENT example of the MESH client user guide, with the ids of a message of ours.
GUIDE_EXAMPLE = """<DTSControl>
<Version>1.0</Version>
<AddressType>DTS</AddressType>
<MessageType>Data</MessageType>
<From_DTS>X26ABC1</From_DTS>
<To_DTS>P81001</To_DTS>
<Subject>Test</Subject>
<LocalId>A81001</LocalId>
<DTSId>DTS-20101216101210-927652</DTSId>
<PartnerId/>
<Compress>Y</Compress>
<Encrypted>N</Encrypted>
<WorkflowId>GPCONNECT_SEND_DOCUMENT</WorkflowId>
<ProcessId/>
<DataChecksum/>
<IsCompressed >Y</IsCompressed >
<StatusRecord>
<DateTime>20101216101210</DateTime>
<Event>Transfer to DTS Server</Event>
<Status>Success</Status>
<StatusCode>0</StatusCode>
<Description/>
</StatusRecord>
</DTSControl>
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n", ""])
def test_the_user_guides_example_makes_a_message_sent(mailbox: InboundSite, line_end: str) -> None:
    """`Transfer to DTS Server`, `Success`, `0` in SENT is a transfer, in every way a file may be laid out."""
    message_id = mailbox.message()
    mailbox.put("SENT", f"{message_id}.ctl", GUIDE_EXAMPLE.replace("\n", line_end).encode())

    mailbox.turns()

    row = mailbox.row(message_id)
    assert (row.state, row.mesh_id) == (State.SENT, "DTS-20101216101210-927652")
    assert [line["message_id"] for line in mailbox.logged("message.sent")] == [message_id]
    assert mailbox.names("SENT") == [f"{message_id}.ctl"]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (None, State.SENT),
        (StatusRecord(), State.SENT),
        (StatusRecord("", "TRANSFER", "SUCCESS", "00", ""), State.SENT),
        (StatusRecord("", "COLLECT", "SUCCESS", "00", ""), State.SENT),
        (StatusRecord("", "SEND", "SUCCESS", "42", ""), State.SENT),
        (StatusRecord("", "TRANSFER", "SUCCESS", "05", ""), State.QUEUED),
        (StatusRecord("", "TRANSFER", "ERROR", "06", ""), State.FAILED),
        (StatusRecord("", "SEND", "ERROR", "77", ""), State.FAILED),
    ],
)
def test_a_pair_in_sent_is_sent_unless_its_record_says_otherwise(
    mailbox: InboundSite, status: StatusRecord | None, state: State
) -> None:
    """Lying in SENT proves that MESH has a message; an error in the record, or a delay, is believed."""
    message_id = mailbox.message()
    data = write_control_file(replace(sent_control(message_id), dts_id=MESH_ID, status=status))
    mailbox.put("SENT", f"{message_id}.ctl", data)

    mailbox.turns()

    assert mailbox.state(message_id) is state


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (StatusRecord("", "COLLECT", "ERROR", "02", ""), "02"),
        (StatusRecord("", "TRANSFER", "ERROR", "06", ""), "06"),
        (StatusRecord("", "TRANSFER", "SUCCESS", "00", ""), None),
        (None, None),
    ],
)
def test_a_pair_in_failed_has_failed(
    mailbox: InboundSite, status: StatusRecord | None, code: str | None
) -> None:
    """Lying in FAILED is a failure, with the record's code if that is an error, else in words."""
    message_id = mailbox.message()
    data = write_control_file(replace(sent_control(message_id), status=status))
    mailbox.put("FAILED", f"{message_id}.ctl", data)

    mailbox.turns()

    reason = mailbox.row(message_id).reason
    assert mailbox.state(message_id) is State.FAILED
    assert reason is not None
    assert reason.code == code
    assert reason.text
    assert reason.advice
    assert len(mailbox.alerted("message.failed")) == 1


def test_a_control_file_in_failed_that_nobody_can_read_is_a_failure_too(mailbox: InboundSite) -> None:
    """What the client could not read either is no less a failure; it is logged as unreadable besides."""
    message_id = mailbox.message()
    mailbox.put("FAILED", f"{message_id}.ctl", b"<DTSControl><Versi", age_seconds=60)

    mailbox.turns()

    assert mailbox.state(message_id) is State.FAILED
    assert len(mailbox.logged("report.unreadable")) == 1


def test_an_unreadable_file_in_sent_proves_nothing(mailbox: InboundSite) -> None:
    """A broken control file in SENT is logged once and left; repaired, it is read."""
    message_id = mailbox.message()
    mailbox.put("SENT", f"{message_id}.ctl", b"<DTSControl><Versi", age_seconds=60)
    mailbox.turns()
    assert mailbox.state(message_id) is State.QUEUED
    assert [line["folder"] for line in mailbox.logged("report.unreadable")] == ["SENT"]

    mailbox.restart()
    mailbox.turns()
    assert mailbox.lines == []

    mailbox.save_sent(message_id)
    mailbox.later(61)
    assert mailbox.state(message_id) is State.SENT


def test_the_mesh_id_that_is_added_last_is_recorded(mailbox: InboundSite) -> None:
    """The client rewrites the control file to add DTSId; the version without it is not the last word."""
    message_id = mailbox.message()
    mailbox.put("SENT", f"{message_id}.ctl", write_control_file(sent_control(message_id)))
    mailbox.turns()
    assert (mailbox.state(message_id), mailbox.row(message_id).mesh_id) == (State.SENT, None)

    mailbox.save_sent(message_id)
    mailbox.later(1.5)

    assert mailbox.row(message_id).mesh_id == MESH_ID


def test_files_of_other_applications_are_not_opened(mailbox: InboundSite) -> None:
    """A control file in SENT or FAILED that bears no message's name is not read: nothing is logged it."""
    for folder in ("SENT", "FAILED"):
        mailbox.put(folder, "theirs.ctl", b"not XML at all", age_seconds=3600)

    mailbox.turns()

    assert mailbox.lines == []


@pytest.mark.parametrize("with_mesh_id", [True, False])
def test_what_is_known_is_not_read_again(mailbox: InboundSite, with_mesh_id: bool) -> None:
    """Once a message is known as sent its file in SENT is not opened again, after a restart neither."""
    message_id = mailbox.message()
    path = mailbox.save_sent(message_id, mesh_id=MESH_ID if with_mesh_id else "")
    mailbox.turns()
    mailbox.later(10)
    _break(path)

    mailbox.restart()
    mailbox.later(600)
    mailbox.later(600)

    assert mailbox.state(message_id) is State.SENT
    assert mailbox.logged("report.unreadable") == []


def test_sent_after_sent_and_report_is_one_step(mailbox: InboundSite) -> None:
    """The record in SENT and the report of the same transfer are one piece of evidence."""
    message_id = mailbox.message()
    mailbox.save_sent(message_id)
    mailbox.report("report", report_on(message_id, "TRANSFER", "SUCCESS", "00", mesh_id=MESH_ID))

    mailbox.turns()

    events = [entry.event for entry in mailbox.row(message_id).history]
    assert events.count("TRANSFER") == 1
    assert len(mailbox.logged("message.sent")) == 1


def test_folders_that_are_not_there_are_empty(mailbox: InboundSite) -> None:
    """SENT and FAILED may be missing, as they are until the client first needs them, and come later."""
    for name in ("SENT", "FAILED"):
        mailbox.folder(name).rmdir()
    message_id = mailbox.message()
    mailbox.turns()

    mailbox.folder("SENT").mkdir()
    mailbox.save_sent(message_id)
    mailbox.turns()

    assert mailbox.state(message_id) is State.SENT


def test_upper_case_endings_are_control_files_too(mailbox: InboundSite) -> None:
    """A client on Windows may write `.CTL`."""
    message_id = mailbox.message()
    mailbox.save_sent(message_id).rename(mailbox.folder("SENT") / f"{message_id}.CTL")

    mailbox.turns()

    assert mailbox.state(message_id) is State.SENT


def test_a_failure_that_nobody_may_have_heard_of_is_logged_at_the_next_start(mailbox: InboundSite) -> None:
    """A process that ends between recording a failure and announcing it does not lose it."""
    message_id = mailbox.message()
    evidence = Evidence("SEND", State.FAILED, "14", "Not delivered.", "Ask the practice.")
    mailbox.ledger.record([(message_id, evidence)], mailbox.clock.now(), mailbox.clock.steady())

    mailbox.restart()
    mailbox.turns()
    (line,) = mailbox.logged("message.failed")
    (alert,) = mailbox.alerted("message.failed")
    assert (line["message_id"], line["code"], alert["advice"]) == (message_id, "14", "Ask the practice.")

    mailbox.restart()
    mailbox.turns()
    assert mailbox.logged("message.failed") == []


def _break(path: Path) -> None:
    path.write_bytes(b"now broken")
