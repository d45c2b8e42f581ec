"""The doubt that MESH wants the date of birth in another form, from reports to log, alert and check."""

from pathlib import Path

import pytest

from meshctl.inbound.record import format_doubts
from meshctl.mesh.states import Acknowledgement, State
from tests.inbound.inbound_site import InboundSite, report_on

EVENT = "routing.format_doubtful"


def _fail(mailbox: InboundSite, code: str = "EPL-154") -> None:
    message_id = mailbox.message()
    mailbox.report(f"r{message_id}", report_on(message_id, "SEND", "ERROR", code))
    mailbox.turns()
    assert mailbox.row(message_id).state is State.FAILED


def test_three_failures_and_no_success_are_logged_once(mailbox: InboundSite) -> None:
    """The third EPL-154 is logged and alerted, with what to try; further ones are not."""
    _fail(mailbox)
    _fail(mailbox)
    assert mailbox.logged(EVENT) == []

    _fail(mailbox)
    _fail(mailbox)

    [told] = mailbox.logged(EVENT)
    assert (told["workflow_id"], told["format"], told["failures"]) == (
        "GPCONNECT_SEND_DOCUMENT",
        "YYYYMMDD",
        3,
    )
    assert 'date_of_birth_format = "DDMMYYYY" in [use_cases.send-document]' in told["advice"]
    [alert] = mailbox.alerted(EVENT)
    assert alert["advice"] == told["advice"]
    assert len(format_doubts(mailbox.ledger.connection)) == 1


def test_a_restart_does_not_log_again(mailbox: InboundSite) -> None:
    for _ in range(3):
        _fail(mailbox)

    mailbox.restart()
    _fail(mailbox)

    assert mailbox.logged(EVENT) == []
    assert mailbox.alerted(EVENT) == []


@pytest.mark.parametrize("accepted", ["20013", "10009", "undelivered"])
def test_one_that_was_accepted_is_enough(mailbox: InboundSite, accepted: str) -> None:
    """Where MESH found any recipient, the form is right: its practice answered, or did not collect."""
    message_id = mailbox.message(asked=[Acknowledgement.INFRASTRUCTURE], references=["request"])
    if accepted == "undelivered":
        mailbox.report("one", report_on(message_id, "SEND", "ERROR", "14"))
    else:
        code = "ok" if accepted == "20013" else "fatal-error"
        mailbox.acknowledge("one", "request", (accepted,), response_code=code)
    mailbox.turns()

    for _ in range(4):
        _fail(mailbox)

    assert mailbox.logged(EVENT) == []
    assert format_doubts(mailbox.ledger.connection) == []


def test_other_codes_say_nothing_of_the_form(mailbox: InboundSite) -> None:
    for _ in range(2):
        _fail(mailbox)
    for code in ("EPL-151", "EPL-153", "12"):
        _fail(mailbox, code)

    assert mailbox.logged(EVENT) == []


def test_counting_begins_again_with_another_form(tmp_path: Path) -> None:
    """What failed in the earlier form does not count against the one set since, which may be doubted too."""
    mailbox = InboundSite(tmp_path)
    for _ in range(3):
        _fail(mailbox)
    mailbox.settings_text = '[routing]\ndate_of_birth_format = "DDMMYYYY"\n'
    mailbox.later(2.0)
    mailbox.restart()

    assert format_doubts(mailbox.ledger.connection) == []
    _fail(mailbox)
    _fail(mailbox)
    assert mailbox.logged(EVENT) == []
    _fail(mailbox)

    [told] = mailbox.logged(EVENT)
    assert told["format"] == "DDMMYYYY"
    mailbox.close()
