"""Retention: old final messages leave the ledger, in small steps, and nothing else does."""

from collections.abc import Callable

import pytest

from meshctl.mesh.states import State
from tests.inbound.inbound_site import InboundSite, report_on

DAY = 86_400.0
LONG_AGO = "2020-01-01T00:00:00.000Z"


def _set(mailbox: InboundSite, state: str, ids: list[str], updated_at: str = LONG_AGO) -> None:
    mailbox.ledger.connection.executemany(
        "UPDATE messages SET state = ?, updated_at = ? WHERE message_id = ?",
        [(state, updated_at, message_id) for message_id in ids],
    )


def _left(mailbox: InboundSite) -> set[str]:
    return {row[0] for row in mailbox.ledger.connection.execute("SELECT message_id FROM messages")}


@pytest.mark.slow
def test_old_final_messages_leave_with_all_that_belongs_to_them(mailbox: InboundSite) -> None:
    """Messages that ended long ago go with history and references; one line says how many."""
    old = mailbox.messages(1200, in_out=False, references=["r"])
    _set(mailbox, "completed", old[:1000])
    _set(mailbox, "failed", old[1000:1100])
    _set(mailbox, "rejected", old[1100:])
    young = mailbox.message()

    work_left = mailbox.incoming.work()
    assert work_left.busy
    assert 0 < len(_left(mailbox)) < 1201
    mailbox.turns()

    assert _left(mailbox) == {young}
    assert [line["messages"] for line in mailbox.logged("daemon.retention")] == [1200]
    for table in ("history", "message_references"):
        query = f"SELECT message_id FROM {table} LEFT JOIN messages USING (number)"  # noqa: S608
        owners = mailbox.ledger.connection.execute(query)
        assert {row[0] for row in owners} <= {young}


def test_what_is_open_or_young_stays(mailbox: InboundSite) -> None:
    """A message that is not final stays however old it is; a final one until its time has come."""
    ids = mailbox.messages(2)
    _set(mailbox, "queued", ids[:1])
    mailbox.report("report", report_on(ids[1], "SEND", "ERROR", "14"))
    mailbox.turns()

    mailbox.later(89 * DAY)
    assert _left(mailbox) == set(ids)

    mailbox.later(2 * DAY)
    assert _left(mailbox) == {ids[0]}
    assert mailbox.state(ids[0]) is State.QUEUED


def test_keep_days_is_what_the_settings_say(open_mailbox: Callable[..., InboundSite]) -> None:
    mailbox = open_mailbox("[state]\nkeep_days = 1\n")
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, "SEND", "ERROR", "14"))
    mailbox.turns()

    mailbox.later(DAY + 3601)

    assert _left(mailbox) == set()
