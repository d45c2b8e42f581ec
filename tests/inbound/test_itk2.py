"""Answers to CDA in an ITK2 envelope: matched by tracking id, recorded with level, sign, codes and texts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshctl.mesh.codes import ITK2, all_codes
from meshctl.mesh.control_file import write_control_file
from meshctl.mesh.states import Acknowledgement, State
from meshctl.payload.facts import MessageKind
from tests.inbound.inbound_site import ACKNOWLEDGEMENT_CONTROL, PRACTICE, InboundSite
from tests.itk2 import (
    TRACKING_ID,
    MadeEnvelope,
    make_business_answer,
    make_envelope,
    make_infrastructure_answer,
)
from tests.payload.reading import facts
from tests.payloads import make_response_xml

INFRASTRUCTURE, BUSINESS = Acknowledgement.INFRASTRUCTURE, Acknowledgement.BUSINESS
BOTH = (INFRASTRUCTURE, BUSINESS)
WORKFLOW = "TOC_DISCH_DMS_ACK"
OTHER, EVIL = "X26ABC2", "X26EVIL"


def _letter(mailbox: InboundSite, **more: Any) -> str:
    """Enter a message that was sent with a tracking id, both answers awaited."""
    more = {"asked": BOTH, "references": [TRACKING_ID, TRACKING_ID.lower()], **more}
    return mailbox.message(use_case="inpatient-discharge-cda", **more)


def _answer(mailbox: InboundSite, data: bytes, name: str = "ack", **changes: Any) -> Path:
    """Put an answer into IN, payload first; `changes` are fields of its control file."""
    mailbox.put("IN", f"{name}.dat", data)
    control = replace(ACKNOWLEDGEMENT_CONTROL, workflow_id=WORKFLOW, **changes)
    return mailbox.put("IN", f"{name}.ctl", write_control_file(control))


def test_both_answers_complete_a_message(mailbox: InboundSite) -> None:
    """The history says what came, in the words of the table; the pairs are archived."""
    message_id = _letter(mailbox)
    _answer(mailbox, make_infrastructure_answer(TRACKING_ID), "1")
    mailbox.turns()
    assert (mailbox.state(message_id), mailbox.row(message_id).awaiting) == (State.RECEIVED, (BUSINESS,))

    _answer(mailbox, make_business_answer(TRACKING_ID), "2")
    mailbox.later(5)

    row = mailbox.row(message_id)
    assert (row.state, row.assumed, row.answered_by) == (State.COMPLETED, False, PRACTICE)
    answers = [(one.event, one.code, one.text) for one in row.history if one.event == ITK2]
    assert [(event, code) for event, code, _ in answers] == [(ITK2, "OK"), (ITK2, "AA")]
    assert "has the message" in str(answers[0][2])
    assert "accepted the message" in str(answers[1][2])
    assert mailbox.archived() == ["1.ctl", "1.dat", "2.ctl", "2.dat"]


@pytest.mark.parametrize("change", [str, str.lower, str.swapcase])
@pytest.mark.parametrize("make", [make_infrastructure_answer, make_business_answer])
def test_the_case_of_the_tracking_id_does_not_matter(
    mailbox: InboundSite, make: Callable[..., bytes], change: Callable[[str], str]
) -> None:
    """Of ours, and of theirs."""
    written = "3f0C9a52-6b41-4d7e-9c1b-27a5e80d1f44"
    message_id = _letter(mailbox, references=[written, written.lower()])
    _answer(mailbox, make(change(written)))

    mailbox.turns()

    assert mailbox.state(message_id) in (State.RECEIVED, State.SENT)
    assert len(mailbox.logged("ack.recorded")) == 1


_Expected = tuple[State, tuple[Acknowledgement, ...]]
_RESULTS: dict[str, _Expected] = {"OK": (State.RECEIVED, (BUSINESS,)), "ok": (State.RECEIVED, (BUSINESS,))}
_RESULTS |= {"Warning": (State.QUEUED, BOTH), "": (State.QUEUED, BOTH)}
_RESULTS |= dict.fromkeys(("Failure", "ERROR", "Failed", "nonsense"), (State.FAILED, ()))


@pytest.mark.parametrize(("result", "expected"), _RESULTS.items())
def test_the_result_of_an_infrastructure_answer_counts(
    mailbox: InboundSite, result: str, expected: _Expected
) -> None:
    """OK is positive; a warning, or nothing, is no answer yet; all else is negative."""
    message_id = _letter(mailbox)
    _answer(mailbox, make_infrastructure_answer(TRACKING_ID, result))

    mailbox.turns()

    row = mailbox.row(message_id)
    assert (row.state, row.awaiting) == expected
    assert row.history[-1].event == ITK2


_TYPES: dict[str | None, _Expected] = dict.fromkeys(("AA", "CA", "aa"), (State.SENT, (INFRASTRUCTURE,)))
_TYPES |= {None: (State.QUEUED, BOTH)}
_TYPES |= dict.fromkeys(("AE", "AR", "CE", "CR", "XX"), (State.FAILED, ()))


@pytest.mark.parametrize(("type_code", "expected"), _TYPES.items())
def test_the_type_of_a_business_answer_counts(
    mailbox: InboundSite, type_code: str | None, expected: _Expected
) -> None:
    message_id = _letter(mailbox)
    _answer(mailbox, make_business_answer(TRACKING_ID, type_code))

    mailbox.turns()

    row = mailbox.row(message_id)
    assert (row.state, row.awaiting) == expected


def test_every_word_and_code_of_the_table_is_tested() -> None:
    words = {*_RESULTS, *(one for one in _TYPES if one)} & {one.code for one in all_codes()}

    assert {one.code for one in all_codes() if one.event == ITK2} == {*words, "WARNING", "FAILURE", *_CODES}


_CODES = {
    "1000": "does not recognise its structure",
    "2100": "which may pass",
    "2200": "will have it again",
    "3000": "denies access",
    "DE0009": "handling specification",
}


@pytest.mark.parametrize(("code", "words"), [*_CODES.items(), ("LOCAL12345", "not in meshctl's table")])
@pytest.mark.parametrize("is_business", [False, True], ids=["infrastructure", "business"])
def test_a_negative_answer_says_why(
    mailbox: InboundSite, code: str, words: str, *, is_business: bool
) -> None:
    """By its code, in the table's words: what the answer itself says may name the patient."""
    message_id = _letter(mailbox)
    data = (
        make_business_answer(TRACKING_ID, "AE", (code,), payload_type="AE")
        if is_business
        else make_infrastructure_answer(TRACKING_ID, "Failure", (code,))
    )
    _answer(mailbox, data)

    mailbox.turns()

    row = mailbox.row(message_id)
    assert row.reason is not None
    assert (row.state, row.reason.code, row.reason.event) == (State.FAILED, code, ITK2)
    assert words in str(row.reason.text)
    assert row.reason.advice
    assert "Lowe" not in repr(row) + json.dumps(mailbox.alerts)
    assert [line["code"] for line in mailbox.logged("message.failed")] == [code]
    assert len(mailbox.alerted("message.failed")) == 1
    assert not mailbox.logged("ack.code_unknown")


def test_several_errors_are_all_in_the_history(mailbox: InboundSite) -> None:
    message_id = _letter(mailbox)
    _answer(mailbox, make_infrastructure_answer(TRACKING_ID, "Failure", ("1000", "2100", "1000")))

    mailbox.turns()

    assert [one.code for one in mailbox.row(message_id).history if one.event == ITK2] == ["1000", "2100"]


def test_codes_beside_a_yes_change_nothing(mailbox: InboundSite) -> None:
    message_id = _letter(mailbox, asked=(BUSINESS,))
    _answer(mailbox, make_business_answer(TRACKING_ID, "AA", ("LOCAL1", "LOCAL2")))

    mailbox.turns()

    row = mailbox.row(message_id)
    assert row.state is State.COMPLETED
    assert [one.code for one in row.history if one.event == ITK2] == ["AA"]


def test_an_order_of_their_own_a_repeat_and_a_late_no(mailbox: InboundSite) -> None:
    """As those of ITK3: none moves a message back, and a late failure is one."""
    message_id = _letter(mailbox)
    for name in ("1", "2"):
        _answer(mailbox, make_business_answer(TRACKING_ID), name)
    mailbox.turns()
    assert mailbox.state(message_id) is State.SENT
    _answer(mailbox, make_infrastructure_answer(TRACKING_ID), "3")
    mailbox.later(5)
    assert mailbox.state(message_id) is State.COMPLETED

    _answer(mailbox, make_business_answer(TRACKING_ID, "AR"), "4")
    mailbox.later(5)

    assert mailbox.state(message_id) is State.FAILED
    assert len(mailbox.alerted("message.failed")) == 1


# Who may answer.


def _is_unmatched(mailbox: InboundSite, words: str) -> None:
    (line,) = mailbox.logged("ack.unmatched")
    assert words in line["text"]
    assert mailbox.names("IN") == ["ack.ctl", "ack.dat"]


@pytest.mark.parametrize("make", [make_infrastructure_answer, make_business_answer])
@pytest.mark.parametrize(
    ("sender", "words"),
    [(EVIL, "from a mailbox to which the message did not go"), (None, "does not say which mailbox")],
)
def test_only_the_mailbox_that_a_letter_went_to_may_answer(
    mailbox: InboundSite, make: Callable[..., bytes], sender: str | None, words: str
) -> None:
    """One that names another mailbox, or none, is left, and a person is told; the right one counts."""
    message_id = _letter(mailbox, to_mailbox=OTHER)
    control = _answer(mailbox, make(TRACKING_ID), from_dts=sender or PRACTICE)
    if sender is None:
        control.write_bytes(control.read_bytes().replace(f"<From_DTS>{PRACTICE}</From_DTS>".encode(), b""))
    mailbox.turns()
    _is_unmatched(mailbox, words)
    assert mailbox.state(message_id) is State.QUEUED
    assert len(mailbox.alerted("ack.unmatched")) == 1

    _answer(mailbox, make(TRACKING_ID), "right", from_dts=OTHER)
    mailbox.later(5)

    assert mailbox.state(message_id) is not State.QUEUED


def test_only_the_acknowledgement_id_of_the_use_case_counts(mailbox: InboundSite) -> None:
    message_id = _letter(mailbox)
    mailbox.put("IN", "ack.dat", make_business_answer(TRACKING_ID))
    control = replace(ACKNOWLEDGEMENT_CONTROL, workflow_id="TOC_FHIR_IP_DISCH_ACK")
    mailbox.put("IN", "ack.ctl", write_control_file(control))
    mailbox.turns()

    _is_unmatched(mailbox, "under a workflow id")
    assert mailbox.state(message_id) is State.QUEUED


@pytest.mark.parametrize(
    "data",
    [
        make_infrastructure_answer("unheard-of"),
        make_business_answer("unheard-of"),
        make_infrastructure_answer(""),
        make_business_answer(""),
        # Its own tracking id proves nothing.
        make_business_answer("unheard-of", tracking_id=TRACKING_ID),
        # Nor does the id of the payload.
        make_business_answer("uuid_8A1C63D0-5E0F-4C58-BB1E-9D1B7F3A2C66"),
    ],
)
def test_an_answer_to_something_else_is_left(mailbox: InboundSite, data: bytes) -> None:
    message_id = _letter(mailbox)
    _answer(mailbox, data)
    mailbox.turns()

    _is_unmatched(mailbox, "No message bears the id")
    assert mailbox.state(message_id) is State.QUEUED


def test_what_is_no_answer_is_left(mailbox: InboundSite) -> None:
    """An envelope with something else in it, or with two answers."""
    for number, data in enumerate((make_envelope(), MadeEnvelope(payloads=(b"<a/>", b"<b/>")).written())):
        _answer(mailbox, data, f"{number}")
    mailbox.later(70)

    assert len(mailbox.logged("ack.unreadable")) == 2


@pytest.mark.parametrize("is_tied", [True, False], ids=["resend", "another"])
def test_what_the_recipient_rejected_has_arrived(mailbox: InboundSite, *, is_tied: bool) -> None:
    """So an answer to its tracking id may still be its own, unless a resend of it was sent since."""
    first = _letter(mailbox)
    _answer(mailbox, make_infrastructure_answer(TRACKING_ID, "Failure", ("2100",)), "1")
    mailbox.turns()
    second = _letter(mailbox, resend_of=first if is_tied else None)
    mailbox.save_sent(second)
    mailbox.turns()
    _answer(mailbox, make_infrastructure_answer(TRACKING_ID))
    mailbox.later(5)

    assert mailbox.state(first) is State.FAILED
    assert mailbox.state(second) is (State.RECEIVED if is_tied else State.SENT)
    if not is_tied:
        _is_unmatched(mailbox, "Several messages")


def test_an_itk3_response_may_answer_by_the_tracking_id(mailbox: InboundSite) -> None:
    """From a receiver that has moved on: what it says is clear."""
    message_id = _letter(mailbox)
    _answer(mailbox, make_response_xml(request_id=TRACKING_ID))
    mailbox.turns()

    assert mailbox.state(message_id) is State.RECEIVED


# An answer that asks for one.

_ANSWERING = "[use_cases.inpatient-discharge-cda]\nanswer_responses = true\n"


def test_an_answer_that_asks_for_one_is_noted(mailbox: InboundSite) -> None:
    message_id = _letter(mailbox)
    _answer(mailbox, make_business_answer(TRACKING_ID, infrastructure="true"))
    mailbox.turns()

    assert "asks for an infrastructure response" in str(mailbox.row(message_id).history[-1].text)
    assert not mailbox.logged("ack.answered")


def test_answers_that_ask_for_one_are_each_answered_in_itk2(
    open_mailbox: Callable[..., InboundSite],
) -> None:
    """With answer_responses: once, to the mailbox it came from; a sender may use one tracking id for all."""
    mailbox = open_mailbox(_ANSWERING)
    (mailbox.root / "outbox").mkdir()
    _letter(mailbox)
    _letter(mailbox, references=["another"])
    for name, request in (("1", TRACKING_ID), ("1 again", TRACKING_ID), ("2", "another")):
        _answer(mailbox, make_business_answer(request, infrastructure="true", tracking_id="FIXED"), name)
        mailbox.later(5)

    dropped = [path for path in (mailbox.root / "outbox").iterdir() if path.suffix == ".xml"]
    assert len(dropped) == 2
    for path in dropped:
        found = facts(path.read_bytes())
        assert (found.kind, found.rejection) == (MessageKind.ITK2, None)
        assert found.response is not None
        assert (found.response.identifier, found.response.response_code) == ("FIXED", "OK")
        assert found.references[0] in path.name
        sidecar = json.loads(path.with_name(f"{path.name}.meta.json").read_bytes())
        assert (sidecar["use_case"], sidecar["to_mailbox"]) == ("inpatient-discharge-cda", PRACTICE)
    assert len(mailbox.logged("ack.answered")) == 2
