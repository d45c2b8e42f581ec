"""`meshctl lookup`: which mailboxes of an organisation take a workflow id."""

import json
from pathlib import Path

import pytest

from tests.bridge.bridged_site import BridgedSite, bridged_site
from tests.bridge.sandbox import Sandbox
from tests.bridge.servers import answering, closed_port


@pytest.fixture
def site(sandbox: Sandbox, tmp_path: Path) -> BridgedSite:
    """A site over a sandbox, which knows two mailboxes of X26 and one of X27."""
    return bridged_site(tmp_path / "site", sandbox.url)


def test_mailboxes_are_printed_a_line_each(site: BridgedSite) -> None:
    """Each mailbox is a line with its id and name; a small letter in the ODS code is no other code."""
    ended = site.meshctl("lookup", "x26", "TEST_WORKFLOW2")

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout == "X26ABC1  TESTMB1\nX26ABC2  TESTMB2\n"


def test_json_is_one_document(site: BridgedSite) -> None:
    ended = site.meshctl("lookup", "X27", "TEST_WORKFLOW_ACK", "--json")

    assert ended.exit_code == 0
    assert json.loads(ended.stdout) == {
        "ods_code": "X27",
        "workflow_id": "TEST_WORKFLOW_ACK",
        "mailboxes": [{"mailbox_id": "X26ABC3", "name": "TESTMB3"}],
    }


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("ods_code", "workflow_id"), [("Z99", "TEST_WORKFLOW2"), ("X26", "NO_SUCH")])
def test_none_found_ends_with_1(site: BridgedSite, ods_code: str, workflow_id: str) -> None:
    """An organisation without such a mailbox is told so; as JSON the list is empty."""
    plain = site.meshctl("lookup", ods_code, workflow_id)
    document = site.meshctl("lookup", ods_code, workflow_id, "--json")

    assert (plain.exit_code, document.exit_code) == (1, 1)
    assert plain.stdout == ""
    assert f"MESH knows no mailbox of {ods_code} that accepts {workflow_id}" in plain.stderr
    assert json.loads(document.stdout)["mailboxes"] == []


@pytest.mark.slow
def test_mesh_that_cannot_be_asked(tmp_path: Path) -> None:
    """Without MESH, or with one that lets nobody in, the reason is told and the exit code is 1."""
    away = bridged_site(tmp_path / "away", closed_port()).meshctl("lookup", "X26", "TEST_WORKFLOW2")
    with answering(403) as url:
        denied = bridged_site(tmp_path / "denied", url).meshctl("lookup", "X26", "TEST_WORKFLOW2")
    with answering(200, body='{"results": [{"mailbox": 5}]}') as url:
        odd = bridged_site(tmp_path / "odd", url).meshctl("lookup", "X26", "TEST_WORKFLOW2")

    assert [ended.exit_code for ended in (away, denied, odd)] == [1, 1, 1]
    assert "no connection can be made" in away.stderr
    assert "does not let this mailbox in (HTTP 403)" in denied.stderr
    assert "its response cannot be read" in odd.stderr


@pytest.mark.sampled(1)
@pytest.mark.parametrize("arguments", [("", "W"), ("X26", " "), ("X26", "Wörk"), ("X26\n", "W\x1b")])
def test_what_is_no_code_is_wrong_usage(site: BridgedSite, arguments: tuple[str, str]) -> None:
    """Blank or unprintable codes are wrong usage, told without asking MESH."""
    assert site.meshctl("lookup", *arguments).exit_code == 2
