"""Who may say what of a message: by workflow id and mailbox, after a failure, after it was sent again."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from meshctl.inbound.evidence import UNREADABLE_IDENTIFIER
from meshctl.mesh.states import Acknowledgement, State
from meshctl.payload.itk3 import ResponseIds
from tests.inbound.inbound_site import ACK_WORKFLOW, PRACTICE, InboundSite, report_on

INFRASTRUCTURE, BUSINESS = Acknowledgement.INFRASTRUCTURE, Acknowledgement.BUSINESS
BOTH = (INFRASTRUCTURE, BUSINESS)
REQUEST = "0bcb5098-ce5a-4a85-a547-2574f90310e4"
RESPONSE = "7a3f4c8e-0000-4000-8000-000000000001"
EVIL, OTHER = "X26EVIL", "X26ABC2"


def _is_unmatched(mailbox: InboundSite, text: str) -> dict[str, object]:
    """See that the acknowledgement stays, and that log and alert say why; return the line."""
    (line,) = mailbox.logged("ack.unmatched")
    (alert,) = mailbox.alerted("ack.unmatched")
    assert text in str(line["text"])
    assert line["text"] == alert["text"]
    assert mailbox.names("IN") == ["ack.ctl", "ack.dat"]
    return line


# By workflow id and mailbox.


def test_an_acknowledgement_under_another_use_case_s_id_is_not_believed(mailbox: InboundSite) -> None:
    """Although it gives the right id: the acknowledgement id of the message's own use case counts alone."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST, workflow_id="GPFED_CONSULT_REPORT_ACK")

    mailbox.turns()

    _is_unmatched(mailbox, "under a workflow id")
    assert mailbox.state(message_id) is State.QUEUED


def test_an_acknowledgement_from_another_mailbox_is_not_believed(
    mailbox: InboundSite,
) -> None:
    """One from the right mailbox, in whatever case, is; the alert names who acknowledged."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST], to_mailbox=OTHER)
    mailbox.acknowledge("ack", REQUEST, from_dts=EVIL)
    mailbox.turns()
    line = _is_unmatched(mailbox, "from a mailbox to which the message did not go")
    assert (line["sender"], mailbox.state(message_id)) == (EVIL, State.QUEUED)

    mailbox.acknowledge("right", REQUEST, from_dts=OTHER.lower())
    mailbox.later(5)

    assert mailbox.state(message_id) is State.RECEIVED
    assert mailbox.row(message_id).answered_by == OTHER


def test_ack_from_names_further_mailboxes(open_mailbox: Callable[..., InboundSite]) -> None:
    """A supplier that answers for its practices."""
    mailbox = open_mailbox('[use_cases.send-document]\nack_from = ["X26ABC9"]\n')
    message_id = mailbox.message(asked=BOTH, references=[REQUEST], to_mailbox=OTHER)
    mailbox.acknowledge("ack", REQUEST, from_dts="X26ABC9")

    mailbox.turns()

    assert mailbox.state(message_id) is State.RECEIVED


def test_a_message_that_fits_is_found_beside_one_that_does_not(mailbox: InboundSite) -> None:
    """The same payload to two mailboxes: each acknowledgement finds the message that went there."""
    first = mailbox.message(asked=(INFRASTRUCTURE,), references=[REQUEST], to_mailbox=OTHER)
    second = mailbox.message(asked=(INFRASTRUCTURE,), references=[REQUEST], to_mailbox="X26ABC3")
    mailbox.acknowledge("ack", REQUEST, from_dts="X26ABC3")

    mailbox.turns()

    assert (mailbox.state(first), mailbox.state(second)) == (State.QUEUED, State.COMPLETED)


@pytest.mark.parametrize("is_together", [False, True], ids=["later", "together"])
def test_by_endpoint_lookup_every_sender_is_recorded(mailbox: InboundSite, is_together: bool) -> None:
    """Another acknowledgement from a different mailbox is taken, with a warning, even at once."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.acknowledge("1", REQUEST)
    if not is_together:
        mailbox.turns()
        assert mailbox.row(message_id).answered_by == PRACTICE
        assert not mailbox.logged("ack.other_mailbox")

    mailbox.acknowledge("2", REQUEST, ("30001",), from_dts="P81999")
    mailbox.later(5)

    assert mailbox.state(message_id) is State.COMPLETED
    (line,) = mailbox.logged("ack.other_mailbox")
    assert (line["sender"], line["before"]) == ("P81999", PRACTICE)
    assert mailbox.row(message_id).answered_by == PRACTICE


# What had counted as failed.

_UNSURE = [("TRANSFER", "ERROR", "06"), ("TRANSFER", "ERROR", "03"), ("TRANSFER", "ERROR", "UNSURE")]
_SURE = [("SEND", "ERROR", "EPL-151"), ("SEND", "ERROR", "14"), ("TRANSFER", "ERROR", "HTTP-400")]


@pytest.mark.parametrize("failure", _UNSURE, ids="-".join)
def test_an_acknowledgement_is_believed_over_a_client_that_does_not_know(
    mailbox: InboundSite, failure: tuple[str, str, str]
) -> None:
    """The message has arrived after all: its state, an alert and the missing advice say so."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.report("report", report_on(message_id, *failure))
    mailbox.turns()
    assert mailbox.state(message_id) is State.FAILED
    mailbox.acknowledge("1", REQUEST)
    mailbox.later(5)
    row = mailbox.row(message_id)
    assert (row.state, row.reason, row.awaiting) == (State.RECEIVED, None, (BUSINESS,))
    (alert,) = mailbox.alerted("message.mended")
    assert "has arrived" in str(alert["text"])

    mailbox.acknowledge("2", REQUEST, ("30001",))
    mailbox.later(5)
    # What was said before is no news, and no reason to doubt it.
    mailbox.report("again", report_on(message_id, *failure))
    mailbox.later(5)

    assert mailbox.state(message_id) is State.COMPLETED


@pytest.mark.parametrize("failure", _SURE, ids="-".join)
def test_what_mesh_rejected_stays_failed(mailbox: InboundSite, failure: tuple[str, str, str]) -> None:
    """MESH knows what it did not deliver."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.report("report", report_on(message_id, *failure))
    mailbox.turns()
    mailbox.acknowledge("1", REQUEST)
    mailbox.later(5)

    row = mailbox.row(message_id)
    assert row.state is State.FAILED
    assert row.reason is not None
    assert row.reason.code == failure[2]


def test_a_rejection_by_the_practice_is_the_last_word(mailbox: InboundSite) -> None:
    """Of a message whose transfer had failed: it is logged as a failure of its own."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.report("report", report_on(message_id, *_UNSURE[0]))
    mailbox.turns()
    mailbox.acknowledge("1", REQUEST, ("20009",), response_code="fatal-error")
    mailbox.later(5)
    mailbox.acknowledge("2", REQUEST)
    mailbox.later(5)

    row = mailbox.row(message_id)
    assert row.reason is not None
    assert (row.state, row.reason.code, row.awaiting) == (State.FAILED, "20009", ())
    assert [line["code"] for line in mailbox.logged("message.failed")] == ["06", "20009"]


# What was sent again.


def _copies(mailbox: InboundSite, tie: str | None = None) -> tuple[str, str]:
    """Enter two messages with one content, both at MESH; `tie` is how the second names the first."""
    first = mailbox.message(asked=BOTH, references=[REQUEST])
    tied: dict[str, Any] = {} if tie is None else {tie: first}
    second = mailbox.message(asked=BOTH, references=[REQUEST], **tied)
    for number, message_id in enumerate((first, second)):
        mailbox.save_sent(message_id, mesh_id=f"2026071210301641805{number}_B8CF9A")
    mailbox.turns()
    return first, second


@pytest.mark.parametrize("tie", ["resend_of", "repeat_of"])
def test_an_acknowledgement_of_copies_is_recorded_at_the_newest(mailbox: InboundSite, tie: str) -> None:
    """The one before it says where the acknowledgement went, and is not overdue for it."""
    first, second = _copies(mailbox, tie)
    mailbox.acknowledge("1", REQUEST)
    mailbox.acknowledge("2", REQUEST, ("30001",))
    mailbox.later(5)

    assert (mailbox.state(first), mailbox.state(second)) == (State.COMPLETED, State.COMPLETED)
    assert second in str(mailbox.row(first).history[-1].text)
    assert "recorded at" not in str(mailbox.row(second).history[-1].text)
    mailbox.later(30 * 86_400)
    assert (mailbox.row(first).overdue, mailbox.row(second).overdue) == (None, None)
    assert not mailbox.logged("ack.unmatched")


def test_a_negative_acknowledgement_of_copies_is_recorded_likewise(mailbox: InboundSite) -> None:
    """Both have been rejected; the newest says so in its own words."""
    first, second = _copies(mailbox, "resend_of")
    mailbox.acknowledge("1", REQUEST, ("20009",), response_code="fatal-error")
    mailbox.later(5)

    assert (mailbox.state(first), mailbox.state(second)) == (State.FAILED, State.FAILED)
    assert second in str(mailbox.row(first).history[-1].text)


@pytest.mark.parametrize("is_named_first", [False, True])
@pytest.mark.parametrize("codes", [("20013",), ("20009",)], ids=["accepted", "refused"])
def test_a_copy_for_a_mailbox_answers_for_no_letter_by_lookup(
    mailbox: InboundSite, codes: tuple[str, ...], is_named_first: bool
) -> None:
    """One payload went to a practice by endpoint lookup, and to a mailbox: each is answered by its own."""
    ids: dict[str | None, str] = {}
    for to_mailbox in (OTHER, None) if is_named_first else (None, OTHER):
        tie: dict[str, Any] = {"repeat_of": next(iter(ids.values()))} if ids else {}
        ids[to_mailbox] = mailbox.message(
            asked=(INFRASTRUCTURE,), references=[REQUEST], to_mailbox=to_mailbox, **tie
        )
    mailbox.acknowledge("named", REQUEST, codes, from_dts=OTHER)

    mailbox.turns()

    answered = State.COMPLETED if codes == ("20013",) else State.FAILED
    assert (mailbox.state(ids[OTHER]), mailbox.state(ids[None])) == (answered, State.QUEUED)

    mailbox.acknowledge("by lookup", REQUEST)
    mailbox.later(5)

    assert mailbox.state(ids[None]) is State.COMPLETED
    assert not mailbox.logged("ack.other_mailbox")


def test_copies_that_nothing_ties_are_no_chain(mailbox: InboundSite) -> None:
    """Two messages with the same ids, of which neither was sent again as the other, remain two."""
    _copies(mailbox)
    mailbox.acknowledge("ack", REQUEST)
    mailbox.later(5)

    _is_unmatched(mailbox, "Several messages")


# What recipients' systems write.


def test_a_recipient_that_cannot_read_the_id_fails_the_only_message_it_can_be(mailbox: InboundSite) -> None:
    """By the workflow id and mailbox that it answers under; what is answered or went elsewhere is not it."""
    answered = mailbox.message(asked=(INFRASTRUCTURE,), references=["another"])
    mailbox.acknowledge("0", "another")
    mailbox.turns()
    elsewhere, message_id = _sent(mailbox, to_mailbox=OTHER), _sent(mailbox, references=[REQUEST])
    in_out = mailbox.message(asked=BOTH)
    mailbox.acknowledge("ack", UNREADABLE_IDENTIFIER, ("10009",), response_code="fatal-error")
    mailbox.later(5)

    states = [mailbox.state(one) for one in (answered, elsewhere, message_id, in_out)]
    assert states == [State.COMPLETED, State.SENT, State.FAILED, State.QUEUED]
    assert mailbox.names("IN") == []
    (line,) = mailbox.logged("message.failed")
    assert (line["by"], line["code"]) == ("UNREADABLE", "10009")
    assert "does not say which message" in line["text"]


def _sent(mailbox: InboundSite, **more: Any) -> str:
    """Return a message that MESH has."""
    message_id = mailbox.message(asked=BOTH, **more)
    mailbox.take_from_out(message_id)
    mailbox.save_sent(message_id, mesh_id=f"{message_id[:-6]}_{message_id[-6:]}")
    mailbox.turns()
    return message_id


def test_an_inferred_failure_gives_way_to_an_acknowledgement_with_the_id(
    mailbox: InboundSite,
) -> None:
    """It was another application's letter that could not be read; this one has arrived."""
    message_id = _sent(mailbox, references=[REQUEST])
    mailbox.acknowledge("ack", UNREADABLE_IDENTIFIER, ("20009",), response_code="fatal-error", from_dts=OTHER)
    mailbox.later(5)
    mailbox.acknowledge("infrastructure", REQUEST, ("20013",))
    mailbox.acknowledge("business", REQUEST, ("30001",))
    mailbox.later(5)

    assert mailbox.state(message_id) is State.COMPLETED
    assert len(mailbox.alerted("message.mended")) == 1


@pytest.mark.parametrize("code", ["20013", "30001"])
def test_who_cannot_read_the_id_has_not_taken_the_message(mailbox: InboundSite, code: str) -> None:
    """Any mailbox could complete any letter so, without knowing anything about it."""
    message_id = _sent(mailbox)
    mailbox.acknowledge("ack", UNREADABLE_IDENTIFIER, (code,), response_code="ok", from_dts=EVIL)
    mailbox.later(5)

    _is_unmatched(mailbox, "could not read the id")
    assert mailbox.state(message_id) is State.SENT


def test_an_acknowledgement_without_a_mailbox_is_not_believed_if_the_letter_went_to_one(
    mailbox: InboundSite,
) -> None:
    """And the text says that it names none."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST], to_mailbox=OTHER)
    control = mailbox.acknowledge("ack", REQUEST)
    said = control.read_bytes()
    control.write_bytes(said.replace(f"<From_DTS>{PRACTICE}</From_DTS>".encode(), b""))
    assert control.read_bytes() != said
    mailbox.later(5)

    _is_unmatched(mailbox, "does not say which mailbox")
    assert mailbox.state(message_id) is State.QUEUED


def test_a_recipient_that_cannot_read_the_id_of_one_of_several_is_logged(mailbox: InboundSite) -> None:
    """With its mailbox, its workflow id, and the messages that it can be."""
    ids = [_sent(mailbox) for _ in range(3)]
    mailbox.acknowledge("ack", UNREADABLE_IDENTIFIER, ("10009",), response_code="fatal-error")
    mailbox.later(5)

    line = _is_unmatched(mailbox, "could not read the id")
    assert (line["sender"], line["workflow"], line["code"]) == (PRACTICE, ACK_WORKFLOW, "10009")
    assert line["candidates"] == tuple(sorted(ids))
    assert {mailbox.state(one) for one in ids} == {State.SENT}


@pytest.mark.parametrize(("response_code", "state"), [("ok", State.COMPLETED), ("fatal-error", State.FAILED)])
def test_with_a_code_that_no_table_has_the_response_code_decides(
    mailbox: InboundSite, response_code: str, state: State
) -> None:
    """And a person is told, without a word in the place of the code: it may be a name."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST, ("Smith",), response_code=response_code)
    mailbox.later(5)

    assert mailbox.state(message_id) is state
    assert mailbox.row(message_id).awaiting == ()
    assert [line["code"] for line in mailbox.logged("ack.code_unknown")] == ["unreadable"]
    (line,) = mailbox.logged("ack.code_unknown")
    assert "smith" not in str(line).lower()
    assert "is in the acknowledgement itself, in archive/" in str(line["advice"])
    assert len(mailbox.alerted("ack.code_unknown")) == 1


def test_an_r4_response_without_a_code_completes_its_message(mailbox: InboundSite) -> None:
    """R4 has no ITK3 codes; in ITK3 itself an `ok` without a code is no answer yet."""
    r4 = mailbox.message(asked=BOTH, references=[REQUEST])
    stu3 = mailbox.message(asked=BOTH, references=["another"])
    mailbox.acknowledge("1", REQUEST, (), is_r4=True)
    mailbox.acknowledge("2", "another", ())
    mailbox.later(5)

    assert (mailbox.state(r4), mailbox.state(stu3)) == (State.COMPLETED, State.QUEUED)


@pytest.mark.parametrize(
    ("code", "response_code"), [("20013", "fatal-error"), ("20009", "ok"), ("30001", "transient-error")]
)
def test_where_code_and_response_code_contradict_each_other_show_says_so(
    mailbox: InboundSite, code: str, response_code: str
) -> None:
    """The code counts; the history has both."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST, (code,), response_code=response_code)
    mailbox.later(5)

    assert f"response.code says the opposite ({response_code})" in str(
        mailbox.row(message_id).history[-1].text
    )


# A response that asks for one.

_ANSWERING = "[use_cases.send-document]\nanswer_responses = true\n"


def test_a_response_that_asks_for_one_is_noted(mailbox: InboundSite) -> None:
    """Log and history say that it did; by default nothing is sent."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST, asks=True)
    mailbox.turns()

    assert "asks for an infrastructure response" in str(mailbox.row(message_id).history[-1].text)
    assert "asks for an infrastructure response" in mailbox.logged("ack.recorded")[0]["text"]
    assert not mailbox.logged("ack.answered")


def test_a_response_that_asks_for_one_is_answered_once(open_mailbox: Callable[..., InboundSite]) -> None:
    """With answer_responses: to the mailbox it came from, and not again after a kill in between."""
    mailbox = open_mailbox(_ANSWERING)
    (mailbox.root / "outbox").mkdir()
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    for _ in range(2):
        mailbox.acknowledge("ack", REQUEST, asks=True)
        mailbox.later(5)

    name = f"response-{ResponseIds.of(f'answer to {RESPONSE}').bundle}.xml"
    assert sorted(path.name for path in (mailbox.root / "outbox").iterdir()) == [name, f"{name}.meta.json"]
    sidecar = json.loads((mailbox.root / "outbox" / f"{name}.meta.json").read_bytes())
    subject = "Infrastructure acknowledgement"
    assert sidecar == {"use_case": "send-document", "to_mailbox": PRACTICE, "subject": subject}
    answer = (mailbox.root / "outbox" / name).read_text()
    assert f'<identifier value="{RESPONSE}"/>' in answer
    assert 'value="20013"' in answer
    assert mailbox.state(message_id) is State.RECEIVED
    assert [line["recipient"] for line in mailbox.logged("ack.answered")] == [PRACTICE]


def test_without_an_outbox_the_response_waits_in_in(open_mailbox: Callable[..., InboundSite]) -> None:
    """It is logged, keeps no other file waiting, and is answered when the outbox is there."""
    mailbox = open_mailbox(_ANSWERING)
    first = mailbox.message(asked=BOTH, references=[REQUEST])
    second = mailbox.message(asked=(INFRASTRUCTURE,), references=["another"])
    mailbox.acknowledge("asks", REQUEST, asks=True)
    mailbox.acknowledge("plain", "another")
    mailbox.turns()
    assert mailbox.names("IN") == ["asks.ctl", "asks.dat"]
    assert (mailbox.state(first), mailbox.state(second)) == (State.RECEIVED, State.COMPLETED)
    assert len(mailbox.logged("file.set_aside")) == 1

    (mailbox.root / "outbox").mkdir()
    mailbox.later(70)

    assert mailbox.names("IN") == []
    assert len(mailbox.logged("ack.answered")) == 1


def test_a_ledger_that_was_rebuilt_believes_by_workflow_id(mailbox: InboundSite) -> None:
    """It does not know the use case; where the letter went, its control file said."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST], to_mailbox=PRACTICE)
    mailbox.ledger.connection.execute("UPDATE messages SET use_case = NULL")
    mailbox.acknowledge("evil", REQUEST, from_dts=EVIL)
    mailbox.acknowledge("ack", REQUEST)
    mailbox.later(5)

    assert mailbox.state(message_id) is State.RECEIVED
    assert mailbox.names("IN") == ["evil.ctl", "evil.dat"]
