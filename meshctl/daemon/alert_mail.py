"""Mail: one plain text for each digest, by the mail server of the settings.

What comes from outside, file names and codes, can forge no header: the subject is one line, the rest is in
the text. What the server answers is quoted masked and cut, as nobody knows what it says.
"""

import json
import os
import smtplib
import socket
import ssl
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime
from hashlib import blake2b
from threading import Lock, Timer
from typing import Final

from meshctl.daemon.digest import Content, Digest, UndeliveredError
from meshctl.errors import ConfigError
from meshctl.journal.events import event_table
from meshctl.journal.lines import UNMASKED_KEYS
from meshctl.journal.masking import escape_unprintable, mask_numbers, mask_output
from meshctl.platform import shell
from meshctl.settings.model import Settings
from meshctl.settings.secrets import read_secret

_WIDTH: Final = 76
_MOST_SUBJECT_CHARACTERS: Final = 150
_NAMES: Final = {
    "mailbox": "Mailbox",
    "event": "Event",
    "at": "Time",
    "message_id": "Message",
    "file": "File",
    "folder": "Folder",
    "use_case": "Use case",
    "workflow_id": "Workflow",
    "code": "Code",
    "part": "Part",
}
_READY: Final = 220
# A check of many mailboxes, as Nagios has it done, cannot wait for long.
_TRY_SECONDS: Final = 5.0
_CONNECTING: Final = "connecting"
_STARTTLS: Final = "STARTTLS"
# What shows all messages that a digest is about.
_WHERE_MANY: Final = {
    "message.rejected": "list --state rejected",
    "message.failed": "list --state failed",
    "message.overdue": "list --overdue",
}
_TEXTS: Final = ("text", "advice")
_NETWORK: Final = (
    "Correct smtp in [alerts]. Under systemd the service has no network until systemd/meshctl-alerts.conf is"
    " installed."
)

_SLOW: Final = "See in the mail server's own log what it waits for; it is tried again by itself."
_RECIPIENTS: Final = "Correct mail_to in [alerts], or let the server relay for this computer."
_WAIT: Final = "Nothing needs to be done unless it goes on for hours: the server says so for now (4xx)."
_FOR_EVER: Final = 500


class MailChannel:
    """Sends mail as the settings say."""

    name = "mail"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._alerts = settings.alerts
        self._connection: _Connection | None = None
        self._is_ended = False
        # Guards the two above.
        self._lock = Lock()

    @property
    def target(self) -> str:
        """Return to whom it goes, and by which server."""
        return f"{', '.join(self._alerts.mail_to)} by {self._alerts.smtp}"

    def deliver(self, digest: Digest) -> str | None:
        """Send one mail; return which recipients were refused, None if none. Raises UndeliveredError."""
        message = compose(digest, self._settings)
        with self._talking(self._alerts.timeout.total_seconds()) as connection:
            self._log_in(connection)
            refused = connection.send_message(message, self._alerts.mail_from, self._alerts.mail_to)
            with suppress(smtplib.SMTPException, OSError):
                # It has taken the mail over.
                connection.quit()
        if not refused:
            return None
        answers = "; ".join(f"{to}: {_answer(code, text)}" for to, (code, text) in refused.items())
        return f"The mail server refuses some of mail_to, and took the mail for the others: {answers}"

    def try_out(self) -> None:
        """Connect, greet, encrypt if the settings say so, and leave, without a password or a mail.

        Raises UndeliveredError, saying what failed.
        """
        with self._talking(min(self._alerts.timeout.total_seconds(), _TRY_SECONDS)) as connection:
            connection.noop()
            with suppress(smtplib.SMTPException, OSError):
                connection.quit()

    def end(self) -> None:
        """Break off the talk with the server, and any that would follow."""
        with self._lock:
            self._is_ended = True
            if self._connection is not None:
                self._connection.break_off()

    @contextmanager
    def _talking(self, seconds: float) -> Iterator["_Connection"]:
        """Connect, greet and encrypt; leave after `seconds`. Raises UndeliveredError for all that fails."""
        server, port = self._alerts.server
        connection = _Connection(server, seconds)
        # What a server sends byte by byte would never run into the timeout of the socket.
        timer = Timer(seconds, connection.break_off)
        timer.daemon = True
        with self._lock:
            self._connection = connection
            if self._is_ended:
                connection.break_off()
        # The timeout of the socket may come first, by as little as the timer is late.
        late_clock = time.monotonic() + seconds * 0.9
        try:
            timer.start()
            code, greeting = connection.connect(server, port)
            if connection.is_broken_off:
                raise TimeoutError
            if code != _READY:
                raise smtplib.SMTPConnectError(code, greeting)
            connection.step = "EHLO"
            connection.ehlo_or_helo_if_needed()
            if self._alerts.starttls:
                connection.step = _STARTTLS
                connection.starttls(context=ssl.create_default_context())
                connection.ehlo()
            connection.step = "sending"
            yield connection
        except UndeliveredError:
            raise
        except (smtplib.SMTPException, OSError, ValueError, LookupError, RuntimeError) as error:
            where = f"{server}:{port}"
            if connection.is_broken_off or time.monotonic() > late_clock:
                text = (
                    f"The mail server {where} did not finish within {seconds:g} s; the connection was closed."
                )
                raise UndeliveredError(text, _NETWORK if connection.step == _CONNECTING else _SLOW) from None
            raise _undelivered(error, where, connection.step) from None
        finally:
            timer.cancel()
            with self._lock:
                self._connection = None
            connection.close()

    def _log_in(self, connection: "_Connection") -> None:
        if self._alerts.user is None:
            return
        try:
            password = read_secret("alerts.password", self._alerts.password, os.environ)
        except ConfigError as error:
            raise UndeliveredError(f"{error}", "Correct password in [alerts].") from None
        connection.step = "AUTH"
        connection.login(self._alerts.user, password)


class _Connection(smtplib.SMTP):
    """A talk with a server that another thread can break off; `step` is what it is at."""

    def __init__(self, server: str, seconds: float) -> None:
        super().__init__(local_hostname=_own_name(), timeout=seconds)
        # Where the host is given to connect() alone, STARTTLS does not know whose certificate to expect.
        self._host = server
        self.step = _CONNECTING
        self.is_broken_off = False

    def break_off(self) -> None:
        """End the connection although another thread waits for an answer."""
        self.is_broken_off = True
        # Read once: the other thread may close it meanwhile.
        if (connected := self.sock) is not None:
            with suppress(OSError):
                # Not that of SSLSocket, which would end the encryption first.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


def compose(digest: Digest, settings: Settings) -> EmailMessage:
    """Return the mail for a digest."""
    domain = (settings.alerts.mail_from or "").rpartition("@")[2]
    message = EmailMessage(SMTP)
    message["From"] = settings.alerts.mail_from
    message["To"] = ", ".join(settings.alerts.mail_to)
    message["Subject"] = _subject(digest, settings.mailbox.id)
    message["Date"] = localtime()
    # The same for the same digest: mail systems drop a copy of a mail that was sent again after a kill.
    content = json.dumps(digest.as_json(), sort_keys=True, default=str).encode()
    message["Message-ID"] = f"<{blake2b(content, digest_size=16).hexdigest()}.{settings.mailbox.id}@{domain}>"
    # No out-of-office notes in answer.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Meshctl-Event"] = digest.event
    message["X-Meshctl-Mailbox"] = settings.mailbox.id
    message.set_content(_text(digest, settings), cte="quoted-printable")
    # The subject stays on one line: folded, it begins with a blank in some mail programs.
    message.policy = SMTP.clone(max_line_length=_MOST_SUBJECT_CHARACTERS * 2)
    return message


def _subject(digest: Digest, mailbox_id: str) -> str:
    """Return what a service desk reads first: which mailbox, what, how often, and the code."""
    kind = event_table().get(digest.event)
    what = (kind.subject if kind is not None else "") or digest.event
    if digest.count > 1:
        what += f", {digest.count} times"
    first = digest.first
    about = [_shown(key, first[key]) for key in ("code", "use_case", "part") if first.get(key)]
    line = f"[meshctl {mailbox_id}] {what}{': ' if about else ''}{', '.join(about)}"
    return line if len(line) <= _MOST_SUBJECT_CHARACTERS else f"{line[: _MOST_SUBJECT_CHARACTERS - 3]}..."


def _text(digest: Digest, settings: Settings) -> str:
    first = digest.first
    lines = []
    if digest.count > 1:
        lines += [f"{digest.count} events from {first['at']} to {digest.last_at}. The first of them:", ""]
    for key in _TEXTS:
        if first.get(key):
            lines += [*textwrap.wrap(_shown(key, first[key]), _WIDTH), ""]
    lines += list(_facts(first))
    lines.append(f"{'Computer':<12}{escape_unprintable(socket.gethostname())}")
    if digest.tally:
        lines += ["", "By code and use case:"]
        lines += [f"{count:>8}  {_shown('code', label)}" for label, count in digest.tally]
    more = _command(first, settings, is_many=digest.count > 1)
    lines += ["", "To see more:", f"    {more}"]
    return "\n".join(lines) + "\n"


def _facts(first: Content) -> Iterator[str]:
    for key, value in first.items():
        if key not in _TEXTS and value not in (None, "", []):
            name = _NAMES.get(key, key.replace("_", " ").capitalize())
            yield f"{name:<12}{_shown(key, value)}"


def _command(first: Content, settings: Settings, *, is_many: bool) -> str:
    program = f"meshctl -c {shell.quoted(settings.file)}"
    if first.get("message_id") and not is_many:
        return f"{program} show {first['message_id']}"
    return f"{program} {_WHERE_MANY.get(str(first['event']), 'logs --level WARNING')}"


def _shown(key: str, value: object) -> str:
    """Return a value of an alert on one line, with anything like an NHS number masked."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if key not in UNMASKED_KEYS and key != "at":
        text = mask_numbers(text)
    return escape_unprintable(" ".join(text.split()))


def _own_name() -> str:
    """Return our name for EHLO, without asking a name server for it."""
    name = socket.gethostname()
    return name if name.isascii() and name else "localhost"


def _undelivered(error: Exception, where: str, step: str) -> UndeliveredError:
    """Return what an error of the talk means, and what to do; `step` is what it came at."""
    server = f"The mail server {where}"
    if isinstance(error, smtplib.SMTPException):
        text, advice = _refusal(error, server, step)
    elif isinstance(error, OSError):
        text, advice = _no_connection(error, server, step)
    else:
        text = f"{server} sent an answer that cannot be understood ({step}, {type(error).__name__})."
        advice = "See whether smtp in [alerts] names a mail server."
    return UndeliveredError(text, advice)


def _refusal(error: smtplib.SMTPException, server: str, step: str) -> tuple[str, str]:
    """Return what a mail server does not want, and what to do."""
    advice = "See what it answers; its own log may say more."
    match error:
        case smtplib.SMTPNotSupportedError() if step == _STARTTLS:
            text = f"{server} does not offer STARTTLS."
            advice = "Name another port in smtp (587), or set starttls = false: mails then go unencrypted."
        case smtplib.SMTPNotSupportedError():
            text = f"{server} asks for no user and password here ({step})."
            advice = "Leave user and password out of [alerts], or set starttls = true."
        case smtplib.SMTPServerDisconnected():
            text = f"{server} closed the connection ({step})."
            advice = "See the mail server's own log."
        case smtplib.SMTPAuthenticationError():
            text = f"{server} refuses user or password: {_answer(error.smtp_code, error.smtp_error)}"
            advice = "Correct user and password in [alerts]."
        case smtplib.SMTPRecipientsRefused():
            answers = "; ".join(f"{to}: {_answer(*one)}" for to, one in error.recipients.items())
            text = f"{server} refuses every recipient: {answers}"
            is_for_now = all(code < _FOR_EVER for code, _ in error.recipients.values())
            advice = _WAIT if is_for_now else _RECIPIENTS
        case smtplib.SMTPSenderRefused():
            text = f"{server} refuses the sender: {_answer(error.smtp_code, error.smtp_error)}"
            advice = _advice_on_sender(error.smtp_code, _answer(error.smtp_code, error.smtp_error))
        case smtplib.SMTPResponseException():
            text = f"{server} refuses ({step}): {_answer(error.smtp_code, error.smtp_error)}"
            advice = _WAIT if error.smtp_code < _FOR_EVER else advice
        case _:
            text = f"{server} sent an answer that cannot be understood ({step}, {type(error).__name__})."
    return text, advice


def _advice_on_sender(code: int, answer: str) -> str:
    """Return what to do where MAIL FROM is refused, with which servers refuse all that they want first."""
    if code < _FOR_EVER:
        return _WAIT
    wanted = answer.upper()
    if "STARTTLS" in wanted:
        return "Set starttls = true in [alerts]."
    if "AUTH" in wanted:
        return "Set user and password in [alerts]."
    return "Set mail_from in [alerts] to a sender that it accepts."


def _no_connection(error: OSError, server: str, step: str) -> tuple[str, str]:
    """Return why there is no connection, or no encrypted one, and what to do."""
    advice = _NETWORK
    match error:
        case ssl.SSLCertVerificationError():
            text = f"{server} has a certificate that is not trusted: {mask_output(error.verify_message)}."
            advice = (
                "Name the server in smtp as its certificate does, and make the system know the authority that"
                " has signed it."
            )
        case ssl.SSLError():
            text = f"{server} and this computer cannot agree on encryption: {error.reason}."
            advice = "See which versions of TLS the server offers."
        case socket.gaierror():
            text = f"{server} has a name that cannot be resolved."
        case TimeoutError():
            text = f"{server} does not answer ({step})."
        case _:
            # Of a socket only the error itself knows the text on Windows.
            reason = mask_output(error.strerror or type(error).__name__)
            text = f"{server} cannot be reached: {reason}."
    return text, advice


def _answer(code: int, text: bytes | str) -> str:
    """Return what the server answered, fit for the log."""
    return f"{code} {mask_output(text)}"
