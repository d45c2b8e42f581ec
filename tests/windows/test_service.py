"""The daemon and the bridge as services, under the service manager."""

import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.site import Finished, Site, make_site, wait_until
from tests.windows.letters import letter

# One at a time: the service manager locks its database while a service starts.
pytestmark = pytest.mark.xdist_group("services")

_ONLY_EVENTS = {"quiet_seconds": 120.0, "rescan_seconds": 120.0}


def _mailbox_id(folder: Path) -> str:
    return f"X26{zlib.crc32(os.fsencode(folder)) % 10**8}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    # Services have one name a machine, and tests run beside each other.
    site = make_site(
        tmp_path / "site",
        mailbox={"id": _mailbox_id(tmp_path)},
        staging={**_ONLY_EVENTS, "default_use_case": "send-document"},
    )
    yield site
    for more in ((), ("--bridge",)):
        site.meshctl("service", "remove", *more)


@pytest.mark.timeout(600)
def test_a_service_from_its_installation_to_its_end(site: Site) -> None:
    """It is installed, started, sends what is dropped, reads its settings again, stops and is removed."""
    name = f"meshctl-{_mailbox_id(site.root.parent)}"
    assert _service(site, "install").exit_code == 0
    assert (_service(site, "status").exit_code, _service(site, "status").stdout) == (
        1,
        f"{name} is stopped.\n",
    )
    again = _service(site, "install")
    assert (again.exit_code, "installed already" in again.stderr) == (1, True)

    assert _service(site, "start").exit_code == 0
    assert (_service(site, "status").exit_code, _service(site, "status").stdout) == (
        0,
        f"{name} is running.\n",
    )
    site.place("letter.xml", letter(1))
    wait_until(lambda: len(site.stems()) == 1, "a pair in OUT")
    assert site.meshctl("reload").exit_code == 0
    wait_until(lambda: site.events("daemon.reloaded"), "the settings to be read again")

    assert _service(site, "stop").exit_code == 0
    assert site.events("daemon.stopped")
    assert _service(site, "remove").exit_code == 0
    gone = _service(site, "status")
    assert (gone.exit_code, "There is no such service" in gone.stderr) == (1, True)


@pytest.mark.timeout(600)
def test_the_bridge_is_a_service_of_its_own(site: Site) -> None:
    """It starts though MESH cannot be reached, and stops."""
    (site.root / "secret").write_text("not one")
    secrets = dict.fromkeys(("password", "shared_key"), "file:secret")
    site.settle(
        mailbox={"id": _mailbox_id(site.root.parent)},
        bridge={"environment": "http://localhost:9", **secrets},
    )
    assert _service(site, "install", "--bridge").exit_code == 0

    assert _service(site, "start", "--bridge").exit_code == 0
    log = (site.root / "log" / "bridge.log").read_text(encoding="utf-8")
    assert " bridge.started " in log
    assert _service(site, "stop", "--bridge").exit_code == 0


def test_in_a_virtual_environment_its_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is the base Python with the environment's packages."""
    monkeypatch.setattr(sys, "prefix", r"C:\\venv")
    monkeypatch.setattr(sys, "_base_executable", sys.executable, raising=False)
    service: Any = import_module("meshctl.platform.service")

    command = service.command_line(["--version"])

    assert "addsitedir" in command[2]
    said = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=True).stdout
    assert said.startswith(b"meshctl, version ")


def _service(site: Site, *arguments: str) -> Finished:
    return site.meshctl("service", *arguments)
