"""MESH and the practices: endpoint lookup, delivery, reports and acknowledgements, by rules."""

from dataclasses import replace
from typing import Any

import pytest

from meshctl.payload.facts import ResponseFacts
from tests.itk2 import TRACKING_ID, MadeCda, make_envelope
from tests.payload.reading import facts
from tests.payloads import pdf
from tests.simulator.conftest import MAILBOX, MESSAGE, NHS_NUMBER, SimulatedMailbox

QUIET = "[client]\ncollect_report = false\n"
IDENTIFIER = "0bcb5098-ce5a-4a85-a547-2574f90310e4"
BUNDLE_ID = "d12dc439-ca5c-4177-bb70-4fece88edab0"
HEADER_ID = "ea7221b8-3cc0-4b11-bc95-585b056b5428"
PATIENT = f"""
[[patients]]
nhs_number = "{NHS_NUMBER}"
date_of_birth = "2001-02-14"
surname = "Smith"
"""


def responses(simulated: SimulatedMailbox) -> list[ResponseFacts]:
    """Return the acknowledgements in IN, as the product reads them, by their codes."""
    found = [facts(data).response for _, data in simulated.arrived() if data is not None]
    return sorted([one for one in found if one is not None], key=lambda one: one.codes)


@pytest.mark.parametrize(
    ("inf", "bus", "codes"),
    [
        (True, True, [("20013",), ("30001",)]),
        (True, False, [("20013",)]),
        (False, True, [("30001",)]),
        (False, False, []),
    ],
)
def test_payload_gets_the_acknowledgements_it_asks_for(
    simulated: SimulatedMailbox, inf: bool, bus: bool, codes: list[tuple[str, ...]]
) -> None:
    """Without rules, what was requested is answered, positive, and nothing else is."""
    simulated.write_rules(QUIET)
    simulated.put_itk3("letter-1", inf=inf, bus=bus)
    simulated.run()
    found = responses(simulated)

    assert [one.codes for one in found] == codes
    assert {one.response_code for one in found} <= {"ok"}
    assert {one.identifier for one in found} <= {IDENTIFIER}


def test_acknowledgement_is_a_data_message_to_our_mailbox(simulated: SimulatedMailbox) -> None:
    """It comes as a pair under MESH's id and the use case's acknowledgement workflow id, event ITK008M."""
    simulated.write_rules(QUIET + PATIENT + 'practices = ["A81001"]')
    simulated.put_itk3("letter-1", bus=False)
    simulated.run()
    [(control, data)] = simulated.arrived()

    assert data is not None
    assert simulated.names("IN") == [f"{control.dts_id}.ctl", f"{control.dts_id}.dat"]
    assert (control.message_type, control.from_dts, control.to_dts) == ("Data", "A81001", MAILBOX)
    assert control.workflow_id == "GPCONNECT_SEND_DOCUMENT_ACK"
    assert facts(data).event == "ITK008M"
    assert facts(data).acknowledgements == ()


@pytest.mark.parametrize(
    ("name", "identifier"),
    [("identifier", IDENTIFIER), ("bundle_id", BUNDLE_ID), ("header_id", HEADER_ID)],
)
def test_answer_names_the_request_by_the_id_that_a_rule_wants(
    simulated: SimulatedMailbox, name: str, identifier: str
) -> None:
    """Practices' systems refer back by any of a message's three ids."""
    simulated.write_rules(f'{QUIET}[[rules]]\nanswers_name = "{name}"')
    simulated.put_itk3("letter-1", bus=False)
    simulated.run()

    assert [one.identifier for one in responses(simulated)] == [identifier]


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        ('infrastructure_ack = "never"', ["30001"]),
        ('infrastructure_ack = "never"\nbusiness_ack = "never"', []),
        ('infrastructure_ack = "20007"', ["20007"]),
        ('business_ack = "30003"', ["20013", "30003"]),
        ('infrastructure_ack = "20007"\nbusiness_ack = "30001"', ["20007", "30001"]),
        ("times = 2", ["20013", "20013", "30001", "30001"]),
    ],
)
def test_acknowledgements_come_as_the_rule_says(
    simulated: SimulatedMailbox, rule: str, codes: list[str]
) -> None:
    """Negative, silent, repeated: the rule decides; after a negative first level the second keeps silent."""
    simulated.write_rules(f"{QUIET}[[rules]]\n{rule}")
    simulated.put_itk3("letter-1")
    simulated.run()
    found = responses(simulated)

    assert [code for one in found for code in one.codes] == codes
    assert {one.response_code for one in found if one.codes in {("20007",), ("30003",)}} <= {"fatal-error"}


def test_acknowledgements_may_overtake_each_other(simulated: SimulatedMailbox) -> None:
    simulated.write_rules(f'{QUIET}[[rules]]\ninfrastructure_ack_after = "3000d"\nbusiness_ack_after = "1s"')
    simulated.put_itk3("letter-1")
    simulator = simulated.start()
    while len(responses(simulated)) < 1:
        simulator.step()

    assert [one.codes for one in responses(simulated)] == [("30001",)]
    assert simulator.outstanding == 1


def test_opaque_payload_is_delivered_and_not_acknowledged(simulated: SimulatedMailbox) -> None:
    """A PDF has no ids that an answer could refer to."""
    simulated.write_rules(f'{QUIET}[[rules]]\ninfrastructure_ack = "20013"')
    for stem, data in (("letter-1", pdf("a letter")), ("letter-2", b"<broken")):
        simulated.put(stem, replace(MESSAGE, workflow_id="TOC_FHIR_OP_ATTEN"), data)
    simulated.run()

    assert simulated.names("SENT") == ["letter-1.ctl", "letter-1.dat", "letter-2.ctl", "letter-2.dat"]
    assert simulated.names("IN") == []


def test_a_bare_document_is_unreadable_where_a_message_is_wanted(simulated: SimulatedMailbox) -> None:
    """A practice's system answers 10009 to a PDF under GP Connect Send Document; only MESH's id names it."""
    simulated.write_rules(QUIET)
    simulated.put("letter", data=pdf("a letter"))
    simulated.run()

    [(control, data)] = simulated.arrived()
    assert control.workflow_id == "GPCONNECT_SEND_DOCUMENT_ACK"
    assert data is not None
    assert b"10009" in data
    assert simulated.control("SENT", "letter").dts_id.encode() in data


@pytest.mark.parametrize(
    "code", ["EPL-150", "EPL-151", "EPL-152", "EPL-153", "EPL-154", "12", "14", "SEND 17", "SEND 99"]
)
def test_error_of_mesh_comes_as_a_report_after_sending(simulated: SimulatedMailbox, code: str) -> None:
    """The pair is in SENT, and a report names it by MESH's id, LocalId and Subject; nothing else comes."""
    simulated.write_rules(f'{QUIET}[[rules]]\nerror = "{code}"')
    simulated.put_itk3("letter-1")
    simulated.run()
    [(report, data)] = simulated.arrived()
    sent = simulated.control("SENT", "letter-1")

    assert data is None
    assert report.message_type == "Report"
    assert report.status is not None
    assert (report.status.event, report.status.status) == ("SEND", "ERROR")
    assert report.status.status_code == code.removeprefix("SEND ")
    assert (report.dts_id, report.local_id, report.subject) == (
        sent.dts_id,
        MESSAGE.local_id,
        MESSAGE.subject,
    )
    assert (report.from_dts, report.to_dts) == (MESSAGE.from_dts, MESSAGE.to_dts)


def test_error_at_once_goes_to_failed(simulated: SimulatedMailbox) -> None:
    """A rule can have MESH refuse a message while the client still holds it."""
    simulated.write_rules(f'{QUIET}[[rules]]\nerror = "12"\nat_once = true')
    simulated.put("letter-1")
    simulated.run()
    status = simulated.control("FAILED", "letter-1").status

    assert status is not None
    assert status.status_code == "12"
    assert simulated.names("IN") == []


@pytest.mark.parametrize(
    ("patient", "report"),
    [
        ('practices = ["A81001"]', []),
        ("practices = []", ["SEND ERROR EPL-151"]),
        ('practices = ["A81001", "A81002"]', ["SEND ERROR EPL-150"]),
        ('surname = "SMITH"', []),
        ('surname = "Jones"', ["SEND ERROR EPL-154"]),
        ('date_of_birth = "2001-02-15"', ["SEND ERROR EPL-154"]),
        ("date_of_birth = 2001-02-14", []),
    ],
)
def test_endpoint_lookup_knows_the_patients_of_the_rules(
    simulated: SimulatedMailbox, patient: str, report: list[str]
) -> None:
    """A listed patient is found by number, birth date and surname, and has the practices listed."""
    key = patient.split(" ", maxsplit=1)[0]
    rest = "\n".join(line for line in PATIENT.splitlines() if not line.startswith(key))
    simulated.write_rules(f"{QUIET}{rest}\n{patient}")
    simulated.put("letter-1")
    simulated.run()

    assert simulated.reports() == report


def test_either_date_format_finds_a_listed_patient(simulated: SimulatedMailbox) -> None:
    """DDMMYYYY and YYYYMMDD are both understood."""
    simulated.write_rules(QUIET + PATIENT)
    simulated.put("letter-1", replace(MESSAGE, to_dts=f"GPPROVIDER_{NHS_NUMBER}_20010214_Smith"))
    simulated.run()

    assert simulated.reports() == []


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (f'nhs_number = "{NHS_NUMBER}"', True),
        ('nhs_number = "999*"', True),
        ('nhs_number = "1*"', False),
        ('workflow_id = "GPCONNECT_*"', True),
        ('workflow_id = "TOC_*"', False),
        ('file = "letter-?"', True),
        ('file = "2026*"', False),
        ('to_mailbox = "X26OT*"', False),
        (f'nhs_number = "{NHS_NUMBER}"\nfile = "other"', False),
    ],
)
def test_rule_is_about_messages_that_fit_all_its_keys(
    simulated: SimulatedMailbox, match: str, fits: bool
) -> None:
    """Number, workflow id, file and mailbox choose the messages of a rule."""
    simulated.write_rules(f'{QUIET}[[rules]]\n{match}\nerror = "14"')
    simulated.put("letter-1")
    simulated.run()

    assert simulated.reports() == (["SEND ERROR 14"] if fits else [])


def test_first_rule_that_fits_counts(simulated: SimulatedMailbox) -> None:
    """Later rules are not looked at."""
    simulated.write_rules(f'{QUIET}[[rules]]\nto_mailbox = "X26OT*"\nerror = "12"\n[[rules]]\nerror = "14"')
    simulated.put("letter-1", replace(MESSAGE, to_dts="X26OT001"))
    simulated.put("letter-2")
    simulated.run()

    assert simulated.reports() == ["SEND ERROR 12", "SEND ERROR 14"]


def test_message_to_ourselves_arrives_in_our_own_in(simulated: SimulatedMailbox) -> None:
    """A mailbox can send to itself: the message comes back as a pair under MESH's id."""
    simulated.write_rules(QUIET)
    to_us = replace(MESSAGE, to_dts=MAILBOX, workflow_id="LOCAL")
    simulated.put("letter-1", to_us, b"payload")
    simulated.run()
    [(control, data)] = simulated.arrived()
    sent = simulated.control("SENT", "letter-1")

    assert data == b"payload"
    assert control.dts_id == sent.dts_id
    assert simulated.names("IN") == [f"{sent.dts_id}.ctl", f"{sent.dts_id}.dat"]
    assert simulated.names("SENT") == ["letter-1.ctl", "letter-1.dat"]


def test_pairs_of_the_same_name_get_different_ids(simulated: SimulatedMailbox) -> None:
    """Another application may use one name for every letter; MESH's ids differ all the same."""
    ids = []
    for _ in range(2):
        simulated.put("letter")
        simulated.run()
        ids.append(simulated.control("SENT", "letter").dts_id)

    assert ids[0] != ids[1]


# CDA documents in ITK2 envelopes.

CDA = replace(MESSAGE, workflow_id="TOC_DISCH_DMS")


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ({}, [("business", "AA"), ("infrastructure", "OK")]),
        ({"business": "false"}, [("infrastructure", "OK")]),
        ({"infrastructure": None}, [("business", "AA")]),
        ({"infrastructure": None, "business": None}, []),
    ],
)
def test_a_cda_document_is_answered_in_itk2(
    simulated: SimulatedMailbox, asked: dict[str, Any], answers: list[tuple[str, str]]
) -> None:
    """By its tracking id, under the acknowledgement id of its use case, as it asks for."""
    simulated.write_rules(QUIET)
    simulated.put("letter-1", CDA, make_envelope(**asked))
    simulated.run()

    found = responses(simulated)

    assert sorted((one.level or "", one.response_code) for one in found) == answers
    assert {one.identifier for one in found} <= {TRACKING_ID}
    assert {control.workflow_id for control, _ in simulated.arrived()} <= {"TOC_DISCH_DMS_ACK"}


@pytest.mark.parametrize(
    ("rule", "answers"),
    [
        ('business_ack = "AE"', [("AE", ()), ("OK", ())]),
        ('infrastructure_ack = "2100"', [("Failure", ("2100",))]),
        ('infrastructure_ack = "20009"', [("Failure", ("20009",))]),
        ('business_ack = "AR"', [("AR", ()), ("OK", ())]),
        ('business_ack = "30002"', [("AE", ("30002",)), ("OK", ())]),
        ('business_ack = "30001"\ninfrastructure_ack = "never"', [("AA", ())]),
    ],
)
def test_answers_of_itk2_come_as_the_rule_says(
    simulated: SimulatedMailbox, rule: str, answers: list[tuple[str, tuple[str, ...]]]
) -> None:
    """A code of either table says why not, or that all is well."""
    simulated.write_rules(f"{QUIET}[[rules]]\n{rule}")
    simulated.put("letter-1", CDA, make_envelope())
    simulated.run()

    assert sorted((one.response_code, one.codes) for one in responses(simulated)) == answers


def test_a_bare_cda_document_is_not_answered(simulated: SimulatedMailbox) -> None:
    """It has no tracking id that an answer could name."""
    simulated.write_rules(QUIET)
    simulated.put("letter-1", CDA, MadeCda().written())
    simulated.run()

    assert responses(simulated) == []
