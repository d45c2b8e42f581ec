"""Users, rights and processes of Windows, and what people type there. `posix_host` has the same names."""

import sys

assert sys.platform == "win32"

import ctypes
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from ctypes.wintypes import BOOL, DWORD, HANDLE, LPCWSTR, LPDWORD, LPVOID, UINT
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

from meshctl.platform.common import RELOAD, Access, Person

HAS_MODES: bool = False
"""Whether files have permissions, a group and an owner."""
SHARED_MODE: int = 0o777
"""Nothing: permissions mean nothing here."""

_SECURITY = "win32security"
# [MS-DTYP] 2.4.2.4: Everyone, Authenticated Users, Users.
_EVERYBODY = ("S-1-1-0", "S-1-5-11", "S-1-5-32-545")
_ALLOWED, _INHERIT_ONLY = 0, 0x08
_ALL = 0x10000000
# Read data, list a folder; or any reading.
_READ = 0x1 | 0x80000000 | _ALL
# Write or append data, add files or folders, change the list itself or its owner; or any writing.
_WRITE = 0x2 | 0x4 | 0x40000 | 0x80000 | 0x40000000 | _ALL
# What replaces a file of another in a folder: removing it.
_REPLACE = 0x40 | 0x40000 | 0x80000 | _ALL

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_CALLS: tuple[tuple[Any, ...], ...] = (
    (_kernel.CloseHandle, BOOL, HANDLE),
    (_kernel.CreateEventW, HANDLE, LPVOID, BOOL, BOOL, LPCWSTR),
    (_kernel.OpenEventW, HANDLE, DWORD, BOOL, LPCWSTR),
    (_kernel.SetEvent, BOOL, HANDLE),
    (_kernel.WaitForMultipleObjects, DWORD, DWORD, ctypes.POINTER(HANDLE), BOOL, DWORD),
    (_kernel.CreateJobObjectW, HANDLE, LPVOID, LPCWSTR),
    (_kernel.AssignProcessToJobObject, BOOL, HANDLE, HANDLE),
    (_kernel.TerminateJobObject, BOOL, HANDLE, UINT),
    (_kernel.OpenProcess, HANDLE, DWORD, BOOL, DWORD),
    (_kernel.GetExitCodeProcess, BOOL, HANDLE, LPDWORD),
)
for _function, _result, *_arguments in _CALLS:
    _function.restype, _function.argtypes = _result, _arguments

_EVENT_MODIFY_STATE = 0x0002
_PROCESS_TERMINATE, _PROCESS_SET_QUOTA = 0x0001, 0x0100
_PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
_STILL_ACTIVE = 259
_FOREVER = 0xFFFFFFFF
_NOT_FOUND, _DENIED = 2, 5


def user_id() -> int:
    """Return 0, which is the owner of every file in its status."""
    return 0


def is_root() -> bool:
    """Return False: there is no root here."""
    return False


@contextmanager
def acting_as_owner_of(folder: Path) -> Iterator[None]:
    """Change nothing: files inherit the rights of their folder here."""
    del folder
    yield


def give_to_owner_of(path: Path, folder: Path) -> None:
    """Change nothing: files inherit the rights of their folder here."""
    del path, folder


def is_trusted(status: os.stat_result) -> bool:
    """Return True: the status of a file does not say here whose it is."""
    del status
    return True


def is_own_folder(folder: Path) -> bool:
    """Return True: the status of a folder does not say here whose it is."""
    del folder
    return True


def ourselves() -> Person | None:
    """Return None: users have no numbers here."""
    return None


def person(user_id: int) -> Person | None:
    """Return None: users have no numbers here."""
    del user_id
    return None


def user_name(user_id: int) -> str:
    """Return the number."""
    return str(user_id)


def group_name(group_id: int) -> str:
    """Return the number."""
    return str(group_id)


def user_number(name: str) -> int | None:
    """Return None: users have no numbers here."""
    del name
    return None


def group_number(name: str) -> int | None:
    """Return None: groups have no numbers here."""
    del name
    return None


def files_get_group(folder: Path, group_id: int, own_file: Path) -> bool:
    """Return True: files have no group here."""
    del folder, group_id, own_file
    return True


def mode_of(path: str | Path | int) -> int | None:
    """Return None: what the permissions say means nothing here."""
    del path
    return None


def everybody_may_write(path: Path) -> bool:
    """True if everybody on this computer can write to a file, or in a folder."""
    return any(one.is_everybody and one.may_write for one in access_list(path))


def everybody_may_replace_in(folder: Path) -> bool:
    """True if everybody can remove another's file there, and so put one of their own in its place."""
    return any(one.is_everybody and one.may_replace for one in access_list(folder))


def knows_rights() -> bool:
    """True if it can be found out who may read and write a file: that needs pywin32."""
    return find_spec(_SECURITY) is not None


def access_list(path: Path) -> list[Access]:
    """Return who may do what; nothing for what is not there or may not be asked about.

    Members of a group of the site's own, and those kept out by a denial, are not looked up: what counts is
    whether everybody is let in, and by which names to tell a person of the others. A file without a list is
    open to everybody.
    """
    if not knows_rights():
        return []
    security: Any = import_module(_SECURITY)
    try:
        descriptor = security.GetFileSecurity(str(path), security.DACL_SECURITY_INFORMATION)
    except security.error:
        return []
    entries = descriptor.GetSecurityDescriptorDacl()
    if entries is None:
        return [Access(_EVERYBODY[0], True, True, True, True)]
    found: list[Access] = []
    for number in range(entries.GetAceCount()):
        (kind, flags), mask, *_, sid = entries.GetAce(number)
        if kind == _ALLOWED and not flags & _INHERIT_ONLY:
            rights = (bool(mask & some) for some in (_READ, _WRITE, _REPLACE))
            text = security.ConvertSidToStringSid(sid)
            found.append(Access(text, text in _EVERYBODY, *rights))
    return found


def account_name(sid: str) -> str:
    """Return the name of an account, for which a server may be asked; `sid` where it has none."""
    security: Any = import_module(_SECURITY)
    try:
        return str(security.LookupAccountSid(None, security.ConvertStringSidToSid(sid))[0])
    except security.error:
        return sid


def _checked(handle: int | None) -> int:
    if not handle:
        raise ctypes.WinError(ctypes.get_last_error())
    return handle


def give(path: Path, user_id: int | None, group_id: int | None) -> None:
    """Do nothing: users and groups have no numbers here."""
    del path, user_id, group_id


def share_folders(outbox: Path, names: Iterable[str], owner_id: int, group_id: int) -> bool:
    """Raise NotImplementedError: access lists are given by hand here, see `share_command`."""
    raise NotImplementedError


def share_like_parent(folder: Path) -> None:
    """Do nothing: a new folder has the access list of the one that it is in."""
    del folder


def may(person: Person, path: Path, wanted: int) -> bool:
    """Raise NotImplementedError: there are no persons here, see `access_list`."""
    raise NotImplementedError


def people_of(path: Path) -> list[Person]:
    """Return nothing: users have no numbers here."""
    del path
    return []


def is_alive(process_id: int) -> bool:
    """True if there is such a process."""
    handle = _kernel.OpenProcess(_PROCESS_QUERY_LIMITED_INFORMATION, False, process_id)
    if not handle:
        return ctypes.get_last_error() == _DENIED
    code = DWORD()
    try:
        return bool(_kernel.GetExitCodeProcess(handle, code)) and code.value == _STILL_ACTIVE
    finally:
        _kernel.CloseHandle(handle)


def _event_name(state_folder: Path, request: str) -> str:
    r"""Return the name of the event that asks the daemon of a state folder: Global\meshctl-HASH-REQUEST."""
    folder = os.path.normcase(os.path.realpath(state_folder))
    return f"Global\\meshctl-{hashlib.sha256(folder.encode()).hexdigest()[:32]}-{request}"


@contextmanager
def listening(state_folder: Path, requests: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Call the function of a request, in a thread of its own, whenever somebody sets its named event."""
    names: list[str | None] = [_event_name(state_folder, request) for request in requests]
    # They reset themselves; the last, without a name, ends the thread.
    handles = [_checked(_kernel.CreateEventW(None, False, False, name)) for name in (*names, None)]
    acts = list(requests.values())
    waited = (HANDLE * len(handles))(*handles)

    def listen() -> None:
        while (n := _kernel.WaitForMultipleObjects(len(handles), waited, False, _FOREVER)) < len(acts):
            acts[n]()

    thread = Thread(target=listen, name="requests", daemon=True)
    thread.start()
    try:
        yield
    finally:
        _kernel.SetEvent(handles[-1])
        thread.join()
        for handle in handles:
            _kernel.CloseHandle(handle)


def ask_to_reload(state_folder: Path, lock: Path, process_id: int | None) -> bool:
    """Ask the daemon of a state folder to read its settings again; False if none listens.

    Raises PermissionError, OSError.
    """
    del lock, process_id
    return ask(state_folder, RELOAD)


def ask(state_folder: Path, request: str) -> bool:
    """Set the named event of a request; False if none listens. Raises PermissionError, OSError."""
    handle = _kernel.OpenEventW(_EVENT_MODIFY_STATE, False, _event_name(state_folder, request))
    if not handle and ctypes.get_last_error() == _NOT_FOUND:
        return False
    handle = _checked(handle)
    try:
        return bool(_kernel.SetEvent(handle))
    finally:
        _kernel.CloseHandle(handle)


class ProcessTree:
    """A job object: what a process in it starts is in it too, and all of it can be ended at once."""

    creation_flags = subprocess.CREATE_NO_WINDOW
    """No window opens when the daemon itself has none."""

    def __init__(self) -> None:
        self._handle = _checked(_kernel.CreateJobObjectW(None, None))

    def add(self, process_id: int) -> None:
        """Say which process it is, just after its start."""
        # One that has ended already has no need of it.
        with suppress(OSError):
            handle = _checked(_kernel.OpenProcess(_PROCESS_SET_QUOTA | _PROCESS_TERMINATE, False, process_id))
            try:
                _checked(_kernel.AssignProcessToJobObject(self._handle, handle))
            finally:
                _kernel.CloseHandle(handle)

    def end(self) -> None:
        """End every process of the tree."""
        _kernel.TerminateJobObject(self._handle, 1)

    def close(self) -> None:
        """Close the job; its processes go on."""
        _kernel.CloseHandle(self._handle)


def shares_network(process_id: int) -> bool | None:
    """Return None: Windows gives no process a network of its own."""
    del process_id
    return None


SETTINGS_FOLDER = Path(os.environ.get("PROGRAMDATA", "C:/ProgramData")) / "meshctl"
SETTINGS_PATTERN = "*/meshctl.toml"
AS_SERVICE = ""
START_DAEMON, ASK_DAEMON = "meshctl service start", "meshctl service status"
START_BRIDGE, SCHEDULER = "meshctl service start --bridge", "the Task Scheduler"
KEEP_TIME = "w32tm /resync; w32tm /query /status shows whether it does."
REMOVE_FOLDER = "rmdir /s /q"


def named_settings(name: str) -> Path:
    """Return the settings file of the mailbox that `-m` calls so."""
    return SETTINGS_FOLDER / name / "meshctl.toml"


def settings_name(file: Path) -> str:
    """Return what `-m` calls the mailbox of a settings file that SETTINGS_PATTERN finds."""
    return file.parent.name


def quoted(path: os.PathLike[str]) -> str:
    """Return a path as it is typed into this system's shell."""
    return subprocess.list2cmdline([os.fspath(path)])


def close_command(path: Path) -> str:
    """Return the command that takes the access to a file or folder from everybody, and leaves all others."""
    groups = " ".join(f"*{one}" for one in _EVERYBODY)
    return f"icacls {quoted(path)} /inheritance:d /remove:g {groups}"


def share_command(folder: Path) -> str:
    """Return the command that lets a group write in a folder, and nobody else."""
    return f"{close_command(folder)} /grant GROUP:(OI)(CI)M"
