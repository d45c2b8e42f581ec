"""`meshctl show`: one message, by whatever a person has in hand."""

import json
import re
from datetime import UTC, datetime

import pytest

from meshctl.mesh.states import Acknowledgement, Evidence, State
from tests.commands.recorded import invoke, recording
from tests.site import Site

FIRST = "20261122091502480113_7F3A9C"
SECOND = "20261122091502480999_000001"
MESH_ID = "20261122093000000000_ABCDEF"


@pytest.mark.parametrize(
    "named", [FIRST, "20261122091502480113", "202611220915024801", f"{FIRST}.ctl", f"{FIRST}.dat", MESH_ID]
)
def test_a_message_has_several_names(site: Site, named: str) -> None:
    """A message is found by its id, a beginning no other has, a file of its pair, and its MESH id."""
    with recording(site) as recorder:
        recorder.enter(message_id=FIRST)
        recorder.enter(message_id=SECOND)
        recorder.record(FIRST, Evidence("SENT", State.SENT, "00", mesh_id=MESH_ID))

        result = invoke(site, "show", named, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["message_id"] == FIRST


def test_an_id_that_another_begins_with_is_still_found(site: Site) -> None:
    """A whole id is never ambiguous, even where a longer one begins with it."""
    with recording(site) as recorder:
        recorder.enter(message_id=FIRST)
        recorder.enter(message_id=f"{FIRST}0")

        result = invoke(site, "show", FIRST, "--json")

    assert json.loads(result.stdout)["message_id"] == FIRST


def test_an_ambiguous_beginning_names_the_candidates(site: Site) -> None:
    """A beginning that several messages share ends with 1 and lists them."""
    with recording(site) as recorder:
        recorder.enter(message_id=FIRST)
        recorder.enter(message_id=SECOND)

        result = invoke(site, "show", "2026112209150248")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"meshctl: 2026112209150248 can be any of these messages: {FIRST}, {SECOND}. Give the whole id.\n"
    )


def test_an_unknown_id_is_one_plain_line(site: Site) -> None:
    with recording(site):
        result = invoke(site, "show", FIRST)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"meshctl: There is no message {FIRST} in the ledger."
        " See 'meshctl list', or 'meshctl find' for a patient.\n"
    )


def test_an_nhs_number_given_for_an_id_is_not_repeated(site: Site) -> None:
    """Whoever types an NHS number where an id belongs does not find it in the error."""
    with recording(site):
        result = invoke(site, "show", "9990000042")

    assert result.exit_code == 1
    assert "9990000042" not in result.output


def test_without_a_ledger_there_is_nothing_to_show(site: Site) -> None:
    """Before the first start, show ends with 1 and says how a ledger comes about."""
    result = invoke(site, "show", FIRST)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "'meshctl run'" in result.stderr


def test_people_see_the_whole_story(site: Site) -> None:
    """State, reason, advice, what is awaited and every step of the history are shown."""
    with recording(site) as recorder:
        original = recorder.enter()
        message_id = recorder.enter(resend_of=original, asked=(Acknowledgement.BUSINESS,))
        recorder.overdue(message_id)
        waiting = invoke(site, "show", message_id).stdout
        recorder.record(
            message_id, Evidence("SEND", State.FAILED, "14", "Not collected.", "Ask the practice.")
        )
        failed = invoke(site, "show", message_id, "--exact").stdout

    assert "the deadline sent has passed" in waiting
    assert "business acknowledgement" in waiting
    assert original in waiting
    assert "23 h ago" in waiting
    assert "failed 14" in failed
    assert "Not collected." in failed
    assert "Ask the practice." in failed
    history = [line.split() for line in failed.splitlines()][-4:]
    assert [step[1:3] for step in history] == [
        ["CLAIM", "claimed"],
        ["HANDOFF", "queued"],
        ["DEADLINE", "queued"],
        ["SEND", "failed"],
    ]
    assert all(step[0].endswith("Z") for step in history)


@pytest.mark.usefixtures("london")
def test_times_are_local_ones_beside_how_long_ago(site: Site) -> None:
    """Every time has date, zone and how long ago that was; in winter and summer by the zone's own clock."""
    with recording(site) as recorder:
        recorder.now = datetime(2026, 7, 22, 9, 14, 2, tzinfo=UTC)
        summer = invoke(site, "show", recorder.enter()).stdout
        recorder.now = datetime(2026, 1, 22, 9, 14, 2, tzinfo=UTC)
        winter = invoke(site, "show", recorder.enter()).stdout

    assert re.search(r"Created +2026-07-22 10:15:02 BST, (in )?\d+ d( ago)?", summer)
    assert len(re.findall(r"2026-01-22 09:15:02 GMT, (?:in )?\d+ d(?: ago)?", winter)) == 4


@pytest.mark.parametrize(
    ("name", "shown"), [("letter.pdf", "letter.pdf"), ("999 000 0042.pdf", "**********.pdf")]
)
def test_a_rejected_file_is_found(site: Site, name: str, shown: str) -> None:
    """`show` says where the file lies, also where it had to get another name, and when it is gone."""
    (site.rejected / name).write_bytes(b"another")
    site.place(name, b"x", sidecar={"use_case": "no-such-case"})
    site.run_once()
    (explanation,) = site.explanations()
    message_id = explanation.content["message_id"]

    found = invoke(site, "show", message_id).stdout
    told = json.loads(invoke(site, "show", message_id, "--json").stdout)
    explanation.payload.unlink()
    gone = invoke(site, "show", message_id).stdout

    place = site.rejected / shown.replace(".pdf", ".2.pdf")
    assert explanation.payload.name != name
    assert re.search(rf"^Location +{re.escape(str(place))}$", found, re.MULTILINE)
    assert told["rejected_file"] == str(place)
    assert f"no longer in {site.rejected}" in gone
