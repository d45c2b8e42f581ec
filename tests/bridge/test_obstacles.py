"""What blocks the bridge is seen by everybody, and a test of the alerts asks the bridge, too."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from meshctl.bridge.answers import BridgeFault, fault_of
from meshctl.bridge.service import POLICY
from meshctl.clock import now
from meshctl.daemon.obstacles import Obstacle, ObstacleNote, read_obstacles
from meshctl.daemon.retry import RetriedWork
from meshctl.journal.events import journal
from tests.bridge.bridged_site import BridgedSite, bridged_site
from tests.bridge.sandbox import Sandbox
from tests.bridge.servers import answering
from tests.clock import stopped_clock
from tests.daemon.mail_server import mail_server


def _let_in(sandbox: Sandbox) -> dict[str, str]:
    """Return [bridge] for a MESH that lets the mailbox in."""
    return {"environment": sandbox.url, "password": "env:MESH_PASSWORD", "shared_key": "env:MESH_KEY"}


def _status(site: BridgedSite) -> tuple[int, list[dict[str, Any]]]:
    ended = site.meshctl("status", "--json")
    return ended.exit_code, json.loads(ended.stdout)["blocked"]


def _checks(site: BridgedSite) -> Mapping[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(site.meshctl("check", "--json").stdout)["checks"]}


@pytest.fixture(name="blocked")
def _blocked(tmp_path: Path) -> BridgedSite:
    """A site whose bridge was not let in by MESH."""
    with answering(403) as url:
        site = bridged_site(tmp_path, url)
        assert site.meshctl("bridge", "--once").exit_code == 1
    return site


def test_a_blocked_bridge_says_so_everywhere(blocked: BridgedSite) -> None:
    """Each says what MESH answers, since when and what to do, and ends with 1."""
    exit_code, (told,) = _status(blocked)
    shown, listed, plugin = (
        blocked.meshctl(*words) for words in (["status"], ["list"], ["check", "--nagios"])
    )
    checks = _checks(blocked)

    assert told | {"since": None} == {
        "part": "bridge.handshake",
        "since": None,
        "severity": "error",
        "text": told["text"],
        "advice": told["advice"],
    }
    assert "(HTTP 403)" in told["text"]
    assert told["advice"].startswith("Check mailbox.id")
    assert [exit_code, shown.exit_code, listed.exit_code, plugin.exit_code] == [1, 1, 1, 2]
    assert re.search(r"^Blocked +bridge\.handshake, first seen .*MESH", shown.stdout, re.MULTILINE)
    assert f"Blocked (bridge.handshake): {told['text']}. {told['advice']}" in listed.stderr
    assert checks["bridge.blocked"]["severity"] == "error"
    assert told["text"] in checks["bridge.blocked"]["text"]
    assert checks["bridge.blocked"]["advice"] == told["advice"]
    assert checks["daemon.blocked"]["ok"]


def test_mesh_that_is_busy_is_no_trouble_yet(tmp_path: Path) -> None:
    """It is shown at once, as a warning, and ends with 0: it mostly passes by itself."""
    with answering(503) as url:
        site = bridged_site(tmp_path, url)
        site.meshctl("bridge", "--once")

    exit_code, (told,) = _status(site)
    shown, listed = (site.meshctl(*words) for words in (["status"], ["list"]))

    assert (told["part"], told["severity"]) == ("bridge.handshake", "warning")
    assert [exit_code, shown.exit_code, listed.exit_code] == [0, 0, 0]
    assert re.search(r"^Warning +bridge\.handshake, first seen .*MESH", shown.stdout, re.MULTILINE)
    assert "Warning (bridge.handshake): MESH" in listed.stderr
    assert _checks(site)["bridge.blocked"]["severity"] == "warning"


def test_mesh_that_stays_away_is_trouble() -> None:
    """After a quarter of an hour, when the alert goes out, it counts as what needs a person."""
    clock = stopped_clock()
    work = RetriedWork("sending", POLICY, clock, journal)

    def fail() -> None:
        raise BridgeFault(fault_of(ConnectionError()))

    seen = []
    for at_seconds in (0.0, 600.0, 1000.0):
        clock.ahead_seconds = at_seconds
        work.run(fail)
        seen += [each.is_warning for each in work.obstacles()]

    assert seen == [True, True, False]


@pytest.mark.slow
def test_a_bridge_that_goes_on_takes_it_back(blocked: BridgedSite, sandbox: Sandbox) -> None:
    """The next run that is not blocked says so, and all is well."""
    blocked.settle(bridge=_let_in(sandbox))

    assert blocked.meshctl("bridge", "--once").exit_code == 0

    assert _status(blocked) == (0, [])
    assert _checks(blocked)["bridge.blocked"]["ok"]


def test_what_a_bridge_left_is_not_said_of_a_client(blocked: BridgedSite) -> None:
    """Where a MESH Client serves the mailbox now, what blocked the bridge blocks nothing."""
    blocked.settle(bridge={"environment": ""})

    assert _status(blocked) == (0, [])
    assert "bridge.blocked" not in _checks(blocked)


def test_a_running_bridge_says_what_blocks_it(tmp_path: Path) -> None:
    """While it runs, what it has met is there for others to read."""
    with answering(403) as url:
        site = bridged_site(tmp_path, url)
        work = site.out.parent / ".bridge"
        with site.bridge() as bridge:
            bridge.wait_for(lambda: read_obstacles(work), "the bridge to say so")

    assert [each["part"] for each in _status(site)[1]] == ["bridge.handshake"]


def test_the_metrics_have_what_blocks_the_bridge(blocked: BridgedSite, tmp_path: Path) -> None:
    """The daemon writes them; that MESH is busy for a moment is no alarm."""
    file = tmp_path / "meshctl.prom"
    blocked.settle(bridge={"environment": "sandbox"}, metrics={"textfile": str(file)})
    blocked.meshctl("run", "--once")
    before = file.read_text(encoding="utf-8")
    passing = Obstacle("bridge.sending", "MESH is busy", None, now(), is_warning=True)
    ObstacleNote(blocked.out.parent / ".bridge").keep([passing])
    blocked.meshctl("run", "--once")

    wanted = 'meshctl_blocked{mailbox="X26ABC1",part="bridge"}'
    assert f"{wanted} 1.0\n" in before
    assert f"{wanted} 0.0\n" in file.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_test_of_the_alerts_asks_the_bridge(tmp_path: Path, sandbox: Sandbox) -> None:
    """It tells its trouble itself, from a unit of its own, so it sends a test of its own."""
    site = bridged_site(tmp_path / "site", sandbox.url)
    with mail_server() as server:
        site.settle(bridge=_let_in(sandbox), alerts=server.settings())
        with site.bridge() as bridge:
            told = json.loads(site.meshctl("alert", "--test", "--json").stdout)
            process = bridge.process.pid
        alone = site.meshctl("alert", "--test")
        texts = [mail.get_content() for mail in server.mails]

    assert told["sent"]
    assert told["tests"][0]["sender"] == "this command, as no daemon runs"
    assert told["tests"][1]["sender"].startswith(f"the bridge, process {process} on ")
    assert [one["fault"] for test in told["tests"] for one in test["channels"]] == [None, None]
    assert ["by the bridge" in text for text in texts] == [False, True, False]
    assert "No bridge runs" in alone.stderr
    assert alone.exit_code == 0
