"""`meshctl find`: a patient's messages by keyed hash, and never the number itself."""

import json

import pytest
from click.testing import CliRunner

from meshctl.cli import cli
from meshctl.ledger.keys import KEY_NAME
from meshctl.mesh.states import State
from tests.commands.recorded import invoke, recording
from tests.site import Site

NUMBER = "9990000042"
OTHER = "9990000018"


@pytest.mark.parametrize("written", [NUMBER, "999 000 0042", "999-000-0042"])
def test_a_patients_messages_are_found(site: Site, written: str) -> None:
    """The messages about a patient come newest first, however the NHS number is spaced."""
    with recording(site) as recorder:
        first = recorder.enter(nhs_number=NUMBER)
        recorder.enter(nhs_number=OTHER)
        recorder.enter()
        second = recorder.enter(State.FAILED, nhs_number=NUMBER)

        result = invoke(site, "find", "--nhs-number", written, "--json")

    messages = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [message["message_id"] for message in messages] == [second, first]
    assert [len(message["history"]) for message in messages] == [3, 2]


def test_people_see_a_line_a_message_without_the_number(site: Site) -> None:
    """The table names messages, not the patient."""
    with recording(site) as recorder:
        message_id = recorder.enter(nhs_number=NUMBER)

        result = invoke(site, "find", "--nhs-number", NUMBER)

    assert message_id in result.stdout
    assert NUMBER not in result.output


def test_nobody_found_is_said(site: Site) -> None:
    """A patient without messages is no trouble: a plain line, exit 0, an empty array for programs."""
    with recording(site):
        result = invoke(site, "find", "--nhs-number", NUMBER)
        as_json = invoke(site, "find", "--nhs-number", NUMBER, "--json")

    assert result.exit_code == 0
    assert result.output.startswith("No message about this patient.\nNot searched: what was rejected, in ")
    assert str(site.rejected) in result.output
    assert str(site.outbox) in result.output
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (0, [])


@pytest.mark.parametrize("wrong", ["9990000043", "999000004", "99900000a2", ""])
def test_what_cannot_be_an_nhs_number_is_refused(site: Site, wrong: str) -> None:
    """A wrong number ends with 1 and one line about it that does not repeat it."""
    with recording(site):
        result = invoke(site, "find", "--nhs-number", wrong)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("meshctl: The NHS number ")
    assert result.stderr.endswith(" Correct --nhs-number.\n")
    assert not wrong or wrong not in result.stderr


@pytest.mark.parametrize(
    "sections",
    [
        {"routing": {"nhs_number_check": "digits"}},
        {"use_cases.send-document": {"nhs_number_check": "off"}},
    ],
    ids=["for all", "for one use case"],
)
def test_the_check_is_as_lenient_as_the_settings(site: Site, sections: dict[str, dict[str, str]]) -> None:
    """A number that could be sent under these settings can be searched for."""
    site.settle(**sections)
    with recording(site) as recorder:
        message_id = recorder.enter(nhs_number="9990000043")

        result = invoke(site, "find", "--nhs-number", "9990000043", "--json")

    assert [message["message_id"] for message in json.loads(result.stdout)] == [message_id]


def test_without_the_key_nobody_can_be_found(site: Site) -> None:
    """A lost key ends with 1 and says so, rather than finding nobody."""
    with recording(site) as recorder:
        recorder.enter(nhs_number=NUMBER)
    (site.state / KEY_NAME).unlink()

    result = invoke(site, "find", "--nhs-number", NUMBER)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"The key {site.state / KEY_NAME} is missing" in result.stderr
    assert "put it back from a back-up" in result.stderr


def test_with_another_key_it_says_so(site: Site) -> None:
    """A key that does not fit finds nobody and ends with 1; one made anew finds only what came since."""
    with recording(site) as recorder:
        recorder.enter(nhs_number=NUMBER)
    (site.state / KEY_NAME).write_bytes(bytes(32))

    wrong = invoke(site, "find", "--nhs-number", NUMBER)
    with recording(site) as recorder:
        since = recorder.enter(nhs_number=NUMBER)
    anew = invoke(site, "find", "--nhs-number", NUMBER, "--json")

    assert wrong.exit_code == 1
    assert "is not the one that the ledger was written with" in wrong.stderr
    assert [message["message_id"] for message in json.loads(anew.stdout)] == [since]
    assert "The key was lost once" in anew.stderr


def test_without_a_ledger_nobody_is_found(site: Site) -> None:
    """Before the first start the result is empty, with a hint on stderr."""
    result = invoke(site, "find", "--nhs-number", NUMBER, "--json")

    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "There is no ledger in" in result.stderr


def test_the_number_need_not_stand_on_the_command_line(site: Site) -> None:
    """`-` reads it from standard input, where no process list and no history shows it."""
    with recording(site) as recorder:
        message_id = recorder.enter(nhs_number=NUMBER)

        arguments = ["-c", str(site.settings_file), "find", "--nhs-number", "-"]
        result = CliRunner().invoke(cli, arguments, input=f"{NUMBER}\n")

    assert message_id in result.stdout
    assert NUMBER not in result.output
