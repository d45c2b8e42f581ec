"""Asking MESH after overdue messages, and what `meshctl show` makes of the answers."""

import json
import logging
import sys
from datetime import UTC, datetime, timedelta

import pytest

from meshctl.bridge.answers import BridgeFault
from meshctl.bridge.tracking import TRACKED_NAME, Tracker
from meshctl.journal.events import Journal
from meshctl.mesh.states import Acknowledgement, Evidence, State
from tests.bridge.sandbox import Sandbox
from tests.commands.recorded import Recorder, invoke, recording
from tests.site import Site

NOW = datetime.now(UTC)
RECIPIENT = "X26ABC2"
JOURNAL = Journal(logging.getLogger("tests.bridge"))
COLLECTED = "collected by the recipient"
NOT_COLLECTED = "accepted, not yet collected by the recipient"


def send(sandbox: Sandbox) -> str:
    """Send a message, and return the id that MESH gives it."""
    with sandbox.client("X26ABC1") as client:
        return str(client.send_message(RECIPIENT, b"x", workflow_id="TEST"))


def overdue(recorder: Recorder, mesh_id: str) -> str:
    """Enter a message that MESH has as `mesh_id`, and whose acknowledgement is overdue."""
    message_id = recorder.enter(asked=(Acknowledgement.BUSINESS,))
    recorder.record(message_id, Evidence("SENT", State.SENT, "00", mesh_id=mesh_id))
    recorder.overdue(message_id)
    return message_id


def ask(sandbox: Sandbox, site: Site, at: datetime = NOW) -> int:
    """Ask after all that is due, as a bridge that has just started; return after how many messages."""
    with sandbox.bridge_client("X26ABC1") as client:
        tracking = Tracker(client, site.state, JOURNAL)
        count = 0
        while tracking.step(at):
            count += 1
    return count


def shown(site: Site, message_id: str) -> object:
    """Return what `show --json` says of the tracking of a message, None if nothing."""
    return json.loads(invoke(site, "show", message_id, "--json").stdout).get("tracking")


def test_show_says_what_mesh_says(sandbox: Sandbox, site: Site) -> None:
    """Of an overdue message it is shown whether the recipient has collected it, and when MESH said so."""
    with recording(site) as recorder:
        message_id = overdue(recorder, mesh_id := send(sandbox))
        assert ask(sandbox, site, NOW - timedelta(hours=3)) == 1
        waiting = invoke(site, "show", message_id).stdout
        told = shown(site, message_id)
        sandbox.event(mesh_id, "acknowledged")
        assert ask(sandbox, site, NOW) == 1

        assert f", 3 h ago: {NOT_COLLECTED}" in waiting
        assert told == {
            "status": "accepted",
            "text": NOT_COLLECTED,
            "asked_at": f"{NOW - timedelta(hours=3):%Y-%m-%dT%H:%M:%S}.{NOW.microsecond // 1000:03d}Z",
        }
        assert COLLECTED in invoke(site, "show", message_id, "--exact").stdout


def test_messages_are_asked_after_once_an_hour(sandbox: Sandbox, site: Site) -> None:
    """Also a bridge that was started again leaves MESH alone until the hour is over."""
    with recording(site) as recorder:
        overdue(recorder, send(sandbox))
        overdue(recorder, send(sandbox))

        at = [0, 59, 61, 119, 122, -600]
        assert [ask(sandbox, site, NOW + timedelta(minutes=minutes)) for minutes in at] == [2, 0, 2, 0, 2, 2]


def test_only_overdue_messages_that_mesh_has_are_asked_after(sandbox: Sandbox, site: Site) -> None:
    """A message in time, one that MESH does not have, and one that is settled are nobody's question."""
    with recording(site) as recorder:
        recorder.enter(State.SENT)
        recorder.overdue(recorder.enter(State.QUEUED))
        settled = overdue(recorder, send(sandbox))
        recorder.record(settled, Evidence("SEND", State.FAILED, "14"))

        assert ask(sandbox, site) == 0


def test_an_answer_about_a_settled_message_is_not_shown(sandbox: Sandbox, site: Site) -> None:
    """Once a message has failed or is completed, what MESH said before would only mislead."""
    with recording(site) as recorder:
        message_id = overdue(recorder, send(sandbox))
        ask(sandbox, site)
        assert shown(site, message_id) is not None
        recorder.record(message_id, Evidence("ITK3", State.COMPLETED, "30001"))

        assert shown(site, message_id) is None
        assert "Tracker" not in invoke(site, "show", message_id).stdout


def test_a_message_that_mesh_does_not_know_has_no_answer(sandbox: Sandbox, site: Site) -> None:
    """MESH's 404 is no answer, and keeps nobody from asking after the others."""
    with recording(site) as recorder:
        unknown = overdue(recorder, "20261122091502480113_7F3A9C")
        known = overdue(recorder, send(sandbox))

        assert ask(sandbox, site) == 2
        assert shown(site, unknown) is None
        assert shown(site, known) is not None


def test_without_mesh_the_question_stays_open(sandbox: Sandbox, site: Site) -> None:
    """A question that MESH could not be asked is asked again, and the loop hears of it."""
    with recording(site) as recorder, sandbox.bridge_client("X26ABC1") as client:
        message_id = overdue(recorder, send(sandbox))
        tracking = Tracker(client, site.state, JOURNAL)
        sandbox.stop()
        try:
            with pytest.raises(BridgeFault):
                tracking.step(NOW)
        finally:
            sandbox.start()

        assert tracking.step(NOW)
        assert shown(site, message_id) is not None


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {"mesh_id": "b"}}', b"\xff", b'{"a": null}']
)
def test_a_damaged_file_of_answers_is_no_answer(sandbox: Sandbox, site: Site, content: bytes) -> None:
    """What cannot be read is shown as nothing, and written anew with the next answer."""
    with recording(site) as recorder:
        message_id = overdue(recorder, send(sandbox))
        (site.state / TRACKED_NAME).write_bytes(content)

        assert shown(site, message_id) is None
        assert ask(sandbox, site) == 1
        assert shown(site, message_id) is not None


def test_there_may_be_no_ledger(sandbox: Sandbox, site: Site) -> None:
    """Before the daemon has first run there is nothing to ask after."""
    assert ask(sandbox, site) == 0


def test_the_file_holds_no_patient(sandbox: Sandbox, site: Site) -> None:
    """MESH's answer names the recipient and the local id; what is kept names neither."""
    with sandbox.client("X26ABC1") as client:
        mesh_id = client.send_message(RECIPIENT, b"x", workflow_id="TEST", local_id="our 17", subject="Smith")
    with recording(site) as recorder:
        overdue(recorder, mesh_id)
        ask(sandbox, site)

    kept = (site.state / TRACKED_NAME).read_text()
    assert not [word for word in (RECIPIENT, "our 17", "Smith") if word in kept]
    if sys.platform != "win32":
        assert (site.state / TRACKED_NAME).stat().st_mode & 0o007 == 0
