"""Whether alerts reach somebody: mail server, command, secret, network, and what waits to be told.

No mail is sent, no password shown to a server, no command run: `meshctl alert --test` does that.
"""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from meshctl.check.finding import Finding, Setup, error, note, ok, warning
from meshctl.daemon.alert_mail import MailChannel
from meshctl.daemon.digest import UndeliveredError
from meshctl.daemon.lock import holder_process
from meshctl.daemon.waiting import FILE_NAME, read_waiting
from meshctl.errors import ConfigError
from meshctl.platform import host
from meshctl.settings.alerts import AlertSettings
from meshctl.settings.model import Settings
from meshctl.settings.secrets import is_only_in_service, read_secret


def check_alerts(setup: Setup) -> Iterator[Finding]:
    """Check all that alerts need, as far as that harms nobody."""
    alerts = setup.settings.alerts
    if not alerts.mail_to and not alerts.command:
        yield note(
            "alerts",
            "Nobody is told of alerts: failures and missed deadlines are only in the log.",
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
            f"Make it executable: chmod +x {program}",
        )
    if found is None:
        return error(
            name,
            f"The alert command {program} does not exist (alerts.command).",
            "Correct the path in [alerts] command, or install the program.",
        )
    if (host.mode_of(found) or 0) & stat.S_IWOTH:
        return error(
            name,
            f"Everybody on this computer can change the alert command {found}, which runs as meshctl's user.",
            f"Take the right away: chmod o-w {found}",
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
    kind, _, place = reference.partition(":")
    mode = host.mode_of(place) if kind == "file" else None
    if mode is not None and (mode & stat.S_IRWXO or mode & stat.S_IWGRP):
        yield error(
            f"mode.{name}",
            f"Others can read or change {place} (alerts.password): its permissions are {mode:04o}.",
            f"Take the rights away: chmod 0600 {place}, or 0640 with a group of the service's user alone, and"
            " have the password changed.",
        )
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
    """Check that nothing waits to be told because telling fails."""
    try:
        waiting, failures = read_waiting(file)
    except (OSError, ValueError, sqlite3.Error):
        return
    for failure in failures:
        yield error(
            name,
            f"Alerts have not been told by {failure.channel} since {failure.since}: {failure.text}"
            f" {len(waiting)} wait.",
            failure.advice,
        )
