"""OUT: a pair that is no longer there was taken by the client."""

from collections.abc import Sequence

from meshctl.mesh.states import State
from tests.inbound.inbound_site import InboundSite, report_on


def _states(mailbox: InboundSite, ids: Sequence[str]) -> list[State]:
    return [mailbox.state(message_id) for message_id in ids]


def test_a_pair_that_leaves_out_was_collected(mailbox: InboundSite) -> None:
    """Exactly the messages whose control file is gone are collected, each with one line."""
    ids = mailbox.messages(3)
    mailbox.turns()
    assert _states(mailbox, ids) == [State.QUEUED] * 3

    mailbox.take_from_out(ids[1])
    mailbox.later(1)

    assert _states(mailbox, ids) == [State.QUEUED, State.COLLECTED, State.QUEUED]
    assert [(line["message_id"], line["by"]) for line in mailbox.said("message.collected")] == [
        (ids[1], "OUT")
    ]


def test_a_hand_off_that_is_not_finished_does_not_count(mailbox: InboundSite) -> None:
    """A message that is only claimed may have no pair in OUT yet."""
    message_id = mailbox.message(in_out=False, queued=False)

    mailbox.turns()

    assert mailbox.state(message_id) is State.CLAIMED


def test_many_that_leave_at_once_are_all_collected(mailbox: InboundSite) -> None:
    """A client that takes hundreds between two looks leaves none behind."""
    ids = mailbox.messages(600)
    mailbox.turns()
    for message_id in ids:
        mailbox.take_from_out(message_id)

    mailbox.later(1)

    assert set(_states(mailbox, ids)) == {State.COLLECTED}


def test_collected_is_not_told_after_more_is_known(mailbox: InboundSite) -> None:
    """A pair that is in SENT when it is missed in OUT is sent, and that alone is said."""
    message_id = mailbox.message()
    mailbox.turns()
    mailbox.take_from_out(message_id)
    mailbox.save_sent(message_id)

    mailbox.later(1)

    assert mailbox.state(message_id) is State.SENT
    assert mailbox.said("message.collected") == []


def test_a_pair_that_a_person_puts_back_is_sent_once_it_is_taken(mailbox: InboundSite) -> None:
    """Evidence never moves a message backwards: a pair that is back in OUT stays collected."""
    message_id = mailbox.message()
    control = (mailbox.folder("OUT") / f"{message_id}.ctl").read_bytes()
    mailbox.take_from_out(message_id)
    mailbox.turns()
    mailbox.put("OUT", f"{message_id}.ctl", control)

    mailbox.later(100)

    assert mailbox.state(message_id) is State.COLLECTED


def test_a_folder_that_was_replaced_proves_nothing(mailbox: InboundSite) -> None:
    """Pairs that were in an OUT that is no more are told of as missing, not taken for collected."""
    ids = mailbox.messages(2)
    mailbox.turns()
    mailbox.folder("OUT").rename(mailbox.root / "old-out")
    mailbox.folder("OUT").mkdir()

    mailbox.later(1)
    mailbox.later(100)

    assert _states(mailbox, ids) == [State.QUEUED] * 2
    assert [line["messages"] for line in mailbox.said("message.payload_missing")] == [2]
    assert len(mailbox.alerted("message.payload_missing")) == 1
    mailbox.report("report", report_on(ids[0], "TRANSFER", "SUCCESS", "00"))
    mailbox.later(1)
    assert _states(mailbox, ids) == [State.SENT, State.QUEUED]
