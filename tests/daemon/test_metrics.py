"""The metrics file, as Prometheus' own parser reads it."""

import json
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshctl.daemon import problems
from meshctl.daemon.alerts import Alerts
from meshctl.daemon.metrics import ALERT_EVENTS, Metrics
from meshctl.daemon.retry import RetriedParts
from meshctl.journal.events import journal
from meshctl.mesh.states import State
from meshctl.settings.load import load_settings
from tests.faults.faulty_site import mount, needs_mounts
from tests.payloads import pdf
from tests.readme_tables import MONITORING_PAGE, code_blocks, section
from tests.site import MAILBOX_ID, Site, make_site, sidecar, wait_until

Values = dict[tuple[str, str], float]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "collector"
    folder.mkdir()
    return folder / "meshctl.prom"


@pytest.fixture
def site(tmp_path: Path, file: Path) -> Site:
    """A site that is to write metrics."""
    return make_site(tmp_path / "mesh", metrics={"textfile": str(file)})


def _samples(file: Path) -> Iterator[tuple[tuple[str, str], float]]:
    for family in text_string_to_metric_families(file.read_text(encoding="utf-8")):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("mailbox") == MAILBOX_ID
            yield (sample.name, next(iter(labels.values()), "")), sample.value


def _values(file: Path) -> Values:
    """Return every value by the metric's name and its label."""
    values: Values = {}
    for key, value in _samples(file):
        assert key not in values
        values[key] = value
    return values


def test_numbers_are_those_of_the_mailbox(site: Site, file: Path) -> None:
    """After a run the file holds what ledger and folders hold, and no file but it lies there."""
    before = time.time()
    site.place("one.pdf", pdf("one"), sidecar=sidecar())
    site.place("two.pdf", pdf("two"), sidecar=sidecar())
    site.place("bad.pdf", pdf("bad"), sidecar={"patient": None, "use_case": "no-such"})
    site.run_once()

    values = _values(file)

    assert values["meshctl_messages", "queued"] == 2
    assert values["meshctl_messages", "rejected"] == 1
    assert {label for name, label in values if name == "meshctl_messages"} == set(State)
    assert values["meshctl_rejected_files", ""] == 1
    assert values["meshctl_alerts_total", "message.rejected"] == 1
    assert values["meshctl_overdue_messages", ""] == 0
    assert 0 <= values["meshctl_oldest_queued_seconds", ""] < 60
    assert before <= values["meshctl_last_turn_timestamp_seconds", ""] <= time.time()
    assert [values["meshctl_outbox_files", status] for status in ("ready", "waiting", "set_aside")] == [
        0,
        0,
        0,
    ]
    assert {part: values["meshctl_blocked", part] for part in ("outbound", "inbound", "ledger")} == {
        "outbound": 0,
        "inbound": 0,
        "ledger": 0,
    }
    assert sum(value for (name, _), value in values.items() if name == "meshctl_client_state") == 1
    assert list(file.parent.iterdir()) == [file]


def test_others_may_read_it(site: Site, file: Path) -> None:
    """The collector, a user of its own, can read the file, whatever the daemon's umask is."""
    site.meshctl("run", "--once", prefix=("sh", "-c", 'umask 077; exec "$0" "$@"'))

    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_every_alert_is_counted_from_nought(site: Site, file: Path) -> None:
    """Each event that raises an alert is there before the first one, so that an increase can be seen."""
    site.run_once()

    values = _values(file)
    assert {label: values[name, label] for name, label in values if name == "meshctl_alerts_total"} == (
        dict.fromkeys(ALERT_EVENTS, 0)
    )


def test_nothing_about_patients_is_in_it(site: Site, file: Path) -> None:
    """No file name, no message id and nothing of a patient gets into the metrics."""
    site.place("smith-9990000042.pdf", pdf("x"), sidecar=sidecar())
    site.run_once()

    text = file.read_text(encoding="utf-8").lower()
    assert "smith" not in text
    assert "9990000042" not in text
    assert site.stems()[0].lower() not in text


@pytest.mark.slow
def test_daemon_keeps_it_up_to_date(site: Site, file: Path) -> None:
    """While the daemon runs, the file follows what happens, and tells what stands in the way."""
    site.settle(staging={"rescan_seconds": 0.2}, metrics={"textfile": str(file)})
    with site.daemon() as daemon:
        daemon.wait_for(file.exists, "the metrics")
        site.place("one.pdf", pdf("one"), sidecar=sidecar())
        daemon.wait_for(lambda: _values(file)["meshctl_messages", "queued"] == 1, "the message")
        site.outbox.rename(site.root / "away")
        daemon.wait_for(lambda: _values(file)["meshctl_blocked", "outbound"] == 1, "the obstacle")
        (site.root / "away").rename(site.outbox)
        daemon.wait_for_event("daemon.unblocked")
    assert _values(file)["meshctl_blocked", "outbound"] == 0


@pytest.mark.slow
def test_reload_moves_it(site: Site, file: Path) -> None:
    """After a reload that names another file, the old one is gone: nobody would keep it up to date."""
    other = file.with_name("other.prom")
    with site.daemon() as daemon:
        daemon.wait_for(file.exists, "the metrics")
        site.settle(metrics={"textfile": str(other)})
        daemon.reload()
        daemon.wait_for(other.exists, "the other file")
        wait_until(lambda: not file.exists(), "the old one to go")


def test_folder_that_is_not_there_stops_nothing(site: Site, file: Path) -> None:
    """Metrics that cannot be written are told once, with a remedy, and messages go out all the same."""
    file.parent.rmdir()
    site.place("one.pdf", pdf("one"), sidecar=sidecar())

    site.run_once()

    assert len(site.stems()) == 1
    (told,) = site.events("daemon.metrics_failed")
    assert f"No such file or directory: {file.parent}" in told.values["text"]
    assert "textfile in [metrics]" in told.values["advice"]


def test_what_keeps_the_daemon_from_writing_it_is_seen(site: Site, file: Path) -> None:
    """A unit may keep closed what is open from here: `check` and `status` repeat what the daemon met."""
    file.parent.rmdir()
    site.run_once()
    file.parent.mkdir()

    shown = site.meshctl("status", "--json")
    told = _checked(site)
    site.run_once()
    after = _checked(site)

    (met,) = json.loads(shown.stdout)["blocked"]
    assert (shown.exit_code, met["part"], met["severity"]) == (0, "metrics", "warning")
    assert (told["metrics"]["ok"], told["metrics"]["severity"]) == (False, "warning")
    assert met["text"] in told["metrics"]["text"]
    assert (
        told["metrics"]["advice"] == met["advice"] == site.events("daemon.metrics_failed")[0].values["advice"]
    )
    assert told["daemon.blocked"]["ok"]
    assert after["metrics"]["ok"]


@needs_mounts
def test_a_unit_without_its_drop_in_is_told_what_to_add(
    site: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the unit keeps the folder closed, the advice has the lines that open it."""
    monkeypatch.setattr(problems, "own_unit", lambda _environ: "meshctl@letters.service")
    settings = load_settings(site.settings_file, {})
    metrics = Metrics(settings, journal, Alerts(settings, journal))
    folder = str(file.parent)
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,bind,ro", folder)
        metrics.turned(None, RetriedParts(settings, journal))
    finally:
        mount("-l", folder, program="umount")

    (met,) = metrics.obstacles()
    assert met.text == f"The metrics cannot be written: Read-only file system: {folder}"
    assert "Run systemctl edit meshctl@letters.service, which" in (met.advice or "")
    assert f"ReadWritePaths={folder};" in (met.advice or "")


def _checked(site: Site) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(site.meshctl("check", "--json").stdout)["checks"]}


def test_daemon_without_metrics_does_not_load_their_library(tmp_path: Path) -> None:
    """prometheus-client is loaded only where metrics are configured."""
    site = make_site(tmp_path / "mesh")

    site.environ["PYTHONPROFILEIMPORTTIME"] = "1"

    timed = site.meshctl("run", "--once")

    assert "meshctl.daemon.metrics" in timed.stderr
    assert "prometheus_client" not in timed.stderr


def test_readme_has_every_metric_and_a_rule_for_every_alarm(site: Site, file: Path) -> None:
    """The README's table names exactly the metrics that are written, and its rules ask for nothing else."""
    site.run_once()
    written = {name for name, _ in _values(file)}
    monitoring = section(MONITORING_PAGE.read_text(encoding="utf-8"), "Monitoring")

    named = set(re.findall(r"^\| `(meshctl_\w+)`", monitoring, re.MULTILINE))
    asked = set(re.findall(r"meshctl_[a-z_]+", "".join(code_blocks(monitoring, "yaml"))))

    # A client that was never seen has no such time.
    assert named == written | {"meshctl_client_last_seen_timestamp_seconds"}
    assert asked <= named
    told = monitoring.replace("(report|ack).unmatched", "report.unmatched ack.unmatched")
    told = told.replace("ledger_(rebuilt|completed)", "ledger_rebuilt daemon.ledger_completed")
    by_gauge = {
        "message.overdue": "meshctl_overdue_messages",
        "client.stalled": 'state="stalled"',
        "daemon.blocked": "meshctl_blocked",
        "daemon.reload_failed": "meshctl_reload_failed",
    }
    assert [event for event in ALERT_EVENTS if by_gauge.get(event, event) not in told] == []
