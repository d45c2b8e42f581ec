"""Stands in, inside a machine, for a site's mail server (ports 25 and 587) and for a webhook (port 80).

Started with a folder: it holds certificate and key of the server, `chain.pem` and `key.pem`, and gets what
arrives, a file each: `mail-PORT-N` and `webhook-N`. Whoever comes by port 587 has to start TLS and to give
the password.
"""

import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
_NAME = "mail.example.nhs.uk"
_numbers = count(1)


class _Mails:
    """Keeps each mail; aiosmtpd finds what is to be done at a command by its name."""

    def __init__(self, port: int) -> None:
        async def keep(_server: SMTP, _session: Session, envelope: Envelope) -> str:
            (FOLDER / f"mail-{port}-{next(_numbers)}").write_bytes(envelope.original_content or b"")
            return "250 OK"

        self.handle_DATA = keep


class _Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (FOLDER / f"webhook-{next(_numbers)}").write_bytes(body)
        self.send_response(200)
        self.end_headers()


def _knows(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
) -> AuthResult:
    right = isinstance(given, LoginPassword) and given.password == b"open sesame"
    return AuthResult(success=right)


def main() -> None:
    """Serve until the end of the process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "chain.pem", FOLDER / "key.pem")
    # Named here, or aiosmtpd asks a name server, which the machine cannot reach.
    Controller(_Mails(25), hostname="127.0.0.1", port=25, server_hostname=_NAME).start()
    Controller(
        _Mails(587),
        hostname="127.0.0.1",
        port=587,
        server_hostname=_NAME,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=_knows,
    ).start()
    HTTPServer(("127.0.0.1", 80), _Webhook).serve_forever()


if __name__ == "__main__":
    main()
