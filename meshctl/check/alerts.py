"""Whether alerts reach somebody: mail server, command, secret, network, and what waits to be sent.

No mail is sent, no password shown to a server, no command run: `meshctl alert --test` does that.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from meshctl.check.finding import Finding, Setup, error, note, ok, warning
from meshctl.check.rights import check_secret_mode
from meshctl.daemon.alert_mail import MailChannel
from meshctl.daemon.digest import UndeliveredError
from meshctl.daemon.lock import holder_process
from meshctl.daemon.waiting import FILE_NAME, read_waiting
from meshctl.errors import ConfigError
from meshctl.platform import host, shell
from meshctl.settings.alerts import AlertSettings
from meshctl.settings.model import Settings
from meshctl.settings.secrets import file_of, is_only_in_service, read_secret


def check_alerts(setup: Setup) -> Iterator[Finding]:
    """Check all that alerts need, as far as that disturbs nobody."""
    alerts = setup.settings.alerts
    if not alerts.mail_to and not alerts.command:
        yield note(
            "alerts",
            "Alerts are sent to nobody: failures and missed deadlines are only in the log.",
            "Set mail_to, mail_from and smtp in [alerts], or command; systemd/monitoring.md has examples.",
        )
        return
    if alerts.command:
        yield _command(alerts.command[0])
    if alerts.mail_to:
        yield from _password(alerts, os.environ)
        yield _mail_server(setup.settings)
    yield from _network(setup.settings)
    yield from _waiting("alerts.failed", setup.settings.state.folder / FILE_NAME)
    yield from _waiting("bridge.alerts", setup.settings.bridge_work / FILE_NAME)


def _command(program: str) -> Finding:
    """Check that the alert command can be run, and that others cannot change it."""
    name, found = "alerts", shutil.which(program)
    if found is None and os.path.exists(program):
        return error(
            name,
            f"The alert command {program} cannot be executed (alerts.command).",
            shell.make_runnable(program),
        )
    if found is None:
        return error(
            name,
            f"The alert command {program} does not exist (alerts.command).",
            "Correct the path in [alerts] command, or install the program.",
        )
    if host.everybody_may_write(Path(found)):
        return error(
            name,
            f"Everybody on this computer can change the alert command {found}, which runs as meshctl's user.",
            f"Take the right away: {shell.protect_command(Path(found))}",
        )
    return ok(name, f"The alert command {found} can be run.")


def _password(alerts: AlertSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check that the password of the mail server can be read, and by nobody else."""
    name, reference = "alerts.password", alerts.password
    if reference is None:
        return
    if is_only_in_service(reference, environ):
        yield note(
            name,
            f"Only the service can read what alerts.password refers to, {reference}; it was not checked.",
            "meshctl alert --test has the running daemon send a mail, and says what came of it.",
        )
        return
    try:
        read_secret(name, reference, environ)
    except ConfigError as problem:
        yield error(name, str(problem), "Correct the setting, or provide what it names.")
        return
    found = check_secret_mode(name, file_of(reference), ", and have the password changed.")
    if found is not None and not found.ok:
        yield found
    else:
        yield ok(name, "The password of the mail server can be read.")


def _mail_server(settings: Settings) -> Finding:
    """Connect to the mail server, greet it, encrypt if the settings say so, and leave."""
    name, smtp = "alerts.mail", settings.alerts.smtp
    try:
        MailChannel(settings).try_out()
    except UndeliveredError as problem:
        return error(name, problem.text, problem.advice)
    encrypted = ", encrypted" if settings.alerts.starttls else ""
    return ok(name, f"The mail server {smtp} answers{encrypted}; meshctl alert --test sends a mail.")


def _network(settings: Settings) -> Iterator[Finding]:
    """Check that what is reached from here the daemon reaches too."""
    process_id = holder_process(settings.state.folder)
    if process_id is None or host.shares_network(process_id) is not False:
        return
    yield warning(
        "alerts.network",
        "The daemon that runs has a network of its own (PrivateNetwork in its unit), so it does not reach"
        " what is reached from here.",
        "Install systemd/meshctl-alerts.conf as a drop-in, restart, and try meshctl alert --test.",
    )


def _waiting(name: str, file: Path) -> Iterator[Finding]:
    """Check that nothing waits because sending fails."""
    try:
        waiting, failures = read_waiting(file)
    except (OSError, ValueError, sqlite3.Error):
        return
    for failure in failures:
        yield error(
            name,
            f"Alerts could not be sent by {failure.channel} since {failure.since}: {failure.text}"
            f" Waiting: {len(waiting)}.",
            failure.advice,
        )
