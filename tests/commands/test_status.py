"""`meshctl status`: the numbers, before the first start, beside a ledger in use, live on a terminal."""

import json
import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshctl.clock import iso
from meshctl.inbound.client import CLIENT_FACT
from meshctl.ledger.database import LEDGER_NAME
from meshctl.ledger.records import SET_ASIDE_FACT
from meshctl.mesh.states import State
from meshctl.outbound.tally import STAMPS_READ
from tests.commands.recorded import Recorder, invoke, recording
from tests.commands.screen import on_terminal
from tests.site import MAILBOX_ID, Site, wait_until

NOTHING: dict[str, Any] = {
    "mailbox": MAILBOX_ID,
    "states": {
        "rejected": 0,
        "claimed": 0,
        "queued": 0,
        "collected": 0,
        "sent": 0,
        "received": 0,
        "completed": 0,
        "failed": 0,
    },
    "overdue": 0,
    "oldest_queued_seconds": None,
    "client": {"state": "unknown", "last_seen": None},
    "outbox": {"ready": 0, "waiting": 0, "set_aside": 0, "no_use_case": 0},
    "rejected": 0,
    "reports": {"set_aside": 0},
    "daemon": "not running",
    "bridge": None,
    "blocked": [],
}
HOUR = 3600
SINCE = "2026-11-22T09:15:02.481Z"


def _status(site: Site) -> dict[str, Any]:
    result = invoke(site, "status", "--json")
    assert result.exit_code == 0
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def _drop(path: Path, *, age_seconds: float = 0.0) -> None:
    """Write a file: one that is called a report begins like a FHIR message."""
    is_report = path.stem in {"report", "OTHER"}
    beginning = b'{"resourceType": "Bundle"}' if path.suffix == ".json" else b"<Bundle>"
    path.write_bytes(beginning if is_report else b"x")
    then = time.time() - age_seconds
    os.utime(path, (then, then))


def test_before_the_first_start_all_is_zero(site: Site) -> None:
    """Without a ledger every number is zero, a hint says why, the exit code is 0 and nothing is made."""
    result = invoke(site, "status", "--json")

    assert (result.exit_code, json.loads(result.stdout)) == (0, NOTHING)
    assert "There is no ledger in" in result.stderr
    assert list(site.state.iterdir()) == []


@pytest.mark.parametrize("folder", ["outbox", "rejected"])
def test_a_folder_that_cannot_be_looked_at_is_told(site: Site, folder: str) -> None:
    """All else is counted, and the folder is named with what to do."""
    (site.root / folder).rmdir()
    (site.root / folder).touch()
    with recording(site) as recorder:
        recorder.enter(State.QUEUED)
        result = invoke(site, "status")

    assert result.exit_code == 1
    assert re.search(
        rf"^Blocked +outbound, .*{re.escape(str(site.root / folder))}", result.stdout, re.MULTILINE
    )
    assert "queued     1" in result.stdout


def test_messages_are_counted_by_state(site: Site) -> None:
    """Each state has its count, zeros included, and overdue messages are counted beside it."""
    with recording(site) as recorder:
        recorder.enter(State.REJECTED)
        recorder.enter(State.QUEUED)
        recorder.enter(State.QUEUED)
        recorder.overdue(recorder.enter(State.COLLECTED))
        recorder.enter(State.FAILED)

        status = _status(site)

    assert status["states"] == NOTHING["states"] | {"rejected": 1, "queued": 2, "collected": 1, "failed": 1}
    assert status["overdue"] == 1


def test_the_oldest_pair_in_out_is_told(site: Site) -> None:
    """oldest_queued_seconds is the age of the oldest pair in OUT; messages in other states do not count."""
    with recording(site) as recorder:
        ledger, clock = recorder.services.ledger, recorder.services.clock
        for state, age_seconds in ((State.QUEUED, 60), (State.QUEUED, 600), (State.SENT, HOUR)):
            message_id = recorder.enter(State.CLAIMED)
            ledger.mark_queued([message_id], clock.now(), clock.steady() - age_seconds)
            if state is State.SENT:
                ledger.connection.execute(
                    "UPDATE messages SET state = 'sent' WHERE message_id = ?", (message_id,)
                )

        assert 600 <= _status(site)["oldest_queued_seconds"] < 630


def test_a_jump_of_the_clock_does_not_age_the_oldest_pair(site: Site) -> None:
    """Jumps of the wall clock that the daemon has seen are left out of oldest_queued_seconds."""
    with recording(site) as recorder:
        clock = recorder.services.clock
        message_id = recorder.enter(State.CLAIMED)
        recorder.services.ledger.mark_queued([message_id], clock.now(), clock.steady() - 24 * HOUR)
        recorder.services.ledger.set_fact("clock_jumps_seconds", str(24 * HOUR - 60))

        for end in (".dat", ".ctl"):
            (site.out / f"{message_id}{end}").touch()
        checked = {one["name"]: one for one in json.loads(invoke(site, "check", "--json").stdout)["checks"]}

        assert 60 <= _status(site)["oldest_queued_seconds"] < 90
        assert checked["OUT.stuck"]["text"].startswith("1 pairs wait in OUT, the oldest for 1 min")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"letter.pdf": HOUR, "letter.pdf.meta.json": HOUR}, (1, 0)),
        ({"report.xml": HOUR, "report.json": HOUR, "OTHER.XML": HOUR}, (3, 0)),
        ({"note.json": HOUR, "note.xml": HOUR}, (0, 2)),
        ({"letter.pdf": HOUR}, (0, 1)),
        ({"report.xml": 0}, (0, 1)),
        ({"letter.pdf.meta.json": HOUR}, (0, 1)),
        ({".hidden": HOUR, "~lock": HOUR, "a.tmp": HOUR, "b.PART": HOUR}, (0, 0)),
    ],
    ids=[
        "with sidecar",
        "messages",
        "others that end so",
        "may yet get a sidecar",
        "just written",
        "sidecar alone",
        "ignored names",
    ],
)
def test_the_outbox_is_counted_by_names_and_times(
    site: Site, files: dict[str, float], expected: tuple[int, int]
) -> None:
    """Complete files count as ready; those just written or without their partner count as waiting."""
    site.settle(staging={"sidecar_wait_seconds": 300, "quiet_seconds": 30})
    (site.outbox / "send-document").mkdir()
    (site.outbox / "no-use-case").mkdir()
    for name, age_seconds in files.items():
        _drop(site.outbox / name, age_seconds=age_seconds)
        _drop(site.outbox / "send-document" / name, age_seconds=age_seconds)
        _drop(site.outbox / "no-use-case" / name, age_seconds=age_seconds)

    outbox = _status(site)["outbox"]

    assert (outbox["ready"], outbox["waiting"]) == tuple(2 * count for count in expected)
    assert outbox["no_use_case"] == sum(expected)


def test_a_file_whose_sidecar_time_is_over_is_ready(site: Site) -> None:
    """A file that has waited for its sidecar long enough is taken at the next look, so it is ready."""
    site.settle(staging={"sidecar_wait_seconds": 0.2})
    _drop(site.outbox / "letter.pdf", age_seconds=HOUR)

    wait_until(lambda: _status(site)["outbox"] == NOTHING["outbox"] | {"ready": 1}, "the time to be over")


def test_files_in_other_folders_are_counted_and_named(site: Site) -> None:
    """Each letter is in one count, however deep it lies; text, JSON and `check` say that it is not sent."""
    for folder in ("Clinic/deep", "send-document/old", ".hidden"):
        (site.outbox / folder).mkdir(parents=True)
        for name in ("letter.pdf", "letter.pdf.meta.json", ".lock"):
            _drop(site.outbox / folder / name, age_seconds=HOUR)

    text, checked = invoke(site, "status").stdout, invoke(site, "check").stdout

    assert _status(site)["outbox"] == NOTHING["outbox"] | {"no_use_case": 2}
    assert re.search(r"^  no use case +2 +in folders that are not named after a use case", text, re.MULTILINE)
    deep, old = (os.path.join(*names) for names in (("Clinic", "deep"), ("send-document", "old")))
    assert f"{deep} (1 file), {old} (1 file)" in checked


def test_a_full_outbox_is_counted_by_names_beyond_some(site: Site) -> None:
    """Of a full outbox every file is counted, but only so many are asked how old they are."""
    site.settle(staging={"sidecar_wait_seconds": 300})
    for number in range(STAMPS_READ + 5):
        _drop(site.outbox / f"letter-{number}.pdf")

    assert _status(site)["outbox"] == {"ready": 5, "waiting": STAMPS_READ, "set_aside": 0, "no_use_case": 0}


def _set_aside(recorder: Recorder, *entries: dict[str, Any]) -> None:
    """Write into the ledger what the daemon sets aside."""
    told = {"folder": None, "reason": "It cannot be read.", "advice": "Mend it.", "since": SINCE}
    recorder.services.ledger.set_fact(SET_ASIDE_FACT, json.dumps([{**told, **entry} for entry in entries]))


def test_what_is_set_aside_counts_once(site: Site) -> None:
    """A letter that the daemon passes over is neither ready nor waiting, its sidecar included."""
    (site.outbox / "send-document").mkdir()
    for name in ("letter.pdf", "letter.pdf.meta.json", "scan 999 000 0042.pdf", "scan 999 000 0050.pdf"):
        _drop(site.outbox / name, age_seconds=HOUR)
        _drop(site.outbox / "send-document" / name, age_seconds=HOUR)
    site.settle(staging={"sidecar_wait_seconds": 0.001})
    with recording(site) as recorder:
        _set_aside(
            recorder,
            {"file": "letter.pdf"},
            {"file": "letter.pdf.meta.json", "folder": "send-document"},
            {"file": "scan **********.pdf"},
        )

        outbox = _status(site)["outbox"]
        shown = [line.split() for line in invoke(site, "status").stdout.splitlines()]

    assert outbox == {"ready": 3, "waiting": 0, "set_aside": 3, "no_use_case": 0}
    assert ["set", "aside", "3", "meshctl", "check"] in shown


@pytest.mark.parametrize("fact", ["", "no JSON", "{}", "7", '["letter.pdf"]', '[{"file": "letter.pdf"}]'])
def test_a_list_that_cannot_be_read_sets_nothing_aside(site: Site, fact: str) -> None:
    """The status is told whatever the ledger holds in the place of the list."""
    with recording(site) as recorder:
        recorder.services.ledger.set_fact(SET_ASIDE_FACT, fact)

        assert _status(site)["outbox"] == NOTHING["outbox"]


def test_rejected_counts_files_not_what_lies_beside_them(site: Site) -> None:
    """Explanations and sidecars of refused files are not counted; a sidecar refused itself is."""
    for name in (
        "letter.pdf",
        "letter.pdf.meta.json",
        "letter.pdf.error.json",
        "report.xml",
        "report.xml.error.json",
        "lost.pdf.meta.json",
        "lost.pdf.meta.json.error.json",
        "folder.error.json",
        ".meshctl-unfinished",
    ):
        (site.rejected / name).write_bytes(b"{}")

    assert _status(site)["rejected"] == 3


def test_what_the_daemon_set_aside_in_the_clients_folders_is_counted(site: Site) -> None:
    """Only what could not be handled counts; the table shows it when there is any."""
    with recording(site) as recorder:
        assert "Reports set aside" not in invoke(site, "status").stdout
        outcomes = [(b"one", "unreadable"), (b"two", "answer_unreadable"), (b"three", "immovable")]
        recorder.services.ledger.remember_files("IN", [*outcomes, (b"four", "unmatched"), (b"five", "data")])
        recorder.services.ledger.remember_files("SENT", [(b"six", "unreadable"), (b"seven", "read")])

        assert _status(site)["reports"] == {"set_aside": 4}
        assert re.search(r"Reports set aside +4 +meshctl check", invoke(site, "status").stdout)


def test_the_client_is_as_the_daemon_saw_it_last(site: Site) -> None:
    """The client's state and last sign of life are those that the daemon keeps in the ledger."""
    seen_at = "2026-11-22T09:15:02.481Z"
    with recording(site) as recorder:
        kept = {"state": "stalled", "last_seen": seen_at, "last_seen_clock": 1.0}
        recorder.services.ledger.set_fact(CLIENT_FACT, json.dumps(kept))

        assert _status(site)["client"] == {"state": "stalled", "last_seen": seen_at}
        assert "stalled, last seen" in invoke(site, "status").stdout


@pytest.mark.parametrize(("hours", "state"), [(1, "active"), (3, "idle")])
def test_a_client_is_not_active_for_ever(site: Site, hours: int, state: str) -> None:
    """What a daemon that has ended kept of it is judged by the time that has passed."""
    seen_at = iso(datetime.now(UTC) - timedelta(hours=hours))
    with recording(site) as recorder:
        kept = {"state": "active", "last_seen": seen_at, "last_seen_clock": 1.0}
        recorder.services.ledger.set_fact(CLIENT_FACT, json.dumps(kept))

        assert _status(site)["client"] == {"state": state, "last_seen": seen_at}


def test_people_see_what_needs_them(site: Site) -> None:
    """The table shows every state, what is overdue with the command that lists it, and the folders."""
    with recording(site) as recorder:
        recorder.overdue(recorder.enter(State.QUEUED))

        result = invoke(site, "status")

    lines = [line.split() for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert ["Mailbox", MAILBOX_ID] in lines
    assert ["queued", "1", "the", "oldest", "queued", "just", "now"] in lines
    assert ["overdue", "1", "meshctl", "list", "--overdue"] in lines
    assert ["Outbox", str(site.outbox)] in lines


def test_a_damaged_ledger_is_one_plain_line(site: Site) -> None:
    """A ledger that is no database ends the command with 1 and one line that names the file."""
    (site.state / LEDGER_NAME).write_bytes(b"not a database, for certain" * 100)

    result = invoke(site, "status", "--json")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert LEDGER_NAME in result.stderr


@pytest.mark.parametrize("arguments", [("--watch",), ("--watch", "--json")])
def test_watch_is_for_a_terminal(site: Site, arguments: tuple[str, ...]) -> None:
    """--watch into a pipe, or with --json, is wrong usage."""
    result = invoke(site, "status", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.slow
def test_watch_follows_until_ctrl_c(site: Site) -> None:
    """On a terminal --watch shows what changes, and Ctrl-C ends it without a complaint."""
    with recording(site) as recorder:
        recorder.enter(State.QUEUED)
        with on_terminal(site, "status", "--watch", NO_COLOR="1") as screen:
            shown = screen.read_until(r"overdue +0")
            assert re.search(r"queued +1 ", shown)
            assert re.search(r"failed +0 ", shown)

            recorder.enter(State.FAILED)
            screen.read_until(r"failed +1 ")

            screen.process.send_signal(signal.SIGINT)
            screen.read_all()

    assert screen.process.returncode == 0
    assert "Traceback" not in screen.shown
