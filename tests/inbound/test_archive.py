"""The archive: reports and acknowledgements leave IN once the ledger holds them, come what may."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshctl.ledger.records import ARCHIVE_FROM_FACT
from meshctl.mesh.states import Acknowledgement, State
from tests.inbound.inbound_site import LONG_NAME, InboundSite, report_on

REQUEST = "0bcb5098-ce5a-4a85-a547-2574f90310e4"
FAILURE = ("SEND", "ERROR", "14")


def test_files_are_archived_by_the_day_they_were_recorded(mailbox: InboundSite) -> None:
    """The archive has a folder for each day, and files keep their content."""
    message_id = mailbox.message()
    data = mailbox.report("report", report_on(message_id, *FAILURE)).read_bytes()
    days = mailbox.archive_days()

    mailbox.turns()

    (archived,) = mailbox.root.rglob("report.ctl")
    assert archived.parent in days
    assert archived.read_bytes() == data


@pytest.mark.parametrize("restart", [True, False])
def test_a_crash_between_ledger_and_archive_repeats_nothing(mailbox: InboundSite, restart: bool) -> None:
    """Files that are still in IN although they are recorded are archived, and nothing is told again."""
    message_id = mailbox.message(asked=[Acknowledgement.INFRASTRUCTURE], references=[REQUEST])
    mailbox.report("report", report_on(message_id, "TRANSFER", "SUCCESS", "00"))
    mailbox.acknowledge("ack", REQUEST, ("20009",), response_code="fatal-error")
    kept = mailbox.root / "kept"
    kept.mkdir()
    for path in mailbox.folder("IN").iterdir():
        # Not copy2, for which Wine 8 lacks a function.
        shutil.copyfile(path, kept / path.name)
        shutil.copystat(path, kept / path.name)
    mailbox.turns()
    before = mailbox.row(message_id)
    for path in kept.iterdir():
        path.rename(mailbox.folder("IN") / path.name)
    if restart:
        mailbox.restart()

    mailbox.lines.clear()
    mailbox.alerts.clear()
    mailbox.turns()

    assert mailbox.row(message_id) == before
    assert [line for line in mailbox.lines if line.level != "DEBUG"] == []
    assert mailbox.alerts == []
    assert mailbox.names("IN") == []
    # A set, for midnight may have passed.
    assert set(mailbox.archived()) == {"ack.ctl", "ack.dat", "report.ctl"}


@pytest.mark.parametrize("days", [0, 1, 40])
def test_an_acknowledgement_that_is_partly_archived_is_finished(mailbox: InboundSite, days: int) -> None:
    """After a crash between payload and control file the second follows the first, days later as well."""
    message_id = mailbox.message(asked=[Acknowledgement.INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST)
    control = (mailbox.folder("IN") / "ack.ctl").read_bytes()
    mailbox.turns()
    (archived,) = (mailbox.root / "archive").rglob("ack.ctl")
    archived.unlink()
    mailbox.put("IN", "ack.ctl", control)
    mailbox.lines.clear()

    mailbox.later(86_400 * days + 1)

    assert mailbox.state(message_id) is State.COMPLETED
    assert mailbox.names("IN") == []
    assert archived.read_bytes() == control
    assert mailbox.logged("ack.unreadable") == []


def test_nothing_in_the_archive_is_overwritten(mailbox: InboundSite) -> None:
    mailbox.take_in_archive("report")
    mailbox.report("report", report_on(mailbox.message(), *FAILURE))

    mailbox.turns()

    assert mailbox.archived() == ["report.2.ctl", "report.ctl", "report.ctl"]


def test_a_file_that_cannot_be_moved_keeps_no_other_back(mailbox: InboundSite) -> None:
    """A report that is recorded and cannot be archived stays, logged once; the others are archived."""
    ids = mailbox.messages(2)
    mailbox.take_in_archive(LONG_NAME)
    mailbox.report(LONG_NAME, report_on(ids[0], *FAILURE))
    mailbox.report("y", report_on(ids[1], *FAILURE))

    mailbox.later(1)
    mailbox.later(120)

    assert {mailbox.state(message_id) for message_id in ids} == {State.FAILED}
    assert mailbox.names("IN") == [f"{LONG_NAME}.ctl"]
    assert "y.ctl" in mailbox.archived()
    assert [line["file"][-9:] for line in mailbox.logged("file.set_aside")] == ["xxxxx.ctl"]
    assert len(mailbox.alerted("message.failed")) == 2


def test_the_archive_may_be_on_another_file_system(
    open_mailbox: Callable[..., InboundSite], other_file_system: Path
) -> None:
    """Reports and acknowledgements are copied where they cannot be renamed, and leave IN afterwards."""
    mailbox = open_mailbox(f'[reports]\narchive = "{other_file_system.as_posix()}"\n')
    message_id = mailbox.message(asked=[Acknowledgement.INFRASTRUCTURE], references=[REQUEST])
    mailbox.report("report", report_on(message_id, "TRANSFER", "SUCCESS", "00"))
    mailbox.acknowledge("ack", REQUEST)

    mailbox.turns()

    archived = [path.name for path in other_file_system.rglob("*") if path.is_file()]
    assert sorted(archived) == ["ack.ctl", "ack.dat", "report.ctl"]
    assert mailbox.names("IN") == []
    assert mailbox.state(message_id) is State.COMPLETED


def test_an_archive_that_cannot_be_written_loses_and_repeats_nothing(mailbox: InboundSite) -> None:
    """While the archive is out of reach failures are logged all the same, once; later the files follow."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, *FAILURE))
    mailbox.report("unmatched", report_on("UNKNOWN-1", *FAILURE))
    (mailbox.root / "archive").write_bytes(b"a file in the folder's place")

    for _ in range(3):
        with pytest.raises(OSError, match="archive"):
            mailbox.turns()
    assert mailbox.state(message_id) is State.FAILED
    assert len(mailbox.logged("message.failed")) == len(mailbox.logged("report.unmatched")) == 1
    assert len(mailbox.alerts) == 2

    (mailbox.root / "archive").unlink()
    mailbox.later(1)
    assert mailbox.archived() == ["report.ctl"]
    assert len(mailbox.alerts) == 2


def test_a_folder_that_fails_does_not_keep_the_others_back(mailbox: InboundSite) -> None:
    """With IN gone, SENT is followed all the same; the error is raised, and all goes on when IN is back."""
    message_id = mailbox.message()
    mailbox.folder("IN").rmdir()
    mailbox.save_sent(message_id)

    with pytest.raises(FileNotFoundError) as caught:
        mailbox.turns()
    assert caught.value.errno == errno.ENOENT
    assert mailbox.state(message_id) is State.SENT

    mailbox.folder("IN").mkdir()
    mailbox.report("report", report_on(message_id, *FAILURE))
    mailbox.later(1)
    assert mailbox.state(message_id) is State.FAILED


def test_a_locked_ledger_loses_and_repeats_nothing(mailbox: InboundSite) -> None:
    """While the ledger cannot be written nothing is archived; afterwards everything is, once."""
    message_id = mailbox.message()
    mailbox.turns()
    mailbox.report("report", report_on(message_id, *FAILURE))
    with _locked(mailbox):
        with pytest.raises(sqlite3.OperationalError):
            mailbox.later(1)
        assert mailbox.names("IN") == ["report.ctl"]
        assert mailbox.alerts == []

    mailbox.later(1)

    assert mailbox.state(message_id) is State.FAILED
    assert len(mailbox.logged("message.failed")) == len(mailbox.alerts) == 1


def test_an_archive_is_read_again_until_all_of_it_is_recorded(mailbox: InboundSite) -> None:
    """While the ledger cannot be written a batch is not passed over."""
    ids = mailbox.messages(2)
    for message_id in ids:
        mailbox.report(message_id, report_on(message_id, *FAILURE))
    mailbox.turns()
    with mailbox.ledger.connection as connection:
        connection.execute("UPDATE messages SET state = 'queued', reason_code = NULL, reason_event = NULL")
        connection.execute("DELETE FROM history WHERE step > 2")
    mailbox.ledger.set_fact(ARCHIVE_FROM_FACT, "0001-01-01")
    mailbox.restart()

    with _locked(mailbox):
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError):
                mailbox.turns()
    mailbox.turns()

    assert [mailbox.state(message_id) for message_id in ids] == [State.FAILED] * 2
    assert mailbox.ledger.fact(ARCHIVE_FROM_FACT) == ""


def test_a_file_that_somebody_takes_meanwhile_is_no_error(mailbox: InboundSite) -> None:
    message_id = mailbox.message()
    for number in range(300):
        mailbox.report(f"{number:03}", report_on(message_id, "COLLECT", "SUCCESS", "00"))
    mailbox.incoming.work()
    for number in range(280, 300):
        os.unlink(mailbox.folder("IN") / f"{number:03}.ctl")

    mailbox.turns()

    assert mailbox.names("IN") == []
    assert len(mailbox.archived()) == 280


@contextmanager
def _locked(mailbox: InboundSite) -> Iterator[None]:
    """Hold the ledger's write lock as another program may."""
    mailbox.ledger.connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(mailbox.root / "state" / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
