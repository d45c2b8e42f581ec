"""Deadlines: what does not come in time is logged once, and repaired when it comes."""

from collections.abc import Callable
from unittest.mock import Mock

import pytest

from meshctl.journal.events import Journal
from meshctl.mesh.states import Acknowledgement, Deadline, State
from tests.inbound.inbound_site import InboundSite, report_on

HOUR, DAY = 3600.0, 86_400.0
INFRASTRUCTURE, BUSINESS = Acknowledgement.INFRASTRUCTURE, Acknowledgement.BUSINESS
REQUEST = "0bcb5098-ce5a-4a85-a547-2574f90310e4"


def _overdue(mailbox: InboundSite) -> list[tuple[str, str]]:
    return [(line["message_id"], line["deadline"]) for line in mailbox.logged("message.overdue")]


@pytest.mark.parametrize(
    ("reached", "asked", "deadline", "seconds"),
    [
        (None, (), "collected", 2 * HOUR),
        ("COLLECT", (), "sent", 4 * HOUR),
        ("TRANSFER", (INFRASTRUCTURE,), "infrastructure_ack", DAY),
        ("TRANSFER", (BUSINESS,), "business_ack", 5 * DAY),
    ],
)
def test_each_deadline_is_logged_when_it_passes(
    mailbox: InboundSite,
    reached: str | None,
    asked: tuple[Acknowledgement, ...],
    deadline: str,
    seconds: float,
) -> None:
    """A message that misses a deadline is flagged, warned and alerted of, once, and not before its time."""
    message_id = mailbox.message(asked=asked)
    if reached is not None:
        mailbox.report("report", report_on(message_id, reached, "SUCCESS", "00"))
        mailbox.turns()
    mailbox.later(seconds - 120)
    assert _overdue(mailbox) == []

    mailbox.later(240)
    mailbox.later(120)

    assert _overdue(mailbox) == [(message_id, deadline)]
    assert mailbox.row(message_id).overdue == deadline
    (alert,) = mailbox.alerted("message.overdue")
    assert (alert["message_id"], alert["code"]) == (message_id, deadline)
    assert alert["text"]
    assert alert["advice"]
    assert mailbox.row(message_id).history[-1].event == "DEADLINE"
    assert mailbox.ledger.unannounced() == []


@pytest.mark.parametrize("restart", [True, False])
def test_a_missed_deadline_is_logged_once_over_a_restart(mailbox: InboundSite, restart: bool) -> None:
    """The flag survives a restart, and its line is not repeated."""
    message_id = mailbox.message()
    mailbox.later(3 * HOUR)
    if restart:
        mailbox.restart()
    mailbox.lines.clear()

    mailbox.later(600)

    assert _overdue(mailbox) == []
    assert mailbox.row(message_id).overdue == "collected"


def test_a_deadline_passes_while_the_daemon_is_down(mailbox: InboundSite) -> None:
    message_id = mailbox.message()
    mailbox.turns()
    mailbox.clock.ahead_seconds += 3 * HOUR
    mailbox.restart()

    mailbox.turns()

    assert _overdue(mailbox) == [(message_id, "collected")]


def test_a_further_deadline_replaces_the_flag(mailbox: InboundSite) -> None:
    """Each deadline that a message misses in turn is logged, and the flag names the last."""
    message_id = mailbox.message(asked=[INFRASTRUCTURE, BUSINESS])

    for _ in range(50):
        mailbox.later(3 * HOUR)

    deadlines = ["collected", "sent", "infrastructure_ack", "business_ack"]
    assert _overdue(mailbox) == [(message_id, deadline) for deadline in deadlines]
    assert mailbox.row(message_id).overdue == "business_ack"


def test_what_comes_late_clears_the_flag(mailbox: InboundSite) -> None:
    """The evidence that was missing clears the flag, and log and alert say so."""
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.save_sent(message_id)
    mailbox.turns()
    mailbox.later(DAY + HOUR)
    assert mailbox.row(message_id).overdue == "infrastructure_ack"

    mailbox.acknowledge("ack", REQUEST)
    mailbox.later(1)

    row = mailbox.row(message_id)
    assert (row.state, row.overdue) == (State.COMPLETED, None)
    assert [line["deadline"] for line in mailbox.logged("message.mended")] == ["infrastructure_ack"]
    assert [alert["message_id"] for alert in mailbox.alerted("message.mended")] == [message_id]


def test_a_failure_clears_nothing(mailbox: InboundSite) -> None:
    """An overdue message that fails is logged as failed alone."""
    message_id = mailbox.message()
    mailbox.later(3 * HOUR)
    mailbox.report("report", report_on(message_id, "SEND", "ERROR", "14"))

    mailbox.later(1)

    assert mailbox.row(message_id).overdue is None
    assert mailbox.logged("message.mended") == []
    assert len(mailbox.logged("message.failed")) == 1


def test_other_evidence_does_not_clear_the_flag(mailbox: InboundSite) -> None:
    """A message whose acknowledgement is missing stays overdue when something else comes."""
    message_id = mailbox.message(asked=[INFRASTRUCTURE, BUSINESS], references=[REQUEST])
    mailbox.save_sent(message_id)
    mailbox.turns()
    mailbox.later(DAY + HOUR)
    mailbox.acknowledge("ack", REQUEST, ("30001",))

    mailbox.later(1)

    assert mailbox.row(message_id).overdue == "infrastructure_ack"
    assert mailbox.logged("message.mended") == []


def test_the_flag_falls_back_to_what_is_still_missing(mailbox: InboundSite) -> None:
    """When the one that was missed last comes, a message whose earlier one is missing stays overdue."""
    message_id = mailbox.message(asked=[INFRASTRUCTURE, BUSINESS], references=[REQUEST])
    mailbox.save_sent(message_id)
    mailbox.turns()
    mailbox.later(DAY + HOUR)
    mailbox.later(5 * DAY)
    assert mailbox.row(message_id).overdue == "business_ack"

    mailbox.acknowledge("1", REQUEST, ("30001",))
    mailbox.later(1)
    assert mailbox.row(message_id).overdue == "infrastructure_ack"
    assert mailbox.logged("message.mended") == []

    mailbox.acknowledge("2", REQUEST, ("20013",))
    mailbox.later(1)
    assert (mailbox.state(message_id), mailbox.row(message_id).overdue) == (State.COMPLETED, None)
    assert len(mailbox.logged("message.mended")) == 1


def test_silence_completes_what_asked_for_nothing(mailbox: InboundSite) -> None:
    """A message that MESH has and of which nothing was asked is taken for delivered after six quiet days."""
    message_id = mailbox.message()
    mailbox.save_sent(message_id)
    mailbox.turns()
    mailbox.later(6 * DAY - HOUR)
    assert mailbox.state(message_id) is State.SENT

    mailbox.later(2 * HOUR)

    row = mailbox.row(message_id)
    assert (row.state, row.assumed) == (State.COMPLETED, True)
    assert [line["assumed"] for line in mailbox.logged("message.completed")] == [True]
    assert mailbox.alerts == []


def test_a_late_failure_undoes_the_assumption(mailbox: InboundSite) -> None:
    """A report that comes after all is believed over silence."""
    message_id = mailbox.message()
    mailbox.save_sent(message_id)
    mailbox.turns()
    mailbox.later(7 * DAY)
    mailbox.report("report", report_on(message_id, "SEND", "ERROR", "14"))

    mailbox.later(1)

    row = mailbox.row(message_id)
    assert (row.state, row.assumed) == (State.FAILED, False)
    assert len(mailbox.alerted("message.failed")) == 1


@pytest.mark.parametrize("asked", [(INFRASTRUCTURE,), (BUSINESS,)])
def test_silence_never_completes_what_asked_for_an_acknowledgement(
    mailbox: InboundSite, asked: tuple[Acknowledgement, ...]
) -> None:
    """A missing acknowledgement is overdue for ever, not completed."""
    message_id = mailbox.message(asked=asked)
    mailbox.save_sent(message_id)
    mailbox.turns()

    mailbox.later(30 * DAY)

    row = mailbox.row(message_id)
    assert row.state is State.SENT
    assert row.overdue == f"{asked[0].value}_ack"


@pytest.mark.parametrize("taken", [True, False])
def test_silence_never_completes_what_mesh_may_not_have(mailbox: InboundSite, taken: bool) -> None:
    """A pair that lies in OUT, or of which nothing shows that MESH has it, is not taken for delivered."""
    message_id = mailbox.message(in_out=not taken)

    mailbox.later(30 * DAY)

    row = mailbox.row(message_id)
    assert row.state is (State.COLLECTED if taken else State.QUEUED)
    assert row.overdue == "sent"


CLIENT = """<MESHConfig><Client><ClientIdentity>X26ABC1</ClientIdentity>
<SaveSent>N</SaveSent><TransferReport>N</TransferReport></Client></MESHConfig>"""


def test_what_no_flag_lets_be_known_is_not_expected(open_mailbox: Callable[..., InboundSite]) -> None:
    """With neither SaveSent nor TransferReport nothing can show that MESH has a message."""
    mailbox = open_mailbox(client_config=CLIENT)
    message_id = mailbox.message(in_out=False)

    mailbox.later(5 * HOUR)
    assert _overdue(mailbox) == []

    mailbox.later(7 * DAY)
    row = mailbox.row(message_id)
    assert (row.state, row.assumed, row.overdue) == (State.COMPLETED, True, None)


def test_a_thousand_late_messages_are_each_logged_once(mailbox: InboundSite) -> None:
    ids = mailbox.messages(1000, in_out=False)
    mailbox.ledger.connection.execute("UPDATE messages SET state = 'collected'")

    mailbox.later(5 * HOUR)
    mailbox.later(5 * HOUR)

    assert sorted(_overdue(mailbox)) == [(message_id, "sent") for message_id in sorted(ids)]


def test_settings_change_the_deadlines(open_mailbox: Callable[..., InboundSite]) -> None:
    """Deadlines are what the settings say, and the text names the time."""
    mailbox = open_mailbox('[deadlines]\ncollected = "10s"\n')
    mailbox.message()

    mailbox.later(8)
    assert _overdue(mailbox) == []
    mailbox.later(4)

    assert "within 10s" in mailbox.logged("message.overdue")[0]["text"]


def test_an_unannounced_deadline_is_logged_at_the_next_start(mailbox: InboundSite) -> None:
    """A process that ends between the flag and its line announces it when it starts again."""
    message_id = mailbox.message()
    mailbox.ledger.mark_overdue([message_id], Deadline.COLLECTED, mailbox.clock.now(), "late")

    mailbox.restart()
    mailbox.turns()

    assert _overdue(mailbox) == [(message_id, "collected")]
    assert len(mailbox.alerted("message.overdue")) == 1


def test_a_deadline_is_in_the_ledger_before_the_log_has_it(
    mailbox: InboundSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that ends at the line has the ledger say so, and logs it at the next start."""
    message_id = mailbox.message()
    mailbox.turns()
    with monkeypatch.context() as ending:
        ending.setattr(Journal, "tell", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mailbox.later(3 * HOUR)

    assert mailbox.row(message_id).overdue == "collected"
    assert mailbox.ledger.unannounced() == [message_id]


def test_evidence_that_comes_before_the_flag_counts(
    mailbox: InboundSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late messages are flagged a batch at a time; one that is heard of meanwhile is not late."""
    monkeypatch.setattr("meshctl.inbound.deadlines.BATCH", 1)
    mailbox.messages(2)
    mailbox.turns()
    mailbox.clock.ahead_seconds += 3 * HOUR
    while not _overdue(mailbox):
        mailbox.incoming.work()
    [(flagged, _)] = _overdue(mailbox)
    [other] = {path.stem for path in mailbox.folder("OUT").glob("*.ctl")} - {flagged}
    mailbox.save_sent(other)
    mailbox.take_from_out(other)

    mailbox.turns()

    assert _overdue(mailbox) == [(flagged, "collected")]
