"""What only Windows has and its Python lacks: named events, job objects, and whether a process lives."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

STOP, RELOAD = "stop", "reload"
"""What a daemon can be asked through a named event."""


def event_name(state_folder: Path, request: str) -> str:
    r"""Return the name of the event that asks the daemon of a state folder: Global\meshctl-HASH-REQUEST."""
    folder = os.path.normcase(os.path.realpath(state_folder))
    return f"Global\\meshctl-{hashlib.sha256(folder.encode()).hexdigest()[:32]}-{request}"


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes
    from threading import Thread

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    for _name, _result, _arguments in (
        ("CreateEventW", wintypes.HANDLE, (wintypes.LPVOID, wintypes.BOOL, wintypes.BOOL, wintypes.LPCWSTR)),
        ("OpenEventW", wintypes.HANDLE, (wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR)),
        ("SetEvent", wintypes.BOOL, (wintypes.HANDLE,)),
        (
            "WaitForMultipleObjects",
            wintypes.DWORD,
            (wintypes.DWORD, ctypes.POINTER(wintypes.HANDLE), wintypes.BOOL, wintypes.DWORD),
        ),
        ("CloseHandle", wintypes.BOOL, (wintypes.HANDLE,)),
        ("CreateJobObjectW", wintypes.HANDLE, (wintypes.LPVOID, wintypes.LPCWSTR)),
        ("AssignProcessToJobObject", wintypes.BOOL, (wintypes.HANDLE, wintypes.HANDLE)),
        ("TerminateJobObject", wintypes.BOOL, (wintypes.HANDLE, wintypes.UINT)),
        ("OpenProcess", wintypes.HANDLE, (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)),
        ("GetExitCodeProcess", wintypes.BOOL, (wintypes.HANDLE, wintypes.LPDWORD)),
    ):
        _function = getattr(_kernel, _name)
        _function.restype, _function.argtypes = _result, _arguments
    _EVENT_MODIFY_STATE = 0x0002
    _PROCESS_TERMINATE, _PROCESS_SET_QUOTA = 0x0001, 0x0100
    _PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
    _STILL_ACTIVE = 259
    _FOREVER = 0xFFFFFFFF
    _NOT_FOUND, _ACCESS_DENIED = 2, 5

    def _checked(handle: int | None) -> int:
        if not handle:
            raise ctypes.WinError(ctypes.get_last_error())
        return handle

    @contextmanager
    def listening(state_folder: Path, requests: Mapping[str, Callable[[], None]]) -> Iterator[None]:
        """Call what belongs to a request, in a thread of its own, whenever somebody asks for it."""
        names: list[str | None] = [event_name(state_folder, request) for request in requests]
        # They reset themselves; the last, without a name, ends the thread.
        handles = [_checked(_kernel.CreateEventW(None, False, False, name)) for name in (*names, None)]
        acts = list(requests.values())
        waited = (wintypes.HANDLE * len(handles))(*handles)

        def listen() -> None:
            while (number := _kernel.WaitForMultipleObjects(len(handles), waited, False, _FOREVER)) < len(
                acts
            ):
                acts[number]()

        thread = Thread(target=listen, name="requests", daemon=True)
        thread.start()
        try:
            yield
        finally:
            _kernel.SetEvent(handles[-1])
            thread.join()
            for handle in handles:
                _kernel.CloseHandle(handle)

    def ask(state_folder: Path, request: str) -> bool:
        """Ask the daemon of a state folder; False if none listens. Raises PermissionError, OSError."""
        handle = _kernel.OpenEventW(_EVENT_MODIFY_STATE, False, event_name(state_folder, request))
        if not handle and ctypes.get_last_error() == _NOT_FOUND:
            return False
        handle = _checked(handle)
        try:
            return bool(_kernel.SetEvent(handle))
        finally:
            _kernel.CloseHandle(handle)

    def is_alive(process_id: int) -> bool:
        """True if there is such a process."""
        handle = _kernel.OpenProcess(_PROCESS_QUERY_LIMITED_INFORMATION, False, process_id)
        if not handle:
            return ctypes.get_last_error() == _ACCESS_DENIED
        code = wintypes.DWORD()
        try:
            return bool(_kernel.GetExitCodeProcess(handle, code)) and code.value == _STILL_ACTIVE
        finally:
            _kernel.CloseHandle(handle)

    class Job:
        """A job object: what a process in it starts is in it too, and all of it can be ended at once."""

        def __init__(self) -> None:
            self._handle = _checked(_kernel.CreateJobObjectW(None, None))

        def add(self, process_id: int) -> None:
            """Put a process into the job, just after its start. Raises OSError, also if it has ended."""
            handle = _checked(_kernel.OpenProcess(_PROCESS_SET_QUOTA | _PROCESS_TERMINATE, False, process_id))
            try:
                _checked(_kernel.AssignProcessToJobObject(self._handle, handle))
            finally:
                _kernel.CloseHandle(handle)

        def end(self) -> None:
            """End every process of the job."""
            _kernel.TerminateJobObject(self._handle, 1)

        def close(self) -> None:
            """Let go of the job; its processes go on."""
            _kernel.CloseHandle(self._handle)

else:

    @contextmanager
    def listening(state_folder: Path, requests: Mapping[str, Callable[[], None]]) -> Iterator[None]:
        """Do nothing: here signals come."""
        del state_folder, requests
        yield
