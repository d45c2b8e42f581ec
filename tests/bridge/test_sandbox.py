"""The sandbox that the bridge is tested against: it keeps its store and asks for a certificate."""

from pathlib import Path

import pytest
import requests

from tests.bridge.sandbox import Sandbox, TestAuthority


@pytest.mark.slow
def test_messages_outlive_a_restart(tmp_path: Path) -> None:
    """What was sent is still in the inbox, whole, after the sandbox was ended and started again."""
    with Sandbox(tmp_path) as sandbox:
        with sandbox.client("X26ABC1") as client:
            sent = client.send_message("X26ABC2", b"a" * 30, max_chunk_size=20, workflow_id="TEST_WORKFLOW")

        sandbox.stop()
        sandbox.start()

        assert sandbox.inbox("X26ABC2") == [sent]
        with sandbox.client("X26ABC2") as client:
            assert client.retrieve_message(sent).read() == b"a" * 30


@pytest.mark.slow
def test_reports_and_events_can_be_made(tmp_path: Path) -> None:
    """A report lands in the inbox it is meant for, and an event changes what tracking says."""
    with Sandbox(tmp_path) as sandbox, sandbox.client("X26ABC1") as client:
        sent = client.send_message("X26ABC2", b"x", workflow_id="TEST_WORKFLOW")
        report = sandbox.report(
            "X26ABC1", code="14", description="no", workflow_id="TEST_WORKFLOW", linked_message_id=sent
        )
        sandbox.event(sent, "acknowledged")

        assert sandbox.inbox("X26ABC1") == [report]
        assert client.track_message(sent)["status"] == "acknowledged"
        assert sandbox.message(sent)["status"] == "Acknowledged"


@pytest.mark.slow
def test_over_tls_a_client_certificate_is_asked_for(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    with Sandbox(tmp_path / "sandbox", authority=authority) as sandbox:
        assert sandbox.inbox("X26ABC1") == []
        with pytest.raises(requests.RequestException):
            requests.get(f"{sandbox.url}/health", verify=str(authority.ca), timeout=5)
