"""Mail: what it says and to whom, over a real mail server, and what is said when that does not take it."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP

from meshctl.journal.events import Alert
from tests.daemon.alerting import FAILURE, Alerting, numbered
from tests.daemon.mail_server import (
    PASSWORD,
    USER,
    MailServer,
    free_port,
    mail_server,
    secure_mail_server,
    serving,
)
from tests.site import wait_until

PATIENT = "999 000 0042"


@pytest.fixture(name="server")
def _server() -> Iterator[MailServer]:
    with mail_server() as started:
        yield started


@pytest.fixture(name="authority")
def _authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this system knows."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


def _certificate(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def _text_of(alerting: Alerting, server: MailServer, alert: Alert) -> str:
    """Return the text of the mail about an alert."""
    alerts = alerting.open(**server.settings())
    alerts(alert)
    alerts.close(20.0)
    [mail] = server.mails
    return str(mail.get_content())


def _failure(alerting: Alerting, **alerts: Any) -> str:
    """Return what the log says when a mail cannot be sent."""
    told = alerting.open(**alerts)
    told(FAILURE)
    assert alerting.log.spoke.wait(30.0)
    assert alerting.log.failures[0]["advice"]
    assert told.failures["mail"] >= 1
    return str(alerting.log.failures[0]["text"])


def test_a_mail_says_what_a_person_needs(alerting: Alerting, server: MailServer) -> None:
    """What, where, what to do, and how to see more; the subject tells mailbox, event and code."""
    alerts = alerting.open(**server.settings(mail_to=["desk@example.nhs.uk", "night@example.nhs.uk"]))
    alerts(FAILURE)
    alerts.close(20.0)

    [mail], [envelope] = server.mails, server.envelopes
    text = mail.get_content()
    assert mail["Subject"] == "[meshctl X26ABC1] Message failed: 14"
    assert (envelope.mail_from, envelope.rcpt_tos) == (
        "meshctl@example.nhs.uk",
        ["desk@example.nhs.uk", "night@example.nhs.uk"],
    )
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "text/plain"
    for part in ("Not delivered.", "Ask the practice.", "Zoë's letter.pdf", "X26ABC1", "2026-"):
        assert part in text
    assert f"meshctl -c {alerting.site.settings_file} show 20261122091502480113_7F3A9C" in text
    assert alerting.log.failures == []


def test_no_header_can_be_forged(alerting: Alerting, server: MailServer) -> None:
    """A newline in a value ends no header and begins no line of the text."""
    forged = "letter\r\nBcc: all@example.com\r\n\r\nUrgent: pay.pdf"
    about = {"file": forged, "code": f"odd\r\nX-Evil: yes {PATIENT}", "use_case": "send-document"}

    alerting.open(**server.settings())(replace(FAILURE, about=about))
    wait_until(lambda: server.mails, "the mail")

    [mail], [envelope] = server.mails, server.envelopes
    assert envelope.rcpt_tos == ["desk@example.nhs.uk"]
    assert {"Bcc", "X-Evil"}.isdisjoint(mail.keys())
    assert mail["Subject"] == ("[meshctl X26ABC1] Message failed: odd X-Evil: yes **********, send-document")
    lines = mail.get_content().splitlines()
    assert not any(line.startswith(("Bcc", "Urgent")) for line in lines)


def test_no_number_of_a_patient_is_in_a_mail(alerting: Alerting, server: MailServer) -> None:
    """Whatever a value may hold, what looks like an NHS number is masked."""
    about = {"file": f"letter {PATIENT}.pdf", "text": f"About {PATIENT}.", "candidates": [PATIENT]}

    text = _text_of(alerting, server, replace(FAILURE, about=about))

    assert PATIENT not in text
    assert text.count("**********") == 3


def test_a_long_subject_is_cut(alerting: Alerting, server: MailServer) -> None:
    """No value makes the subject endless."""
    alerting.open(**server.settings())(replace(FAILURE, about={"code": "x" * 5000}))
    wait_until(lambda: server.mails, "the mail")

    assert len(server.mails[0]["Subject"]) == 150


def test_a_digest_counts(alerting: Alerting, server: MailServer) -> None:
    """The first event has a mail of its own; those that follow have one that counts them."""
    alerts = alerting.open(**server.settings())
    rejected = replace(
        FAILURE,
        event="message.rejected",
        about={
            "file": "a.pdf",
            "code": "sidecar_missing",
            "use_case": "send-document",
            "text": "No sidecar.",
        },
    )
    alerts(rejected)
    wait_until(lambda: server.mails, "the first mail")
    for _ in range(897):
        alerts(rejected)
    alerts.close(20.0)

    first, digest = server.mails
    text = digest.get_content()
    assert first["Subject"] == "[meshctl X26ABC1] File cannot be sent: sidecar_missing, send-document"
    assert digest["Subject"] == (
        "[meshctl X26ABC1] File cannot be sent, 897 times: sidecar_missing, send-document"
    )
    assert text.startswith("897 events from ")
    assert "     897  sidecar_missing, send-document" in text
    assert first["Message-ID"] != digest["Message-ID"]


def test_starttls_and_a_password(
    alerting: Alerting, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail goes encrypted, from a user who logs in with a secret that the settings only refer to."""
    monkeypatch.setenv("SMTP_PASSWORD", PASSWORD)
    with secure_mail_server(_certificate(authority)) as server:
        keys = server.settings(starttls=True, user=USER, password="env:SMTP_PASSWORD")
        alerts = alerting.open(**keys)
        alerts(FAILURE)
        alerts.close(20.0)

        assert (server.was_encrypted, server.users) == ([True], [USER])
    assert alerting.log.failures == []


def test_a_wrong_password(alerting: Alerting, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says that it is refused, and not what it is."""
    monkeypatch.setenv("SMTP_PASSWORD", "wrong-secret")
    with secure_mail_server(_certificate(authority)) as server:
        keys = server.settings(starttls=True, user=USER, password="env:SMTP_PASSWORD")
        said = _failure(alerting, **keys)

    assert "refuses user or password: 535" in said
    assert "wrong-secret" not in str(alerting.log.failures)


def test_a_password_that_is_missing(alerting: Alerting, authority: trustme.CA) -> None:
    """The setting and the place are named."""
    with secure_mail_server(_certificate(authority)) as server:
        keys = server.settings(starttls=True, user=USER, password="env:NOWHERE")
        said = _failure(alerting, **keys)

    assert "alerts.password: the environment variable NOWHERE is not set" in said


@pytest.mark.parametrize("is_known", [True, False], ids=["of another name", "of an unknown authority"])
def test_a_certificate_that_is_not_believed(
    alerting: Alerting, authority: trustme.CA, is_known: bool
) -> None:
    """No mail goes to who cannot show who it is."""
    issuer = authority if is_known else trustme.CA()
    with secure_mail_server(_certificate(issuer, "elsewhere.example" if is_known else "localhost")) as server:
        said = _failure(alerting, **server.settings(starttls=True))

    assert "a certificate that is not trusted" in said
    assert server.mails == []


def test_no_starttls(alerting: Alerting, server: MailServer) -> None:
    """A server that does not encrypt gets no mail that must be encrypted."""
    said = _failure(alerting, **server.settings(starttls=True))

    assert "does not offer STARTTLS" in said
    assert server.mails == []


@pytest.mark.slow
def test_a_server_that_is_down_and_comes_back(alerting: Alerting) -> None:
    """What happened meanwhile comes as one mail a kind, in the end."""
    server = MailServer(free_port())
    alerts = alerting.open(**server.settings())
    for number in range(4):
        alerts(numbered(number))
    assert alerting.log.spoke.wait(30.0)
    assert "cannot be reached: " in str(alerting.log.failures[0]["text"])

    with serving(server):
        wait_until(lambda: server.mails, "the mail")

    assert [mail["Subject"] for mail in server.mails] == ["[meshctl X26ABC1] Message failed, 4 times"]


def test_a_name_that_cannot_be_resolved(alerting: Alerting) -> None:
    """The advice says what the unit needs."""
    keys = MailServer().settings(smtp="no-such-host.invalid:25")
    said = _failure(alerting, **keys)

    assert "a name that cannot be resolved" in said
    assert "systemd/meshctl-alerts.conf" in str(alerting.log.failures[0]["advice"])


@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.slow
def test_a_server_that_stalls(alerting: Alerting, server: MailServer, command: str) -> None:
    """It is left after the time that the settings give it."""

    async def stall(_server: SMTP) -> str:
        await asyncio.sleep(60)
        return "250 OK"

    server.answers[command] = stall
    said = _failure(alerting, **server.settings(timeout="1s"))

    assert "did not finish within 1 s" in said or "does not answer" in said


@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA"])
def test_a_server_that_breaks_off(alerting: Alerting, server: MailServer, command: str) -> None:
    """The log says at which step."""

    def break_off(connection: SMTP) -> str:
        assert isinstance(connection.transport, asyncio.Transport)
        connection.transport.abort()
        return "421 gone"

    server.answers[command] = break_off
    said = _failure(alerting, **server.settings())

    assert "closed the connection" in said or "Connection reset" in said


@pytest.mark.parametrize(
    ("command", "answer", "expected"),
    [
        ("MAIL", f"550 who is {PATIENT}", "refuses the sender: 550 who is **********"),
        ("RCPT", f"550 no {PATIENT} here", "desk@example.nhs.uk: 550 no ********** here"),
        ("DATA", f"554 spam about {PATIENT}\x1b[2J", r"554 spam about **********\x1b[2J"),
        ("DATA", f"554 {'long ' * 150}", "long…"),
    ],
)
def test_a_server_that_refuses(
    alerting: Alerting, server: MailServer, command: str, answer: str, expected: str
) -> None:
    """Its answer is in the log: masked, in one line, and cut."""
    server.refuse(command, answer)

    said = _failure(alerting, **server.settings())

    assert expected in said
    assert len(said) < 700
    assert PATIENT not in str(alerting.log.failures)


@pytest.mark.parametrize(
    ("command", "answer", "advice"),
    [
        ("MAIL", "530 Must issue a STARTTLS command first", "starttls = true"),
        ("MAIL", "530 5.7.0 Authentication required", "user and password"),
        ("MAIL", "550 who is that", "mail_from"),
        ("MAIL", "451 greylisted", "for now"),
        ("RCPT", "450 greylisted", "for now"),
        ("RCPT", "550 no such user", "mail_to"),
        ("DATA", "452 full", "for now"),
    ],
)
def test_what_to_do_depends_on_what_the_server_wants(
    alerting: Alerting, server: MailServer, command: str, answer: str, advice: str
) -> None:
    """It may say at any command what it wanted first; and what it says for now (4xx) passes."""
    server.refuse(command, answer)
    _failure(alerting, **server.settings())

    assert advice in str(alerting.log.failures[0]["advice"])


def test_recipients_that_are_refused_among_others(alerting: Alerting, server: MailServer) -> None:
    """The others get the mail, once, and the log names who did not."""
    server.refuse("RCPT gone@example.nhs.uk", "550 no such user")
    alerts = alerting.open(**server.settings(mail_to=["gone@example.nhs.uk", "desk@example.nhs.uk"]))
    alerts(FAILURE)
    alerts.close(20.0)

    assert [one.rcpt_tos for one in server.envelopes] == [["desk@example.nhs.uk"]]
    assert ["gone@example.nhs.uk: 550 no such user" in str(one["text"]) for one in alerting.log.failures] == [
        True
    ]


@pytest.mark.slow
def test_an_answer_a_byte_at_a_time(alerting: Alerting) -> None:
    """Who answers without end is left after the time that the settings give."""
    with _OddServer() as port:
        said = _failure(alerting, **MailServer(port).settings(timeout="1s"))

    assert "did not finish within 1 s" in said


def test_what_is_no_mail_server(alerting: Alerting) -> None:
    """An answer that is none is told as such."""
    with _OddServer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        said = _failure(alerting, **MailServer(port).settings())

    assert "The mail server" in said


def test_a_stop_breaks_off_a_slow_talk(alerting: Alerting) -> None:
    """The daemon stops in time; the mail waits for the next start."""
    with _OddServer() as port:
        alerts = alerting.open(**MailServer(port).settings(timeout="5m"))
        alerts(FAILURE)
        alerts.close(0.3)

    assert [one.get("unsent") for one in alerting.log.failures] == [1]
    with mail_server() as server:
        alerting.open(**server.settings())
        wait_until(lambda: server.mails, "the mail")


class _OddServer:
    """A server that gives its one answer, or a byte at a time without end."""

    def __init__(self, answer: bytes | None = None) -> None:
        self._answer = answer
        self._listener = socket.create_server(("localhost", 0))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(0.1)
        while not self._ended.is_set():
            with suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    self._speak(connection)

    def _speak(self, connection: Any) -> None:
        if self._answer is not None:
            connection.sendall(self._answer)
            return
        while not self._ended.wait(0.05):
            connection.sendall(b"2")
