"""Users, rights and processes of Windows. `posix_host` has the same names."""

import sys

assert sys.platform == "win32"

import ctypes
import errno
import os
import secrets
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ctypes.wintypes import BOOL, DWORD, HANDLE, LPCWSTR, LPDWORD, LPVOID, UINT
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

from meshctl.errors import MeshctlError
from meshctl.platform import windows_security
from meshctl.platform.access_lists import (
    ADD_FILES,
    ADMINISTRATORS,
    CREATOR,
    FILES_BELOW,
    FOLDERS,
    MODIFY,
    READ,
    SYSTEM,
    TRUSTED,
    AccessList,
    Entry,
    closed,
)
from meshctl.platform.common import RELOAD, AccountId, Person

HAS_MODES: bool = False
"""Whether files have permissions, a group and an owner."""
SHARED_MODE: int = 0o777
"""Nothing: permissions mean nothing here."""

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
_NOT_FOUND, _DENIED, _EXISTS = 2, 5, 183
# Of a file in the state folder: which named events its daemon listens to.
_EVENTS_NAME = "events"


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


def is_own_folder(folder: Path, service_folder: Path | None = None) -> bool:
    """Return True: the status of a folder does not say here whose it is."""
    del folder, service_folder
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


def account_id(name: str) -> AccountId | None:
    """Return the security identifier of a group, for which a server may be asked; None if there is none."""
    return windows_security.sid_of(name)


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
    return any(entry.is_everybody and entry.may_write for entry in _allowed(path))


def everybody_may_replace_in(folder: Path) -> bool:
    """True if everybody can remove another's file there, and so put one of their own in its place."""
    return any(entry.is_everybody and entry.may_replace for entry in _allowed(folder))


def access_list(path: Path) -> AccessList | None:
    """Return who may do what; None for what is not there, or may not be asked about.

    Members of a group of the site's own are not looked up: what counts is whether everybody is let in, and by
    which names to tell a person of the others. A file without a list is open to everybody.
    """
    try:
        return windows_security.list_of(path)
    except OSError:
        return None


def make_closed_folder(folder: Path, readers: Sequence[str]) -> None:
    """Make a folder of the administrators' that only these accounts may read besides, or close one.

    Raises FileExistsError, with the reason, for one that is a link or belongs to somebody else, who could
    open it again; PermissionError where an administrator is needed; OSError.
    """
    grants = [Entry(sid, READ) for sid in readers]
    try:
        windows_security.make_folder(folder, f"O:{ADMINISTRATORS}{closed(grants)}")
    except FileExistsError:
        if os.lstat(folder).st_file_attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT:
            raise FileExistsError(errno.EEXIST, "it is a link", str(folder)) from None
        before = windows_security.list_of(folder)
        if (owner := _stranger(before)) is not None:
            raise FileExistsError(errno.EEXIST, f"it belongs to {owner}", str(folder)) from None
        windows_security.set_list(folder, closed(grants, before), ADMINISTRATORS)


def planter(folder: Path) -> str | None:
    """Return who else could have put files into a folder; None where only administrators and we could."""
    found = access_list(folder)
    if found is None:
        return None
    if any(entry.is_everybody and entry.may_write for entry in found.allowed()):
        return "everybody on this computer"
    return _stranger(found)


def _stranger(found: AccessList) -> str | None:
    """Return the name of the owner, if it is neither the system, the administrators nor we."""
    if found.owner is None or found.owner in {*TRUSTED, windows_security.own_sid()}:
        return None
    return windows_security.account_name(found.owner)


def _allowed(path: Path) -> list[Entry]:
    found = access_list(path)
    return [] if found is None else found.allowed()


def local_groups(sid: str) -> set[str]:
    """Return the groups of this computer that an account is in, also by a group of its domain."""
    return windows_security.local_groups(sid)


def account_name(sid: str) -> str:
    """Return the name of an account, for which a server may be asked; `sid` where it has none."""
    return windows_security.account_name(sid)


def _checked(handle: int | None) -> int:
    if not handle:
        raise ctypes.WinError(ctypes.get_last_error())
    return handle


def give(path: Path, user_id: int | None, group_id: int | None) -> None:
    """Do nothing: users and groups have no numbers here."""
    del path, user_id, group_id


def share_folders(
    outbox: Path, names: Iterable[str], rejected: Path, owner_id: AccountId, group_id: AccountId
) -> bool:
    """Let a group add files to an outbox and to the folders of these names in it, and read what is rejected.

    Who has made a file there may change it; nobody of the group may make a folder, or see another's file.
    Raises OSError.
    """
    del owner_id
    for name in names:
        with suppress(FileExistsError):
            os.mkdir(outbox / name)
    grant(outbox, [Entry(str(group_id), ADD_FILES, FOLDERS), Entry(CREATOR, MODIFY, FILES_BELOW)])
    grant(rejected, [Entry(str(group_id), READ)])
    return True


def grant(path: Path, grants: Sequence[Entry]) -> None:
    """Add entries to the list of a file or folder. Raises OSError."""
    windows_security.set_list(path, windows_security.list_of(path).with_grants(grants))


def take_back(path: Path, sid: str) -> None:
    """Remove what an account was granted on a file or folder itself. Raises OSError."""
    text = windows_security.list_of(path).without(sid)
    if text is not None:
        windows_security.set_list(path, text)


def service_account(name: str) -> tuple[str, str] | None:
    """Return as whom a service runs, by name and identifier; None if it is not installed, or not known."""
    if find_spec("win32service") is None:
        return None
    services: Any = import_module("meshctl.platform.service")
    accounts: Any = import_module("meshctl.platform.service_account")
    try:
        user = services.account(name)
        return user, accounts.sid_of(user)
    except MeshctlError:
        return None


def make_like_parent(folder: Path) -> None:
    """Make a folder, which has the access list of the one that it is in. Raises FileExistsError, OSError."""
    folder.mkdir()


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


def _event_name(token: str, request: str) -> str:
    return f"Global\\meshctl-{token}-{request}"


def _made_event(name: str | None, given: windows_security.Attributes) -> int:
    handle = _checked(_kernel.CreateEventW(ctypes.byref(given), False, False, name))
    if name is not None and ctypes.get_last_error() == _EXISTS:
        # Whoever made it could stop us, or hear what we are asked.
        _kernel.CloseHandle(handle)
        raise FileExistsError(errno.EEXIST, "another process has made this event", name)
    return handle


@contextmanager
def listening(state_folder: Path, requests: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Call the function of a request, in a thread of its own, whenever somebody sets its named event.

    SYSTEM, administrators and this process's account may. Nobody can make the event first, as each daemon
    writes a new part of its name into the state folder.
    """
    token = secrets.token_hex(16)
    allowed = (SYSTEM, ADMINISTRATORS, windows_security.own_sid())
    names: list[str | None] = [_event_name(token, request) for request in requests]
    with windows_security.attributes(f"D:P{''.join(f'(A;;GA;;;{sid})' for sid in allowed)}") as given:
        # They reset themselves; the last, without a name, ends the thread.
        handles = [_made_event(name, given) for name in (*names, None)]
    acts = list(requests.values())
    waited = (HANDLE * len(handles))(*handles)

    def listen() -> None:
        while (n := _kernel.WaitForMultipleObjects(len(handles), waited, False, _FOREVER)) < len(acts):
            acts[n]()

    thread = Thread(target=listen, name="requests", daemon=True)
    thread.start()
    note = state_folder / _EVENTS_NAME
    try:
        # A full disk must not keep a daemon from working; it cannot be asked then.
        with suppress(OSError):
            note.write_text(token, encoding="ascii")
        yield
    finally:
        _kernel.SetEvent(handles[-1])
        thread.join()
        for handle in handles:
            _kernel.CloseHandle(handle)
        with suppress(OSError):
            note.unlink()


def locker(lock: Path) -> int | None:
    """Return None: Windows does not list who holds a lock."""
    del lock
    return None


def ask_to_reload(state_folder: Path, lock: Path, process_id: int | None) -> bool:
    """Ask the daemon of a state folder, `process_id` as it wrote down, to read its settings again.

    The service manager is asked to tell it if it is a service. False if nobody can be asked. Raises
    PermissionError, OSError.
    """
    del lock
    if process_id is not None and find_spec("win32service") is not None:
        service: Any = import_module("meshctl.platform.service")
        if service.reload(process_id):
            return True
    return ask(state_folder, RELOAD)


def ask(state_folder: Path, request: str) -> bool:
    """Set the named event of a request; False if none listens. Raises PermissionError, OSError."""
    try:
        token = (state_folder / _EVENTS_NAME).read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    handle = _kernel.OpenEventW(_EVENT_MODIFY_STATE, False, _event_name(token, request))
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
PROGRAM_FOLDER = Path(os.environ.get("PROGRAMFILES", "C:/Program Files")) / "meshctl"
SETTINGS_PATTERN = "*/meshctl.toml"


def named_settings(name: str) -> Path:
    """Return the settings file of the mailbox that `-m` calls so."""
    return SETTINGS_FOLDER / name / "meshctl.toml"


def settings_name(file: Path) -> str:
    """Return what `-m` calls the mailbox of a settings file that SETTINGS_PATTERN finds."""
    return file.parent.name
