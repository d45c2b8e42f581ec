"""What lies in IN and is no sound control file: left, logged once, and no reason to stop."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meshctl.mesh.control_file import write_control_file
from meshctl.mesh.states import State
from tests.inbound.inbound_site import InboundSite, report_on

HOUR = 3600.0


def _sound() -> bytes:
    return write_control_file(report_on("ORDER-1", "SEND", "ERROR", "14"))


BROKEN = {
    "empty": b"",
    "truncated": _sound()[:-40],
    "not_xml": b"\x00\x01\x02 binary",
    "other_root": b"<html><body>report</body></html>",
    "dtd": b"<!DOCTYPE DTSControl [<!ENTITY a 'b'>]>" + _sound(),
    "bomb": b"<!DOCTYPE D [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><DTSControl>&b;</DTSControl>",
    "external": b"<!DOCTYPE D [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><DTSControl>&a;</DTSControl>",
    "twice": _sound().replace(b"<DTSId>", b"<DTSId>1</DTSId><DTSId>"),
    "two_records": _sound().replace(b"</DTSControl>", b"<StatusRecord></StatusRecord></DTSControl>"),
    "deep": b"<DTSControl>" + b"<a>" * 50_000 + b"</a>" * 50_000 + b"</DTSControl>",
    "large": b"<DTSControl>" + b" " * 1_100_000 + b"</DTSControl>",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_control_file_is_logged_once_and_left(mailbox: InboundSite, name: str) -> None:
    """What cannot be read is one warning over all looks and restarts, and keeps no other file back."""
    message_id = mailbox.message(local_id="ORDER-1")
    mailbox.put("IN", "a-broken.ctl", BROKEN[name], age_seconds=HOUR)
    mailbox.put("IN", "sound.ctl", _sound())

    mailbox.turns()

    assert mailbox.state(message_id) is State.FAILED
    assert [line["file"] for line in mailbox.logged("report.unreadable")] == ["a-broken.ctl"]
    assert mailbox.names("IN") == ["a-broken.ctl"]

    mailbox.restart()
    mailbox.later(HOUR)
    assert mailbox.logged("report.unreadable") == []


def test_fifty_megabytes_are_not_read(mailbox: InboundSite) -> None:
    with (mailbox.folder("IN") / "large.ctl").open("wb") as file:
        file.write(b"<DTSControl>")
        file.truncate(50_000_000)

    mailbox.turns()

    (line,) = mailbox.logged("report.unreadable")
    assert "50 MB" in line["text"]


def test_latin_1_is_read(mailbox: InboundSite) -> None:
    message_id = mailbox.message(local_id="ORDER-1")
    control = report_on("ORDER-1", "SEND", "ERROR", "14", subject="Zoë")
    mailbox.put("IN", "report.ctl", write_control_file(control).decode().encode("latin-1"))

    mailbox.turns()

    assert mailbox.state(message_id) is State.FAILED


def test_a_file_that_is_being_written_is_read_again(mailbox: InboundSite) -> None:
    """A young control file that is cut short is no error: it is read when it is whole."""
    message_id = mailbox.message(local_id="ORDER-1")
    path = mailbox.folder("IN") / "report.ctl"
    path.write_bytes(_sound()[:100])

    work_left = mailbox.turns()
    assert mailbox.lines == []
    assert work_left.next_look_seconds is not None
    assert work_left.next_look_seconds <= 1.0

    path.write_bytes(_sound())
    mailbox.later(1.0)
    assert mailbox.state(message_id) is State.FAILED
    assert mailbox.logged("report.unreadable") == []


def test_a_file_that_is_completed_after_all_is_read(mailbox: InboundSite) -> None:
    """A control file that was logged as unreadable is read when somebody writes it again, also in place."""
    message_id = mailbox.message(local_id="ORDER-1")
    path = mailbox.put("IN", "report.ctl", b"<DTSControl>", age_seconds=HOUR)
    mailbox.turns()

    path.write_bytes(_sound())
    mailbox.later(61)

    assert mailbox.state(message_id) is State.FAILED
    assert len(mailbox.logged("report.unreadable")) == 1


def test_a_stamp_in_the_future_does_not_keep_a_file_young_for_ever(mailbox: InboundSite) -> None:
    """A broken file from a share whose clock is ahead is logged, after it was seen unchanged for a while."""
    mailbox.put("IN", "report.ctl", b"<DTSControl>", age_seconds=-HOUR)
    mailbox.turns()
    assert mailbox.lines == []

    mailbox.later(1.1)
    mailbox.later(5.1)

    assert len(mailbox.logged("report.unreadable")) == 1


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(_sound())
    path.symlink_to(target)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("folder", ["IN", "SENT"])
def test_a_folder_is_logged_once(mailbox: InboundSite, folder: str) -> None:
    """A folder that ends in `.ctl` is not moved."""
    _check_logged_once(mailbox, Path.mkdir, folder)


@pytest.mark.parametrize("make", [_link, _dangling, _fifo], ids=lambda make: make.__name__)
@pytest.mark.parametrize("folder", ["IN", "SENT"])
def test_a_link_or_fifo_is_logged_once(
    mailbox: InboundSite, make: Callable[[Path], None], folder: str
) -> None:
    """A link or FIFO that ends in `.ctl` is neither opened for long nor followed nor moved."""
    _check_logged_once(mailbox, make, folder)


def _check_logged_once(mailbox: InboundSite, make: Callable[[Path], None], folder: str) -> None:
    message_id = mailbox.message(local_id="ORDER-1")
    name = f"{message_id}.ctl"
    make(mailbox.folder(folder) / name)

    mailbox.turns()
    mailbox.later(100)

    assert mailbox.state(message_id) is State.QUEUED
    assert [line["file"] for line in mailbox.logged("report.unreadable")] == [name]
    assert name in mailbox.names(folder)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_read_when_they_are_given(mailbox: InboundSite) -> None:
    """A report that may not be read is logged, and recorded once it may."""
    message_id = mailbox.message(local_id="ORDER-1")
    path = mailbox.put("IN", "report.ctl", _sound())
    path.chmod(0)
    mailbox.turns()
    assert mailbox.logged("report.unreadable")[0]["text"] == "It cannot be read: Permission denied."

    path.chmod(0o600)
    mailbox.later(61)

    assert mailbox.state(message_id) is State.FAILED


def test_other_names_are_not_looked_at(mailbox: InboundSite) -> None:
    """Payloads, hidden files and files of other kinds are none of our business."""
    for name in ("lone.dat", ".hidden.ctl", "readme.txt", "x.ctl.tmp"):
        mailbox.put("IN", name, b"whatever", age_seconds=HOUR)

    mailbox.turns()

    assert mailbox.lines == []
    assert len(mailbox.names("IN")) == 4


# Windows has no names with line feeds.
@pytest.mark.parametrize("line_end", ["\x85", "\u2028", *(["\n"] if os.name == "posix" else [])])
def test_names_that_attack_the_log_are_masked(mailbox: InboundSite, line_end: str) -> None:
    """Control characters and NHS numbers in a name that others chose are masked."""
    mailbox.put("IN", f"999 000 0042{line_end}ERROR message.failed.ctl", b"", age_seconds=HOUR)

    mailbox.turns()

    (line,) = mailbox.logged("report.unreadable")
    assert line_end not in line["file"]
    assert "999 000 0042" not in line["file"]
