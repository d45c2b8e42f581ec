"""`meshctl list`: which messages, in which order, for people and for programs."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meshctl.ledger.records import SET_ASIDE_FACT
from meshctl.mesh.states import Acknowledgement, Evidence, State
from tests.commands.recorded import Recorder, invoke, recording
from tests.commands.screen import on_terminal
from tests.site import Site

KEYS = [
    "message_id",
    "file_name",
    "use_case",
    "workflow_id",
    "state",
    "overdue",
    "assumed",
    "mesh_id",
    "repeat_of",
    "resend_of",
    "replaces",
    "created_at",
    "updated_at",
    "size",
    "wrapped",
    "wrapped_size",
    "sha256",
    "reason",
    "awaiting",
    "to_mailbox",
    "answered_by",
    "history",
]


def _listed(site: Site, *arguments: str) -> list[dict[str, Any]]:
    result = invoke(site, "list", "--json", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    messages: list[dict[str, Any]] = json.loads(result.stdout)
    return messages


def _ids(site: Site, *arguments: str) -> list[str]:
    return [message["message_id"] for message in _listed(site, *arguments)]


def test_a_message_is_told_whole(site: Site) -> None:
    """Each element has every agreed key, its history and, when it failed, the reason with its advice."""
    with recording(site) as recorder:
        message_id = recorder.enter(
            State.QUEUED,
            sha256=bytes(range(32)),
            asked=(Acknowledgement.INFRASTRUCTURE, Acknowledgement.BUSINESS),
            repeat_of="20261121091502480113_7F3A9C",
        )
        recorder.record(message_id, Evidence("SENT", State.SENT, "00", mesh_id="20261122091600000000_ABCDEF"))
        waiting = _listed(site)[0]
        recorder.record(
            message_id, Evidence("SEND", State.FAILED, "14", "Not collected.", "Ask the practice.")
        )
        failed = _listed(site)[0]

    assert list(waiting) == KEYS
    assert waiting["state"] == "sent"
    assert waiting["mesh_id"] == "20261122091600000000_ABCDEF"
    assert waiting["sha256"] == bytes(range(32)).hex()
    assert waiting["awaiting"] == ["infrastructure", "business"]
    assert waiting["overdue"] is False
    assert waiting["reason"] is None
    assert failed["awaiting"] == []
    assert failed["reason"] == {
        "code": "14",
        "event": "SEND",
        "text": "Not collected.",
        "advice": "Ask the practice.",
    }
    assert [(step["event"], step["state"], step["code"]) for step in failed["history"]] == [
        ("CLAIM", "claimed", None),
        ("HANDOFF", "queued", None),
        ("SENT", "sent", "00"),
        ("SEND", "failed", "14"),
    ]
    assert list(failed["history"][0]) == ["at", "event", "state", "code", "text"]


def test_newest_first_whatever_the_ids(site: Site) -> None:
    """Messages come newest first by the time they were created, also when a file prefix was set between."""
    with recording(site) as recorder:
        plain = recorder.enter()
        prefixed = recorder.enter(message_id="a-20200101000000000000_000000")
        last = recorder.enter()

        assert [last, prefixed, plain] == _ids(site)


def test_filters_select_together(site: Site) -> None:
    """--state, --overdue, --use-case and --since each leave out messages; given together, all must hold."""
    with recording(site) as recorder:
        old = recorder.enter(State.SENT)
        recorder.now = datetime.now(UTC) - timedelta(minutes=30)
        late = recorder.enter(State.SENT)
        recorder.overdue(late)
        refused = recorder.enter(State.REJECTED, use_case=None)
        failed = recorder.enter(State.FAILED, use_case="vaccination")

        assert [failed, refused, late, old] == _ids(site)
        assert [late, old] == _ids(site, "--state", "sent")
        assert [failed, refused] == _ids(site, "--state", "rejected", "--state", "failed")
        assert [late] == _ids(site, "--overdue")
        assert [failed] == _ids(site, "--use-case", "vaccination")
        assert [failed, refused, late] == _ids(site, "--since", "2h")
        assert [late] == _ids(site, "--since", "2h", "--state", "sent", "--use-case", "send-document")
        assert [old] == _ids(site, "--until", "2h")
        assert [failed, refused, late] == _ids(site, "--since", "2h", "--until", "1m")
        assert _ids(site, "--overdue", "--state", "failed") == []


@pytest.mark.parametrize(
    ("use_case", "hint"),
    [("send-documents", "Did you mean send-document?"), ("foo", "There are: consultation-report, send-")],
)
def test_an_unknown_use_case_is_no_empty_list(site: Site, use_case: str, hint: str) -> None:
    """What neither the settings nor the ledger know is a slip of the pen: exit code 2."""
    with recording(site) as recorder:
        recorder.enter()

        result = invoke(site, "list", "--use-case", use_case)

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"There is no use case {use_case}. {hint}" in result.stderr


def test_a_use_case_that_the_settings_had_once_is_known(site: Site) -> None:
    """The ledger has its messages, whether the other filters leave any or none."""
    with recording(site) as recorder:
        old = recorder.enter(use_case="local-report")

        assert [old] == _ids(site, "--use-case", "local-report")
        assert _ids(site, "--use-case", "local-report", "--overdue") == []


def test_a_span_that_ends_before_it_begins_is_wrong_usage(site: Site) -> None:
    """It would list nothing, as if nothing had been sent."""
    result = invoke(site, "list", "--since", "1d", "--until", "2d")

    assert result.exit_code == 2
    assert "--until is not later than --since" in result.stderr


@pytest.mark.parametrize(
    ("since", "shown"),
    [
        ("2h", False),
        ("3d", True),
        ("2020-01-01", True),
        ("2020-01-01T09:15:00+01:00", True),
        ("2999-01-01T00:00Z", False),
    ],
)
def test_since_takes_spans_and_instants(site: Site, since: str, shown: bool) -> None:
    """--since is so long ago or an instant; a day-old message is listed or not accordingly."""
    with recording(site) as recorder:
        message_id = recorder.enter()

        assert _ids(site, "--since", since) == ([message_id] if shown else [])


@pytest.mark.parametrize(
    "arguments", [("--since", "yesterday"), ("--since", "90"), ("--state", "lost"), ("--limit", "-1")]
)
def test_wrong_filters_are_wrong_usage(site: Site, arguments: tuple[str, ...]) -> None:
    """A filter that cannot be understood ends with 2 and says which option it was."""
    result = invoke(site, "list", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"'{arguments[0]}'" in result.stderr


def _enter_many(recorder: Recorder, count: int) -> list[str]:
    return [recorder.enter() for _ in range(count)][::-1]


def test_the_limit_keeps_the_newest(site: Site) -> None:
    """Fifty are listed unless --limit says otherwise; 0 is all; a person is told that there are more."""
    with recording(site) as recorder:
        ids = _enter_many(recorder, 60)

        assert ids[:50] == _ids(site)
        assert ids[:2] == _ids(site, "--limit", "2")
        assert ids == _ids(site, "--limit", "0")
        assert (
            invoke(site, "list").stderr
            == "There are more messages than the 50 listed; --limit 0 lists all.\n"
        )
        assert invoke(site, "list", "--limit", "60").stderr == ""


@pytest.mark.slow
def test_more_messages_than_one_query_for_histories_takes(site: Site) -> None:
    """Every message has its own history, however many are listed."""
    with recording(site) as recorder:
        _enter_many(recorder, 600)

        messages = _listed(site, "--limit", "0")

    assert len(messages) == 600
    assert all(len(message["history"]) == 2 for message in messages)


def test_without_a_ledger_the_list_is_empty(site: Site) -> None:
    """Before the first start the list is empty, a hint on stderr says why, and the exit code is 0."""
    result = invoke(site, "list", "--json")

    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "There is no ledger in" in result.stderr
    assert invoke(site, "list").stdout == "No messages found.\n"


def test_people_see_a_line_a_message(site: Site) -> None:
    """A line has id, state with code and overdue, age, use case and file; --exact gives the instant."""
    with recording(site) as recorder:
        failed = recorder.enter(State.SENT)
        recorder.record(failed, Evidence("SEND", State.FAILED, "EPL-152", "No such number."))
        late = recorder.enter(State.SENT)
        recorder.overdue(late)

        _, first, second = invoke(site, "list").stdout.splitlines()
        created_at = _listed(site)[0]["created_at"]
        exact = invoke(site, "list", "--exact", "--limit", "1").stdout

    assert first.split() == [late, "sent", "overdue", "23", "h", "ago", "send-document", "letter.pdf"]
    assert second.split() == [failed, "failed", "EPL-152", "23", "h", "ago", "send-document", "letter.pdf"]
    assert created_at in exact


@pytest.mark.usefixtures("london")
def test_times_are_local_ones_beside_how_long_ago(site: Site) -> None:
    """--times shows date, time and zone of each message and how long ago that was; not with --exact."""
    with recording(site) as recorder:
        recorder.now = datetime(2026, 7, 22, 9, 14, 2, tzinfo=UTC)
        recorder.enter()

        shown = invoke(site, "list", "--times").stdout
        both = invoke(site, "list", "--times", "--exact")

    assert re.search(r" 2026-07-22 10:15:02 BST, (in )?\d+ d( ago)? ", shown)
    assert both.exit_code == 2


@pytest.mark.sampled(1)
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_line_fits_the_terminal(site: Site, columns: int) -> None:
    """On a terminal each message takes one line, with the whole id and the end of a long name left out."""
    name = "discharge-summary-ward-7-final-version-signed-by-the-consultant-and-two-others.pdf"
    with recording(site) as recorder:
        message_id = recorder.enter(file_name=name)
        with on_terminal(site, "list", columns=columns) as screen:
            lines = screen.read_all().splitlines()
        piped = invoke(site, "list").stdout

    assert len(lines) == 2
    assert all(len(line) <= columns for line in lines)
    assert lines[1].startswith(f"{message_id}  queued ")
    assert lines[1].endswith("…")
    assert name in piped


def test_no_escape_sequence_reaches_the_terminal(site: Site) -> None:
    """Whatever a name holds, control characters come out visible."""
    with recording(site) as recorder:
        message_id = recorder.enter(file_name="a\x1b[2Jb\x9b1m.pdf")

        for arguments in (["list"], ["show", message_id]):
            shown = invoke(site, *arguments).stdout
            assert "a\\x1b[2Jb\\x9b1m.pdf" in shown
            assert "\x1b" not in shown
            assert "\x9b" not in shown


def test_what_is_set_aside_is_said(site: Site) -> None:
    """A file that the daemon has set aside is no message yet; that there is one is said on stderr."""
    with recording(site) as recorder:
        aside = {"file": "letter.pdf", "folder": None, "reason": "It cannot be read.", "advice": "Mend it."}
        told = json.dumps([{**aside, "since": "2026-11-22T09:15:02.481Z"}])
        recorder.services.ledger.set_fact(SET_ASIDE_FACT, told)
        result = invoke(site, "list")

    assert result.exit_code == 0
    assert result.stderr == "One dropped file is set aside; meshctl check says why.\n"
