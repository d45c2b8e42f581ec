"""Reports in IN: what each says, what it does to its message, and what is logged it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from meshctl.mesh.codes import FROM_RECIPIENT, all_codes
from meshctl.mesh.control_file import StatusRecord
from meshctl.mesh.states import State
from tests.inbound.codes import CLIENT_REPORTS, REPORTS
from tests.inbound.inbound_site import MAILBOX_ID, MESH_ID, InboundSite, report_on

Code = tuple[str, str, str]


def test_every_row_of_the_code_table_is_tested() -> None:
    rows = {(one.event, one.status, one.code) for one in all_codes() if one.event not in FROM_RECIPIENT}

    assert {*REPORTS, *CLIENT_REPORTS} == rows


@pytest.mark.sampled(12)
@pytest.mark.parametrize(("code", "state"), REPORTS.items(), ids=["-".join(code) for code in REPORTS])
def test_a_report_brings_its_message_to_the_state_that_it_proves(
    mailbox: InboundSite, code: Code, state: State
) -> None:
    """A report is recorded once, moves its message as the table says, and is archived."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, *code))

    mailbox.turns()

    assert mailbox.state(message_id) is state
    entry = mailbox.row(message_id).history[-1]
    assert (entry.event, entry.code) == (code[0], code[2])
    assert mailbox.names("IN") == []
    assert mailbox.archived() == ["report.ctl"]
    assert len(mailbox.logged("report.recorded")) + len(mailbox.logged("report.delayed")) == 1


@pytest.mark.sampled(8)
@pytest.mark.parametrize("code", [code for code, state in REPORTS.items() if state is State.FAILED])
def test_a_failure_reaches_log_and_alert_with_advice(mailbox: InboundSite, code: Code) -> None:
    """A failure is an ERROR line and an alert, both with code, text and advice."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, *code))

    mailbox.turns()

    (line,) = mailbox.logged("message.failed")
    (alert,) = mailbox.alerted("message.failed")
    assert (line["message_id"], line["by"], line["code"]) == (message_id, code[0], code[2])
    assert line["text"]
    assert line["advice"]
    assert {key: alert[key] for key in ("message_id", "use_case", "workflow_id", "file", "code")} == {
        "message_id": message_id,
        "use_case": "send-document",
        "workflow_id": "GPCONNECT_SEND_DOCUMENT",
        "file": "letter.xml",
        "code": code[2],
    }
    assert (alert["text"], alert["advice"]) == (line["text"], line["advice"])
    reason = mailbox.row(message_id).reason
    assert reason is not None
    assert (reason.code, reason.event) == (code[2], code[0])
    assert mailbox.ledger.unannounced() == []


def test_a_delay_is_a_warning_and_no_success(mailbox: InboundSite) -> None:
    """Code 05 changes no state, warns, and does not alert."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, "TRANSFER", "SUCCESS", "05"))

    mailbox.turns()

    assert mailbox.state(message_id) is State.QUEUED
    assert [line.level for line in mailbox.lines if line.event == "report.delayed"] == ["WARNING"]
    assert mailbox.logged("report.recorded") == []
    assert mailbox.alerts == []


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [("ERROR", "99", State.FAILED), ("SUCCESS", "98", State.QUEUED), ("ERROR", "EPL-199", State.FAILED)],
)
def test_an_unknown_code_is_kept_as_it_is(mailbox: InboundSite, status: str, code: str, state: State) -> None:
    """A code that is in no table is recorded as it stands; with the status ERROR the message failed."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, "SEND", status, code))

    mailbox.turns()

    assert mailbox.state(message_id) is state
    assert mailbox.row(message_id).history[-1].code == code
    assert mailbox.logged("report.recorded")[0]["code"] == code


def test_a_report_without_status_record_is_noted(mailbox: InboundSite) -> None:
    """A report that says nothing is recorded with its message, changes nothing and is archived."""
    message_id = mailbox.message()
    mailbox.report("report", replace(report_on(message_id, "", "", ""), status=None))

    mailbox.turns()

    assert mailbox.state(message_id) is State.QUEUED
    assert mailbox.row(message_id).history[-1].event == "REPORT"
    assert mailbox.archived() == ["report.ctl"]


def test_a_report_that_calls_itself_data_is_known_by_its_record(mailbox: InboundSite) -> None:
    """A control file from us with a status record and without a payload is a report, whatever its type."""
    message_id = mailbox.message()
    control = report_on(message_id, "SEND", "ERROR", "14", message_type="Data")
    mailbox.report("report", control)

    mailbox.turns()

    assert mailbox.state(message_id) is State.FAILED


def test_a_repeated_report_is_archived_and_logged_once(mailbox: InboundSite) -> None:
    """The same report under another name changes nothing, is not logged again, and leaves IN."""
    message_id = mailbox.message()
    mailbox.report("one", report_on(message_id, "SEND", "ERROR", "14"))
    mailbox.turns()
    before = mailbox.row(message_id)

    mailbox.report("two", report_on(message_id, "SEND", "ERROR", "14"))
    mailbox.turns()

    assert mailbox.row(message_id) == before
    assert len(mailbox.logged("message.failed")) == len(mailbox.alerts) == 1
    assert len(mailbox.logged("report.recorded")) == 1
    assert mailbox.archived() == ["one.ctl", "two.ctl"]


@pytest.mark.parametrize("code", CLIENT_REPORTS, ids="-".join)
def test_a_report_about_the_client_is_tied_to_no_message(mailbox: InboundSite, code: Code) -> None:
    """A RECEIVE report is logged as the client's and archived, even if it gives a message's ids."""
    message_id = mailbox.message()
    mailbox.report("poll", report_on(message_id, *code))

    mailbox.turns()

    said = mailbox.logged("client.poll" if code[1] == "SUCCESS" else "client.poll_failed")
    assert [line["code"] for line in said] == [code[2]]
    assert mailbox.state(message_id) is State.QUEUED
    assert len(mailbox.row(message_id).history) == 2
    assert mailbox.archived() == ["poll.ctl"]


def test_a_report_gives_the_mesh_id(mailbox: InboundSite) -> None:
    """A MESH id that a matched report gives is the message's from then on."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, "TRANSFER", "SUCCESS", "00", mesh_id=MESH_ID))

    mailbox.turns()

    assert mailbox.row(message_id).mesh_id == MESH_ID
    assert mailbox.logged("message.sent")[0]["mesh_id"] == MESH_ID


@pytest.mark.parametrize(
    "dts_id", ["9990000042", "Smith", "14022001", "x" * 100, "1234567890 Mr Brian Smith"]
)
def test_a_mesh_id_that_is_none_stays_out_of_ledger_and_log(mailbox: InboundSite, dts_id: str) -> None:
    """A DTSId of no known shape could be anything, a patient's data included: it is not kept."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, "TRANSFER", "SUCCESS", "00", mesh_id=dts_id))

    mailbox.turns()

    assert mailbox.state(message_id) is State.SENT
    assert mailbox.row(message_id).mesh_id is None
    assert dts_id not in str(mailbox.lines)


@pytest.mark.parametrize(
    "dts_id",
    [
        "20180808160418053343_B8CF9A",
        "DTS-20101216101210-927652",
        "dtsapp05-201301201947406678",
        "58CAB3A3857D4520952376B4BCFE02E6",
    ],
)
def test_mesh_ids_old_and_new_are_known(mailbox: InboundSite, dts_id: str) -> None:
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, "TRANSFER", "SUCCESS", "00", mesh_id=dts_id))

    mailbox.turns()

    assert mailbox.row(message_id).mesh_id == dts_id


@pytest.mark.parametrize(
    ("from_dts", "to_dts"), [(MAILBOX_ID.lower(), "P81001"), ("", ""), ("P81001", MAILBOX_ID)]
)
def test_a_report_concerns_us_by_either_address(mailbox: InboundSite, from_dts: str, to_dts: str) -> None:
    """The mailbox may stand in From_DTS or To_DTS, in either case, or nowhere."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, "SEND", "ERROR", "14", from_dts=from_dts, to_dts=to_dts))

    mailbox.turns()

    assert mailbox.state(message_id) is State.FAILED


def test_a_report_of_another_mailbox_is_left_alone(mailbox: InboundSite) -> None:
    """A report between two other mailboxes is noted once and stays, whatever ids it gives."""
    message_id = mailbox.message()
    mailbox.report("report", report_on(message_id, "SEND", "ERROR", "14", from_dts="OTHER1", to_dts="OTHER2"))

    mailbox.turns()
    mailbox.restart()
    mailbox.turns()

    assert mailbox.state(message_id) is State.QUEUED
    assert mailbox.names("IN") == ["report.ctl"]
    assert mailbox.lines == []


def test_a_report_for_another_application_is_noted_once(mailbox: InboundSite) -> None:
    """A report under a workflow that is none of ours, and that names no message, is no warning."""
    mailbox.message()
    mailbox.report("report", report_on("THEIRS-1", "SEND", "ERROR", "14", workflow_id="LAB_RESULTS"))

    mailbox.turns()

    assert [line["file"] for line in mailbox.logged("file.received")] == ["report.ctl"]
    assert mailbox.logged("report.unmatched") == []
    assert mailbox.names("IN") == ["report.ctl"]


def test_no_text_of_a_report_is_repeated(mailbox: InboundSite) -> None:
    """Subject, Description and recipient, which may carry a patient, reach no log, alert or ledger."""
    message_id = mailbox.message()
    status = StatusRecord("20260712103016", "SEND", "ERROR", "EPL-153", "No match for 9990000042 Smyth")
    control = replace(
        report_on(message_id, "SEND", "ERROR", "EPL-153"),
        subject="Letter for Mr Smyth",
        to_dts="GPPROVIDER_9990000042_14022001_Smyth",
        status=status,
    )
    mailbox.report("report", control)
    mailbox.report("unmatched", replace(control, local_id="9990000042"))

    mailbox.turns()

    told = f"{mailbox.lines} {mailbox.alerts} {mailbox.row(message_id)}"
    assert "Smyth" not in told
    assert "9990000042" not in told


def test_waiting_messages_hear_of_their_reports_after_the_hand_off_is_finished(
    mailbox: InboundSite,
) -> None:
    """A report on a message whose hand-off was interrupted waits until that is finished."""
    message_id = mailbox.message(queued=False)
    mailbox.report("report", report_on(message_id, "COLLECT", "SUCCESS", "00"))
    mailbox.turns()
    assert mailbox.state(message_id) is State.CLAIMED

    mailbox.ledger.mark_queued([message_id], mailbox.clock.now(), mailbox.clock.steady())
    mailbox.later(2.0)

    assert mailbox.state(message_id) is State.COLLECTED


def test_unmatched_reports_can_be_archived(open_mailbox: Callable[..., InboundSite]) -> None:
    """With unmatched = "archive" a report that belongs to no message leaves IN, after the warning."""
    mailbox = open_mailbox('[reports]\nunmatched = "archive"\n')
    mailbox.report("report", report_on("UNKNOWN-1", "SEND", "ERROR", "14"))

    mailbox.turns()

    assert len(mailbox.logged("report.unmatched")) == 1
    assert mailbox.archived() == ["report.ctl"]
    assert mailbox.names("IN") == []


@pytest.mark.parametrize("code", ["08", "12", "EPL-151"])
@pytest.mark.parametrize("told", ["vaccination", "send-document", "to a mailbox"])
def test_advice_says_where_mesh_may_not_look_practices_up(mailbox: InboundSite, code: str, told: str) -> None:
    """Where lookup found nobody, under an id that MESH's own list lacks, advice says so."""
    use_case = "send-document" if told == "send-document" else "vaccination"
    message_id = mailbox.message(use_case=use_case)
    recipient = "X26ABC2" if told == "to a mailbox" else "GPPROVIDER_9990000042_14022001_Smith"

    # A report need not give the workflow id: the message's own counts.
    mailbox.report("one", report_on(message_id, "SEND", "ERROR", code, to_dts=recipient, workflow_id=""))
    mailbox.turns()

    reason = mailbox.row(message_id).reason
    assert reason is not None
    assert reason.advice is not None
    is_shown = "MESH's own list of workflow ids for endpoint lookup lacks DIGMED_FLU_VAC" in reason.advice
    assert is_shown == (told == "vaccination")
    assert ("to_mailbox" in reason.advice and "meshctl lookup" in reason.advice) or not is_shown
    assert mailbox.alerted("message.failed")[0]["advice"] == reason.advice
