"""Sending: a pair from OUT is at MESH and in SENT, or in FAILED with a report in IN."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from meshctl.bridge.answers import StoppedError
from meshctl.mesh.control_file import ControlFile, write_control_file
from tests.bridge.mailbox import LETTER, MAILBOX_ID, OTHER, STEM, Mailbox, arrived, finish
from tests.bridge.sandbox import Sandbox

_SECRETS: Final = ("Quixworthy", "9990000042", "Outpatient")
# Does not compress to next to nothing, so that a chunk is a chunk.
LONG: Final = b"".join(f"{number**7:x}".encode() for number in range(20_000))


@pytest.fixture
def mailbox(sandbox: Sandbox, tmp_path: Path) -> Mailbox:
    """A mailbox that sends to the sandbox."""
    return Mailbox(tmp_path, sandbox.url)


def test_a_letter_is_sent(mailbox: Mailbox, sandbox: Sandbox) -> None:
    """A pair ends in SENT with MESH's id and its record; MESH has what its control file says."""
    mailbox.put()

    assert mailbox.send() == []

    assert mailbox.everywhere() == {"SENT": [f"{STEM}.ctl", f"{STEM}.dat"]}
    (mesh_id,) = sandbox.inbox(OTHER)
    control = mailbox.control_in("SENT")
    assert replace(control, status=None) == replace(LETTER, dts_id=mesh_id)
    assert mailbox.record_in("SENT") == ("TRANSFER", "SUCCESS", "00")
    assert (mailbox.root / "SENT" / f"{STEM}.dat").read_bytes() == b"a letter"
    with sandbox.client(OTHER) as client:
        message = client.retrieve_message(mesh_id)
        assert message.read() == b"a letter"
        told = (message.sender, message.workflow_id, message.local_id, message.subject, message.filename)
    assert told == (MAILBOX_ID, LETTER.workflow_id, "letter-17", LETTER.subject, f"{STEM}.dat")


def test_without_save_sent_nothing_is_left(mailbox: Mailbox, sandbox: Sandbox) -> None:
    mailbox.save_sent = False
    mailbox.put()

    assert mailbox.send() == []

    assert mailbox.everywhere() == {}
    assert arrived(sandbox) == [b"a letter"]


@pytest.mark.slow
@pytest.mark.parametrize("compress", [True, False, None])
@pytest.mark.parametrize("chunk_bytes", [7_000, 50_000, len(LONG), 10**9])
def test_payloads_arrive_as_they_were(
    mailbox: Mailbox, sandbox: Sandbox, compress: bool | None, chunk_bytes: int
) -> None:
    """Compressed or not, in one piece or in chunks, the recipient gets the payload byte for byte."""
    mailbox.chunk_bytes = chunk_bytes
    mailbox.put(data=LONG, control=replace(LETTER, compress=compress))

    assert mailbox.send() == []

    assert arrived(sandbox) == [LONG]
    (mesh_id,) = sandbox.inbox(OTHER)
    with sandbox.client(OTHER) as client:
        stored = client.retrieve_message_chunk(mesh_id, 1)
        assert stored.headers["Mex-Chunk-Range"] == f"1:{-(-len(LONG) // chunk_bytes)}"
    is_smaller = sandbox.message(mesh_id)["file_size"] < len(LONG)
    assert is_smaller is (compress is True)


def test_without_allow_chunking_a_payload_goes_in_one_piece(mailbox: Mailbox, sandbox: Sandbox) -> None:
    """AllowChunking=N is kept to, whatever the size of a chunk."""
    mailbox.chunk_bytes = 50_000
    mailbox.put(data=LONG, control=replace(LETTER, allow_chunking=False))

    assert mailbox.send() == []

    (mesh_id,) = sandbox.inbox(OTHER)
    with sandbox.client(OTHER) as client:
        assert client.retrieve_message_chunk(mesh_id, 1).headers["Mex-Chunk-Range"] == "1:1"
    assert arrived(sandbox) == [LONG]


def test_pairs_go_oldest_first(mailbox: Mailbox, sandbox: Sandbox) -> None:
    for number in (2, 0, 1):
        mailbox.put(f"letter-{number}", f"{number}".encode(), age_seconds=10 - number)

    assert mailbox.send() == []

    assert arrived(sandbox) == [b"0", b"1", b"2"]


def test_a_pair_that_has_just_appeared_is_left_alone(mailbox: Mailbox, sandbox: Sandbox) -> None:
    """A control file younger than a second may still be written to."""
    mailbox.put(age_seconds=0)

    assert mailbox.send() == []

    assert mailbox.everywhere() == {"OUT": [f"{STEM}.ctl", f"{STEM}.dat"]}
    assert sandbox.inbox(OTHER) == []


REFUSED: Final[dict[str, tuple[ControlFile, tuple[str, str]]]] = {
    "unregistered recipient": (replace(LETTER, to_dts="NOBODY7"), ("SEND", "12")),
    "no recipient": (replace(LETTER, to_dts=""), ("SEND", "08")),
    "no workflow id": (replace(LETTER, workflow_id=""), ("TRANSFER", "06")),
    "another sender": (replace(LETTER, from_dts="X26ABC3"), ("SEND", "07")),
    "a report": (replace(LETTER, message_type="Report"), ("SEND", "11")),
    "beyond Latin-1": (replace(LETTER, subject="Quixworthyłł"), ("TRANSFER", "06")),
    "a line break": (replace(LETTER, subject="Quixworthy\nMex-To: X26ABC3"), ("TRANSFER", "06")),
    "an address in the web": (replace(LETTER, to_dts="https://Quixworthy"), ("TRANSFER", "06")),
    "a wrong checksum": (replace(LETTER, data_checksum="Quixworthy!"), ("SEND", "HTTP-400")),
}


def _written(control: ControlFile) -> bytes:
    """Write a control file that need not have all it should have."""
    filled = replace(control, to_dts=control.to_dts or "GAP", workflow_id=control.workflow_id or "GAP")
    return write_control_file(filled).replace(b">GAP<", b"><")


@pytest.mark.parametrize("case", REFUSED)
def test_what_mesh_rejects_is_failed_and_reported(mailbox: Mailbox, sandbox: Sandbox, case: str) -> None:
    """A rejection puts the pair into FAILED and a report with event and code into IN; nothing is sent."""
    control, event_and_code = REFUSED[case]
    mailbox.put(control=_written(control))

    assert mailbox.send() == []

    assert mailbox.everywhere() == {"IN": [f"{STEM}.ctl"], "FAILED": [f"{STEM}.ctl", f"{STEM}.dat"]}
    event, status, code = mailbox.record_in("IN")
    assert (event, status) == (event_and_code[0], "ERROR")
    assert code == event_and_code[1]
    report = mailbox.control_in("IN")
    assert report.is_report
    assert (report.local_id, report.subject) == ("letter-17", control.subject)
    assert sandbox.inbox(OTHER) == []
    assert mailbox.said.events()[-1] == "bridge.refused"
    assert not [secret for secret in _SECRETS if secret in mailbox.log_text()]


def test_a_rejected_control_file_has_the_record(mailbox: Mailbox) -> None:
    mailbox.put(control=replace(LETTER, to_dts="NOBODY7"))

    mailbox.send()

    assert mailbox.record_in("FAILED") == ("SEND", "ERROR", "12")
    assert replace(mailbox.control_in("FAILED"), status=None) == replace(LETTER, to_dts="NOBODY7")


def test_a_control_file_that_cannot_be_read_stays_as_it_is(mailbox: Mailbox) -> None:
    """COLLECT 01: the pair goes to FAILED untouched, and the report tells it by its name."""
    mailbox.put(control=b"<DTSControl><To_DTS>Quix")

    mailbox.send()

    assert mailbox.record_in("IN") == ("COLLECT", "ERROR", "01")
    assert (mailbox.root / "FAILED" / f"{STEM}.ctl").read_bytes() == b"<DTSControl><To_DTS>Quix"
    assert mailbox.everywhere() == {"IN": [f"{STEM}.ctl"], "FAILED": [f"{STEM}.ctl", f"{STEM}.dat"]}


@pytest.mark.parametrize("kind", ["missing", "empty", "link", "folder"])
def test_a_payload_that_cannot_be_read_is_reported(mailbox: Mailbox, sandbox: Sandbox, kind: str) -> None:
    """COLLECT 02: no payload, an empty one, or something that is no file."""
    out = mailbox.root / "OUT"
    (mailbox.root / "secret").write_bytes(b"not for sending")
    if kind == "link":
        (out / f"{STEM}.dat").symlink_to(mailbox.root / "secret")
    elif kind == "folder":
        (out / f"{STEM}.dat").mkdir()
    mailbox.put(data=b"" if kind == "empty" else None)

    assert mailbox.send() == []

    assert mailbox.record_in("IN") == mailbox.record_in("FAILED") == ("COLLECT", "ERROR", "02")
    assert mailbox.files("OUT") == []
    assert sandbox.inbox(OTHER) == []


def test_a_failing_pair_does_not_hold_up_others(mailbox: Mailbox, sandbox: Sandbox) -> None:
    mailbox.put("broken", control=b"not xml", age_seconds=9)
    mailbox.put("nobody", control=replace(LETTER, to_dts="NOBODY7"), age_seconds=8)
    mailbox.put("fine", b"fine", age_seconds=7)

    assert mailbox.send() == []

    assert mailbox.files("SENT") == ["fine.ctl", "fine.dat"]
    assert mailbox.files("IN") == ["broken.ctl", "nobody.ctl"]
    assert arrived(sandbox) == [b"fine"]


@pytest.mark.parametrize(
    "stem",
    ["letter 999 000 0042", os.fsdecode(b"caf\xe9 999 000 0042"), "999 000 0042".ljust(251, "x")],
    ids=["a number", "not UTF-8", "as long as can be"],
)
def test_a_name_that_others_chose_reaches_neither_mesh_nor_log(
    mailbox: Mailbox, sandbox: Sandbox, stem: str
) -> None:
    mailbox.put(stem)

    assert mailbox.send() == []

    (mesh_id,) = sandbox.inbox(OTHER)
    assert re.fullmatch(r"[0-9a-f]{16}\.dat", sandbox.message(mesh_id)["filename"])
    assert mailbox.files("SENT") == [f"{stem}.ctl", f"{stem}.dat"]
    assert "999 000 0042" not in mailbox.log_text()
    assert "bridge.sent" in mailbox.log_text()


def test_what_is_logged_of_a_letter_holds_no_patient(mailbox: Mailbox) -> None:
    """The log has the pair's name, MESH's id, the size; nothing of what the control file says."""
    mailbox.put()

    mailbox.send()

    assert mailbox.said.events() == ["bridge.uploading", "bridge.sent"]
    assert not [secret for secret in (*_SECRETS, "letter-17", OTHER) if secret in mailbox.log_text()]


def test_a_stop_in_the_midst_of_an_upload_sends_nothing_by_halves(mailbox: Mailbox, sandbox: Sandbox) -> None:
    """Told to stop, the upload breaks off at once; the next start sends the message, once."""
    mailbox.put(data=LONG, control=replace(LETTER, compress=False))
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with mailbox.sending(should_stop) as sending, pytest.raises(StoppedError):
        finish(sending)

    assert asked == 4
    assert mailbox.everywhere() == {"work": [f"taken/{STEM}.ctl", f"taken/{STEM}.dat"]}
    assert mailbox.send() == []
    assert arrived(sandbox) == [LONG]


def test_a_folder_that_is_missing_is_waited_for(mailbox: Mailbox, sandbox: Sandbox) -> None:
    """Without SENT a pair stays in the bridge's folder, sent once, until SENT is there again."""
    (mailbox.root / "SENT").rmdir()
    mailbox.put()

    with mailbox.sending() as sending:
        faults = finish(sending)
        assert {fault.fault.code for fault in faults} == {"ENOENT"}
        (mailbox.root / "SENT").mkdir()
        assert finish(sending) == []

    assert mailbox.everywhere() == {"SENT": [f"{STEM}.ctl", f"{STEM}.dat"]}
    assert arrived(sandbox) == [b"a letter"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_payload_without_rights_is_reported(mailbox: Mailbox) -> None:
    """COLLECT 02: a file that the bridge may not read."""
    mailbox.put()
    (mailbox.root / "OUT" / f"{STEM}.dat").chmod(0)

    mailbox.send()

    assert mailbox.record_in("IN") == ("COLLECT", "ERROR", "02")
