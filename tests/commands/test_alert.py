"""`meshctl alert --test`: who sends it, what arrives, and what is said of it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.mail_server import MailServer, free_port, mail_server
from tests.site import Site, make_site

KEEP = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read())"
FAIL = "import sys; sys.stderr.write('no route to 999 000 0042'); sys.exit(7)"


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with mail_server() as started:
        yield started


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site")


def test_both_ways_without_a_daemon(site: Site, server: MailServer) -> None:
    """The command itself sends, and says so."""
    got = site.root / "got"
    site.settle(alerts=server.settings(command=[sys.executable, "-c", KEEP, str(got)]))

    done = site.meshctl("alert", "--test")

    assert done.exit_code == 0, done.stderr
    assert "as no daemon runs" in done.stdout
    assert done.stdout.count(": sent.") == 2
    [mail] = server.mails
    assert mail["Subject"] == "[meshctl X26ABC1] Test: alerts arrive"
    assert json.loads(got.read_text())["event"] == "daemon.alert_test"


def test_a_running_daemon_sends_it(site: Site, server: MailServer) -> None:
    """It uses the settings that the daemon has, and its log says that somebody asked."""
    site.settle(staging={"rescan_seconds": 0.2}, alerts=server.settings())
    with site.daemon() as daemon:
        done = site.meshctl("alert", "--test", "--json")
        daemon.wait_for(lambda: b"daemon.alert_test" in site.log_file.read_bytes(), "the line")

    told = json.loads(done.stdout)
    (test,) = told["tests"]
    assert done.exit_code == 0
    assert (told["sent"], test["sender"].startswith("the daemon (process ")) == (True, True)
    assert [(one["channel"], one["fault"]) for one in test["channels"]] == [("mail", None)]
    assert len(server.mails) == 1
    assert not (site.state / "alert-test").exists()


def test_what_fails_is_said(site: Site) -> None:
    """Exit code 1, why, and what to do; a way that works is said, too."""
    keys = MailServer(free_port()).settings(command=[sys.executable, "-c", FAIL])
    site.settle(alerts=keys)

    done = site.meshctl("alert", "--test")

    assert done.exit_code == 1
    assert "mail to desk@example.nhs.uk" in done.stdout
    assert "cannot be reached" in done.stdout
    assert "The command failed. Its exit code was 7." in done.stdout
    assert "it said: no route to **********" in done.stdout


def test_a_daemon_that_fails_to_send_says_so(site: Site) -> None:
    """The answer of the daemon has the fault."""
    site.settle(staging={"rescan_seconds": 0.2}, alerts={"command": [sys.executable, "-c", FAIL]})
    with site.daemon():
        done = site.meshctl("alert", "--test")

    assert done.exit_code == 1
    assert done.stdout.startswith("By the daemon (process ")
    assert "Sent" not in done.stdout
    assert "Its exit code was 7" in done.stdout


def test_nobody_to_tell(site: Site) -> None:
    """Settings without a way are said to be so."""
    done = site.meshctl("alert", "--test")

    assert done.exit_code == 1
    assert "Alerts are sent to nobody" in done.stdout


def test_without_test_it_is_wrong_usage(site: Site) -> None:
    """There is nothing else that it does."""
    assert site.meshctl("alert").exit_code == 2
