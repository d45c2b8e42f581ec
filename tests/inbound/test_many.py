"""Many files: each dealt with once, at a cost that does not grow with what lies there."""

import os
import tracemalloc

import pytest

from meshctl.mesh.states import State
from tests.inbound.inbound_site import InboundSite, report_on


def _drop_reports(mailbox: InboundSite, count: int) -> list[str]:
    ids = mailbox.messages(count, in_out=False)
    for number, message_id in enumerate(ids):
        mailbox.report(f"{number:05}", report_on(message_id, "SEND", "ERROR", "14"))
    return ids


@pytest.mark.parametrize("count", [1500, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.slow
def test_reports_that_come_at_once_are_recorded_and_archived_once_each(
    mailbox: InboundSite, count: int
) -> None:
    """Thousands of reports, with a restart in the middle, are a line, an alert and an archived file each."""
    ids = _drop_reports(mailbox, count)
    for _ in range(3):
        mailbox.incoming.work()
    told = [line["message_id"] for line in mailbox.logged("message.failed")]
    assert 0 < len(told) < count

    mailbox.restart()
    mailbox.turns()

    told += [line["message_id"] for line in mailbox.logged("message.failed")]
    assert sorted(told) == sorted(ids)
    assert len(mailbox.archived()) == count
    assert mailbox.names("IN") == []
    counts = mailbox.ledger.connection.execute(
        "SELECT state, count(*) FROM messages GROUP BY state"
    ).fetchall()
    assert [tuple(row) for row in counts] == [("failed", count)]


@pytest.mark.parametrize(
    "most", [pytest.param(4_000, marks=pytest.mark.slow), pytest.param(10_000, marks=pytest.mark.long)]
)
def test_memory_stays_flat(mailbox: InboundSite, most: int) -> None:
    """Many reports need hardly more memory than a thousand."""
    mailbox.alerts = _Nothing()
    mailbox.restart()
    peaks = []
    for count in (1000, most):
        _drop_reports(mailbox, count)
        mailbox.lines.clear()
        tracemalloc.start()
        while mailbox.incoming.work().busy:
            mailbox.lines.clear()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] - peaks[0] < 800 * (most - 1000)


def test_a_stop_is_heard_between_batches(mailbox: InboundSite) -> None:
    """One turn deals with one batch of each folder, so a stop never waits for a backlog."""
    _drop_reports(mailbox, 1000)

    work_left = mailbox.incoming.work()

    assert work_left.busy
    assert len(mailbox.names("IN")) > 500


@pytest.mark.slow
def test_sent_is_worked_off_before_in(mailbox: InboundSite) -> None:
    """However many pairs come into SENT, no report is judged before all of them are known."""
    ids = mailbox.messages(600, local_id="A81001", in_out=False)
    for number, message_id in enumerate(ids):
        mailbox.save_sent(message_id, mesh_id=f"{message_id[:20]}_{number:06X}", local_id="A81001")
    last = f"{ids[-1][:20]}_{len(ids) - 1:06X}"
    mailbox.report("report", report_on("A81001", "SEND", "ERROR", "14", mesh_id=last))

    mailbox.turns()

    assert mailbox.state(ids[-1]) is State.FAILED
    assert mailbox.logged("report.unmatched") == []


def test_a_folder_that_misreports_its_changes_is_looked_through_all_the_same(
    mailbox: InboundSite,
) -> None:
    """On a share that does not stamp its folders, reports are found after six rescans at the latest."""
    message_id = mailbox.message()
    old = (1_000_000_000, 1_000_000_000)
    os.utime(mailbox.folder("IN"), old)
    mailbox.turns()
    mailbox.report("report", report_on(message_id, "SEND", "ERROR", "14"))
    os.utime(mailbox.folder("IN"), old)

    mailbox.later(6 * mailbox.settings.staging.rescan_seconds + 1)

    assert mailbox.state(message_id) is State.FAILED


def test_a_file_that_comes_in_the_instant_of_a_look_is_found(mailbox: InboundSite) -> None:
    """A folder whose stamp is too young to be trusted is looked at again, although it has not changed."""
    ids = mailbox.messages(2)
    mailbox.report("1", report_on(ids[0], "SEND", "ERROR", "14"))
    stamp_ns = mailbox.folder("IN").stat().st_mtime_ns
    mailbox.incoming.work()
    mailbox.report("2", report_on(ids[1], "SEND", "ERROR", "14"))
    os.utime(mailbox.folder("IN"), ns=(stamp_ns, stamp_ns))

    mailbox.turns()

    assert mailbox.state(ids[1]) is State.FAILED


class _Nothing(list[dict[str, object]]):
    """Alerts that nobody keeps."""

    def append(self, event: dict[str, object]) -> None:
        """Forget the alert."""
