"""What check says of access lists that Windows alone keeps, and Wine forgets: here they are given as text."""

from pathlib import Path

import pytest

from meshctl.check.access_lists import check_service_account
from meshctl.check.finding import Finding, Setup
from meshctl.clock import now
from meshctl.platform import host
from meshctl.platform.access_lists import SYSTEM, AccessList, service_sid
from meshctl.settings.load import load_settings
from tests.site import MAILBOX_ID, Site

SERVICE = f"meshctl-{MAILBOX_ID}"
OWN, ACCOUNT = service_sid(SERVICE), rf"NT SERVICE\{SERVICE}"
IN_DOMAIN = "S-1-5-21-1004336348-1177238915-682003330"
OPEN = "D:(A;OICI;FA;;;WD)"


def _findings(
    site: Site, monkeypatch: pytest.MonkeyPatch, lists: dict[Path, str], account: tuple[str, str] | None
) -> list[Finding]:
    """Return what is found where the paths have these lists, and all others are open."""
    monkeypatch.setattr(host, "service_account", lambda name: account if name == SERVICE else None)
    monkeypatch.setattr(host, "access_list", lambda path: AccessList.of(lists.get(path, OPEN)))
    return list(check_service_account(Setup(load_settings(site.settings_file, {}), now())))


def test_without_a_service_nothing_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the Task Scheduler runs meshctl."""
    assert _findings(site, monkeypatch, {site.out: "D:"}, None) == []


def test_what_the_service_may_not_do_is_named_with_its_command(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each path by itself; to read is enough where it only reads."""
    read = f"D:(A;OICI;0x1200a9;;;{OWN})"
    lists = {site.out: read, site.out.with_name("SENT"): read, site.outbox: f"D:(A;OICI;0x1301bf;;;{OWN})"}

    [found] = _findings(site, monkeypatch, lists, (ACCOUNT, OWN))

    assert (found.name, found.ok) == (f"service.{SERVICE}", False)
    assert found.text == f"{ACCOUNT}, as which the service {SERVICE} runs, may not change {site.out}."
    assert found.advice == f'Let it: icacls {site.out} /grant "{ACCOUNT}:(OI)(CI)(M,DC)"'


@pytest.mark.parametrize("sid", ["S-1-5-11", "S-1-5-32-545", "S-1-5-6", OWN])
def test_rights_of_every_service_count(sid: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Authenticated Users, Users and SERVICE; not INTERACTIVE or Domain Users, which no service is in."""
    [found] = _findings(site, monkeypatch, {site.out: f"D:(A;OICI;FA;;;{sid})"}, (ACCOUNT, OWN))

    assert found.ok


@pytest.mark.parametrize("sid", ["S-1-5-4", "S-1-5-2", f"{IN_DOMAIN}-513"])
def test_rights_of_persons_do_not_count(sid: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = _findings(site, monkeypatch, {site.out: f"D:(A;OICI;FA;;;{sid})"}, (ACCOUNT, OWN))

    assert not found.ok


def test_of_an_account_of_the_domain_the_groups_are_not_known(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in the one that is let in: that is told, and is no error."""
    account = (r"TRUST\mesh$", f"{IN_DOMAIN}-1131")
    lists = {site.out: f"D:(A;OICI;FA;;;{IN_DOMAIN}-1200)"}

    [found] = _findings(site, monkeypatch, lists, account)

    assert found.severity == "info"
    assert "is not known here" in found.text


def test_the_system_has_the_rights_of_administrators(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = _findings(site, monkeypatch, {site.out: "D:(A;OICI;FA;;;BA)"}, ("LocalSystem", SYSTEM))

    assert found.ok
