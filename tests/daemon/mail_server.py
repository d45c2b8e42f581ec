"""A real mail server in this process, which a test lets refuse, stall, break off or say odd things."""

import email
import email.policy
import inspect
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "meshctl", "correct horse"
_OK = "250 OK"


@dataclass
class MailServer:
    """What it has taken, and how it answers: `answers` has what a command (RCPT) is answered by.

    That is a function of the connection, which may be a coroutine.
    """

    port: int = 0
    envelopes: list[Envelope] = field(default_factory=list)
    answers: dict[str, Callable[[SMTP], Any]] = field(default_factory=dict)
    was_encrypted: list[bool] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    @property
    def mails(self) -> list[EmailMessage]:
        """Return the mails, as a mail program reads them."""
        taken = list(self.envelopes)
        return [email.message_from_bytes(_content(one), policy=email.policy.default) for one in taken]

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the keys of [alerts] that send mail here."""
        return {
            "mail_to": ["desk@example.nhs.uk"],
            "mail_from": "meshctl@example.nhs.uk",
            "smtp": f"localhost:{self.port}",
            **more,
        }

    def refuse(self, command: str, answer: str) -> None:
        """Answer a command so from now on."""
        self.answers[command] = lambda _server: answer

    async def said(self, command: str, server: SMTP) -> str | None:
        """Return the answer that the test wants; None for the usual one."""
        if command not in self.answers:
            return None
        answer = self.answers[command](server)
        return str(await answer if inspect.iscoroutine(answer) else answer)

    def log_in(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, said: Any
    ) -> AuthResult:
        """Let our user in."""
        assert isinstance(said, LoginPassword)
        is_right = (said.login, said.password) == (USER.encode(), PASSWORD.encode())
        if is_right:
            self.users.append(said.login.decode())
        return AuthResult(success=is_right, handled=False)


class _Handler:
    """Takes the mails; aiosmtpd finds what is to be done at a command by its name."""

    def __init__(self, taken: MailServer) -> None:
        async def greet(
            server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
        ) -> list[str]:
            session.host_name = hostname
            said = await taken.said("EHLO", server)
            return responses if said is None else [said]

        async def take_sender(
            server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
        ) -> str:
            envelope.mail_from = address
            return await taken.said("MAIL", server) or _OK

        async def take_recipient(
            server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
        ) -> str:
            said = await taken.said(f"RCPT {address}", server) or await taken.said("RCPT", server)
            if said is None:
                envelope.rcpt_tos.append(address)
            return said or _OK

        async def take_mail(server: SMTP, session: Session, envelope: Envelope) -> str:
            said = await taken.said("DATA", server)
            if said is None:
                taken.was_encrypted.append(session.ssl is not None)
                taken.envelopes.append(envelope)
            return said or _OK

        steps = {"EHLO": greet, "MAIL": take_sender, "RCPT": take_recipient, "DATA": take_mail}
        for command, step in steps.items():
            setattr(self, f"handle_{command}", step)


@contextmanager
def mail_server(**more: Any) -> Iterator[MailServer]:
    """Start a mail server on a free port; `more` is what aiosmtpd takes."""
    taken = MailServer(free_port())
    with serving(taken, **more):
        yield taken


@contextmanager
def serving(taken: MailServer, **more: Any) -> Iterator[None]:
    """Serve at the port of `taken`."""
    controller = Controller(_Handler(taken), hostname="localhost", port=taken.port, **more)
    controller.start()
    try:
        yield
    finally:
        controller.stop()
        # aiosmtpd leaves it open.
        controller.loop.close()


@contextmanager
def secure_mail_server(certificate: ssl.SSLContext, **more: Any) -> Iterator[MailServer]:
    """Start a mail server that takes mails only encrypted, from those who log in."""
    taken = MailServer(free_port())
    asks = {"require_starttls": True, "auth_required": True, "authenticator": taken.log_in, **more}
    with serving(taken, tls_context=certificate, **asks):
        yield taken


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def _content(envelope: Envelope) -> bytes:
    content = envelope.content
    assert isinstance(content, bytes)
    return content
