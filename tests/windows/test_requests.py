"""Who can ask a daemon to stop or to reload: by named events, and by the service manager."""

import hashlib
import os
import secrets
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from meshctl.errors import MeshctlError
from meshctl.platform.common import RELOAD, STOP
from tests.site import Site, make_site
from tests.windows.letters import letter

_host: Any = import_module("meshctl.platform.windows_host")
_win32event: Any = import_module("win32event")
_win32security: Any = import_module("win32security")
_NO_SERVICE = 1060
# As it was given, or as Windows shows it: EVENT_ALL_ACCESS.
_ALL_RIGHTS = ("GA", "0x1f0003")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", staging={"default_use_case": "send-document"})


def _usual_name(state_folder: Path, request: str) -> str:
    """Return a name that everybody can work out from the path of the state folder."""
    folder = os.path.normcase(os.path.realpath(state_folder))
    return f"Global\\meshctl-{hashlib.sha256(folder.encode()).hexdigest()[:32]}-{request}"


@pytest.mark.parametrize(
    "make",
    [
        lambda name: _win32event.CreateEvent(None, False, True, name),
        # An event cannot have the name of a mutex.
        lambda name: _win32event.CreateMutex(None, False, name),
    ],
    ids=["set already", "another kind"],
)
def test_whoever_was_first_neither_stops_it_nor_keeps_it_from_starting(
    site: Site, make: Callable[[str], Any]
) -> None:
    """Nobody can know the name of the event of a daemon that is yet to start."""
    held = [make(_usual_name(site.state, request)) for request in (STOP, RELOAD)]

    with site.daemon() as daemon:
        site.place("letter.xml", letter(1))
        daemon.wait_for_pairs(1)
        assert _host.ask(site.state, STOP)

    assert len(held) == 2
    (line,) = site.events("daemon.stopping")
    assert line.values["asked_by"] == "a process of this user or an administrator"
    assert not _host.ask(site.state, STOP)


def test_who_may_set_it_is_said_by_a_list_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SYSTEM, administrators, and the account of the daemon; a name that is taken is refused."""
    monkeypatch.setattr(secrets, "token_hex", lambda _bytes: "known")
    name = f"Global\\meshctl-known-{STOP}"
    with _host.listening(tmp_path, {STOP: lambda: None}):
        event = _win32event.OpenEvent(0x20000, False, name)
        descriptor = _win32security.GetKernelObjectSecurity(event, 4)
    text = _win32security.ConvertSecurityDescriptorToStringSecurityDescriptor(descriptor, 1, 4)
    own = _win32security.ConvertSidToStringSid(_win32security.LookupAccountName(None, os.getlogin())[0])

    assert text in {f"D:P(A;;{rights};;;SY)(A;;{rights};;;BA)(A;;{rights};;;{own})" for rights in _ALL_RIGHTS}
    # It is still open here.
    with pytest.raises(FileExistsError), _host.listening(tmp_path, {STOP: lambda: None}):
        pass


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which rights are asked for, of the service manager and of the service, which is not there."""
    win32service: Any = import_module("win32service")
    error: Any = import_module("pywintypes").error
    asked: list[tuple[str, int]] = []
    open_manager = win32service.OpenSCManager

    def manager(machine: None, database: None, rights: int) -> Any:
        asked.append(("manager", rights))
        return open_manager(machine, database, rights)

    def service(_manager: Any, _name: str, rights: int) -> Any:
        asked.append(("service", rights))
        raise error(_NO_SERVICE, "OpenService", "no such service")

    monkeypatch.setattr(win32service, "OpenSCManager", manager)
    monkeypatch.setattr(win32service, "OpenService", service)
    return asked


@pytest.mark.parametrize(("act", "more"), [("state", 0), ("start", 0x10), ("stop", 0x20), ("remove", 0x20)])
def test_no_more_rights_are_asked_for_than_needed(opened: list[tuple[str, int]], act: str, more: int) -> None:
    """Who may only query a service learns its state: SC_MANAGER_CONNECT, SERVICE_QUERY_STATUS."""
    service: Any = import_module("meshctl.platform.service")

    with pytest.raises(MeshctlError, match="There is no such service"):
        getattr(service, act)("meshctl-NONE")

    assert opened == [("manager", 0x1), ("service", 0x4 | more)]
