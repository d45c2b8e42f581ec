"""A set-up in which nothing is wrong, and what the command makes of it."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner, Result

from meshctl.cli import cli
from tests.check.checked_site import CheckedSite


def _check(file: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["-c", str(file), "check", *options])


def test_a_healthy_set_up_has_no_finding(checked: CheckedSite) -> None:
    assert checked.failing() == {}


def test_every_folder_is_looked_at(checked: CheckedSite) -> None:
    """There is a finding for each folder, in order or not, and names are unique."""
    names = [finding.name for finding in checked.findings()]

    folders = ("outbox", "work", "rejected", "OUT", "IN", "SENT", "FAILED", "archive", "state", "log")
    assert {f"{what}.{folder}" for folder in folders for what in ("folder", "rights")} <= set(names)
    assert len(names) == len(set(names))


def test_checking_leaves_nothing_behind(checked: CheckedSite) -> None:
    """After a check every folder holds what it held before, and those of the MESH Client are untouched.

    But for OUT on Windows, which has to be tried out.
    """
    is_tried = sys.platform == "win32"
    mailbox = sorted(one for one in checked.mailbox.iterdir() if not (is_tried and one == checked.site.out))
    before = sorted(checked.site.root.rglob("*")), [folder.stat().st_mtime_ns for folder in mailbox]

    checked.findings()

    after = sorted(checked.site.root.rglob("*")), [folder.stat().st_mtime_ns for folder in mailbox]
    assert before == after


def test_metrics_are_looked_at_where_they_are_wanted(checked: CheckedSite) -> None:
    """A folder that the metrics can be written in is told as such, and without the setting nothing is."""
    unwanted = {finding.name for finding in checked.findings()}
    collector = checked.site.root / "collector"
    collector.mkdir()
    checked.set_settings(metrics={"textfile": str(collector / "meshctl.prom")})

    wanted = {finding.name: finding for finding in checked.findings()}

    assert wanted.keys() - unwanted == {"metrics"}
    assert wanted["metrics"].ok
    assert str(collector) in wanted["metrics"].text
    assert list(collector.iterdir()) == []


def test_json_is_what_the_contract_says(checked: CheckedSite) -> None:
    """--json prints one object of ok and checks, each with its five keys; exit code 0."""
    result = _check(checked.site.settings_file, "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(document) == ["ok", "checks"]
    assert document["ok"] is True
    for finding in document["checks"]:
        assert list(finding) == ["name", "ok", "severity", "text", "advice"]
        assert finding["severity"] == "info"


def test_a_person_reads_a_summary(checked: CheckedSite) -> None:
    """Without trouble one line is printed; --all shows what was looked at."""
    brief = _check(checked.site.settings_file)
    whole = _check(checked.site.settings_file, "--verbose")

    count = len(checked.findings())
    assert brief.stdout == f"{count} in order.\n"
    assert len(whole.stdout.splitlines()) == count + 1
    assert all(line.startswith("OK ") for line in whole.stdout.splitlines()[:-1])


def test_an_error_ends_with_1_and_its_advice(checked: CheckedSite) -> None:
    checked.site.outbox.rmdir()

    brief = _check(checked.site.settings_file)
    document = json.loads(_check(checked.site.settings_file, "--json").stdout)

    lines = brief.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if "folder.outbox" in line)
    assert brief.exit_code == 1
    assert lines[at].startswith("ERROR")
    assert f"mkdir {checked.site.outbox}" in lines[at + 1]
    assert document["ok"] is False


def test_a_warning_alone_ends_with_0(checked: CheckedSite) -> None:
    checked.site.client_folder("SENT").rmdir()

    result = _check(checked.site.settings_file)

    assert result.exit_code == 0
    assert "WARNING" in result.stdout


def test_wrong_settings_end_with_2(checked: CheckedSite) -> None:
    """Settings that cannot be used are exit code 2: plain lines for people, one document for programs."""
    checked.set_settings(log={"level": "LOUD"})

    plain = _check(checked.site.settings_file)
    result = _check(checked.site.settings_file, "--json")

    (finding,) = json.loads(result.stdout)["checks"]
    assert (plain.exit_code, result.exit_code) == (2, 2)
    assert "log.level" in plain.stderr
    assert (finding["name"], finding["severity"]) == ("settings", "error")
    assert "log.level" in finding["text"]


def test_it_works_before_the_first_start(checked: CheckedSite) -> None:
    """Right after init nothing is an error or a warning; what the first start makes is only noted."""
    checked.stop()
    for path in checked.site.state.iterdir():
        path.unlink()
    for folder in (checked.site.state, checked.site.work, checked.site.rejected):
        folder.rmdir()

    failing = checked.failing(datetime.now(UTC))

    assert {finding.severity.value for finding in failing.values()} == {"info"}
    assert set(failing) == {"folder.state", "folder.work", "folder.rejected", "ledger", "key", "daemon"}
