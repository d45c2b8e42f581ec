"""ITK3 acknowledgements: matched by what they answer, recorded with code, level and sign."""

from collections.abc import Callable

import pytest

from meshctl.mesh.codes import ITK3, all_codes
from meshctl.mesh.states import Acknowledgement, State
from tests.inbound.codes import (
    NEGATIVE,
    NEGATIVE_BUSINESS,
    POSITIVE_BUSINESS,
    POSITIVE_INFRASTRUCTURE,
)
from tests.inbound.inbound_site import InboundSite, report_on
from tests.payloads import make_bundle_xml, make_response_json, make_response_xml

INFRASTRUCTURE, BUSINESS = Acknowledgement.INFRASTRUCTURE, Acknowledgement.BUSINESS
BOTH = (INFRASTRUCTURE, BUSINESS)
REQUEST = "0bcb5098-ce5a-4a85-a547-2574f90310e4"


def test_every_itk3_code_is_tested() -> None:
    codes = {one.code for one in all_codes() if one.event == ITK3}

    assert {*POSITIVE_INFRASTRUCTURE, *POSITIVE_BUSINESS, *NEGATIVE} == codes


@pytest.mark.sampled(15)
@pytest.mark.parametrize("code", POSITIVE_INFRASTRUCTURE + POSITIVE_BUSINESS + NEGATIVE)
def test_an_acknowledgement_does_what_its_code_says(mailbox: InboundSite, code: str) -> None:
    """An acknowledgement is recorded at its level and with its sign, and its pair is archived."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST, (code,), response_code="fatal-error" if code in NEGATIVE else "ok")

    mailbox.turns()

    row = mailbox.row(message_id)
    if code in NEGATIVE:
        assert (row.state, row.awaiting) == (State.FAILED, ())
        assert [line["code"] for line in mailbox.logged("message.failed")] == [code]
        assert len(mailbox.alerted("message.failed")) == 1
    elif code in POSITIVE_BUSINESS:
        assert (row.state, row.awaiting) == (State.SENT, (INFRASTRUCTURE,))
    else:
        assert (row.state, row.awaiting) == (State.RECEIVED, (BUSINESS,))
    assert (row.history[-1].event, row.history[-1].code) == ("ITK3", code)
    assert [line["code"] for line in mailbox.logged("ack.recorded")] == [code]
    assert mailbox.names("IN") == []
    assert mailbox.archived() == ["ack.ctl", "ack.dat"]


def test_all_that_was_asked_for_completes_a_message(mailbox: InboundSite) -> None:
    """The last acknowledgement that was asked for makes the message completed, and says how long it took."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.acknowledge("1", REQUEST, ("20013",))
    mailbox.turns()
    mailbox.acknowledge("2", REQUEST, ("30001",))
    mailbox.later(90)

    assert mailbox.state(message_id) is State.COMPLETED
    assert [line["took_s"] >= 90 for line in mailbox.logged("message.completed")] == [True]
    assert not mailbox.row(message_id).assumed


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("change", [str.upper, lambda text: f"urn:uuid:{text}", str])
def test_any_id_of_the_request_may_be_acknowledged(
    mailbox: InboundSite, position: int, change: Callable[[str], str]
) -> None:
    """Bundle identifier, Bundle id or MessageHeader id: practices answer any, in upper case or as a URN."""
    ids = [REQUEST, "d12dc439-ca5c-4177-bb70-4fece88edab0", "ea7221b8-3cc0-4b11-bc95-585b056b5428"]
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=ids)
    mailbox.acknowledge("ack", change(ids[position]))

    mailbox.turns()

    assert mailbox.state(message_id) is State.COMPLETED


def test_an_acknowledgement_in_json_is_read_alike(mailbox: InboundSite) -> None:
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST).rename(mailbox.root / "control")
    mailbox.put("IN", "ack.dat", make_response_json(request_id=REQUEST))
    (mailbox.root / "control").rename(mailbox.folder("IN") / "ack.ctl")

    mailbox.turns()

    assert mailbox.state(message_id) is State.COMPLETED


@pytest.mark.parametrize(
    ("codes", "response_code", "state"),
    [
        ((), "ok", State.QUEUED),
        ((), "fatal-error", State.FAILED),
        ((), "transient-error", State.FAILED),
        (("20099",), "ok", State.COMPLETED),
        (("20099",), "fatal-error", State.FAILED),
        (("200001",), "fatal-error", State.FAILED),
        (("20013",), "fatal-error", State.COMPLETED),
    ],
)
def test_codes_that_are_missing_or_unknown(
    mailbox: InboundSite, codes: tuple[str, ...], response_code: str, state: State
) -> None:
    """An unknown code counts by its prefix and the response code; an `ok` without a code proves nothing."""
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST, codes, response_code=response_code)

    mailbox.turns()

    assert mailbox.state(message_id) is state
    assert mailbox.names("IN") == []


def test_an_acknowledgement_of_nothing_of_ours_stays(mailbox: InboundSite) -> None:
    """An acknowledgement of an unknown request is logged once and left, over a restart too."""
    mailbox.message(references=[REQUEST])
    mailbox.acknowledge("ack", "11111111-1111-4111-8111-111111111111")
    mailbox.turns()
    assert len(mailbox.logged("ack.unmatched")) == len(mailbox.alerted("ack.unmatched")) == 1

    mailbox.restart()
    mailbox.later(600)

    assert mailbox.logged("ack.unmatched") == []
    assert mailbox.names("IN") == ["ack.ctl", "ack.dat"]


def test_an_acknowledgement_of_a_document_sent_twice_is_no_guess(mailbox: InboundSite) -> None:
    """Two messages with the same ids are two candidates, named in the log, and neither is acknowledged."""
    ids = mailbox.messages(2, asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST)

    mailbox.turns()

    assert {mailbox.state(message_id) for message_id in ids} == {State.QUEUED}
    assert mailbox.logged("ack.unmatched")[0]["candidates"] == tuple(sorted(ids))


def test_what_never_arrived_is_not_what_was_acknowledged(mailbox: InboundSite) -> None:
    """After an undelivered message was sent again, the acknowledgement belongs to the second."""
    first, second = mailbox.messages(2, asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.report("report", report_on(first, "SEND", "ERROR", "14"))
    mailbox.turns()
    mailbox.acknowledge("ack", REQUEST)

    mailbox.turns()

    assert (mailbox.state(first), mailbox.state(second)) == (State.FAILED, State.COMPLETED)


def test_two_that_arrived_remain_two(mailbox: InboundSite) -> None:
    """A message that a practice rejected has arrived: an acknowledgement may be of it or its repetition."""
    first = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("rejection", REQUEST, ("20009",), response_code="fatal-error")
    mailbox.turns()
    second = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST)

    mailbox.turns()

    assert (mailbox.state(first), mailbox.state(second)) == (State.FAILED, State.QUEUED)
    assert len(mailbox.logged("ack.unmatched")) == 1


def test_an_acknowledgement_waits_for_its_payload(mailbox: InboundSite) -> None:
    """A control file whose payload is not there yet is read again; if none comes, it is logged once."""
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST)
    payload = mailbox.folder("IN") / "ack.dat"
    payload.rename(mailbox.root / "ack.dat")
    mailbox.turns()
    assert mailbox.lines == []

    mailbox.later(10)
    mailbox.later(100)
    assert [line["text"] for line in mailbox.logged("ack.unreadable")] == ["Its payload is missing."]

    (mailbox.root / "ack.dat").rename(payload)
    mailbox.later(100)
    assert mailbox.state(message_id) is State.COMPLETED


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"%PDF-1.4 no XML",
        b"<Bundle xmlns='http://hl7.org/fhir'><entry>",
        b"<!DOCTYPE x [<!ENTITY e 'x'>]><Bundle xmlns='http://hl7.org/fhir'>&e;</Bundle>",
        make_bundle_xml(),
        b"<Bundle xmlns='http://hl7.org/fhir'/>",
    ],
    ids=["empty", "pdf", "truncated", "dtd", "request", "bundle"],
)
def test_an_acknowledgement_that_is_none_is_logged_once(mailbox: InboundSite, payload: bytes) -> None:
    """A payload that cannot be read, or is no response, is logged once and left."""
    mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST)
    (mailbox.folder("IN") / "ack.dat").write_bytes(payload)
    mailbox.turns()
    mailbox.later(10)
    assert len(mailbox.logged("ack.unreadable")) == 1

    mailbox.restart()
    mailbox.later(600)

    assert mailbox.logged("ack.unreadable") == []
    assert mailbox.names("IN") == ["ack.ctl", "ack.dat"]


def test_an_acknowledgement_without_an_id_is_unmatched(mailbox: InboundSite) -> None:
    mailbox.message(references=[REQUEST])
    mailbox.acknowledge("ack", "")

    mailbox.turns()

    assert len(mailbox.logged("ack.unmatched")) == 1


def test_a_payload_that_is_a_link_is_not_followed(mailbox: InboundSite) -> None:
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST)
    payload = mailbox.folder("IN") / "ack.dat"
    payload.rename(mailbox.root / "elsewhere.dat")
    payload.symlink_to(mailbox.root / "elsewhere.dat")

    mailbox.later(10)

    assert mailbox.state(message_id) is State.QUEUED
    assert len(mailbox.logged("ack.unreadable")) == 1


def test_only_acknowledgement_workflows_are_read(mailbox: InboundSite) -> None:
    """A response under a workflow that is none of ours is another application's."""
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST, workflow_id="LAB_RESULTS_ACK")

    mailbox.turns()

    assert mailbox.state(message_id) is State.QUEUED
    assert len(mailbox.logged("file.received")) == 1


def test_a_site_workflow_has_acknowledgements_too(open_mailbox: Callable[..., InboundSite]) -> None:
    """The acknowledgement workflow of a use case from the settings is ours as well."""
    mailbox = open_mailbox(
        '[use_cases.local-report]\nworkflow_id = "LOCAL"\nack_workflow_id = "LOCAL_BACK"\n'
    )
    message_id = mailbox.message(asked=[BUSINESS], references=[REQUEST], use_case="local-report")
    mailbox.acknowledge("ack", REQUEST, (NEGATIVE_BUSINESS[0],), workflow_id="LOCAL_BACK")

    mailbox.turns()

    assert mailbox.state(message_id) is State.FAILED


def test_an_acknowledgement_for_another_mailbox_is_left_alone(mailbox: InboundSite) -> None:
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST, to_dts="OTHER1")

    mailbox.turns()

    assert mailbox.state(message_id) is State.QUEUED
    assert [line["reason"] for line in mailbox.logged("file.received")] == ["for another mailbox"]


def test_a_repeated_acknowledgement_changes_nothing(mailbox: InboundSite) -> None:
    """The same acknowledgement again is archived, and neither recorded nor logged a second time."""
    message_id = mailbox.message(asked=BOTH, references=[REQUEST])
    mailbox.acknowledge("1", REQUEST)
    mailbox.turns()
    before = mailbox.row(message_id)

    mailbox.acknowledge("2", REQUEST)
    mailbox.turns()

    assert mailbox.row(message_id) == before
    assert len(mailbox.logged("ack.recorded")) == 1
    assert mailbox.archived() == ["1.ctl", "1.dat", "2.ctl", "2.dat"]


def test_a_big_acknowledgement_is_read(mailbox: InboundSite) -> None:
    """A practice may send its whole request back with the acknowledgement."""
    message_id = mailbox.message(asked=[INFRASTRUCTURE], references=[REQUEST])
    mailbox.acknowledge("ack", REQUEST).rename(mailbox.root / "control")
    padding = b"<!--" + b"x" * 3_000_000 + b"-->"
    whole = make_response_xml(request_id=REQUEST).replace(b"</Bundle>", padding + b"</Bundle>")
    mailbox.put("IN", "ack.dat", whole)
    (mailbox.root / "control").rename(mailbox.folder("IN") / "ack.ctl")

    mailbox.turns()

    assert mailbox.state(message_id) is State.COMPLETED


@pytest.mark.parametrize("spelling", ["DIGMED_FLU_VAC_ACK", "DIGIMED_FLU_VAC_ACK"])
def test_an_acknowledgement_counts_under_either_spelling(mailbox: InboundSite, spelling: str) -> None:
    """Documents spell the workflow id in two ways; an acknowledgement under either completes the message."""
    message_id = mailbox.message(
        use_case="vaccination", asked=[Acknowledgement.INFRASTRUCTURE], references=["request"]
    )

    mailbox.acknowledge("one", "request", workflow_id=spelling)
    mailbox.turns()

    assert mailbox.state(message_id) is State.COMPLETED
