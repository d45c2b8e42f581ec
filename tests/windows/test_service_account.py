"""As whom a service runs, what its account is granted, and where it is not installed at all."""

import json
import os
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from meshctl.errors import MeshctlError
from tests.check.access import ALL, let_in, let_nobody_in
from tests.site import Finished, Site, make_site

# The service manager locks its database while it makes a service.
pytestmark = pytest.mark.xdist_group("services")

_win32service: Any = import_module("win32service")
_account: Any = import_module("meshctl.platform.service_account")


@pytest.fixture
def mailbox_id(tmp_path: Path) -> str:
    """Services have one name a machine, and tests run beside each other."""
    return f"X27{zlib.crc32(os.fsencode(tmp_path)) % 10**8}"


@pytest.fixture
def site(tmp_path: Path, mailbox_id: str) -> Iterator[Site]:
    site = make_site(tmp_path / "site", mailbox={"id": mailbox_id})
    yield site
    site.meshctl("service", "remove")


def _runs_as(name: str) -> str | None:
    """Return the account of a service; None if there is no such service."""
    manager = _win32service.OpenSCManager(None, None, 1)
    try:
        service = _win32service.OpenService(manager, name, 1)
    except _win32service.error:
        return None
    return str(_win32service.QueryServiceConfig(service)[7])


def _install(site: Site, *arguments: str) -> Finished:
    return site.meshctl("service", "install", *arguments)


def test_it_runs_as_an_account_of_its_own(site: Site, mailbox_id: str) -> None:
    """Not as LocalSystem; it is told as commands of icacls what the account is granted."""
    account = rf"NT SERVICE\meshctl-{mailbox_id}"
    (site.root / "state").rmdir()

    ended = _install(site)

    told = ended.stdout.splitlines()
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert _runs_as(f"meshctl-{mailbox_id}") == account
    assert told[0] == f"meshctl-{mailbox_id} is installed, and runs as {account}. Granted to it:"
    assert f'  icacls {site.outbox} /grant "{account}:(OI)(CI)(M,DC)"' in told
    assert f'  icacls {site.state} /grant "{account}:(OI)(CI)(M,DC)"' in told
    assert f'  icacls {site.out.with_name("SENT")} /grant "{account}:(OI)(CI)RX"' not in told
    assert told[-1].endswith(f"{site.settings_file} service start")
    assert site.state.is_dir()


def test_check_judges_as_the_account_of_the_service(site: Site, mailbox_id: str) -> None:
    """Whoever checks may do more than the service. Wine forgets what was granted: all of it is missed."""
    account = rf"NT SERVICE\meshctl-{mailbox_id}"
    before = site.meshctl("check", "--json")
    granted = [line.strip() for line in _install(site).stdout.splitlines() if line.startswith("  icacls")]

    ended = site.meshctl("check", "--json")

    name = f"service.meshctl-{mailbox_id}"
    told = [one["advice"] for one in json.loads(ended.stdout)["checks"] if one["name"] == name]
    assert name not in before.stdout
    assert f'Let it: icacls {site.out} /grant "{account}:(OI)(CI)(M,DC)"' in told
    assert {f"Let it: {line}" for line in granted} >= set(told)


def test_nothing_is_said_of_grants_that_are_taken_back(site: Site, mailbox_id: str) -> None:
    """Those of the service's own account; what is not there any more has none."""
    assert _install(site).exit_code == 0
    site.out.rmdir()

    ended = site.meshctl("service", "remove")

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout == f"meshctl-{mailbox_id} is removed.\n"


def test_a_service_of_other_settings_is_left_alone(site: Site, mailbox_id: str, tmp_path: Path) -> None:
    """Two settings files may be of one mailbox by mistake; whose the service is, is told."""
    assert _install(site).exit_code == 0
    twin = make_site(tmp_path / "twin", mailbox={"id": mailbox_id})

    ended = [twin.meshctl("service", word) for word in ("install", "stop", "remove", "status")]

    assert {one.exit_code for one in ended} == {1}
    assert all(f"was installed with the settings {site.settings_file}" in one.stderr for one in ended)
    assert _runs_as(f"meshctl-{mailbox_id}") is not None


def test_an_account_with_a_password_wants_a_console(site: Site) -> None:
    """Without one the question would wait for ever, unseen."""
    ended = _install(site, "--user", r"BUILTIN\Administrators")

    assert ended.exit_code == 2
    assert "asked for at a console" in ended.stderr


def test_an_open_program_is_not_installed(site: Site, mailbox_id: str) -> None:
    """Whoever could change it would act as the service."""
    program = site.root / "alert.cmd"
    program.write_text("")
    site.settle(mailbox={"id": mailbox_id}, alerts={"command": [str(program)]})
    let_in(program, ALL)

    ended = _install(site)

    assert ended.exit_code == 2
    assert "Everybody on this computer can change what meshctl runs" in ended.stderr
    assert "--allow-world-writable" not in ended.stderr
    assert _runs_as(f"meshctl-{mailbox_id}") is None


def test_folders_on_a_share_want_an_account_of_the_domain(site: Site, mailbox_id: str) -> None:
    """The service's own account is not known there; an account that there is not is refused."""
    site.settle(mailbox={"id": mailbox_id}, reports={"deliver": r"\\files\mesh\arrived"})

    ended = _install(site)
    other = _install(site, "--user", r"TRUST\mesh$")

    said = " ".join(ended.stderr.split())
    assert (ended.exit_code, other.exit_code) == (2, 1)
    assert r"\\files\mesh\arrived: on a share" in said
    assert r"--user DOMAIN\NAME$" in said
    assert r"Windows has no account TRUST\mesh$" in other.stderr
    assert _runs_as(f"meshctl-{mailbox_id}") is None


def test_who_may_not_read_the_settings_sees_how_the_services_are(site: Site, mailbox_id: str) -> None:
    """A help desk for example: it needs no right but to query services."""
    assert _install(site).exit_code == 0
    let_nobody_in(site.settings_file)

    ended = site.meshctl("service", "status")

    let_in(site.settings_file)
    assert ended.exit_code == 1
    assert f"meshctl-{mailbox_id} is stopped." in ended.stdout.splitlines()


@pytest.mark.parametrize(
    ("user", "sid", "has_password"),
    [
        (
            r"NT SERVICE\TrustedInstaller",
            "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
            False,
        ),
        ("LocalSystem", "S-1-5-18", False),
        (r"NT AUTHORITY\NetworkService", "S-1-5-20", False),
        ("BUILTIN\\Administrators", "S-1-5-32-544", True),
        (r"TRUST\mesh$", None, False),
        (r"TRUST\mesh", None, True),
    ],
)
def test_which_accounts_have_a_password(user: str, sid: str | None, has_password: bool) -> None:
    """Not those of the system, nor those whose password a domain changes."""
    assert _account.needs_password(user) is has_password
    if sid is not None:
        assert _account.sid_of(user) == sid
        is_known_by_number = sid in {"S-1-5-18", "S-1-5-20"}
        assert _account.for_icacls(user) == (f"*{sid}" if is_known_by_number else user)
    else:
        with pytest.raises(MeshctlError, match="has no account"):
            _account.sid_of(user)
