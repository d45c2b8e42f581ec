"""Whether the bridge can do its work: packages, secrets and who may read them, certificate, folders.

Nothing is asked of MESH. Secrets are looked for and never kept or shown.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from meshctl.bridge.connect import certificate_validity, read_access, require_extra
from meshctl.bridge.secrets import CREDENTIALS_VARIABLE, secret_file
from meshctl.check.finding import Finding, error, remark, right, warning
from meshctl.check.folders import on_one_mount
from meshctl.check.surroundings import Surroundings
from meshctl.check.system import SCHEDULER, START_BRIDGE
from meshctl.daemon.lock import server_of
from meshctl.errors import ConfigError
from meshctl.settings.model import BridgeSettings

EXPIRES_SOON = timedelta(days=30)
_SECRETS = ("password", "shared_key", "private_key")


def check_bridge(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at all that the bridge needs, if the settings have one."""
    bridge = surroundings.settings.bridge
    if bridge.environment is None:
        return
    yield from _packages()
    yield _access(bridge, os.environ)
    yield from _closed(bridge, os.environ)
    yield from _certificate(surroundings, os.environ)
    yield from _folders(surroundings)
    yield _alone(surroundings)
    yield _running(surroundings)


def _packages() -> Iterator[Finding]:
    try:
        require_extra()
    except ConfigError as problem:
        yield error("bridge.packages", str(problem), "Install them where meshctl is installed.")
    else:
        yield right("bridge.packages", "What the bridge needs is installed.")


def _access(bridge: BridgeSettings, environ: Mapping[str, str]) -> Finding:
    name = "bridge.access"
    try:
        read_access(bridge, environ)
    except ConfigError as problem:
        if elsewhere := _known_elsewhere(bridge, environ):
            return remark(
                name,
                f"What {', '.join(elsewhere)} of [bridge] lead to is known to the service alone, so it was"
                " not looked at here.",
                "The bridge itself says at its start what is missing.",
            )
        return error(name, str(problem), "Correct the setting, or put what it names in its place.")
    return right(name, "Password, shared key and certificate are where [bridge] says, and fit together.")


def _known_elsewhere(bridge: BridgeSettings, environ: Mapping[str, str]) -> list[str]:
    """Return the settings whose secrets only a running service has: credentials and its environment."""
    found = []
    for setting in (*_SECRETS, "certificate", "ca_bundle"):
        kind, _, name = (getattr(bridge, setting) or "").partition(":")
        if (kind == "credential" and not environ.get(CREDENTIALS_VARIABLE)) or (
            kind == "env" and not environ.get(name)
        ):
            found.append(setting)
    return found


def _closed(bridge: BridgeSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the permissions of the files that hold secrets."""
    for setting in _SECRETS:
        path = _file_of(bridge, setting, environ)
        mode = None if path is None else _mode_of(path)
        if path is None or mode is None:
            continue
        name = f"mode.bridge.{setting}"
        if mode & stat.S_IRWXO or mode & stat.S_IWGRP:
            yield error(
                name,
                f"Others can read or change {path} (bridge.{setting}): its permissions are {mode:04o}.",
                f"Take the rights away: chmod 0600 {path}, or 0640 with a group of the service's user alone."
                " Who may have read it may use the mailbox: have the secret changed.",
            )
        else:
            yield right(name, f"{path} is closed to others.")


def _file_of(bridge: BridgeSettings, setting: str, environ: Mapping[str, str]) -> Path | None:
    """Return the file that a secret is in; None if it is in none, or in one of the service's."""
    reference = getattr(bridge, setting)
    kind = (reference or "").partition(":")[0]
    if kind == "env" and setting == "private_key":
        return Path(environ[reference[4:]]) if environ.get(reference[4:]) else None
    return Path(reference.partition(":")[2]) if kind == "file" else None


def _certificate(surroundings: Surroundings, environ: Mapping[str, str]) -> Iterator[Finding]:
    name, bridge = "bridge.certificate", surroundings.settings.bridge
    if bridge.certificate is None or "certificate" in _known_elsewhere(bridge, environ):
        return
    path = secret_file("certificate", bridge.certificate, environ)
    try:
        begins_at, ends_at = certificate_validity(path)
    except ValueError:
        yield error(
            name,
            f"{path} (bridge.certificate) is no certificate in PEM, or a damaged one.",
            "Put the PEM file from NHS England there.",
        )
        return
    except (ImportError, OSError):
        # The findings about packages and access say so.
        return
    rest = ends_at - surroundings.now
    day = f"{ends_at:%Y-%m-%d}"
    renew = (
        "Ask NHS England for a new certificate (a new key, a signing request, the MESH certificate form); put"
        " both files in place and restart the bridge."
    )
    if rest <= timedelta():
        yield error(
            name, f"The client certificate {path} expired on {day}: MESH lets nobody in with it.", renew
        )
    elif begins_at > surroundings.now:
        yield error(
            name,
            f"The client certificate {path} holds only from {begins_at:%Y-%m-%d} on.",
            "See that the clock of this computer is right, or put the earlier certificate back.",
        )
    elif rest <= EXPIRES_SOON:
        yield warning(name, f"The client certificate {path} expires in {rest.days} days, on {day}.", renew)
    else:
        yield right(name, f"The client certificate holds until {day}.")


def _folders(surroundings: Surroundings) -> Iterator[Finding]:
    settings = surroundings.settings
    work, mailbox = settings.bridge.work, settings.mailbox.folder
    if not os.path.isdir(mailbox):
        return
    name = "one_file_system.bridge"
    if on_one_mount(work, settings.mailbox.in_folder) and on_one_mount(work, settings.mailbox.out_folder):
        yield right(name, "Files are moved between the mailbox and the bridge's work folder.")
        return
    yield error(
        name,
        f"{work} and {mailbox} (bridge.work, mailbox.folder) are not on one mount of one file system, so the"
        " bridge can take nothing from OUT and put nothing into IN.",
        "Set bridge.work to a folder beside the mailbox. Under systemd each ReadWritePaths is a mount of its"
        " own: give the unit one parent of both.",
    )


def _alone(surroundings: Surroundings) -> Finding:
    name = "bridge.alone"
    if surroundings.settings.mailbox.client is None:
        return right(name, "The settings name no MESH Client beside the bridge.")
    return error(
        name,
        "The settings name both a MESH Client (mailbox.client_config) and a bridge (bridge.environment) for"
        " this mailbox. Two that take from one OUT may send a letter twice.",
        "Let one serve it: take the mailbox out of the MESH Client and client_config out of the settings, or"
        ' set environment = "" in [bridge].',
    )


def _running(surroundings: Surroundings) -> Finding:
    name = "bridge.runs"
    server = server_of(surroundings.settings.mailbox)
    if server is None:
        return remark(
            name,
            "No bridge runs, so nothing goes to MESH or comes from there at present.",
            f"Start it: {START_BRIDGE}, or meshctl bridge. Right as it is if {SCHEDULER} calls"
            " meshctl bridge --once.",
        )
    return right(name, f"The mailbox is served by {server}.")


def _mode_of(path: Path) -> int | None:
    if os.name == "nt":
        return None
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
