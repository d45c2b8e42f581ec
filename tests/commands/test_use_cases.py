"""`meshctl use-cases`: the table in force, with and without settings."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshctl.cli import cli
from meshctl.mesh.use_cases import shipped_use_cases


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESHCTL_CONFIG", raising=False)


def test_the_shipped_table_needs_no_settings() -> None:
    """Without any settings file the shipped table is printed, a line a use case."""
    result = CliRunner().invoke(cli, ["use-cases"])

    assert result.exit_code == 0
    heading, *lines = result.stdout.splitlines()
    assert heading.split()[:4] == ["USE", "CASE", "WORKFLOW", "ID"]
    assert [line.split()[:2] for line in lines] == [
        [name, use_case.workflow_id] for name, use_case in shipped_use_cases().items()
    ]


def test_json_is_one_document_with_all_of_it() -> None:
    """--json prints an array with every field of every use case."""
    result = CliRunner().invoke(cli, ["use-cases", "--json"])

    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == list(shipped_use_cases())
    row = next(row for row in rows if row["name"] == "send-document")
    assert row["workflow_id"] == "GPCONNECT_SEND_DOCUMENT"
    assert row["events"] == ["ITK007C"]
    assert row["source"]
    assert (row["date_of_birth_format"], row["resolved_by_mesh"]) == ("YYYYMMDD", "listed")


def test_a_person_sees_how_dates_are_written_and_who_is_looked_up() -> None:
    """The table has a column for the date of birth, and one for whether MESH's list has the workflow id."""
    lines = CliRunner().invoke(cli, ["use-cases"]).stdout.splitlines()

    told = {line.split()[0]: line for line in lines}
    assert "YYYYMMDD" in told["send-document"]
    assert "listed" in told["send-document"]
    assert "claimed" in told["vaccination"]


def test_the_settings_change_the_table() -> None:
    """With settings, changed and added use cases are those in force."""
    Path("meshctl.toml").write_text(
        '[mailbox]\nid = "X26ABC1"\nfolder = "mailbox"\n'
        '[use_cases.send-document]\nversion = "2"\n'
        '[use_cases.local-report]\nworkflow_id = "LOCAL_REPORT"\n'
    )

    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(cli, ["use-cases", "--json"]).stdout)}

    assert rows["send-document"]["version"] == "2"
    assert rows["local-report"]["workflow_id"] == "LOCAL_REPORT"
