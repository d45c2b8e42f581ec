"""meshctl as a Windows service: install, remove, start, stop and query it, and run as its process.

Each mailbox has one service, meshctl-ID, and one for its bridge, meshctl-bridge-ID. The service manager
starts it with Windows, and again when it fails. Warnings and errors go to the Event Log as well, under
`meshctl`.

The service manager speaks to a process in a thread of its own; the work goes on in the main thread.
"""

import sys

assert sys.platform == "win32"

import logging
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pywintypes
import servicemanager
import win32evtlogutil
import win32service

from meshctl.errors import MeshctlError
from meshctl.platform.common import RELOAD, STOP
from meshctl.platform.systemd import ServiceManager

SOURCE = "meshctl"
"""Our name in the Event Log."""
RELOAD_CONTROL = 128
"""The control code that has the daemon read its settings again: sc control NAME 128."""
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
_NOT_ACTIVE = 1062
# Accounts of the system itself, and of those managed by it, have no password.
_WITHOUT_PASSWORD = ("NT AUTHORITY\\", "NT SERVICE\\")
_MESSAGES = r"%SystemRoot%\System32\EventCreate.exe"
_WAIT_SECONDS, _LOOK_SECONDS = 60.0, 0.1
_CONNECT_SECONDS = 30.0
# How long the service manager waits for the next sign of life.
_HINT_MILLISECONDS = 20_000
_SIGN_SECONDS = 1.0
_RESTART_MILLISECONDS = (5_000, 5_000, 60_000)
_FAILURES_FORGOTTEN_SECONDS = 86_400
_SPECIFIC_ERROR = 1066
_OWN_PROCESS = win32service.SERVICE_WIN32_OWN_PROCESS


def service_name(mailbox_id: str, *, bridge: bool) -> str:
    """Return the name of a mailbox's service."""
    return f"meshctl-bridge-{mailbox_id}" if bridge else f"meshctl-{mailbox_id}"


def needs_password(user: str) -> bool:
    """True if an account has a password that the service manager must know."""
    return not user.upper().startswith(_WITHOUT_PASSWORD) and not user.endswith("$")


def install(name: str, arguments: Sequence[str], user: str | None, password: str | None) -> None:
    """Install a service that runs `meshctl ARGUMENTS` when Windows starts. Raises MeshctlError."""
    with _naming(name), _held(_manager()) as manager:
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
    with suppress(pywintypes.error, OSError):
        win32evtlogutil.AddSourceToRegistry(SOURCE, _MESSAGES)


def remove(name: str) -> None:
    """Stop and remove a service. Raises MeshctlError."""
    stop(name)
    with _naming(name), _opened(name) as service:
        win32service.DeleteService(service)


def start(name: str) -> None:
    """Start a service and wait until it runs. Raises MeshctlError."""
    with _naming(name), _opened(name) as service:
        win32service.StartService(service, None)
        _wait_for(service, name, win32service.SERVICE_RUNNING)


def stop(name: str) -> None:
    """Stop a service and wait until it has ended. Raises MeshctlError."""
    with _naming(name), _opened(name) as service:
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


def host(
    name: str,
    requests: Mapping[str, Callable[[], None]],
    text_of: Callable[[logging.LogRecord], str],
    work: Callable[[ServiceManager], None],
) -> None:
    """Do `work` as the process of a service. Raises MeshctlError if no service manager started it.

    The functions of `requests` (STOP, RELOAD) are called in the service manager's thread; `text_of` makes a
    line for the Event Log.
    """
    log = _EventLog(text_of)
    logging.getLogger().addHandler(log)
    service = _HostedService(name, requests)
    servicemanager.Initialize()
    servicemanager.PrepareToHostSingle(lambda _arguments: SimpleNamespace(SvcRun=service.run))
    Thread(target=service.connect, name="service manager", daemon=True).start()
    if not service.has_begun.wait(_CONNECT_SECONDS) or service.problem:
        raise MeshctlError("Only the service manager runs this command. Use: meshctl service start.")
    is_done = False
    try:
        work(service)
        is_done = True
    except MeshctlError as error:
        log.write(logging.ERROR, str(error))
        raise
    finally:
        service.end(0 if is_done else 1)


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
        self.has_begun, self._has_ended = Event(), Event()

    def connect(self) -> None:
        """Listen to the service manager until the end."""
        try:
            servicemanager.StartServiceCtrlDispatcher()
        except pywintypes.error:
            self.problem = True
            self.has_begun.set()

    def run(self) -> None:
        """Run as the service that the service manager has started, until the end."""
        self._handle = servicemanager.RegisterServiceCtrlHandler(self._name, self._on_control, True)
        self._report(win32service.SERVICE_START_PENDING)
        self.has_begun.set()
        self._has_ended.wait()

    def end(self, exit_code: int) -> None:
        """Report that the service has ended."""
        self._report(win32service.SERVICE_STOPPED, exit_code)
        self._has_ended.set()

    def alive(self) -> None:
        """Report that start or stop goes on; may be called at any rate."""
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
        if control in {win32service.SERVICE_CONTROL_STOP, win32service.SERVICE_CONTROL_SHUTDOWN}:
            self._report(win32service.SERVICE_STOP_PENDING)
            self._requests[STOP]()
        elif control == RELOAD_CONTROL:
            self._requests[RELOAD]()

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


class _EventLog(logging.Handler):
    """Writes records into the Event Log of Windows, as the log has them."""

    def __init__(self, text_of: Callable[[logging.LogRecord], str]) -> None:
        super().__init__(logging.WARNING)
        self._text_of = text_of

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.write(record.levelno, self._text_of(record))

    def write(self, level: int, text: str) -> None:
        """Write a line; a service manager without an Event Log is no reason to stop."""
        kind = (
            servicemanager.EVENTLOG_ERROR_TYPE
            if level >= logging.ERROR
            else servicemanager.EVENTLOG_WARNING_TYPE
        )
        with suppress(pywintypes.error):
            win32evtlogutil.ReportEvent(SOURCE, 1, eventType=kind, strings=[text])


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return what runs `meshctl ARGUMENTS` as one process.

    The Python of a virtual environment only starts another one, of which the service manager knows nothing.
    So the other one is started, with the environment's packages added.
    """
    if sys.prefix == sys.base_prefix:
        return [sys.executable, "-m", "meshctl", *arguments]
    packages = sysconfig.get_path("purelib")
    code = f"import site; site.addsitedir({packages!r}); from meshctl.cli import main; main()"
    return [getattr(sys, "_base_executable", sys.executable), "-c", code, *arguments]


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
            state = _STATES.get(now, f"in state {now}")
            raise MeshctlError(
                f"{name} is {state}. See the log of meshctl and the Event Log (source {SOURCE})."
            )
        time.sleep(_LOOK_SECONDS)


@contextmanager
def _held(handle: Any) -> Iterator[Any]:
    try:
        yield handle
    finally:
        win32service.CloseServiceHandle(handle)


def _manager() -> Any:
    return win32service.OpenSCManager(None, None, win32service.SC_MANAGER_ALL_ACCESS)


@contextmanager
def _opened(name: str) -> Iterator[Any]:
    with (
        _held(_manager()) as manager,
        _held(win32service.OpenService(manager, name, win32service.SERVICE_ALL_ACCESS)) as service,
    ):
        yield service


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except pywintypes.error as error:
        advice = _ADVICE.get(error.winerror, f"Windows says: {error.strerror}")
        raise MeshctlError(f"{name}: {advice}") from None
