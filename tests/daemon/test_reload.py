"""`meshctl reload`, as its user runs it."""

import re
import signal
from pathlib import Path

import pytest

from meshctl.daemon.reloading import reload_daemon
from meshctl.errors import MeshctlError
from meshctl.settings.load import load_settings
from tests.payloads import pdf
from tests.site import Site, sidecar


def test_changed_settings_come_into_force(site: Site) -> None:
    with site.daemon() as daemon:
        site.settle(mailbox={"file_prefix": "new-"})
        asked = site.meshctl("reload")
        site.place("letter.pdf", pdf("letter"), sidecar=sidecar())
        daemon.wait_for_pairs(1)

    assert (asked.exit_code, asked.stderr) == (0, "")
    assert asked.stdout == f"The daemon has read {site.settings_file} again; it is in force.\n"
    assert site.stems()[0].startswith("new-")


def test_a_folder_that_is_not_there_is_told(site: Site) -> None:
    """The daemon takes the settings, and waits for the folder."""
    with site.daemon():
        site.settle(staging={"outbox": str(site.root / "nowhere" / "outbox")})
        asked = site.meshctl("reload")

    assert asked.exit_code == 0
    assert f"Warning: {site.root / 'nowhere' / 'outbox'} (staging.outbox)" in asked.stderr


def test_without_a_daemon_it_says_so(site: Site) -> None:
    asked = site.meshctl("reload")

    assert asked.exit_code == 1
    assert asked.stderr.startswith(f"meshctl: No daemon works on {site.state}.")


def test_what_the_daemon_refuses_is_told(site: Site) -> None:
    """What cannot change while it runs is said where the reload was asked for, alerted and a metric."""
    told = site.root / "told"
    site.settle(alerts={"command": _appending(told)}, metrics={"textfile": "meshctl.prom"})
    with site.daemon() as daemon:
        site.settle(mailbox={"id": "X26OTHER"}, alerts={"command": _appending(told)})
        asked = site.meshctl("reload")
        daemon.wait_for(lambda: told.exists() and "reload_failed" in told.read_text(), "the alert")
        daemon.wait_for(lambda: _metric(site) == "1.0", "the metric")
        site.settle(alerts={"command": _appending(told)}, metrics={"textfile": "meshctl.prom"})
        again = site.meshctl("reload")
        daemon.wait_for(lambda: _metric(site) == "0.0", "the metric")

    assert (asked.exit_code, asked.stdout) == (2, "")
    assert asked.stderr.startswith("meshctl: The old settings stay in force. mailbox.id cannot change")
    assert again.exit_code == 0


def test_another_state_folder_needs_a_restart(site: Site) -> None:
    """Where [state] folder was changed, it is not said that no daemon runs, but that it must be restarted."""
    with site.daemon() as daemon:
        site.environ["MAINPID"] = str(daemon.process.pid)
        site.settle(state={"folder": "elsewhere"})
        asked = site.meshctl("reload")
        daemon.wait_for_event("daemon.reload_failed")
        del site.environ["MAINPID"]
        site.settle()

    assert asked.exit_code == 2
    assert asked.stderr.startswith("meshctl: state.folder cannot change while the daemon runs")
    assert not (site.root / "elsewhere").exists()


def test_a_daemon_that_is_blocked_answers(site: Site) -> None:
    """What blocks the work does not keep the settings from being read: they may be what mends it."""
    site.out.rmdir()
    with site.daemon() as daemon:
        daemon.wait_for_event("daemon.blocked")
        asked = site.meshctl("reload")

    assert asked.exit_code == 0
    assert asked.stderr.startswith(f"Warning: {site.out}")


def test_settings_that_mend_what_blocked_are_told_as_its_end(site: Site) -> None:
    """In the log, as any other end of it."""
    site.settle(staging={"outbox": str(site.root / "nowhere" / "outbox")})
    with site.daemon() as daemon:
        daemon.wait_for_event("daemon.blocked")
        site.settle(staging={"outbox": str(site.outbox)})
        asked = site.meshctl("reload")
        daemon.wait_for_event("daemon.unblocked")

    assert asked.exit_code == 0


def test_an_answer_to_somebody_else_is_not_taken(site: Site) -> None:
    """An answer from before the request, or of another daemon, is none; a daemon that hangs is said to."""
    with site.daemon() as daemon:
        assert site.meshctl("reload").exit_code == 0
        daemon.signal(signal.SIGSTOP)
        try:
            with pytest.raises(MeshctlError, match="has not answered for"):
                reload_daemon(load_settings(site.settings_file, {}), answer_seconds=0.2)
        finally:
            daemon.signal(signal.SIGCONT)


def test_a_unit_is_told_of_settings_that_are_wrong(site: Site) -> None:
    """As ExecReload it names the faults, and the daemon logs that it was to read wrong settings."""
    with site.daemon() as daemon:
        site.environ["MAINPID"] = str(daemon.process.pid)
        site.settle(staging={"quiet_seconds": "long"})
        asked = site.meshctl("reload")
        daemon.wait_for_event("daemon.reload_failed")

    assert (asked.exit_code, "staging.quiet_seconds" in asked.stderr) == (2, True)


def _appending(file: Path) -> list[str]:
    """Return an alert command that appends what it gets to a file."""
    return ["sh", "-c", f"cat >> {file}"]


def _metric(site: Site) -> str | None:
    text = (site.root / "meshctl.prom").read_text() if (site.root / "meshctl.prom").exists() else ""
    found = re.search(r"^meshctl_reload_failed\{.*\} (.*)$", text, re.MULTILINE)
    return found[1] if found else None


@pytest.mark.slow
def test_wrong_settings_are_told_and_the_daemon_is_left_alone(site: Site) -> None:
    with site.daemon() as daemon:
        site.settle(staging={"quiet_seconds": "long"})
        asked = site.meshctl("reload")
        daemon.wait_for_turns(1)

    assert (asked.exit_code, "staging.quiet_seconds" in asked.stderr) == (2, True)
    assert not site.events("daemon.reload_failed")
