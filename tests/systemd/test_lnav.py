"""The format for lnav reads the log as meshctl writes it."""

import json
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from meshctl.journal.events import event_table
from meshctl.journal.lines import logfmt_line
from tests.payloads import pdf
from tests.site import make_site, sidecar

FORMAT = Path(__file__).parents[2] / "systemd" / "meshctl.lnav.json"
LNAV = shutil.which("lnav")


def test_pattern_fits_every_event() -> None:
    """A line of every event, at every level, is one that the format's pattern takes apart."""
    pattern = json.loads(FORMAT.read_text(encoding="utf-8"))["meshctl_log"]["regex"]["event"]["pattern"]
    line = re.compile(pattern.replace("(?<", "(?P<"))

    for event in event_table():
        for level in ("DEBUG", "INFO", "WARNING", "ERROR"):
            match = line.match(logfmt_line(1.5, level, event, {"file": "a b.pdf"}))
            assert match, event
            assert (match["level"], match["event"]) == (level, event)


def test_samples_are_of_events_that_come() -> None:
    """Each line that the format gives as a sample is of an event of the table, at the table's level."""
    described = json.loads(FORMAT.read_text(encoding="utf-8"))["meshctl_log"]
    line = re.compile(described["regex"]["event"]["pattern"].replace("(?<", "(?P<"))
    samples = [line.match(sample["line"]) for sample in described["sample"]]

    assert samples
    for sample in samples:
        assert sample
        kind = event_table().get(sample["event"])
        assert kind, sample["event"]
        assert sample["level"] == logging.getLevelName(kind.level)


@pytest.mark.slow
@pytest.mark.skipif(LNAV is None, reason="there is no lnav here")
@pytest.mark.parametrize(("log_format", "table"), [("logfmt", "meshctl_log"), ("json", "meshctl_json_log")])
def test_lnav_reads_a_real_log(tmp_path: Path, log_format: str, table: str) -> None:
    """The program lnav accepts the format and finds the events of a real log, in both of its forms."""
    site = make_site(tmp_path / "mesh", log={"format": log_format})
    site.place("letter.pdf", pdf("x"), sidecar=sidecar())
    site.run_once()
    home = tmp_path / "home"
    home.mkdir()

    _lnav(home, "-i", str(FORMAT))
    assert _lnav(home, "-C") == ""
    query = f";SELECT event, log_level FROM {table} WHERE event = 'message.queued'"  # noqa: S608
    found = _lnav(home, "-n", "-c", query, "-c", ":write-csv-to -", str(site.log_file))

    assert found.splitlines() == ["event,log_level", "message.queued,info"]


def _lnav(home: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [str(LNAV), *arguments],
        env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return "" if "-i" in arguments else ended.stdout
