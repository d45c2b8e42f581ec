"""`meshctl reload`, as its user runs it."""

from pathlib import Path

import pytest

from tests.payloads import pdf
from tests.site import Site, make_site, sidecar


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site")


def test_changed_settings_come_into_force(site: Site) -> None:
    with site.daemon() as daemon:
        site.settle(mailbox={"file_prefix": "new-"})
        asked = site.meshctl("reload")
        daemon.wait_for_event("daemon.reloaded")
        site.place("letter.pdf", pdf("letter"), sidecar=sidecar())
        daemon.wait_for_pairs(1)

    assert (asked.exit_code, asked.stderr) == (0, "")
    assert asked.stdout.startswith(f"The daemon reads {site.settings_file} again.")
    assert site.stems()[0].startswith("new-")


def test_without_a_daemon_it_says_so(site: Site) -> None:
    asked = site.meshctl("reload")

    assert asked.exit_code == 1
    assert asked.stderr.startswith(f"meshctl: No daemon works on {site.state}.")


@pytest.mark.slow
def test_wrong_settings_are_told_and_the_daemon_is_left_alone(site: Site) -> None:
    with site.daemon() as daemon:
        site.settle(staging={"quiet_seconds": "long"})
        asked = site.meshctl("reload")
        daemon.wait_for_turns(1)

    assert (asked.exit_code, "staging.quiet_seconds" in asked.stderr) == (2, True)
    assert not site.events("daemon.reload_failed")
