"""The client is watched: pairs that nobody takes, without any sign of life, are logged once an episode."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshctl.daemon.mailbox_lock import serving
from meshctl.inbound.client import CLIENT_FACT, ClientState, ClientView, client_view
from meshctl.mesh.states import State
from tests.inbound.inbound_site import InboundSite, report_on

HOUR = 3600.0


def _view(mailbox: InboundSite) -> ClientView:
    return client_view(mailbox.ledger.fact(CLIENT_FACT))


def _grow_old(mailbox: InboundSite) -> None:
    """Make the client's folders look as if nobody had touched them for long."""
    then = time.time() - 1_000_000.0
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


@pytest.mark.parametrize("sign", ["SENT", "FAILED", "IN", "TEMP", "poll"])
def test_any_sign_of_life_ends_the_episode(mailbox: InboundSite, sign: str) -> None:
    """A file in SENT, FAILED or IN, one in TEMP that is being written, a poll report: the client lives."""
    _stall(mailbox)

    if sign == "TEMP":
        written_at = mailbox.clock.now().timestamp()
        (mailbox.folder("TEMP") / "chunk").touch()
        os.utime(mailbox.folder("TEMP") / "chunk", (written_at, written_at))
    elif sign == "poll":
        mailbox.report("poll", report_on("", "RECEIVE", "SUCCESS", "00"))
    else:
        mailbox.put(sign, "theirs.ctl", b"<DTSControl></DTSControl>")
    mailbox.later(10)

    assert len(mailbox.logged("client.recovered")) == len(mailbox.alerted("client.recovered")) == 1
    assert _view(mailbox).state is ClientState.ACTIVE


_CONFIG = """<MESHConfig><LogPath>{log}</LogPath><Client><ClientIdentity>X26ABC1</ClientIdentity>
<SaveSent>{save_sent}</SaveSent><CollectReport>N</CollectReport></Client></MESHConfig>"""


@pytest.mark.parametrize(("save_sent", "state"), [("N", ClientState.ACTIVE), ("Y", ClientState.UNKNOWN)])
def test_a_pair_that_left_out_is_a_sign_where_there_is_no_other(
    tmp_path: Path, open_mailbox: Callable[..., InboundSite], save_sent: str, state: ClientState
) -> None:
    """With SaveSent=Y the client's own trace is waited for: a person may have removed the pair."""
    mailbox = open_mailbox(client_config=_CONFIG.format(log=tmp_path / "log", save_sent=save_sent))
    message_id = mailbox.message()
    mailbox.turns()

    mailbox.take_from_out(message_id)
    mailbox.later(10)

    assert mailbox.state(message_id) is State.COLLECTED
    assert _view(mailbox).state is state


def test_pairs_removed_by_hand_are_no_sign_of_life(mailbox: InboundSite) -> None:
    """The stall ends with the pairs that caused it, and the text says that nothing shows who took them."""
    first, second = _stall(mailbox), mailbox.message()
    mailbox.later(10)

    mailbox.take_from_out(first)
    mailbox.later(10)
    (line,) = mailbox.logged("client.recovered")

    assert "no longer there" in line["text"]
    assert _view(mailbox) == ClientView(ClientState.UNKNOWN, None)
    mailbox.later(2 * HOUR)
    assert len(mailbox.logged("client.stalled")) == 2
    assert mailbox.state(second) is State.QUEUED


def test_a_stall_goes_on_while_one_of_its_pairs_waits(mailbox: InboundSite) -> None:
    """One pair removed by hand, and it is neither over nor announced again, also after a restart."""
    first, _ = mailbox.messages(2)
    mailbox.later(2 * HOUR + 60)

    mailbox.take_from_out(first)
    mailbox.restart()
    mailbox.later(10)

    assert _view(mailbox).state is ClientState.STALLED
    assert mailbox.logged("client.recovered") == mailbox.logged("client.stalled") == []


@pytest.mark.parametrize("is_folder", [True, False])
def test_the_clients_log_is_a_sign(
    tmp_path: Path, open_mailbox: Callable[..., InboundSite], is_folder: bool
) -> None:
    """LogPath may be a folder or a file."""
    folder = tmp_path / "client"
    folder.mkdir()
    log = folder / "mesh.log"
    config = _CONFIG.format(log=folder if is_folder else log, save_sent="Y")
    mailbox = open_mailbox(client_config=config)
    mailbox.turns()
    before = _view(mailbox).state

    log.touch()
    mailbox.later(10)

    assert (before, _view(mailbox).state) == (ClientState.UNKNOWN, ClientState.ACTIVE)


def test_the_bridge_lives_when_mesh_answers_it(open_mailbox: Callable[..., InboundSite]) -> None:
    """That it holds the mailbox, or writes its log, shows nothing: MESH may not let it in."""
    mailbox = open_mailbox('[bridge]\nenvironment = "sandbox"\n')
    with serving(mailbox.settings.mailbox, "the bridge"):
        mailbox.turns()
        before = _view(mailbox).state
        answered = mailbox.settings.answered_file
        answered.parent.mkdir()
        answered.touch()
        mailbox.later(10)

    assert (before, _view(mailbox).state) == (ClientState.UNKNOWN, ClientState.ACTIVE)


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
    """What is read at the start was written when it says."""
    message_id = _stall(mailbox)
    mailbox.clock.ahead_seconds += HOUR
    sent_at = mailbox.clock.now().timestamp()
    os.utime(mailbox.save_sent(message_id), (sent_at, sent_at))
    mailbox.clock.ahead_seconds += 60

    mailbox.restart()
    mailbox.turns()

    assert len(mailbox.logged("client.recovered")) == 1
    last_seen = _view(mailbox).last_seen
    assert last_seen is not None
    assert last_seen.timestamp() == pytest.approx(sent_at, abs=1)


def test_folders_that_were_just_made_are_no_sign(mailbox: InboundSite) -> None:
    """Nor is a folder that is tidied, or the lock of our own in TEMP."""
    mailbox.turns()
    (mailbox.folder("SENT") / "old.dat").touch()
    mailbox.later(10)
    (mailbox.folder("SENT") / "old.dat").unlink()
    (mailbox.folder("TEMP") / "serving.lock").touch()
    mailbox.later(10)
    mailbox.restart()
    mailbox.later(10)

    assert _view(mailbox) == ClientView(ClientState.UNKNOWN, None)
    assert client_view(None) == client_view("{broken") == ClientView(ClientState.UNKNOWN, None)


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
