"""Who may do what on Windows, by access lists: senders, services, and the MESH Client with what is in OUT.

Of a group of the site's own it is not looked up who is in it: its name is shown. SYSTEM, administrators, the
service and this user are not senders, and are not named.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from meshctl.check.finding import Finding, Setup, error, listed, note, ok, warning
from meshctl.mesh.message_id import is_message_id
from meshctl.platform import host, shell, system
from meshctl.platform.access_lists import (
    ADMINISTRATORS,
    OF_SERVICES,
    REMOVE_OTHERS,
    SYSTEM,
    TRUSTED,
    AccessList,
    Entry,
    is_of_domain,
    is_of_service,
    service_sid,
)
from meshctl.platform.common import service_name
from meshctl.settings.folders import secret_files, used_folders
from meshctl.settings.service_rights import Need, needs

_ADMINS = "besides SYSTEM and administrators"


def check_lists(setup: Setup) -> Iterator[Finding]:
    """Say who may drop files and who may read what is kept; check that senders can do no more than drop."""
    outbox, known = setup.settings.staging.outbox, _ours(setup)
    senders = _others_who(outbox, known, lambda entry: entry.may_write)
    yield _droppers("access.outbox", outbox, senders)
    for name in setup.settings.use_cases:
        of_folder = _others_who(outbox / name, known, lambda entry: entry.may_write)
        if of_folder and of_folder != senders:
            yield _droppers(f"access.outbox.{name}", outbox / name, of_folder)
            senders |= of_folder
    for setting, path in secret_files(setup.settings):
        yield from _secret(f"access.{setting}", setting, path, known, senders)
    for place in used_folders(setup.settings):
        # Whoever dropped a letter may read why it was rejected.
        if place.is_ours and place.name not in {"outbox", "bridge"}:
            yield from _kept(place.name, place.path, known, senders)


def _ours(setup: Setup) -> set[str]:
    names = (service_name(setup.settings.mailbox.id, bridge=bridge) for bridge in (False, True))
    # Before the first start nothing is the service's yet.
    owner = _owner(setup.settings.state.folder) or _owner(setup.settings.file)
    return {*TRUSTED, *map(service_sid, names), *([owner] if owner else [])}


def _others_who(path: Path, known: set[str], may: Callable[[Entry], bool]) -> set[str]:
    """Return who else may do something with a file or folder; nobody for what is not there."""
    found = host.access_list(path)
    return set() if found is None else {one.sid for one in found.allowed() if may(one)} - known


def _droppers(name: str, folder: Path, senders: set[str]) -> Finding:
    if not senders:
        return ok(name, f"Nobody but the service may drop files into {folder}, {_ADMINS}.")
    return ok(name, f"Who may drop files into {folder}, {_ADMINS}: {_names(senders)}.")


def _secret(name: str, setting: str, path: Path, known: set[str], senders: set[str]) -> Iterator[Finding]:
    """Check that no sender, and not everybody, may read or change a secret."""
    found = host.access_list(path)
    if found is None:
        # It is missing, or closed to the user who checks: the check of what it is for says so.
        return
    readers = _others_who(path, known, lambda entry: entry.may_read or entry.may_write)
    text = f"{_names(readers)} can read or change {path} ({setting})"
    advice = (
        f"Close it: {shell.close_command(path)}. Whoever has read it can use the mailbox: have the secret"
    )
    if any(entry.is_everybody and entry.sid in readers for entry in found.allowed()):
        # The MESH Client's own file is not ours to judge.
        tell = warning if setting == "mailbox.client_config" else error
        yield tell(name, f"{text}.", f"{advice} changed.")
    elif readers & senders:
        yield error(name, f"{text}, and may drop files.", f"{advice} changed.")
    else:
        besides = f": {_names(readers)}" if readers else ": the service alone"
        yield ok(name, f"Who can read {path} ({setting}), {_ADMINS}{besides}.")


def _kept(name: str, folder: Path, known: set[str], senders: set[str]) -> Iterator[Finding]:
    """Check that no sender may read what is kept in a folder; say who may read letters."""
    readers = _others_who(folder, known, lambda entry: entry.may_read)
    is_of_senders = name == "rejected"
    if readers & senders and not is_of_senders:
        yield warning(
            f"access.{name}",
            f"{_names(readers & senders)} can read {folder}, where the letters of others are, and may drop"
            " files.",
            f"Senders need the outbox alone. Close it: {shell.close_command(folder)}",
        )
    elif is_of_senders or name == "archive":
        besides = f": {_names(readers)}" if readers else ": the service alone"
        yield ok(f"access.{name}", f"Who can read {folder}, {_ADMINS}{besides}.")


def check_service_account(setup: Setup) -> Iterator[Finding]:
    """Check that the accounts of the services that are installed may do what these need."""
    for bridge in (False, True):
        name = service_name(setup.settings.mailbox.id, bridge=bridge)
        if (found := host.service_account(name)) is not None:
            yield from _may_work(name, *found, needs(setup.settings, bridge=bridge))


def _may_work(name: str, account: str, sid: str, needed: Iterable[Need]) -> Iterator[Finding]:
    accounts = {sid, *host.local_groups(sid), *OF_SERVICES, *({ADMINISTRATORS} if sid == SYSTEM else ())}
    all_open = True
    for need in needed:
        found = host.access_list(need.path)
        # On a share the service's own account comes as this computer; what is missing is reported elsewhere.
        if found is None or (is_of_service(sid) and _is_on_share(need.path)):
            continue
        # Without the right to remove what others have put there it can do most.
        if not found.lacks(accounts, need.rights & ~REMOVE_OTHERS):
            continue
        all_open = False
        yield _may_not(name, account, need, found, Entry(sid, need.rights, need.scope))
    if all_open:
        yield ok(f"service.{name}", f"{account}, as which the service {name} runs, may do what it needs.")


def _is_on_share(path: Path) -> bool:
    mount = system.mount_of(path)
    return mount is not None and mount.is_network


def _may_not(name: str, account: str, need: Need, found: AccessList, grant: Entry) -> Finding:
    change = "change" if grant.may_write else "read"
    advice = f'icacls {shell.quoted(need.path)} /grant "{grant.for_icacls(account)}"'
    others = {one.sid for one in found.allowed() if is_of_domain(one.sid)} - {grant.sid}
    if is_of_domain(grant.sid) and others:
        return note(
            f"service.{name}",
            f"{need.path} is open to {_names(others)}: whether {account}, as which the service {name} runs,"
            f" is one of them, and may {change} it, is not known here.",
            f"If it is not: {advice}",
        )
    return error(
        f"service.{name}",
        f"{account}, as which the service {name} runs, may not {change} {need.path}.",
        f"Let it: {advice}",
    )


def check_client_lists(setup: Setup) -> Iterator[Finding]:
    """Check that the MESH Client may read our newest file in OUT, or one that is put there."""
    mailbox = setup.settings.mailbox
    out = host.access_list(mailbox.out_folder)
    if out is None or setup.settings.bridge.environment is not None:
        return
    came = _newest(mailbox.in_folder)
    client = _owner(came or mailbox.in_folder)
    if client is None:
        return
    name = "SYSTEM or an administrator" if client in TRUSTED else host.account_name(client)
    whose = "what is in IN" if came else "IN, in which nothing is yet: look again when something has come"
    yield ok("client.user", f"The MESH Client seems to run as {name}, the owner of {whose}.")
    newest = _newest(mailbox.out_folder, lambda stem: is_message_id(stem.removeprefix(mailbox.file_prefix)))
    of_newest = None if newest is None else host.access_list(newest)
    what = f"our newest file in OUT, {newest}" if of_newest else f"what is put into {mailbox.out_folder}"
    yield _may_read(client, name, of_newest or out.of_new_file(), what, mailbox.out_folder)


def _may_read(client: str, name: str, found: AccessList, what: str, out_folder: Path) -> Finding:
    accounts = {client, *host.local_groups(client)}
    if client in TRUSTED:
        accounts |= {SYSTEM, ADMINISTRATORS}
    if found.may_read(accounts):
        return ok("client.reads", f"{name} may read {what}.")
    others = {entry.sid for entry in found.allowed() if entry.may_read} - TRUSTED
    advice = f'Let it: icacls {shell.quoted(out_folder)} /grant "{name}:(OI)(CI)M"'
    if others:
        return note(
            "client.reads",
            f"{what[0].upper()}{what[1:]} is open to {_names(others)}: whether {name}, as whom the MESH"
            " Client seems to run, is one of them is not known here.",
            f"If it is not: {advice[0].lower()}{advice[1:]}",
        )
    return error(
        "client.reads", f"{name}, as whom the MESH Client seems to run, may not read {what}.", advice
    )


def _owner(path: Path) -> str | None:
    found = host.access_list(path)
    return None if found is None else found.owner


def _newest(folder: Path, counts: Callable[[str], bool] = bool) -> Path | None:
    """Return the newest file in a folder whose stem counts; None if there is none."""
    try:
        with os.scandir(folder) as entries:
            files = [one for one in entries if one.is_file() and counts(os.path.splitext(one.name)[0])]
            newest = max(files, key=lambda one: one.stat().st_mtime_ns, default=None)
    except OSError:
        return None
    return None if newest is None else Path(newest.path)


def _names(sids: set[str]) -> str:
    return listed(sorted(map(host.account_name, sids)))
