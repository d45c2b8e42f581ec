"""The settings of the alerts: what mail needs, and what would give a password away."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.settings.loading import MINIMAL, faults, load

MAIL = 'mail_to = ["a@example.nhs.uk"]\nmail_from = "m@example.nhs.uk"\nsmtp = "mail.example.nhs.uk"\n'


def _alerts(text: str) -> str:
    return f"{MINIMAL}[alerts]\n{text}\n"


def test_mail_is_three_keys(tmp_path: Path) -> None:
    """Port 25, no encryption, a minute of gathering."""
    alerts = load(tmp_path, _alerts(MAIL)).alerts

    assert (alerts.mail_to, alerts.mail_from) == (("a@example.nhs.uk",), "m@example.nhs.uk")
    assert (alerts.server, alerts.starttls) == (("mail.example.nhs.uk", 25), False)
    assert alerts.gather == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("mail.example.nhs.uk:587", ("mail.example.nhs.uk", 587)),
        ("192.0.2.1:2525", ("192.0.2.1", 2525)),
        ("[2001:db8::25]:25", ("2001:db8::25", 25)),
        ("[2001:db8::25]", ("2001:db8::25", 25)),
        ("localhost", ("localhost", 25)),
    ],
)
def test_a_server_is_a_host_and_a_port(tmp_path: Path, text: str, server: tuple[str, int]) -> None:
    """The port may be left out."""
    keys = MAIL.replace("mail.example.nhs.uk", text)

    assert load(tmp_path, _alerts(keys)).alerts.server == server


def test_one_address_may_stand_alone(tmp_path: Path) -> None:
    """As a text in the file, and in a variable."""
    keys = MAIL.replace('["a@example.nhs.uk"]', '"a@example.nhs.uk"')
    variables = {"MESHCTL_ALERTS__MAIL_TO": "b@example.nhs.uk"}

    assert load(tmp_path, _alerts(keys)).alerts.mail_to == ("a@example.nhs.uk",)
    assert load(tmp_path, _alerts(keys), variables).alerts.mail_to == ("b@example.nhs.uk",)


def test_gathering_can_be_switched_off(tmp_path: Path) -> None:
    """Each event is then told by itself."""
    assert load(tmp_path, _alerts('gather = "0s"')).alerts.gather == timedelta()


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('mail_to = ["a@example.nhs.uk"]', "alerts.mail_from", "missing: mail needs"),
        ('mail_to = ["a@example.nhs.uk"]', "alerts.smtp", "missing: mail needs"),
        ('smtp = "mail.example.nhs.uk:25"', "alerts.mail_to", "missing: mail needs"),
        ('user = "meshctl"', "alerts.password", "missing: user is set"),
        ('password = "env:SMTP"', "alerts.user", "missing: password is set"),
        (f'{MAIL}user = "m"\npassword = "env:SMTP"', "alerts.starttls", "unencrypted"),
        (MAIL.replace('nhs.uk"\n', 'nhs.uk:465"\n').replace("m@example.nhs.uk:465", "m@example.nhs.uk"),
         "alerts.smtp", "587"),
        ('mail_to = ["nobody"]', "alerts.mail_to[0]", "expected a"),
        ('mail_to = ["a@example.nhs.uk\\nBcc: b@example.com"]', "alerts.mail_to[0]", "expected a"),
        ('mail_from = "a@@example"', "alerts.mail_from", "expected a mail address"),
        ('smtp = "smtp://mail.example.nhs.uk"', "alerts.smtp", "expected the host and port"),
        ('smtp = "mail.example.nhs.uk:99999"', "alerts.smtp", "expected the host and port"),
        ('smtp = "mail.example.nhs.uk:0"', "alerts.smtp", "expected the host and port"),
        ('password = "letmein"', "alerts.password", "the settings do not hold secrets"),
        ('gather = "0"', "alerts.gather", "expected a duration"),
        ("gather = 60", "alerts.gather", "expected a duration"),
        ('starttls = "yes"', "alerts.starttls", "expected true or false"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, text: str, key: str, expected: str) -> None:
    """Each fault names its key and what to write; none quotes a value."""
    lines = faults(tmp_path, _alerts(text))

    found = [line for line in lines if line.startswith(f"{key}:")]
    assert found, lines
    assert any(expected in line for line in found), lines
    assert "letmein" not in str(lines)


def test_a_password_may_go_unencrypted_to_this_computer(tmp_path: Path) -> None:
    """Nobody is on the way."""
    keys = MAIL.replace("mail.example.nhs.uk", "localhost") + 'user = "m"\npassword = "env:SMTP"'

    settings = load(tmp_path, _alerts(keys))

    assert settings.alerts.user == "m"
    assert settings.secret_variables == {"SMTP"}
