"""What lies in IN for other applications: left alone, or delivered to where the settings say."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.mesh.control_file import ControlFile, StatusRecord, write_control_file
from tests.inbound.inbound_site import MAILBOX_ID, InboundSite

LETTER = ControlFile(
    from_dts="P81001",
    to_dts=MAILBOX_ID,
    subject="About Mr Brian Smith",
    workflow_id="LAB_RESULTS",
    dts_id="20260712110000000000_ACACAC",
    status=StatusRecord("20260712110000", "TRANSFER", "SUCCESS", "00", ""),
)
DELIVER = '[reports]\ndeliver = "arrived"\n'


def _arrive(mailbox: InboundSite, name: str, control: ControlFile = LETTER, data: bytes = b"payload") -> None:
    mailbox.put("IN", f"{name}.dat", data)
    mailbox.put("IN", f"{name}.ctl", write_control_file(control))


def _delivered(mailbox: InboundSite) -> list[str]:
    return sorted(os.listdir(mailbox.root / "arrived"))


def test_a_data_message_is_left_alone_and_logged_once(mailbox: InboundSite) -> None:
    """Without `deliver` a message for somebody else stays as it is; one line says that it is there."""
    _arrive(mailbox, "letter")
    mailbox.turns()
    (line,) = mailbox.logged("file.received")
    assert (line["file"], line["workflow"], line["sender"]) == ("letter.ctl", "LAB_RESULTS", "P81001")

    mailbox.restart()
    mailbox.later(600)

    assert mailbox.lines == []
    assert mailbox.names("IN") == ["letter.ctl", "letter.dat"]


def test_a_file_that_was_taken_is_forgotten(mailbox: InboundSite) -> None:
    """When the other application has taken its file, one of the same name is a new one."""
    _arrive(mailbox, "letter")
    mailbox.turns()
    for name in mailbox.names("IN"):
        (mailbox.folder("IN") / name).unlink()
    mailbox.later(1)
    assert mailbox.ledger.connection.execute("SELECT count(*) FROM seen_files").fetchone()[0] == 0

    _arrive(mailbox, "letter")
    mailbox.later(1)

    assert len(mailbox.logged("file.received")) == 2


def test_deliver_moves_data_messages(open_mailbox: Callable[..., InboundSite]) -> None:
    """With `deliver` payload and control file move to that folder, byte for byte, and the log says so."""
    mailbox = open_mailbox(DELIVER)
    _arrive(mailbox, "letter")

    mailbox.turns()

    assert _delivered(mailbox) == ["letter.ctl", "letter.dat"]
    assert (mailbox.root / "arrived" / "letter.dat").read_bytes() == b"payload"
    assert [line["file"] for line in mailbox.logged("file.delivered")] == ["letter.ctl"]
    assert mailbox.names("IN") == []


def test_deliver_takes_what_was_left_before(mailbox: InboundSite) -> None:
    """A message that was left in IN is delivered once `deliver` is set."""
    _arrive(mailbox, "letter")
    mailbox.turns()

    mailbox.settings_text = DELIVER
    mailbox.restart()
    mailbox.turns()

    assert _delivered(mailbox) == ["letter.ctl", "letter.dat"]


def test_deliver_finishes_what_a_crash_left_half_done(open_mailbox: Callable[..., InboundSite]) -> None:
    """A payload that was moved before the crash is followed by its control file after it."""
    mailbox = open_mailbox(DELIVER)
    (mailbox.root / "arrived").mkdir()
    _arrive(mailbox, "letter")
    (mailbox.folder("IN") / "letter.dat").rename(mailbox.root / "arrived" / "letter.dat")

    mailbox.turns()

    assert _delivered(mailbox) == ["letter.ctl", "letter.dat"]
    assert len(mailbox.logged("file.delivered")) == 1
    assert mailbox.names("IN") == []


def test_deliver_overwrites_nothing(open_mailbox: Callable[..., InboundSite]) -> None:
    """A pair whose name is taken in the folder gets a number, the same for both files."""
    mailbox = open_mailbox(DELIVER)
    _arrive(mailbox, "letter", data=b"first")
    mailbox.turns()
    _arrive(mailbox, "letter", data=b"second")

    mailbox.turns()

    assert _delivered(mailbox) == ["letter.2.ctl", "letter.2.dat", "letter.ctl", "letter.dat"]
    assert (mailbox.root / "arrived" / "letter.2.dat").read_bytes() == b"second"


def test_deliver_waits_for_the_payload(open_mailbox: Callable[..., InboundSite]) -> None:
    """A message whose payload is missing is logged, and delivered when the payload comes after all."""
    mailbox = open_mailbox(DELIVER)
    mailbox.put("IN", "letter.ctl", write_control_file(replace(LETTER, from_dts="P81001")))
    mailbox.turns()
    assert mailbox.lines == []
    mailbox.later(10)
    assert [line["text"] for line in mailbox.logged("file.set_aside")] == ["Its payload is missing."]

    mailbox.put("IN", "letter.dat", b"payload")
    mailbox.later(61)

    assert _delivered(mailbox) == ["letter.ctl", "letter.dat"]


@pytest.mark.parametrize("recipient", ["OTHER1", "GPPROVIDER_9990000042_14022001_Smith"])
def test_what_is_for_another_mailbox_is_not_delivered(
    open_mailbox: Callable[..., InboundSite], recipient: str
) -> None:
    mailbox = open_mailbox(DELIVER)
    _arrive(mailbox, "letter", replace(LETTER, to_dts=recipient))

    mailbox.turns()

    assert mailbox.names("IN") == ["letter.ctl", "letter.dat"]
    assert recipient not in str(mailbox.lines)


def test_a_payload_that_is_a_link_is_not_delivered(open_mailbox: Callable[..., InboundSite]) -> None:
    mailbox = open_mailbox(DELIVER)
    secret = mailbox.root / "secret"
    secret.write_bytes(b"secret")
    (mailbox.folder("IN") / "letter.dat").symlink_to(secret)
    mailbox.put("IN", "letter.ctl", write_control_file(LETTER))

    mailbox.later(10)

    assert mailbox.names("IN") == ["letter.ctl", "letter.dat"]
    assert [line["text"] for line in mailbox.logged("file.set_aside")] == ["Its payload is no ordinary file."]


def test_deliver_works_across_file_systems(
    open_mailbox: Callable[..., InboundSite], other_file_system: Path
) -> None:
    """On another file system a pair is copied whole before it leaves IN, and nothing temporary stays."""
    mailbox = open_mailbox(f'[reports]\ndeliver = "{other_file_system.as_posix()}"\n')
    data = os.urandom(3_000_000)
    _arrive(mailbox, "letter", data=data)
    mode = (mailbox.folder("IN") / "letter.dat").stat().st_mode

    mailbox.turns()

    assert sorted(os.listdir(other_file_system)) == ["letter.ctl", "letter.dat"]
    assert (other_file_system / "letter.dat").read_bytes() == data
    assert (other_file_system / "letter.dat").stat().st_mode == mode
    assert mailbox.names("IN") == []
