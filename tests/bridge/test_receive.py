"""Receiving from the real sandbox: what MESH holds is in IN, whole, once, and then MESH has been told."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mesh_client import AuthTokenGenerator

from meshctl.bridge.answers import StoppedError
from tests.bridge.mailbox import MAILBOX_ID, Mailbox
from tests.bridge.sandbox import PASSWORD, SHARED_KEY, Sandbox

OTHER = "X26ABC2"
WORKFLOW = "GPCONNECT_SEND_DOCUMENT_ACK"
# Not the same everywhere, so that a chunk in the wrong place shows; long also when compressed.
LONG = b"".join(f"{number**7:x}".encode() for number in range(40_000))


@pytest.fixture
def mailbox(sandbox: Sandbox, tmp_path: Path) -> Iterator[Mailbox]:
    """A mailbox with nothing in it, neither here nor at the sandbox."""
    yield Mailbox(tmp_path, sandbox.url)
    with sandbox.client(MAILBOX_ID) as client:
        for message_id in client.list_messages():
            client.acknowledge_message(message_id)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("payload", "chunk_bytes", "compress"),
    [
        pytest.param(b"a letter", 1000, False, id="small"),
        pytest.param(b"a letter" * 100, 1000, True, id="small, gzip"),
        pytest.param(b"", 1000, True, id="empty, gzip"),
        pytest.param(LONG, 100_000, False, id="chunks"),
        pytest.param(LONG, 100_000, True, id="chunks, gzip"),
        pytest.param(b"\0" * 3_000_000, 5_000_000, True, id="compressed to nearly nothing"),
    ],
)
def test_a_payload_arrives_byte_for_byte(
    sandbox: Sandbox, mailbox: Mailbox, payload: bytes, chunk_bytes: int, compress: bool
) -> None:
    """However it was sent, the payload lies in IN as it was, beside its control file; MESH has been told."""
    with sandbox.client(OTHER) as client:
        message_id = client.send_message(
            MAILBOX_ID, payload, max_chunk_size=chunk_bytes, compress=compress, workflow_id=WORKFLOW
        )

    mailbox.receive()

    assert mailbox.names() == [f"{message_id}.ctl", f"{message_id}.dat"]
    assert mailbox.data(message_id) == payload
    assert sandbox.message(message_id)["status"] == "Acknowledged"
    assert mailbox.left_over() == []
    assert mailbox.said.events() == ["bridge.received"]
    assert mailbox.said.lines[0].fields["size"] == len(payload)


def test_one_gzip_stream_over_several_chunks(sandbox: Sandbox, mailbox: Mailbox) -> None:
    """A payload that was compressed as a whole and then cut into chunks is put together again."""
    packed = gzip.compress(LONG)
    at = len(packed) // 3
    message_id = ""
    with requests.Session() as session:
        session.auth = AuthTokenGenerator(SHARED_KEY.encode(), OTHER, PASSWORD)
        for number, part in enumerate((packed[:at], packed[at:]), start=1):
            answer = session.post(
                f"{sandbox.url}/messageexchange/{OTHER}/outbox{f'/{message_id}/2' if message_id else ''}",
                data=part,
                headers={
                    "Accept": "application/vnd.mesh.v2+json",
                    "Content-Encoding": "gzip",
                    "Mex-Chunk-Range": f"{number}:2",
                    "Mex-To": MAILBOX_ID,
                    "Mex-WorkflowID": WORKFLOW,
                },
                timeout=240,
            )
            answer.raise_for_status()
            message_id = message_id or answer.json()["message_id"]

    mailbox.receive()

    assert mailbox.data(message_id) == LONG


def test_the_control_file_says_what_the_sender_said(sandbox: Sandbox, mailbox: Mailbox) -> None:
    """Sender, recipient, workflow id, subject and local id are those of the sender, accents included."""
    with sandbox.client(OTHER) as client:
        message_id = client.send_message(
            MAILBOX_ID,
            b"x",
            workflow_id=WORKFLOW,
            subject="Brief für Zoë",
            local_id="our 17",
            filename="letter.dat",
            encrypted=True,
        )

    mailbox.receive()

    control = mailbox.control(message_id)
    assert (control.from_dts, control.to_dts, control.workflow_id) == (OTHER, MAILBOX_ID, WORKFLOW)
    assert (control.subject, control.local_id, control.dts_id) == ("Brief für Zoë", "our 17", message_id)
    assert (control.message_type, control.encrypted) == ("Data", True)
    assert control.status is not None
    assert (control.status.event, control.status.status, control.status.status_code) == (
        "TRANSFER",
        "SUCCESS",
        "00",
    )
    assert "Zo" not in str([line.fields for line in mailbox.said.lines])


def test_a_report_is_a_control_file_alone(sandbox: Sandbox, mailbox: Mailbox) -> None:
    """A report has no payload, and says which message it is about, and what MESH says of it."""
    report_id = sandbox.report(
        MAILBOX_ID,
        status="error",
        code="EPL-151",
        description="No mailbox matched",
        workflow_id=WORKFLOW,
        local_id="our 17",
        linked_message_id="20261122091502480113_7F3A9C",
    )

    mailbox.receive()

    assert mailbox.names() == [f"{report_id}.ctl"]
    control = mailbox.control(report_id)
    assert control.is_report
    assert (control.dts_id, control.local_id) == ("20261122091502480113_7F3A9C", "our 17")
    assert control.status is not None
    assert (control.status.status, control.status.status_code) == ("ERROR", "EPL-151")
    assert sandbox.inbox(MAILBOX_ID) == []


def test_a_stop_leaves_the_message_at_mesh(sandbox: Sandbox, mailbox: Mailbox) -> None:
    """Told to stop in the midst of a payload, it leaves IN alone; the next start gets the message whole."""
    with sandbox.client(OTHER) as client:
        message_id = client.send_message(MAILBOX_ID, LONG, max_chunk_size=100_000, workflow_id=WORKFLOW)
    asked = iter([False] * 5)

    with mailbox.receiving(lambda: next(asked, True)) as receiving:
        with pytest.raises(StoppedError):
            receiving.step()
        assert mailbox.names() == []
        assert sandbox.message(message_id)["status"] == "Accepted"
    mailbox.receive()

    assert mailbox.data(message_id) == LONG
    assert mailbox.said.events() == ["bridge.received"]
