"""The client is watched: pairs that nobody takes, without any sign of life, are logged once an episode."""

import os
import time

import pytest

from meshctl.inbound.client import CLIENT_FACT, ClientState, ClientView, client_view
from tests.inbound.inbound_site import InboundSite, report_on

HOUR = 3600.0


def _view(mailbox: InboundSite) -> ClientView:
    return client_view(mailbox.ledger.fact(CLIENT_FACT))


def _grow_old(mailbox: InboundSite, seconds: float = 1_000_000.0) -> None:
    """Make the client's folders look as if nobody had touched them for long."""
    then = time.time() - seconds
    for name in ("SENT", "FAILED", "IN", "TEMP"):
        os.utime(mailbox.folder(name), (then, then))


def _stall(mailbox: InboundSite) -> str:
    message_id = mailbox.message()
    _grow_old(mailbox)
    mailbox.turns()
    mailbox.later(2 * HOUR + 60)
    assert _view(mailbox).state is ClientState.STALLED
    return message_id


def test_a_client_that_takes_nothing_is_logged_once(mailbox: InboundSite) -> None:
    """Pairs in OUT and two hours of silence are one warning and one alert, over all looks and restarts."""
    mailbox.message()
    _grow_old(mailbox)
    mailbox.later(2 * HOUR - 60)
    assert mailbox.logged("client.stalled") == []

    mailbox.later(120)
    mailbox.later(HOUR)
    (line,) = mailbox.logged("client.stalled")
    (alert,) = mailbox.alerted("client.stalled")
    assert line["pairs"] == alert["pairs"] == 1
    assert alert["text"] == line["text"]
    assert alert["advice"]

    mailbox.restart()
    mailbox.later(HOUR)
    assert mailbox.logged("client.stalled") == []
    assert _view(mailbox).state is ClientState.STALLED


@pytest.mark.parametrize("sign", ["SENT", "FAILED", "IN", "TEMP", "OUT", "poll"])
def test_any_sign_of_life_ends_the_episode(mailbox: InboundSite, sign: str) -> None:
    """A file in SENT, FAILED or IN, a change in TEMP, a pair leaving OUT, a poll report: the client lives."""
    message_id = _stall(mailbox)

    if sign == "OUT":
        mailbox.message()
        mailbox.take_from_out(message_id)
    elif sign == "TEMP":
        changed_at = mailbox.clock.now().timestamp()
        os.utime(mailbox.folder("TEMP"), (changed_at, changed_at))
    elif sign == "poll":
        mailbox.report("poll", report_on("", "RECEIVE", "SUCCESS", "00"))
    else:
        mailbox.put(sign, "theirs.ctl", b"<DTSControl></DTSControl>")
    mailbox.later(10)

    assert len(mailbox.logged("client.recovered")) == len(mailbox.alerted("client.recovered")) == 1
    assert _view(mailbox).state is ClientState.ACTIVE


def test_a_second_episode_is_logged_again(mailbox: InboundSite) -> None:
    _stall(mailbox)
    mailbox.put("IN", "theirs.ctl", b"<DTSControl></DTSControl>")
    mailbox.later(10)

    mailbox.later(2 * HOUR + 60)

    assert len(mailbox.logged("client.stalled")) == 2


def test_an_empty_out_is_no_alarm(mailbox: InboundSite) -> None:
    """A client that has nothing to do may be silent for days: it is idle."""
    mailbox.put("IN", "theirs.ctl", b"<DTSControl></DTSControl>")
    mailbox.turns()
    assert _view(mailbox).state is ClientState.ACTIVE

    mailbox.later(48 * HOUR)

    assert mailbox.logged("client.stalled") == []
    assert _view(mailbox).state is ClientState.IDLE


def test_a_pair_that_has_just_come_is_no_alarm(mailbox: InboundSite) -> None:
    """After days of silence with nothing to do, the client has its time to take the first pair."""
    _grow_old(mailbox)
    mailbox.later(48 * HOUR)
    mailbox.message()

    mailbox.later(HOUR)

    assert mailbox.logged("client.stalled") == []


def test_our_own_work_is_no_sign_of_the_clients_life(mailbox: InboundSite) -> None:
    """Files that are taken out of IN and SENT change these folders, and prove nothing about the client."""
    theirs = mailbox.put("IN", "theirs.ctl", b"<DTSControl></DTSControl>")
    mailbox.turns()
    _stall(mailbox)

    theirs.unlink()
    mailbox.later(10)

    assert mailbox.logged("client.recovered") == []


def test_a_sign_while_the_daemon_was_down_counts(mailbox: InboundSite) -> None:
    """At the start the folders' times tell what happened meanwhile."""
    _stall(mailbox)
    changed_at = mailbox.clock.now().timestamp() + HOUR
    os.utime(mailbox.folder("SENT"), (changed_at, changed_at))
    mailbox.clock.ahead_seconds += HOUR + 60

    mailbox.restart()
    mailbox.turns()

    assert len(mailbox.logged("client.recovered")) == 1


def test_a_client_that_was_never_seen_is_unknown(mailbox: InboundSite) -> None:
    for name in ("SENT", "FAILED", "TEMP"):
        mailbox.folder(name).rmdir()
    _grow_old_in(mailbox)

    assert client_view(None) == ClientView(ClientState.UNKNOWN, None)
    assert client_view("{broken") == ClientView(ClientState.UNKNOWN, None)


def test_last_seen_is_kept_for_status(mailbox: InboundSite) -> None:
    """The ledger says when the client was last seen, as an instant for people."""
    before = mailbox.clock.now()
    mailbox.put("IN", "theirs.ctl", b"<DTSControl></DTSControl>")
    mailbox.turns()
    mailbox.later(70)
    mailbox.put("IN", "more.ctl", b"<DTSControl></DTSControl>")
    mailbox.later(10)

    last_seen = _view(mailbox).last_seen

    assert last_seen is not None
    assert before < last_seen <= mailbox.clock.now()


def test_a_quiet_client_costs_no_writing(mailbox: InboundSite) -> None:
    mailbox.turns()
    mailbox.later(120)
    before = mailbox.ledger.connection.total_changes

    for _ in range(10):
        mailbox.later(60)

    assert mailbox.ledger.connection.total_changes == before


def _grow_old_in(mailbox: InboundSite) -> None:
    os.utime(mailbox.folder("IN"), (0, 0))
