"""meshctl as a Windows service: install, remove, start, stop and query it, and run as its process.

Each mailbox has one service, meshctl-ID, and one for its bridge, meshctl-bridge-ID. The service manager
starts it with Windows, and again when it fails. Warnings and errors go to the Event Log as well, under
`meshctl`.

The service manager speaks to a process in a thread of its own; the work goes on in the main thread. It is
"running" as soon as its work could begin, whatever may block that: until then Windows lets nobody stop it.
"""

import sys

assert sys.platform == "win32"

import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pywintypes
import servicemanager
import win32service

from meshctl.errors import MeshctlError
from meshctl.platform import event_log
from meshctl.platform.common import RELOAD, SHUTDOWN, STOP
from meshctl.platform.systemd import ServiceManager

RELOAD_CONTROL = 128
"""The control code that has the daemon read its settings again: sc control NAME 128."""
_REQUESTS: Mapping[int, str] = {
    win32service.SERVICE_CONTROL_STOP: STOP,
    win32service.SERVICE_CONTROL_SHUTDOWN: SHUTDOWN,
    RELOAD_CONTROL: RELOAD,
}
_STATES: Mapping[int, str] = {
    win32service.SERVICE_RUNNING: "running",
    win32service.SERVICE_STOPPED: "stopped",
    win32service.SERVICE_START_PENDING: "starting",
    win32service.SERVICE_STOP_PENDING: "stopping",
}
_ADVICE: Mapping[int, str] = {
    5: "Only an administrator may do that: run it in a shell opened with Run as administrator.",
    1056: "It is already running.",
    1057: "Windows has no such account, or the password is wrong.",
    1060: "There is no such service; meshctl service install creates it.",
    1069: "The account cannot log on as a service: the password is wrong, or it lacks that right"
    " (secpol.msc, Local Policies, User Rights Assignment).",
    1072: "It was removed, and disappears when the last program that shows it is closed (services.msc).",
    1073: "It is installed already; meshctl service remove removes it.",
}
_ENDS: Mapping[int, str] = {
    1: "something was in its way",
    2: "the settings are wrong",
    3: "a package does not load, or meshctl has a fault",
}
_FAULT = 3
_NOT_ACTIVE = 1062
_WAIT_SECONDS, _LOOK_SECONDS = 60.0, 0.1
_CONNECT_SECONDS = 30.0
# How long the service manager waits for the next sign of life.
_HINT_MILLISECONDS = 20_000
_SIGN_SECONDS = 1.0
_RESTART_MILLISECONDS = (5_000, 5_000, 60_000)
_FAILURES_FORGOTTEN_SECONDS = 86_400
_SPECIFIC_ERROR = 1066
_DELETE = 0x10000
_PREFIX, _BRIDGE = "meshctl-", "--bridge"
_OWN_PROCESS = win32service.SERVICE_WIN32_OWN_PROCESS


def install(name: str, arguments: Sequence[str], user: str, password: str | None) -> None:
    """Install a service that starts with Windows (see `command_line`). Raises MeshctlError."""
    with _naming(name), _held(_manager(win32service.SC_MANAGER_CREATE_SERVICE)) as manager:
        service = win32service.CreateService(
            manager,
            name,
            name,
            win32service.SERVICE_ALL_ACCESS,
            _OWN_PROCESS,
            win32service.SERVICE_AUTO_START,
            win32service.SERVICE_ERROR_NORMAL,
            subprocess.list2cmdline(command_line(arguments)),
            None,
            0,
            None,
            user,
            password,
        )
        with _held(service):
            _describe(service)
    with suppress(OSError):
        event_log.register()


def remove(name: str) -> None:
    """Stop and remove a service. Raises MeshctlError."""
    stop(name)
    with _naming(name), _opened(name, _DELETE) as service:
        win32service.DeleteService(service)


def start(name: str) -> None:
    """Start a service and wait until it runs. Raises MeshctlError."""
    with _naming(name), _opened(name, win32service.SERVICE_START) as service:
        win32service.StartService(service, None)
        _wait_for(service, name, win32service.SERVICE_RUNNING)


def stop(name: str) -> None:
    """Stop a service and wait until it has ended. Raises MeshctlError."""
    with _naming(name), _opened(name, win32service.SERVICE_STOP) as service:
        try:
            win32service.ControlService(service, win32service.SERVICE_CONTROL_STOP)
        except pywintypes.error as error:
            if error.winerror != _NOT_ACTIVE:
                raise
        _wait_for(service, name, win32service.SERVICE_STOPPED)


def state(name: str) -> str:
    """Return "running", "stopped", "starting" or "stopping". Raises MeshctlError."""
    with _naming(name), _opened(name) as service:
        number = win32service.QueryServiceStatus(service)[1]
        return _STATES.get(number, f"in state {number}")


def account(name: str) -> str:
    """Return the account that a service runs as. Raises MeshctlError."""
    with _naming(name), _opened(name, win32service.SERVICE_QUERY_CONFIG) as service:
        return str(win32service.QueryServiceConfig(service)[7])


def reload(process_id: int) -> bool:
    """Have the service that is a process read its settings again; False if none of ours is.

    Raises PermissionError.
    """
    try:
        with _held(_manager(win32service.SC_MANAGER_ENUMERATE_SERVICE)) as manager:
            running = win32service.EnumServicesStatusEx(manager, _OWN_PROCESS, win32service.SERVICE_ACTIVE)
        ours = [one for one in running if one["ServiceName"].startswith(_PREFIX)]
        names = [one["ServiceName"] for one in ours if one["ProcessId"] == process_id]
        for name in names:
            with _opened(name, win32service.SERVICE_USER_DEFINED_CONTROL) as service:
                win32service.ControlService(service, RELOAD_CONTROL)
    except pywintypes.error as error:
        raise PermissionError(0, error.strerror, None, error.winerror) from None
    return bool(names)


def settings_file(name: str) -> Path:
    """Return the settings file that a service was installed with. Raises MeshctlError."""
    with _naming(name), _opened(name, win32service.SERVICE_QUERY_CONFIG) as service:
        line = str(win32service.QueryServiceConfig(service)[3])
    return Path(line.rpartition(" -c ")[2].removesuffix(f" {_BRIDGE}").strip('"'))


def of_file(file: Path, *, bridge: bool) -> str | None:
    """Return the service that was installed with a settings file; None if none was. Raises MeshctlError."""
    kind = f"{_PREFIX}bridge-"
    ours = (name for name in names() if name.startswith(kind) == bridge)
    return next((name for name in ours if settings_file(name) == file), None)


def names() -> list[str]:
    """Return the services of meshctl on this computer. Raises MeshctlError."""
    with _naming("meshctl"), _held(_manager(win32service.SC_MANAGER_ENUMERATE_SERVICE)) as manager:
        found = win32service.EnumServicesStatusEx(manager, _OWN_PROCESS, win32service.SERVICE_STATE_ALL)
    return sorted(one["ServiceName"] for one in found if one["ServiceName"].startswith(_PREFIX))


def host(
    name: str, requests: Mapping[str, Callable[[], None]], work: Callable[[ServiceManager], int]
) -> int | None:
    """Do `work`, which returns an exit code, as the process of a service; None if it was not started as one.

    Nothing that may fail comes before the service manager listens: it learns of every end. The functions of
    `requests` (STOP, SHUTDOWN, RELOAD) are called in its thread.
    """
    service = _HostedService(name, requests)
    servicemanager.Initialize()
    servicemanager.PrepareToHostSingle(lambda _arguments: SimpleNamespace(SvcRun=service.run))
    Thread(target=service.connect, name="service manager", daemon=True).start()
    if not service.has_begun.wait(_CONNECT_SECONDS) or service.problem:
        return None
    exit_code = _FAULT
    try:
        exit_code = work(service)
    finally:
        service.end(exit_code)
    return exit_code


class _HostedService(ServiceManager):
    """The service as the service manager knows it."""

    def __init__(self, name: str, requests: Mapping[str, Callable[[], None]]) -> None:
        super().__init__({})
        self._name = name
        self._requests = requests
        self._handle = 0
        self._state = win32service.SERVICE_START_PENDING
        self._signs = 0
        self._reported_at = float("-inf")
        self.problem = False
        self.has_begun = Event()

    def connect(self) -> None:
        """Listen to the service manager until the end."""
        try:
            servicemanager.StartServiceCtrlDispatcher()
        except pywintypes.error:
            self.problem = True
            self.has_begun.set()

    def run(self) -> None:
        """Run as the service that the service manager has started; does not return.

        pywin32 would report after it that the service has ended well.
        """
        self._handle = servicemanager.RegisterServiceCtrlHandler(self._name, self._on_control, True)
        self._report(win32service.SERVICE_START_PENDING)
        self.has_begun.set()
        Event().wait()

    def end(self, exit_code: int) -> None:
        """Report that the service has ended; the process must end now."""
        self._report(win32service.SERVICE_STOPPED, exit_code)

    def alive(self) -> None:
        """Report that start or stop is under way; may be called at any rate."""
        is_running = self._state == win32service.SERVICE_RUNNING
        if not is_running and time.monotonic() - self._reported_at >= _SIGN_SECONDS:
            self._report(self._state)

    def ready(self) -> None:
        """Report the end of the start, whatever may block the work."""
        if self._state == win32service.SERVICE_START_PENDING:
            self._report(win32service.SERVICE_RUNNING)

    def stopping(self) -> None:
        """Report that the stop has begun."""
        self._report(win32service.SERVICE_STOP_PENDING)

    def _on_control(self, control: int, _kind: int, _data: object) -> None:
        request = _REQUESTS.get(control)
        if request in {STOP, SHUTDOWN}:
            self._report(win32service.SERVICE_STOP_PENDING)
        if request is not None:
            self._requests[request]()

    def _report(self, state: int, exit_code: int = 0) -> None:
        is_pending = state in {
            win32service.SERVICE_START_PENDING,
            win32service.SERVICE_STOP_PENDING,
        }
        self._signs = self._signs + 1 if is_pending and state == self._state else 0
        self._state, self._reported_at = state, time.monotonic()
        accepted = 0
        if state == win32service.SERVICE_RUNNING:
            accepted = win32service.SERVICE_ACCEPT_STOP | win32service.SERVICE_ACCEPT_SHUTDOWN
        win32service.SetServiceStatus(
            self._handle,
            (
                _OWN_PROCESS,
                state,
                accepted,
                _SPECIFIC_ERROR if exit_code else 0,
                exit_code,
                self._signs,
                _HINT_MILLISECONDS if is_pending else 0,
            ),
        )


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return what runs a service as one process, with the packages of this environment alone.

    `arguments` are those of `meshctl.windows_service`.

    The Python of a virtual environment only starts another one, of which the service manager knows nothing.
    So the other one is started, without packages of its own (-S), which would come first, and deaf to the
    variables and files of users (-I); then the environment's packages are added.
    """
    packages = sysconfig.get_path("purelib")
    code = f"import site; site.addsitedir({packages!r}); from meshctl.windows_service import main; main()"
    return [getattr(sys, "_base_executable", sys.executable), "-I", "-S", "-c", code, *arguments]


def _describe(service: Any) -> None:
    """Set the service's description, and have it restarted when it fails."""
    for what, value in (
        (win32service.SERVICE_CONFIG_DESCRIPTION, "Sends dropped files over NHS MESH (meshctl)."),
        (win32service.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, True),
        (
            win32service.SERVICE_CONFIG_FAILURE_ACTIONS,
            {
                "ResetPeriod": _FAILURES_FORGOTTEN_SECONDS,
                "RebootMsg": "",
                "Command": "",
                "Actions": [(win32service.SC_ACTION_RESTART, wait) for wait in _RESTART_MILLISECONDS],
            },
        ),
        # Also when it ends with an exit code of its own.
        (win32service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, True),
    ):
        # An older Windows knows less; none of it is needed to send a letter.
        with suppress(pywintypes.error):
            win32service.ChangeServiceConfig2(service, what, value)


def _wait_for(service: Any, name: str, wanted: int) -> None:
    give_up_at = time.monotonic() + _WAIT_SECONDS
    while (now := win32service.QueryServiceStatus(service)[1]) != wanted:
        if now == win32service.SERVICE_STOPPED or time.monotonic() > give_up_at:
            raise MeshctlError(
                f"{name} is {_STATES.get(now, f'in state {now}')}{_why(service)}. See the Event Log"
                f" (Application, source {event_log.SOURCE}) and the log of meshctl."
            )
        time.sleep(_LOOK_SECONDS)


def _why(service: Any) -> str:
    """Return how a service that has stopped ended, by its exit code."""
    status = win32service.QueryServiceStatus(service)
    exit_code = status[4] if status[3] == _SPECIFIC_ERROR else status[3]
    if status[1] != win32service.SERVICE_STOPPED or not exit_code:
        return ""
    meaning = _ENDS.get(exit_code) if status[3] == _SPECIFIC_ERROR else None
    return f" with exit code {exit_code}" + (f": {meaning}" if meaning else "")


@contextmanager
def _held(handle: Any) -> Iterator[Any]:
    try:
        yield handle
    finally:
        win32service.CloseServiceHandle(handle)


def _manager(rights: int = 0) -> Any:
    return win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT | rights)


@contextmanager
def _opened(name: str, rights: int = 0) -> Iterator[Any]:
    """Open a service with no more rights than needed: everybody may ask how it is."""
    with (
        _held(_manager()) as manager,
        _held(win32service.OpenService(manager, name, win32service.SERVICE_QUERY_STATUS | rights)) as service,
    ):
        yield service


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except pywintypes.error as error:
        advice = _ADVICE.get(error.winerror, f"Windows says: {error.strerror}")
        raise MeshctlError(f"{name}: {advice}") from None
