"""Whether the bridge can do its work: packages, secrets and who may read them, certificate, folders.

MESH is not called. Secrets are read to see that they exist, and never kept or shown.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from meshctl.bridge.connect import certificate_validity, read_access, require_extra
from meshctl.check.finding import Finding, Setup, error, note, ok, warning
from meshctl.check.rights import check_secret_mode
from meshctl.daemon.mailbox_lock import server_of
from meshctl.daemon.reloading import change_unknown_to_bridge
from meshctl.errors import ConfigError
from meshctl.files.client_folders import SERVER_LOCK_NAME
from meshctl.files.mounts import on_one_mount
from meshctl.platform import host, shell
from meshctl.settings.model import BridgeSettings
from meshctl.settings.secrets import file_of, is_only_in_service, secret_file

EXPIRES_SOON = timedelta(days=30)
_MAY_BE_SILENT = timedelta(minutes=5)
_SECRETS = ("password", "shared_key", "private_key")
_REMEDY = ". Whoever has read it can use the mailbox: have the secret changed."


def check_bridge(setup: Setup) -> Iterator[Finding]:
    """Check all that the bridge needs, if the settings have one."""
    bridge = setup.settings.bridge
    if bridge.environment is None:
        return
    yield from _packages()
    yield _access(bridge, os.environ)
    yield from _closed(bridge, os.environ)
    yield from _certificate(setup, os.environ)
    yield from _folders(setup)
    yield _alone(setup)
    yield _running(setup)
    if (change := change_unknown_to_bridge(setup.settings)) is not None:
        yield warning("bridge.settings", change, f"Restart it: {shell.restart_bridge(setup.option)}.")


def _packages() -> Iterator[Finding]:
    try:
        require_extra()
    except ConfigError as problem:
        yield error("bridge.packages", str(problem), "Install them where meshctl is installed.")
    else:
        yield ok("bridge.packages", "What the bridge needs is installed.")


def _access(bridge: BridgeSettings, environ: Mapping[str, str]) -> Finding:
    name = "bridge.access"
    try:
        read_access(bridge, environ)
    except ConfigError as problem:
        if elsewhere := _only_in_service(bridge, environ):
            return note(
                name,
                f"Only the service can read what {', '.join(elsewhere)} of [bridge] refer to, so it was not"
                " checked here.",
                "The bridge itself says when it starts what is missing.",
            )
        return error(name, str(problem), "Correct the setting, or provide what it names.")
    return ok(name, "Password, shared key and certificate are where [bridge] says, and belong together.")


def _only_in_service(bridge: BridgeSettings, environ: Mapping[str, str]) -> list[str]:
    """Return the settings whose secrets only the running service has: credentials and its environment."""
    settings = (*_SECRETS, "certificate", "ca_bundle")
    return [setting for setting in settings if is_only_in_service(getattr(bridge, setting), environ)]


def _closed(bridge: BridgeSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the permissions of the files that hold secrets."""
    for setting in _SECRETS:
        path = _file_of(bridge, setting, environ)
        if (found := check_secret_mode(f"bridge.{setting}", path, _REMEDY)) is not None:
            yield found


def _file_of(bridge: BridgeSettings, setting: str, environ: Mapping[str, str]) -> Path | None:
    """Return the file that holds a secret; None if no file does, or only the service can read it."""
    reference = getattr(bridge, setting)
    kind = (reference or "").partition(":")[0]
    if kind == "env" and setting == "private_key":
        return Path(environ[reference[4:]]) if environ.get(reference[4:]) else None
    return file_of(reference)


def _certificate(setup: Setup, environ: Mapping[str, str]) -> Iterator[Finding]:
    name, bridge = "bridge.certificate", setup.settings.bridge
    if bridge.certificate is None or "certificate" in _only_in_service(bridge, environ):
        return
    path = secret_file("bridge.certificate", bridge.certificate, environ)
    try:
        begins_at, ends_at = certificate_validity(path)
    except ValueError:
        yield error(
            name,
            f"{path} (bridge.certificate) is not a certificate in PEM, or is damaged.",
            "Put the PEM file from NHS England there.",
        )
        return
    except (ImportError, OSError):
        # The findings about packages and access say so.
        return
    rest = ends_at - setup.now
    day = f"{ends_at:%Y-%m-%d}"
    renew = (
        "Ask NHS England for a new certificate (a new key, a signing request, the MESH certificate form); put"
        " both files in place and restart the bridge."
    )
    if rest <= timedelta():
        yield error(name, f"The client certificate {path} expired on {day}: MESH rejects it.", renew)
    elif begins_at > setup.now:
        yield error(
            name,
            f"The client certificate {path} is not valid before {begins_at:%Y-%m-%d}.",
            "Check the clock of this computer, or put the earlier certificate back.",
        )
    elif rest <= EXPIRES_SOON:
        yield warning(name, f"The client certificate {path} expires in {rest.days} days, on {day}.", renew)
    else:
        yield ok(name, f"The client certificate is valid until {day}.")


def _folders(setup: Setup) -> Iterator[Finding]:
    settings = setup.settings
    work, mailbox = settings.bridge_work, settings.mailbox.folder
    if not os.path.isdir(mailbox):
        return
    if os.path.isdir(work) and not host.is_own_folder(work, settings.state.folder):
        yield error(
            "bridge.work",
            f"{work} (bridge.work) is a link, or belongs to another user: the bridge does not start.",
            "Remove the link, or name the folder itself; give a folder that is another's to the bridge's user"
            " (chown), once its messages are settled.",
        )
    name = "one_file_system.bridge"
    if on_one_mount(work, settings.mailbox.in_folder) and on_one_mount(work, settings.mailbox.out_folder):
        yield ok(name, "Files can be moved between the mailbox and the bridge's work folder.")
        return
    yield note(
        name,
        f"{work} and {mailbox} (bridge.work, mailbox.folder) are not on one mount of one file system, so the"
        " bridge copies what it takes from OUT and puts into IN, instead of moving it.",
        "Nothing to do, if there is room for the copies. Without work in [bridge] its folder is in the"
        " mailbox's; under systemd each ReadWritePaths is a mount of its own.",
    )


def _alone(setup: Setup) -> Finding:
    name = "bridge.alone"
    if setup.settings.mailbox.client is None:
        return ok(name, "The settings name no MESH Client beside the bridge.")
    return error(
        name,
        "The settings name both a MESH Client (mailbox.client_config) and a bridge (bridge.environment) for"
        " this mailbox. If both take from OUT, a letter may be sent twice.",
        "Let one serve it: take the mailbox out of the MESH Client and client_config out of the settings,"
        ' or set environment = "" in [bridge].',
    )


def _running(setup: Setup) -> Finding:
    name = "bridge.runs"
    lock = setup.settings.mailbox.temp_folder / SERVER_LOCK_NAME
    if lock.is_symlink():
        return error(
            name,
            f"{lock} is a link, and a lock is never taken through one: the bridge does not start.",
            "Remove it, and see who may write in that folder.",
        )
    server = server_of(setup.settings.mailbox)
    if server is None:
        return note(
            name,
            "No bridge is running, so nothing is sent to MESH or received from it at present.",
            f"Start it: {shell.start_service(setup.option, bridge=True)}, or meshctl bridge. Nothing to do if"
            f" {shell.SCHEDULER} calls meshctl bridge --once.",
        )
    silent = _silent_for(setup)
    if silent is not None:
        return warning(
            name,
            f"The mailbox is served by {server}, and MESH has not answered it for"
            f" {int(silent.total_seconds()) // 60} minutes.",
            "Its log says why: meshctl logs --bridge.",
        )
    return ok(name, f"The mailbox is served by {server}.")


def _silent_for(setup: Setup) -> timedelta | None:
    """Return for how long MESH has not answered the bridge, if that is longer than it may be."""
    try:
        answered_at = setup.settings.answered_file.lstat().st_mtime
    except OSError:
        # It has not answered yet.
        return None
    silent = timedelta(seconds=setup.now.timestamp() - answered_at)
    return silent if silent > _MAY_BE_SILENT + 2 * setup.settings.bridge.poll else None
