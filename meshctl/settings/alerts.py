"""The settings of the alerts, and the kinds of their values: mail addresses, a mail server."""

import os
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from meshctl.settings import types
from meshctl.settings.secrets import variables_of
from meshctl.settings.types import Section

_SMTP_PORT = 25
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*")
# Plain ones, as every mail server takes them.
_ADDRESS = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]*\.?[A-Za-z0-9])*$"


def _duration_or_none(text: object) -> timedelta:
    """Return the duration that `text` means; "0s" is none at all. Raises ValueError."""
    return timedelta() if text == "0s" else types.parse_duration(text)


def host_and_port(server: str) -> tuple[str, int]:
    """Return the host and port of a mail server, `mail.example.nhs.uk:25`. Raises ValueError."""
    try:
        url = urlsplit(f"//{server}")
        host, port = url.hostname, url.port
    except ValueError:
        host = port = None
    if not host or url.netloc != server or "@" in server or port == 0 or not _HOST.fullmatch(host):
        raise ValueError("not a host and port")
    return host, port or _SMTP_PORT


def _mail_server(text: str) -> str:
    host_and_port(text)
    return text


def _one_or_more(value: object) -> object:
    """Return one text as a list of it."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(value) if isinstance(value, list) else value


DurationOrNone = Annotated[
    timedelta,
    BeforeValidator(_duration_or_none),
    types.Expected(f'{types.DURATION_RULE}, or "0s"', types.format_duration),
]
MailAddress = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254, pattern=_ADDRESS),
    types.Expected("a mail address"),
]
MailAddresses = Annotated[
    tuple[MailAddress, ...],
    BeforeValidator(_one_or_more),
    AfterValidator(types.without_repeats),
    types.Expected('a list of mail addresses, such as ["mesh-team@example.nhs.uk"]'),
]
MailServer = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=260),
    AfterValidator(_mail_server),
    types.Expected('the host and port of a mail server, such as "mail.example.nhs.uk:25"'),
]
OptionalMailAddress = Annotated[MailAddress | None, BeforeValidator(types.none_if_empty)]
OptionalMailServer = Annotated[MailServer | None, BeforeValidator(types.none_if_empty)]


class AlertSettings(Section):
    """Alerts: who is told of every failure and every missed deadline, by mail or by a program of yours.

    `meshctl alert --test` tries it. Under systemd the service has no network until the drop-in
    systemd/meshctl-alerts.conf is installed.
    """

    mail_to: MailAddresses = Field(
        (),
        description="Who gets a mail; it has no patient data. Empty: nobody.",
        examples=[["mesh-team@example.nhs.uk"]],
    )
    mail_from: OptionalMailAddress = Field(
        None,
        description="The sender of the mails, one that your mail server accepts.",
        examples=["meshctl@example.nhs.uk"],
    )
    smtp: OptionalMailServer = Field(
        None,
        description="The mail server, as host:port; without a port it is 25.",
        examples=["mail.example.nhs.uk:25"],
    )
    starttls: types.Flag = Field(
        False,
        description="Whether mails go encrypted, or not at all. The system must know the authority of the"
        " server's certificate.",
        examples=[True],
    )
    user: types.OptionalText = Field(
        None,
        description="The user name at the mail server. Empty: it asks for none.",
        examples=["meshctl@example.nhs.uk"],
    )
    password: types.OptionalReference = Field(
        None,
        description='Where the password of that user is: "file:PATH", "env:NAME" or "credential:NAME".',
        examples=["credential:smtp-password"],
    )
    command: types.Arguments = Field(
        (),
        description="The program and its arguments; it gets the event as JSON on standard input, without"
        " patient data. Empty: none.",
        examples=[["/usr/local/bin/page-duty", "--service", "mesh"]],
    )
    timeout: types.Duration = Field(
        timedelta(seconds=30),
        description="A program, or a talk with the mail server, that lasts longer is ended.",
    )
    gather: DurationOrNone = Field(
        timedelta(minutes=1),
        description="Of events of a kind the first is sent at once. Those that follow within this time are"
        ' sent together: how many, and the first of them. "0s": each is sent by itself.',
    )

    @property
    def secret_variables(self) -> frozenset[str]:
        """Return the environment variables that hold its secrets."""
        return variables_of((self.password,))

    @property
    def programs(self) -> list[Path]:
        """Return the file that the command runs, and the scripts and files that it is given."""
        program, *arguments = self.command or ("",)
        named = (shutil.which(program), *(one for one in arguments if os.path.isabs(one)))
        return [Path(one) for one in named if one and os.path.isfile(one)]

    @property
    def server(self) -> tuple[str, int]:
        """Return host and port of the mail server; the settings name one wherever `mail_to` does."""
        return host_and_port(self.smtp or "")
