"""Halves of pairs that lie alone in OUT: told of by name, once, and never in the midst of a hand-off."""

import pytest

from tests.inbound.inbound_site import InboundSite

_MINUTES = 601


def _told(mailbox: InboundSite) -> list[str]:
    return [line["file"] for line in mailbox.said("client.half_pair")]


@pytest.mark.parametrize(("taken", "left"), [("dat", "ctl"), ("ctl", "dat")])
def test_half_a_pair_of_ours_is_told_once(mailbox: InboundSite, taken: str, left: str) -> None:
    """A pair of ours that has lost its other half is told of after some minutes, with what to do."""
    message_id, _ = mailbox.messages(2)
    (mailbox.folder("OUT") / f"{message_id}.{taken}").unlink()
    mailbox.later(100)
    assert _told(mailbox) == []

    mailbox.later(_MINUTES)
    mailbox.later(_MINUTES)

    (line,) = mailbox.said("client.half_pair")
    assert (line["message_id"], line["file"]) == (message_id, f"{message_id}.{left}")
    assert "meshctl show ID" in line["advice"]


def test_it_is_not_told_again_by_the_next_run(mailbox: InboundSite) -> None:
    """A restart, or the next run from cron, knows what was told; a new half has its own line."""
    mailbox.put("OUT", "THEIRS.ctl", b"<DTSControl/>")
    mailbox.later(_MINUTES)
    assert _told(mailbox) == ["THEIRS.ctl"]

    mailbox.restart()
    mailbox.later(_MINUTES)
    assert _told(mailbox) == []
    mailbox.put("OUT", "MORE.ctl", b"<DTSControl/>")
    mailbox.later(2 * _MINUTES)

    assert _told(mailbox) == ["MORE.ctl"]


def test_a_half_that_comes_back_is_told_again(mailbox: InboundSite) -> None:
    """What was made whole is forgotten."""
    mailbox.put("OUT", "THEIRS.ctl", b"<DTSControl/>")
    mailbox.later(_MINUTES)
    mailbox.put("OUT", "THEIRS.dat", b"letter")
    mailbox.later(_MINUTES)
    (mailbox.folder("OUT") / "THEIRS.dat").unlink()

    mailbox.later(_MINUTES)

    assert _told(mailbox) == ["THEIRS.ctl"] * 2


def test_what_harms_nobody_is_not_told(mailbox: InboundSite) -> None:
    """Another application's payload, whole pairs however spelt, and a hand-off under way tell nothing."""
    mailbox.put("OUT", "theirs.dat", b"no matter")
    mailbox.put("OUT", "WHOLE.DAT", b"letter")
    mailbox.put("OUT", "WHOLE.CTL", b"<DTSControl/>")
    under_way = mailbox.message(in_out=False, queued=False)
    mailbox.put("OUT", f"{under_way}.dat", b"letter")

    mailbox.later(_MINUTES)

    assert _told(mailbox) == []


def test_no_patient_is_told(mailbox: InboundSite) -> None:
    """What looks like an NHS number in the name of another's file is masked."""
    mailbox.put("OUT", "letter 999 000 0042.ctl", b"<DTSControl/>")

    mailbox.later(_MINUTES)

    assert _told(mailbox) == ["letter **********.ctl"]
