"""The daemon and the bridge as services, under the service manager."""

import json
import logging
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from meshctl.journal.events import event_table, journal
from tests.site import Finished, Site, make_site, wait_until
from tests.windows.letters import drop_backlog, letter

# One at a time: the service manager locks its database while a service starts.
pytestmark = pytest.mark.xdist_group("services")

_BACKLOG = 1500
# ERROR_SERVICE_SPECIFIC_ERROR: the service has a code of its own.
_SPECIFIC = 1066
_MAIN = "from meshctl.windows_service import main; main()"
_RECORDER = (
    "import json, sys; from meshctl.platform import event_log;"
    " event_log.report = lambda *entry: open({!r}, 'a', encoding='utf-8').write(json.dumps(entry) + '\\n')"
)
_ONLY_EVENTS = {"quiet_seconds": 120.0, "rescan_seconds": 120.0}


def _mailbox_id(folder: Path) -> str:
    return f"X26{zlib.crc32(os.fsencode(folder)) % 10**8}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    # Services have one name a machine, and tests run beside each other.
    site = make_site(
        tmp_path / "a site",
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
    installed = _service(site, "install")
    assert installed.exit_code == 0
    assert f'Start it: meshctl -c "{site.settings_file}" service start' in installed.stdout
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
    # No named event: the service manager is asked to tell it.
    (site.state / "events").unlink()
    assert site.meshctl("reload").exit_code == 0
    wait_until(lambda: site.events("daemon.reloaded"), "the settings to be read again")

    assert _service(site, "stop").exit_code == 0
    assert site.events("daemon.stopped")
    (line,) = site.events("daemon.stopping")
    assert line.values["asked_by"] == "the service manager"
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


@pytest.mark.timeout(600)
def test_a_service_runs_and_stops_in_the_midst_of_a_backlog(site: Site) -> None:
    """It is running before all is sent, and whoever stops it then does not wait for the end."""
    drop_backlog(site, _BACKLOG)
    assert _service(site, "install").exit_code == 0

    started = _service(site, "start")
    wait_until(lambda: len(site.stems()) > 0, "a pair in OUT")
    stopped = _service(site, "stop")

    assert (started.exit_code, stopped.exit_code) == (0, 0), started.stderr + stopped.stderr
    assert 0 < len(site.stems()) < _BACKLOG
    assert site.events("daemon.stopped")
    (line,) = site.events("daemon.stopping")
    assert line.values["asked_by"] == "the service manager"


@pytest.mark.timeout(600)
def test_wrong_settings_are_told_and_end_the_service_with_2(site: Site) -> None:
    """Windows learns at once that it has ended, and restarts it as after any failure."""
    assert _service(site, "install").exit_code == 0
    entries = _record(site)
    right = site.settings_file.read_bytes()
    site.settings_file.write_text("no = [", encoding="utf-8")

    _start(site)
    site.settings_file.write_bytes(right)

    assert _ended(site) == (_SPECIFIC, 2)
    [(kind, number, text)] = entries()
    assert (kind, number) == (event_log().ERROR, event_table()["daemon.failed"].number)
    name = _name(site)
    assert text.startswith(f"{name} (mailbox {name.removeprefix('meshctl-')}): daemon.failed code=2 ")
    assert str(site.settings_file) in text


@pytest.mark.timeout(600)
def test_a_service_whose_settings_became_wrong_can_be_seen_stopped_and_removed(site: Site) -> None:
    """It runs on with the old ones; what is wrong is told beside what was asked."""
    assert _service(site, "install").exit_code == 0
    assert _service(site, "start").exit_code == 0
    right = site.settings_file.read_bytes()
    site.settings_file.write_text("no = [", encoding="utf-8")

    asked, stopped, started = (_service(site, word) for word in ("status", "stop", "start"))
    site.settings_file.write_bytes(right)

    assert (asked.exit_code, asked.stdout) == (0, f"{_name(site)} is running.\n")
    assert (stopped.exit_code, stopped.stdout) == (0, f"{_name(site)} has stopped.\n")
    assert started.exit_code == 1
    assert "exit code 2: the settings are wrong" in " ".join(started.stderr.split())
    assert all("not TOML" in one.stderr for one in (asked, stopped, started))


@pytest.mark.timeout(600)
def test_a_package_that_does_not_load_is_told_and_ends_the_service_with_3(site: Site) -> None:
    """So it is where an upgrade broke off, or a library of the system's lacks."""
    assert _service(site, "install").exit_code == 0
    entries = _record(site, "sys.modules['lxml'] = None")

    _start(site)

    assert _ended(site) == (_SPECIFIC, 3), entries()
    [(_, number, text)] = entries()
    assert number == event_table()["daemon.failed"].number
    assert "A package does not load: " in text
    assert "lxml" in text


@pytest.mark.timeout(600)
def test_a_mailbox_that_another_daemon_works_on_ends_the_service_with_1(site: Site) -> None:
    """`service start` says why, from the code that the service ended with."""
    assert _service(site, "install").exit_code == 0
    with site.daemon():
        refused = _service(site, "start")

    assert refused.exit_code == 1
    assert "is stopped with exit code 1: something was in its way" in " ".join(refused.stderr.split())


def test_without_the_package_for_services_the_event_log_says_so(tmp_path: Path) -> None:
    """Nobody can speak to the service manager then."""
    said = tmp_path / "said"
    code = f"{_RECORDER.format(str(said))}; sys.modules['servicemanager'] = None; {_MAIN}"

    ended = subprocess.run(
        [sys.executable, "-c", code, "meshctl-bridge-X26ABC1", "-c", "no.toml"],
        stdin=subprocess.DEVNULL,
        check=False,
    )

    assert ended.returncode == 3
    [(_, number, text)] = _entries(said)
    assert number == event_log().FAILED == event_table()["daemon.failed"].number
    assert text.startswith("meshctl-bridge-X26ABC1 (mailbox X26ABC1): daemon.failed code=3\n")


def test_an_entry_has_the_number_of_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who watches tells events apart by it; text and advice are lines of their own."""
    entries: list[tuple[int, int, str]] = []
    monkeypatch.setattr(event_log(), "report", lambda *entry: entries.append(entry))
    handler = import_module("meshctl.commands.hosted").EventLog("meshctl-X26ABC1")
    logging.getLogger().addHandler(handler)
    try:
        journal.error("message.failed", message_id="1", text="Wrong\x1b.", advice="Ask.", code="14")
        journal.warning("client.stalled", pairs=3)
        journal.info("message.queued", message_id="2")
        logging.getLogger("another").error("999 000 0042")
    finally:
        logging.getLogger().removeHandler(handler)

    head = "meshctl-X26ABC1 (mailbox X26ABC1): "
    log = event_log()
    assert [(kind, number) for kind, number, _ in entries] == [
        (log.ERROR, event_table()["message.failed"].number),
        (log.WARNING, event_table()["client.stalled"].number),
        (log.ERROR, event_table()["daemon.library"].number),
    ]
    assert entries[0][2] == f"{head}message.failed message_id=1 code=14\nWrong\\x1b.\nAsk."
    assert entries[1][2] == f"{head}client.stalled pairs=3"
    assert "0042" not in entries[2][2]


def test_windows_takes_an_entry() -> None:
    """Also a long one; where nobody has told Windows of the source, it is written all the same."""
    assert event_log().report(event_log().WARNING, 101, "a test " * 10_000) is True


def test_the_packages_are_the_environments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the base Python has of the same names is not run, and the environment's own packages are found."""
    base, environment = tmp_path / "base", tmp_path / "environment"
    _install_poisoned(base)
    environment.mkdir()
    real = [path for path in sys.path if Path(path).is_dir() and not path.startswith(str(base))]
    (environment / "real.pth").write_text("\n".join(real), encoding="utf-8")
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setattr(sys, "_base_executable", str(base / "python.exe"), raising=False)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(environment))
    monkeypatch.setenv("PYTHONPATH", str(base / "Lib" / "site-packages"))
    service: Any = import_module("meshctl.platform.service")

    command = service.command_line(["meshctl-X26ABC1", "-c", "no.toml"])

    said = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert (said.returncode, said.stdout) == (1, b"")
    assert said.stderr.startswith(b"Only the service manager runs this.")


def _install_poisoned(base: Path) -> None:
    """Make a Python like ours that heeds its environment, with packages that end whoever imports them."""
    base.mkdir()
    for file in Path(sys.executable).parent.iterdir():
        # That file would say which folders count, whatever the command line says.
        if file.is_file() and file.suffix != "._pth":
            shutil.copy(file, base / file.name)
    packages = base / "Lib" / "site-packages"
    packages.mkdir(parents=True)
    for name in ("click", "meshctl", "sitecustomize", "lxml"):
        (packages / f"{name}.py").write_text(f"raise SystemExit('poisoned: {name}')")
    (packages / "poison.pth").write_text("import sys; sys.exit('poisoned')")


def event_log() -> Any:
    """Return the module, which only Windows has."""
    return import_module("meshctl.platform.event_log")


def _name(site: Site) -> str:
    return f"meshctl-{_mailbox_id(site.root.parent)}"


def _record(site: Site, first: str = "") -> Callable[[], list[tuple[int, int, str]]]:
    """Have the service do `first`, and write its entries of the Event Log to a file; return what reads them.

    Wine takes entries and shows them to nobody.
    """
    said = site.root / "said"
    service: Any = import_module("meshctl.platform.service")
    *program, code, name, flag, file = service.command_line([_name(site), "-c", str(site.settings_file)])
    changed = code.replace(_MAIN, "; ".join((_RECORDER.format(str(said)), first or "pass", _MAIN)))
    line = subprocess.list2cmdline([*program, changed, name, flag, file])
    with _opened(site) as handle:
        keep = _windows().SERVICE_NO_CHANGE
        _windows().ChangeServiceConfig(handle, keep, keep, keep, line, None, 0, None, None, None, None)
    return lambda: _entries(said)


def _entries(said: Path) -> list[tuple[int, int, str]]:
    return [tuple(json.loads(line)) for line in said.read_text(encoding="utf-8").splitlines()]


def _windows() -> Any:
    return import_module("win32service")


@contextmanager
def _opened(site: Site) -> Iterator[Any]:
    manager = _windows().OpenSCManager(None, None, _windows().SC_MANAGER_ALL_ACCESS)
    handle = _windows().OpenService(manager, _name(site), _windows().SERVICE_ALL_ACCESS)
    try:
        yield handle
    finally:
        _windows().CloseServiceHandle(handle)
        _windows().CloseServiceHandle(manager)


def _start(site: Site) -> None:
    """Start the service, and wait until it has ended."""
    with _opened(site) as handle:
        _windows().StartService(handle, None)
        stopped = _windows().SERVICE_STOPPED
        wait_until(lambda: _windows().QueryServiceStatus(handle)[1] == stopped, "the service to end")


def _ended(site: Site) -> tuple[int, int]:
    """Return the exit code of the service, and its own."""
    with _opened(site) as handle:
        status = _windows().QueryServiceStatus(handle)
        return int(status[3]), int(status[4])


def _service(site: Site, *arguments: str) -> Finished:
    return site.meshctl("service", *arguments)
