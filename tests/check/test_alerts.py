"""What check says of alerts: the parts that harm nobody, over a real mail server."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.check.finding import Severity
from meshctl.daemon.alerts import Alerts
from meshctl.daemon.waiting import FILE_NAME
from meshctl.journal.events import journal
from meshctl.settings.load import load_settings
from tests.check.checked_site import CheckedSite
from tests.daemon.alerting import FAILURE
from tests.daemon.mail_server import MailServer, free_port, mail_server
from tests.site import wait_until


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with mail_server() as started:
        yield started


def _found(checked: CheckedSite, name: str) -> list[tuple[Severity, str, str]]:
    return [(one.severity, one.text, one.advice) for one in checked.findings() if one.name == name]


def test_a_mail_server_that_answers(checked: CheckedSite, server: MailServer) -> None:
    """It is greeted and left; no mail is sent, nobody logs in."""
    checked.set_settings(alerts=server.settings())

    [(severity, text, _)] = _found(checked, "alerts.mail")

    assert severity is Severity.INFO
    assert f"localhost:{server.port} answers" in text
    assert (server.mails, server.users) == ([], [])
    assert checked.failing() == {}


def test_a_mail_server_that_is_down(checked: CheckedSite) -> None:
    """That is an error: nobody would hear of a failure."""
    checked.set_settings(alerts=MailServer(free_port()).settings())

    [(severity, text, advice)] = _found(checked, "alerts.mail")

    assert severity is Severity.ERROR
    assert "cannot be reached" in text
    assert "meshctl-alerts.conf" in advice


def test_a_mail_server_without_encryption(checked: CheckedSite, server: MailServer) -> None:
    """What the settings ask for is tried."""
    checked.set_settings(alerts=server.settings(starttls=True))

    [(severity, text, _)] = _found(checked, "alerts.mail")

    assert (severity, "does not offer STARTTLS" in text) == (Severity.ERROR, True)


def test_a_password_that_only_the_service_has(checked: CheckedSite, server: MailServer) -> None:
    """A credential cannot be checked from outside; that is no fault."""
    checked.set_settings(alerts=server.settings(user="meshctl", password="credential:smtp-password"))

    [(severity, _, advice)] = _found(checked, "alerts.password")

    assert severity is Severity.INFO
    assert "alert --test" in advice


@pytest.mark.skipif(sys.platform == "win32", reason="mode bits")
def test_a_password_that_others_can_read(checked: CheckedSite, server: MailServer) -> None:
    """It is found like those of the bridge."""
    secret = checked.site.root / "smtp-password"
    secret.write_text("secret\n")
    secret.chmod(0o644)
    checked.set_settings(alerts=server.settings(user="meshctl", password=f"file:{secret}"))

    [(severity, text, advice)] = _found(checked, "mode.alerts.password")

    assert severity is Severity.ERROR
    assert "0644" in text
    assert f"chmod 0600 {secret}" in advice


def test_a_password_that_is_missing(checked: CheckedSite, server: MailServer) -> None:
    """The place is named."""
    missing = Path(checked.site.root) / "nowhere"
    checked.set_settings(alerts=server.settings(user="meshctl", password=f"file:{missing}"))

    [(severity, text, _)] = _found(checked, "alerts.password")

    assert severity is Severity.ERROR
    assert str(missing) in text


def test_alerts_that_cannot_be_sent(checked: CheckedSite) -> None:
    """Since when, by which channel, why, and how many wait."""
    checked.set_settings(alerts={"command": ["no-such-program"]})
    alerts = Alerts(load_settings(checked.site.settings_file, {}), journal)
    alerts.open(checked.site.state / FILE_NAME)
    alerts(FAILURE)
    wait_until(lambda: alerts.failures["command"], "an attempt")

    wait_until(lambda: _found(checked, "alerts.failed"), "the finding")
    [(severity, text, _)] = _found(checked, "alerts.failed")
    alerts.close(0.1)

    assert severity is Severity.ERROR
    assert "by command since 20" in text
    assert "The command cannot be run" in text
    assert "Waiting: 1." in text
