"""Who may read and write: what `check` and `run` make of access lists."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from meshctl.checks.access_lists import access_list, close_command
from tests.site import Site, make_site

# pywin32 is there on Windows only.
win32security: Any = import_module("win32security")
ntsecuritycon: Any = import_module("ntsecuritycon")
_EVERYBODY = win32security.ConvertStringSidToSid("S-1-1-0")
_SYSTEM = win32security.ConvertStringSidToSid("S-1-5-18")
_ALL = ntsecuritycon.FILE_ALL_ACCESS


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site that only the system and its owner can get at."""
    site = make_site(tmp_path / "site")
    site.run_once()
    for path in (site.root, *site.root.rglob("*")):
        _let_in(path)
    return site


def test_what_everybody_may_do_is_told(site: Site) -> None:
    """A reader cannot write, a writer can."""
    assert not [entry for entry in access_list(site.outbox) if entry.is_everybody]

    _let_in(site.outbox, ntsecuritycon.FILE_GENERIC_READ)
    (entry,) = [entry for entry in access_list(site.outbox) if entry.is_everybody]
    assert (entry.may_read, entry.may_write, entry.may_replace) == (True, False, False)

    _let_in(site.outbox, _ALL)
    (entry,) = [entry for entry in access_list(site.outbox) if entry.is_everybody]
    assert (entry.may_read, entry.may_write, entry.may_replace) == (True, True, True)


def test_an_outbox_for_everybody_is_refused(site: Site) -> None:
    """Neither check nor run takes it, and both say what closes it."""
    _let_in(site.outbox, _ALL)

    for command in (("check",), ("run", "--once")):
        ended = site.meshctl(*command)
        said = " ".join((ended.stdout + ended.stderr).split())
        assert ended.exit_code != 0
        assert "Everybody on this computer can write in" in said
        assert "icacls" in said


def test_check_says_who_may_read_the_key(site: Site) -> None:
    """An open key is an error; a closed one is shown with those whom it is open to."""
    closed = site.meshctl("check", "--json")
    _let_in(site.state / "key", ntsecuritycon.FILE_GENERIC_READ)
    opened = site.meshctl("check", "--json")

    assert "is open to: SYSTEM" in closed.stdout
    assert "(the key) is open to everybody on this computer" in opened.stdout


def test_a_path_with_blanks_is_quoted() -> None:
    """The command can be copied as it is."""
    assert close_command(Path(r"C:\mesh out")).startswith(r'icacls "C:\mesh out" /inheritance:d')


def _let_in(path: Path, everybody: int = 0) -> None:
    """Give the system and the owner all rights, and everybody those."""
    entries = win32security.ACL()
    entries.AddAccessAllowedAce(win32security.ACL_REVISION, _ALL, _SYSTEM)
    about = win32security.OWNER_SECURITY_INFORMATION
    owner = win32security.GetFileSecurity(str(path), about).GetSecurityDescriptorOwner()
    entries.AddAccessAllowedAce(win32security.ACL_REVISION, _ALL, owner)
    if everybody:
        entries.AddAccessAllowedAce(win32security.ACL_REVISION, everybody, _EVERYBODY)
    security = win32security.SECURITY_DESCRIPTOR()
    security.SetSecurityDescriptorDacl(True, entries, False)
    win32security.SetFileSecurity(str(path), win32security.DACL_SECURITY_INFORMATION, security)
