"""Alerts of a real daemon that is killed: whatever happened reaches the alert command, at least once."""

import json
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest

from meshctl.daemon.waiting import FILE_NAME, read_waiting
from tests.payloads import pdf
from tests.site import Site, make_site, wait_until

# Keeps the events; fails for as long as there is no file `mended`.
_COMMAND = """
import os, sys
if not os.path.exists(sys.argv[1] + "/mended"):
    sys.exit("the mail system is away")
open(sys.argv[1] + "/got", "ab").write(sys.stdin.buffer.read())
"""


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> Site:
    made = make_site(tmp_path / "site", staging={"rescan_seconds": 0.2})
    made.settle(
        alerts={"command": [sys.executable, "-c", _COMMAND, str(made.root)]},
        metrics={"textfile": str(made.root / "meshctl.prom")},
    )
    (made.outbox / "send-document").mkdir()
    return made


def _told(site: Site) -> int:
    """Return how many rejections the command was told of."""
    if not (site.root / "got").exists():
        return 0
    told = [json.loads(line) for line in (site.root / "got").read_text().splitlines()]
    return sum(one.get("count", 1) for one in told if one["event"] == "message.rejected")


def _count_waiting(site: Site) -> int:
    # Its tables are made after the file.
    with suppress(sqlite3.OperationalError):
        return len(read_waiting(site.state / FILE_NAME)[0])
    return 0


def _drop_bad(site: Site, *names: str) -> None:
    for name in names:
        site.place(name, pdf(name), folder="send-document", sidecar={"patient": {"nhs_number": "1"}})


def test_what_was_not_told_before_a_kill_is_told_after(site: Site) -> None:
    """Three rejections, a command that fails, a SIGKILL: the next run tells of all three together."""
    daemon = site.start("run")
    _drop_bad(site, "a.pdf", "b.pdf", "c.pdf")
    wait_until(lambda: len(site.events("message.rejected")) == 3, "the rejections")
    wait_until(lambda: site.events("daemon.alert_failed"), "an attempt")
    daemon.process.kill()
    daemon.process.communicate()
    (site.root / "mended").touch()

    with site.daemon():
        wait_until(lambda: _told(site) == 3, "the alerts")

    failed = site.events("daemon.alert_failed")[0]
    assert failed.values["stderr"] == "the mail system is away"
    assert read_waiting(site.state / FILE_NAME) == ([], [])


@pytest.mark.slow
def test_a_state_folder_that_is_removed_costs_no_alert(site: Site) -> None:
    """What waits is written again with the next attempt, though nothing new comes; `check` sees it."""
    daemon = site.start("run")
    _drop_bad(site, "a.pdf", "b.pdf", "c.pdf")
    wait_until(lambda: len(site.events("message.rejected")) == 3, "the rejections")
    wait_until(lambda: site.events("daemon.alert_failed"), "an attempt")
    for path in site.state.glob(f"{FILE_NAME}*"):
        path.unlink()
    wait_until(lambda: _count_waiting(site) == 3, "the alerts in the file")
    daemon.process.kill()
    daemon.process.communicate()
    (site.root / "mended").touch()

    with site.daemon():
        wait_until(lambda: _told(site) == 3, "the alerts")


@pytest.mark.slow
def test_what_fails_is_in_metrics_and_check(site: Site) -> None:
    """Who watches the service sees that nobody is told."""
    with site.daemon():
        _drop_bad(site, "a.pdf")
        wait_until(lambda: site.events("daemon.alert_failed"), "an attempt")
        metrics = site.root / "meshctl.prom"
        wait_until(lambda: 'meshctl_alerts_waiting{mailbox="X26ABC1"} 1.0' in metrics.read_text(), "metrics")
        checked = site.meshctl("check", "--json")

    failures = [line for line in metrics.read_text().splitlines() if "alerts_failed_total{" in line]
    assert any('channel="command"' in line and not line.endswith(" 0.0") for line in failures)
    assert "the mail system is away" not in checked.stdout
    [finding] = [one for one in json.loads(checked.stdout)["checks"] if one["name"] == "alerts.failed"]
    assert finding["severity"] == "error"


def test_an_alert_of_a_rejected_file_names_its_folder(site: Site) -> None:
    """The use case of the folder is in the alert, the log, the ledger, and a ledger that is rebuilt."""
    (site.root / "mended").touch()
    _drop_bad(site, "a.pdf")
    site.run_once()
    [alert] = [json.loads(line) for line in (site.root / "got").read_text().splitlines()]
    [line] = site.events("message.rejected")
    [row] = site.messages().values()
    for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (site.state / name).unlink(missing_ok=True)
    site.run_once()
    [rebuilt] = site.messages().values()

    assert {alert["use_case"], line.values["use_case"]} == {"send-document"}
    assert {row["use_case"], rebuilt["use_case"]} == {"send-document"}


def _wait_for_rejections(site: Site, count: int) -> None:
    wait_until(lambda: len(site.events("message.rejected")) >= count, "rejections")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_random_nothing_is_silent(site: Site) -> None:
    """Whenever the daemon is killed, each rejection is told at least once in the end."""
    chance, dropped = Random(23), 0
    (site.root / "mended").touch()
    for _ in range(15):
        daemon = site.start("run")
        for _ in range(20):
            _drop_bad(site, f"{dropped}.pdf")
            dropped += 1
        _wait_for_rejections(site, len(site.events("message.rejected")) + chance.randrange(1, 19))
        daemon.process.kill()
        daemon.process.communicate()
    site.run_once()

    assert len(site.messages()) == dropped
    assert _told(site) >= dropped


def test_a_file_of_a_later_version_stops_nothing(site: Site) -> None:
    """A file whose tables are others is begun anew."""
    site.state.mkdir(exist_ok=True)
    with closing(sqlite3.connect(site.state / FILE_NAME)) as connection:
        connection.execute("CREATE TABLE alerts (other TEXT)")
        connection.commit()
    (site.root / "mended").touch()
    _drop_bad(site, "a.pdf")

    site.run_once()

    assert _told(site) == 1
