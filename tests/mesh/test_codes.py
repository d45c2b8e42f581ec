"""The codes of reports and acknowledgements: every row, every wild spelling, and the unknown."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.mesh import codes
from meshctl.mesh.codes import (
    Effect,
    all_codes,
    explain_answer,
    explain_report,
    explain_response,
    find_code,
)
from meshctl.mesh.states import Acknowledgement

REPORTS = [
    ("COLLECT", "SUCCESS", "00", Effect.COLLECTED, "took the message"),
    ("COLLECT", "ERROR", "01", Effect.FAILED, ".ctl"),
    ("COLLECT", "ERROR", "02", Effect.FAILED, ".dat"),
    ("TRANSFER", "SUCCESS", "00", Effect.TRANSFERRED, "transferred"),
    ("TRANSFER", "SUCCESS", "05", Effect.DELAYED, "delayed"),
    ("TRANSFER", "ERROR", "03", Effect.FAILED, "authenticate the MESH server"),
    ("TRANSFER", "ERROR", "04", Effect.FAILED, "authentication of the MESH Client"),
    ("TRANSFER", "ERROR", "06", Effect.FAILED, "gave up"),
    ("TRANSFER", "ERROR", "UNSURE", Effect.FAILED, "cannot tell whether it arrived"),
    ("SEND", "ERROR", "02", Effect.FAILED, ".dat"),
    ("SEND", "ERROR", "07", Effect.FAILED, "From_DTS"),
    ("SEND", "ERROR", "08", Effect.FAILED, "To_DTS"),
    ("SEND", "ERROR", "09", Effect.FAILED, "version"),
    ("SEND", "ERROR", "11", Effect.FAILED, "message type"),
    ("SEND", "ERROR", "12", Effect.FAILED, "not registered"),
    ("SEND", "ERROR", "13", Effect.FAILED, "SMTP"),
    ("SEND", "ERROR", "14", Effect.UNDELIVERED, "five days"),
    ("SEND", "ERROR", "15", Effect.FAILED, "CP-IS"),
    ("SEND", "ERROR", "16", Effect.FAILED, "not allowed to send"),
    ("SEND", "ERROR", "17", Effect.FAILED, "workflow id"),
    ("SEND", "ERROR", "18", Effect.FAILED, "ONS"),
    ("SEND", "ERROR", "19", Effect.FAILED, "expiry"),
    ("SEND", "ERROR", "EPL-150", Effect.FAILED, "several mailboxes"),
    ("SEND", "ERROR", "EPL-151", Effect.FAILED, "no mailbox"),
    ("SEND", "ERROR", "EPL-152", Effect.FAILED, "not valid"),
    ("SEND", "ERROR", "EPL-153", Effect.FAILED, "did not find"),
    ("SEND", "ERROR", "EPL-154", Effect.FAILED, "surname and date of birth"),
    ("RECEIVE", "SUCCESS", "00", Effect.CLIENT, "Poll report"),
    ("RECEIVE", "ERROR", "15", Effect.CLIENT, "could not ask"),
    ("RECEIVE", "ERROR", "16", Effect.CLIENT, "authenticate the server"),
    ("RECEIVE", "ERROR", "17", Effect.CLIENT, "authentication"),
]
POSITIVE = {
    *(
        "20013",
        "30001",
        "30004",
        "30005",
        "30006",
        "30008",
        "30009",
        "30010",
        "30011",
        "30013",
        "30016",
        "30019",
    ),
}
RESPONSES = [
    *(f"{number}" for number in range(10001, 10011)),
    *(f"{number}" for number in range(20001, 20016)),
    *(f"{number}" for number in range(30001, 30026)),
]


@pytest.mark.parametrize(("event", "status", "code", "effect", "words"), REPORTS)
def test_report_code_is_read_with_its_event(
    event: str, status: str, code: str, effect: Effect, words: str
) -> None:
    """Each row of the user guide's table has its own meaning, effect and advice."""
    meaning = explain_report(event, status, code)

    assert (event, status, code, effect) == (meaning.event, meaning.status, meaning.code, meaning.effect)
    assert words in meaning.meaning
    assert meaning.advice.endswith(".")
    assert meaning.final is (effect in (Effect.FAILED, Effect.UNDELIVERED))
    assert meaning.level is None
    assert meaning.known


@pytest.mark.parametrize("code", RESPONSES)
def test_response_code_has_its_level_and_its_sign(code: str) -> None:
    """Prefix 1 and 2 answer at infrastructure level, 3 at business level; every negative code is final."""
    meaning = explain_response(code)

    level = Acknowledgement.BUSINESS if code.startswith("3") else Acknowledgement.INFRASTRUCTURE
    sign = "positive" if code in POSITIVE else "negative"
    assert (f"{level}_{sign}", level) == (meaning.effect, meaning.level)
    assert meaning.final is (sign == "negative")
    assert (meaning.event, meaning.code, meaning.known) == ("ITK3", code, True)
    assert meaning.meaning.endswith((".", ")."))
    assert meaning.advice.endswith(".")


def test_every_code_of_the_table_is_read_once_and_explained() -> None:
    """Also those that came after the tables above; a row that repeats another one would replace it."""
    with (Path(codes.__file__).parent / "codes.toml").open("rb") as file:
        table = tomllib.load(file)

    rows = sum(len(table[name]) for name in ("report", "itk3", "itk2"))
    assert len(all_codes()) == rows >= len(REPORTS) + len(RESPONSES)
    assert [one for one in all_codes() if not one.meaning.endswith(".") or not one.advice.endswith(".")] == []
    # Endpoint lookup answers a SEND; under another event a code would be found by its number alone.
    assert {one.event for one in all_codes() if one.code.startswith("EPL")} == {"SEND"}


@pytest.mark.parametrize(
    ("event", "status", "code", "label"),
    [
        ("Transfer to DTS Server", "Success", "0", "TRANSFER SUCCESS 00"),
        ("collect", "success", "00", "COLLECT SUCCESS 00"),
        (" SEND\n", " Error ", " 14 ", "SEND ERROR 14"),
        ("TRANSFER", "SUCCESS", "5", "TRANSFER SUCCESS 05"),
        ("TRANSFER", "Failed", "6", "TRANSFER ERROR 06"),
        ("SEND", "ERROR", "epl-154", "SEND ERROR EPL-154"),
        ("SEND", "ERROR", "EPL154", "SEND ERROR EPL-154"),
        ("SEND", "ERROR", "EPL_151", "SEND ERROR EPL-151"),
        ("", "ERROR", "EPL-153", "SEND ERROR EPL-153"),
        ("TRANSFER", "ERROR", "EPL-151", "SEND ERROR EPL-151"),
        ("DELIVER", "ERROR", "14", "SEND ERROR 14"),
    ],
)
def test_wild_spellings_are_understood(event: str, status: str, code: str, label: str) -> None:
    """Case, blanks, missing zeros and hyphens, longer events and a missing event do not matter."""
    meaning = explain_report(event, status, code)

    assert (label, True) == (meaning.label, meaning.known)


@pytest.mark.parametrize(
    ("event", "status", "code", "effect"),
    [
        ("SEND", "ERROR", "42", Effect.FAILED),
        ("SEND", "ERROR", "00", Effect.FAILED),
        ("SEND", "ERROR", "", Effect.FAILED),
        ("", "ERROR", "17", Effect.FAILED),
        ("COLLECT", "ERROR", "EPL-999", Effect.FAILED),
        ("SEND", "SUCCESS", "00", Effect.NOTE),
        ("TRANSFER", "SUCCESS", "42", Effect.NOTE),
        ("", "SUCCESS", "00", Effect.NOTE),
        ("", "", "", Effect.NOTE),
        ("SEND", "PENDING", "14", Effect.NOTE),
        ("RECEIVE", "ERROR", "42", Effect.CLIENT),
        ("RECEIVE", "SUCCESS", "42", Effect.CLIENT),
    ],
)
def test_unknown_report_code_comes_back_as_it_stands(
    event: str, status: str, code: str, effect: Effect
) -> None:
    """An error fails the message, anything else is a note, and RECEIVE is always about the client."""
    meaning = explain_report(event, status, code)

    assert (event, code, effect, False) == (meaning.event, meaning.code, meaning.effect, meaning.known)
    assert meaning.meaning
    assert meaning.advice


@pytest.mark.parametrize(
    ("code", "response_code", "effect"),
    [
        ("10099", "fatal-error", Effect.INFRASTRUCTURE_NEGATIVE),
        ("20099", "transient-error", Effect.INFRASTRUCTURE_NEGATIVE),
        ("20099", "OK", Effect.INFRASTRUCTURE_POSITIVE),
        ("30099", "ok", Effect.BUSINESS_POSITIVE),
        ("30099", "fatal-error", Effect.BUSINESS_NEGATIVE),
        ("30099", "", Effect.NOTE),
        ("", "fatal-error", Effect.FAILED),
        ("", "ok", Effect.NOTE),
        ("", "", Effect.NOTE),
        ("X1Z", "perhaps", Effect.NOTE),
    ],
)
def test_unknown_response_code_takes_its_sign_from_the_header(
    code: str, response_code: str, effect: Effect
) -> None:
    """The level is that of the prefix; without level or sign nothing positive is concluded."""
    meaning = explain_response(code, response_code)

    assert (code, effect, False) == (meaning.code, meaning.effect, meaning.known)


def test_an_answer_of_itk2_has_the_level_and_sign_that_it_says() -> None:
    """A code says why not; at either level. A word of the other level is none that is known."""
    infrastructure, business = Acknowledgement.INFRASTRUCTURE, Acknowledgement.BUSINESS
    for level, answer, code, effect, known in (
        (infrastructure, "OK", "", Effect.INFRASTRUCTURE_POSITIVE, True),
        (infrastructure, "OK", "1000", Effect.INFRASTRUCTURE_POSITIVE, True),
        (infrastructure, "failure", "1000", Effect.INFRASTRUCTURE_NEGATIVE, True),
        (infrastructure, "ERROR", "X1", Effect.INFRASTRUCTURE_NEGATIVE, False),
        (infrastructure, "AA", "", Effect.INFRASTRUCTURE_NEGATIVE, False),
        (infrastructure, "Warning", "1000", Effect.NOTE, True),
        (business, "AA", "X1", Effect.BUSINESS_POSITIVE, True),
        (business, "AE", "1000", Effect.BUSINESS_NEGATIVE, True),
        (business, "OK", "", Effect.BUSINESS_NEGATIVE, False),
        (business, "", "X1", Effect.NOTE, False),
    ):
        meaning = explain_answer(level, answer, code)
        assert (meaning.event, meaning.effect, meaning.known) == ("ITK2", effect, known), (answer, code)


def test_known_response_code_outweighs_the_header() -> None:
    """The ITK3 code is the finer answer; the specification's own misprint of 20001 counts as 20001."""
    assert explain_response("30002", "ok").effect is Effect.BUSINESS_NEGATIVE
    assert explain_response(" 200001 ", "fatal-error").code == "20001"


@given(st.text(), st.text(), st.text())
def test_no_status_record_is_too_strange_to_explain(event: str, status: str, code: str) -> None:
    """Whatever a file holds, there is an answer of printable, short parts."""
    answers = [explain_answer(level, status, code) for level in Acknowledgement]
    for meaning in (explain_report(event, status, code), explain_response(code, status), *answers):
        assert meaning.label.isprintable()
        assert len(meaning.label) < 60


@pytest.mark.parametrize("code", ["9990000042", "999 000 0042", "x" * 17, "14\x1b[2J", "Mr Brian Smith"])
def test_code_that_may_be_something_else_is_not_passed_on(code: str) -> None:
    """A number, a name or a terminal command in the place of a code stays out of the log."""
    assert explain_report("SEND", "ERROR", code).code == "unreadable"
    assert explain_response(code, "ok").code == explain_response("Smith", "ok").code == "unreadable"
    for level, answer in ((Acknowledgement.INFRASTRUCTURE, "Failure"), (Acknowledgement.BUSINESS, "AE")):
        assert explain_answer(level, answer, code).code == "unreadable"
        assert explain_answer(level, code).code == "unreadable"
        assert (
            explain_answer(level, answer, "Smith").code == explain_answer(level, "Smith").code == "unreadable"
        )


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("14", ["SEND ERROR 14"]),
        ("6", ["TRANSFER ERROR 06"]),
        ("17", ["SEND ERROR 17", "RECEIVE ERROR 17"]),
        ("send 17", ["SEND ERROR 17"]),
        ("00", ["COLLECT SUCCESS 00", "TRANSFER SUCCESS 00", "RECEIVE SUCCESS 00"]),
        ("TRANSFER SUCCESS 0", ["TRANSFER SUCCESS 00"]),
        ("EPL-154", ["SEND ERROR EPL-154"]),
        ("epl 154", ["SEND ERROR EPL-154"]),
        ("20013", ["ITK3 SUCCESS 20013"]),
        ("itk 20013", ["ITK3 SUCCESS 20013"]),
        ("ITK3 30002", ["ITK3 ERROR 30002"]),
        ("itk 14", []),
        ("ae", ["ITK2 ERROR AE"]),
        ("itk2 1000", ["ITK2 ERROR 1000"]),
        ("warning", ["ITK2 WARNING"]),
        ("itk2 20013", []),
        ("SEND 00", []),
        ("42", []),
        ("14 17", []),
        ("", []),
        ("SEND", []),
    ],
)
def test_person_finds_the_codes_that_are_meant(text: str, labels: list[str]) -> None:
    """A code alone lists all its meanings; event, status or ITK3 before it narrow them down."""
    assert labels == [meaning.label for meaning in find_code(text)]


@pytest.mark.parametrize("code", ["HTTP-400", "http-413", "HTTP-599"])
def test_a_status_of_http_is_explained(code: str) -> None:
    """A rejection over the API that has no code of its own bears the status, under whatever event."""
    for meaning in (*find_code(code), *find_code(f"SEND {code}"), explain_report("SEND", "ERROR", code)):
        assert (meaning.code, meaning.effect, meaning.known) == (code.upper(), Effect.FAILED, True)
        assert "no code of its own" in meaning.meaning
    assert not find_code("HTTP-4000")
