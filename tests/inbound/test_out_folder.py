"""OUT: a pair that is no longer there was taken; a part that is alone is logged, once."""

from collections.abc import Sequence

import pytest

from meshctl.ledger.reads import lost_pairs
from meshctl.mesh.states import State
from tests.inbound.inbound_site import InboundSite, report_on

_MINUTES = 601


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
    assert [(line["message_id"], line["by"]) for line in mailbox.logged("message.collected")] == [
        (ids[1], "OUT")
    ]


def test_a_hand_off_that_is_not_finished_does_not_count(mailbox: InboundSite) -> None:
    """A message that is only claimed may have no pair in OUT yet."""
    message_id = mailbox.message(in_out=False, queued=False)

    mailbox.turns()

    assert mailbox.state(message_id) is State.CLAIMED


@pytest.mark.slow
def test_many_that_leave_at_once_are_all_collected(mailbox: InboundSite) -> None:
    ids = mailbox.messages(600)
    mailbox.turns()
    for message_id in ids:
        mailbox.take_from_out(message_id)

    mailbox.later(1)

    assert set(_states(mailbox, ids)) == {State.COLLECTED}


def test_collected_is_not_logged_after_more_is_known(mailbox: InboundSite) -> None:
    """A pair that is in SENT when it is missed in OUT is sent, and that alone is said."""
    message_id = mailbox.message()
    mailbox.turns()
    mailbox.take_from_out(message_id)
    mailbox.save_sent(message_id)

    mailbox.later(1)

    assert mailbox.state(message_id) is State.SENT
    assert mailbox.logged("message.collected") == []


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
    """Pairs that were in an OUT that is no more are logged as missing, not taken for collected."""
    ids = mailbox.messages(2)
    mailbox.turns()
    mailbox.folder("OUT").rename(mailbox.root / "old-out")
    mailbox.folder("OUT").mkdir()

    mailbox.later(1)
    mailbox.later(100)

    assert _states(mailbox, ids) == [State.QUEUED] * 2
    assert [line["messages"] for line in mailbox.logged("message.payload_missing")] == [2]
    (told,) = mailbox.alerted("message.payload_missing")
    assert told["message_ids"] == lost_pairs(mailbox.ledger.connection) == sorted(ids)
    (line,) = mailbox.logged("message.payload_missing")
    assert line["message_ids"] == " ".join(sorted(ids))
    mailbox.report("report", report_on(ids[0], "TRANSFER", "SUCCESS", "00"))
    mailbox.later(1)
    assert _states(mailbox, ids) == [State.SENT, State.QUEUED]
    mailbox.restart()
    mailbox.later(100)
    assert _states(mailbox, ids) == [State.SENT, State.QUEUED]
    assert lost_pairs(mailbox.ledger.connection) == ids[1:]


def test_pairs_that_come_back_are_followed_again(mailbox: InboundSite) -> None:
    """What was lost with an OUT and is put back into the new one is collected once the client takes it."""
    (message_id,) = mailbox.messages(1)
    mailbox.turns()
    mailbox.folder("OUT").rename(mailbox.root / "old-out")
    mailbox.folder("OUT").mkdir()
    mailbox.later(1)
    for end in (".dat", ".ctl"):
        if (mailbox.root / "old-out" / f"{message_id}{end}").exists():
            (mailbox.root / "old-out" / f"{message_id}{end}").rename(
                mailbox.folder("OUT") / f"{message_id}{end}"
            )
    mailbox.later(100)
    assert mailbox.state(message_id) is State.QUEUED

    mailbox.take_from_out(message_id)
    mailbox.later(100)

    assert mailbox.state(message_id) is State.COLLECTED


def _logged_parts(mailbox: InboundSite) -> list[str]:
    return [line["file"] for line in mailbox.logged("client.half_pair")]


@pytest.mark.parametrize(("taken", "left"), [("dat", "ctl"), ("ctl", "dat")])
def test_one_part_of_our_pair_is_logged_once(mailbox: InboundSite, taken: str, left: str) -> None:
    """A pair of ours that has lost its other part is logged after some minutes, with what to do."""
    message_id, _ = mailbox.messages(2)
    (mailbox.folder("OUT") / f"{message_id}.{taken}").unlink()
    mailbox.later(100)
    assert _logged_parts(mailbox) == []

    mailbox.later(_MINUTES)
    mailbox.later(_MINUTES)

    (line,) = mailbox.logged("client.half_pair")
    assert (line["message_id"], line["file"]) == (message_id, f"{message_id}.{left}")
    assert "meshctl show ID" in line["advice"]


def test_it_is_not_logged_again_by_the_next_run(mailbox: InboundSite) -> None:
    """A restart, or the next run from cron, knows what was logged; a new part has its own line."""
    mailbox.put("OUT", "THEIRS.ctl", b"<DTSControl/>")
    mailbox.later(_MINUTES)
    assert _logged_parts(mailbox) == ["THEIRS.ctl"]

    mailbox.restart()
    mailbox.later(_MINUTES)
    assert _logged_parts(mailbox) == []
    mailbox.put("OUT", "MORE.ctl", b"<DTSControl/>")
    mailbox.later(2 * _MINUTES)

    assert _logged_parts(mailbox) == ["MORE.ctl"]


def test_a_part_that_comes_back_is_logged_again(mailbox: InboundSite) -> None:
    """A pair that was made whole is forgotten."""
    mailbox.put("OUT", "THEIRS.ctl", b"<DTSControl/>")
    mailbox.later(_MINUTES)
    mailbox.put("OUT", "THEIRS.dat", b"letter")
    mailbox.later(_MINUTES)
    (mailbox.folder("OUT") / "THEIRS.dat").unlink()

    mailbox.later(_MINUTES)

    assert _logged_parts(mailbox) == ["THEIRS.ctl"] * 2


def test_what_harms_nobody_is_not_logged(mailbox: InboundSite) -> None:
    """Another application's payload, whole pairs however spelt, and a hand-off under way log nothing."""
    mailbox.put("OUT", "theirs.dat", b"no matter")
    mailbox.put("OUT", "WHOLE.DAT", b"letter")
    mailbox.put("OUT", "WHOLE.CTL", b"<DTSControl/>")
    under_way = mailbox.message(in_out=False, queued=False)
    mailbox.put("OUT", f"{under_way}.dat", b"letter")

    mailbox.later(_MINUTES)

    assert _logged_parts(mailbox) == []


def test_no_patient_is_logged(mailbox: InboundSite) -> None:
    """What looks like an NHS number in the name of another's file is masked."""
    mailbox.put("OUT", "letter 999 000 0042.ctl", b"<DTSControl/>")

    mailbox.later(_MINUTES)

    assert _logged_parts(mailbox) == ["letter **********.ctl"]
