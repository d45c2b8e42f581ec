"""Which message a report is about: by MESH id, by file name, by LocalId, and never by guess."""

import random
from collections.abc import Callable, Sequence

import pytest

from meshctl.mesh.states import State
from tests.inbound.inbound_site import MESH_ID, InboundSite, report_on

OTHER_MESH_ID = "20260712103016418053_0FF1CE"
FAILURE = ("SEND", "ERROR", "14")
ODS_CODE = "A81001"


def _states(mailbox: InboundSite, ids: Sequence[str]) -> list[State]:
    return [mailbox.state(message_id) for message_id in ids]


def _unmatched(mailbox: InboundSite) -> dict[str, object]:
    (line,) = mailbox.logged("report.unmatched")
    (alert,) = mailbox.alerted("report.unmatched")
    assert alert["text"] == line["text"]
    assert mailbox.names("IN") == ["report.ctl"]
    return line


def test_the_mesh_id_from_sent_finds_the_message(mailbox: InboundSite) -> None:
    """With one LocalId on all messages, the MESH id tells them apart."""
    ids = mailbox.messages(3, local_id=ODS_CODE)
    mailbox.save_sent(ids[1], local_id=ODS_CODE)
    mailbox.report("report", report_on(ODS_CODE, *FAILURE, mesh_id=MESH_ID))

    mailbox.turns()

    assert _states(mailbox, ids) == [State.QUEUED, State.FAILED, State.QUEUED]


def test_a_file_named_after_the_message_finds_it(mailbox: InboundSite) -> None:
    ids = mailbox.messages(2, local_id="")
    mailbox.report(ids[0], report_on("", *FAILURE))

    mailbox.turns()

    assert _states(mailbox, ids) == [State.FAILED, State.QUEUED]


def test_a_local_id_that_one_message_bears_finds_it(mailbox: InboundSite) -> None:
    message_id = mailbox.message(local_id="ORDER-2026-0042")
    mailbox.message(local_id="ORDER-2026-0043")
    mailbox.report("report", report_on("ORDER-2026-0042", *FAILURE))

    mailbox.turns()

    assert mailbox.state(message_id) is State.FAILED


def test_several_candidates_are_named_and_none_is_chosen(mailbox: InboundSite) -> None:
    """A LocalId on several messages matches none; the log names up to five of them."""
    ids = mailbox.messages(7, local_id="BATCH-1", use_case="emergency-supply")
    mailbox.report("report", report_on("BATCH-1", *FAILURE, workflow_id="DIGMED_EMG_MED"))

    mailbox.turns()

    candidates = _unmatched(mailbox)["candidates"]
    assert isinstance(candidates, tuple)
    assert len(candidates) == 5
    assert set(candidates) <= set(ids)
    assert set(_states(mailbox, ids)) == {State.QUEUED}


@pytest.mark.parametrize("own_ods_code", [True, False])
def test_an_ods_code_identifies_nothing(open_mailbox: Callable[..., InboundSite], own_ods_code: bool) -> None:
    """A LocalId that is an ODS code is no match, even while only one message bears it."""
    mailbox = open_mailbox()
    if own_ods_code:
        mailbox.settings_text = f'ods_code = "{ODS_CODE}"\n'
        mailbox.restart()
    message_id = mailbox.message(
        local_id=ODS_CODE, use_case="emergency-supply" if own_ods_code else "send-document"
    )
    workflow_id = mailbox.row(message_id).workflow_id
    mailbox.report("report", report_on(ODS_CODE, *FAILURE, workflow_id=workflow_id))

    mailbox.turns()

    assert _unmatched(mailbox)["candidates"] == (message_id,)
    assert mailbox.state(message_id) is State.QUEUED


def test_ids_of_different_messages_contradict_each_other(mailbox: InboundSite) -> None:
    """A MESH id of one message with the LocalId of another matches neither."""
    ids = mailbox.messages(2)
    mailbox.save_sent(ids[0])
    mailbox.report("report", report_on(ids[1], *FAILURE, mesh_id=MESH_ID))

    mailbox.turns()

    assert _unmatched(mailbox)["candidates"] == tuple(sorted(ids))
    assert _states(mailbox, ids) == [State.SENT, State.QUEUED]


def test_a_name_and_a_mesh_id_of_different_messages_contradict_each_other(mailbox: InboundSite) -> None:
    ids = mailbox.messages(2, local_id="")
    mailbox.save_sent(ids[0], local_id="")
    mailbox.report(ids[1], report_on("", *FAILURE, mesh_id=MESH_ID))

    mailbox.turns()

    assert _states(mailbox, ids) == [State.SENT, State.QUEUED]
    assert len(mailbox.logged("report.unmatched")) == 1


def test_another_mesh_id_than_the_messages_own_is_no_match(mailbox: InboundSite) -> None:
    """A message whose MESH id is known is not matched by LocalId to a report that gives another."""
    message_id = mailbox.message()
    mailbox.save_sent(message_id)
    mailbox.report("report", report_on(message_id, *FAILURE, mesh_id=OTHER_MESH_ID))

    mailbox.turns()

    assert _unmatched(mailbox)["candidates"] == (message_id,)
    assert mailbox.state(message_id) is State.SENT


def test_a_name_of_a_message_with_another_mesh_id_is_no_match(mailbox: InboundSite) -> None:
    """A report named after a message that has another MESH id is about that other, unknown one."""
    (message_id,) = mailbox.messages(1, local_id="")
    mailbox.save_sent(message_id, local_id="")
    mailbox.turns()
    mailbox.report(message_id, report_on("", *FAILURE, mesh_id=OTHER_MESH_ID))

    mailbox.turns()

    assert mailbox.state(message_id) is State.SENT
    assert len(mailbox.logged("report.unmatched")) == 1


def test_a_local_id_under_another_workflow_is_no_match(mailbox: InboundSite) -> None:
    """Two applications of one mailbox may use the same LocalId; the workflow tells them apart."""
    message_id = mailbox.message(local_id="ORDER-1")
    mailbox.report("report", report_on("ORDER-1", *FAILURE, workflow_id="DIGMED_EMG_MED"))

    mailbox.turns()

    assert _unmatched(mailbox)["candidates"] == (message_id,)


def test_a_rejected_message_is_no_candidate(mailbox: InboundSite) -> None:
    message_id = mailbox.message(local_id="ORDER-1", in_out=False, queued=False)
    mailbox.ledger.connection.execute("UPDATE messages SET state = 'rejected'")
    mailbox.report("report", report_on("ORDER-1", *FAILURE))

    mailbox.turns()

    assert "candidates" not in _unmatched(mailbox)
    assert mailbox.state(message_id) is State.REJECTED


def test_an_unmatched_report_is_logged_once(mailbox: InboundSite) -> None:
    """One warning and one alert for an unmatched report, over all looks and restarts; it stays in IN."""
    mailbox.report("report", report_on("UNKNOWN-1", *FAILURE))
    mailbox.turns()
    assert len(mailbox.logged("report.unmatched")) == len(mailbox.alerted("report.unmatched")) == 1

    mailbox.later(600)
    mailbox.restart()
    mailbox.turns()
    mailbox.later(600)

    assert mailbox.logged("report.unmatched") == []
    assert mailbox.alerts == []
    assert mailbox.names("IN") == ["report.ctl"]


@pytest.mark.parametrize("restart", [True, False])
def test_an_unmatched_report_finds_its_message_when_sent_gives_the_mesh_id(
    mailbox: InboundSite, restart: bool
) -> None:
    """A report that came before the pair in SENT is matched when that comes, also after a restart."""
    ids = mailbox.messages(2, local_id=ODS_CODE)
    mailbox.report("report", report_on(ODS_CODE, *FAILURE, mesh_id=MESH_ID))
    mailbox.turns()
    assert len(mailbox.logged("report.unmatched")) == 1
    if restart:
        mailbox.restart()
        mailbox.turns()

    mailbox.save_sent(ids[1], local_id=ODS_CODE)
    mailbox.turns()

    assert _states(mailbox, ids) == [State.QUEUED, State.FAILED]
    assert mailbox.archived() == ["report.ctl"]


def test_one_report_gives_the_mesh_id_that_another_needs(mailbox: InboundSite) -> None:
    """Of two reports that come together, one may be matched by LocalId and the other by what that gave."""
    message_id = mailbox.message(local_id="ORDER-1")
    mailbox.message(local_id="")
    mailbox.report("1", report_on("", *FAILURE, mesh_id=MESH_ID))
    mailbox.report("2", report_on("ORDER-1", "TRANSFER", "SUCCESS", "00", mesh_id=MESH_ID))

    mailbox.turns()

    assert mailbox.state(message_id) is State.FAILED
    assert mailbox.logged("report.unmatched") == []


@pytest.mark.slow
@pytest.mark.parametrize("save_sent", [True, False])
def test_a_thousand_interleaved_reports(mailbox: InboundSite, save_sent: bool) -> None:
    """With one LocalId on all, SaveSent=Y lets every report find its message; without it none is guessed."""
    count = 1000
    ids = mailbox.messages(count, local_id=ODS_CODE, in_out=False)
    mesh_ids = {message_id: f"{message_id[:20]}_{number:06X}" for number, message_id in enumerate(ids)}
    left = [*ids]
    random.Random(7).shuffle(left)
    for number, message_id in enumerate(left):
        if save_sent:
            mailbox.save_sent(message_id, mesh_id=mesh_ids[message_id], local_id=ODS_CODE)
        mailbox.report(f"{number:04}", report_on(ODS_CODE, *FAILURE, mesh_id=mesh_ids[message_id]))
        if number % 250 == 0:
            mailbox.turns()

    mailbox.turns()

    states = [row["state"] for row in mailbox.ledger.connection.execute("SELECT state FROM messages")]
    assert states == (["failed"] if save_sent else ["collected"]) * count
    assert len(mailbox.names("IN")) == (0 if save_sent else count)
    assert len(mailbox.logged("report.unmatched")) == (0 if save_sent else count)
    assert len(mailbox.logged("message.failed")) == (count if save_sent else 0)
