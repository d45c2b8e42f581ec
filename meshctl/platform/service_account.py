"""The account that a Windows service runs as: its identifier, its password, its right to log on."""

import sys

assert sys.platform == "win32"

import ctypes
from collections.abc import Mapping
from ctypes.wintypes import DWORD, HANDLE

import pywintypes
import win32security

from meshctl.errors import MeshctlError
from meshctl.platform import windows_security
from meshctl.platform.access_lists import SYSTEM, service_sid

_OF_SERVICES = "NT SERVICE\\"
# Names that the service manager knows, and nobody else; in capitals.
_KNOWN: Mapping[str, str] = {
    "LOCALSYSTEM": SYSTEM,
    ".\\LOCALSYSTEM": SYSTEM,
    "NT AUTHORITY\\SYSTEM": SYSTEM,
    "NT AUTHORITY\\LOCALSERVICE": "S-1-5-19",
    "NT AUTHORITY\\NETWORKSERVICE": "S-1-5-20",
}
_STANDARD_INPUT = DWORD(-10)
_MAY_LOG_ON = "SeServiceLogonRight"


def own_account(name: str) -> str:
    """Return the account that Windows makes for the service of this name alone."""
    return f"{_OF_SERVICES}{name}"


def is_own_account(user: str) -> bool:
    """True for an account that only this computer knows: on a share it comes as the computer."""
    return user.upper().startswith(_OF_SERVICES)


def needs_password(user: str) -> bool:
    """True if an account has a password that the service manager must know: not one that a domain manages."""
    return not _is_of_system(user) and not user.endswith("$")


def sid_of(user: str) -> str:
    """Return the security identifier of an account that a service may run as. Raises MeshctlError."""
    if is_own_account(user):
        return service_sid(user[len(_OF_SERVICES) :])
    # The dot stands for this computer.
    sid = _KNOWN.get(user.upper()) or windows_security.sid_of(user.removeprefix(".\\"))
    if sid is None:
        raise MeshctlError(f"Windows has no account {user}. Write one of a domain as DOMAIN\\NAME.")
    return sid


def can_ask() -> bool:
    """True if a person can type a password: at a console. NUL, too, is a terminal to Python."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.GetStdHandle.restype = HANDLE
    kernel.GetConsoleMode.argtypes = (HANDLE, ctypes.POINTER(DWORD))
    return bool(kernel.GetConsoleMode(kernel.GetStdHandle(_STANDARD_INPUT), ctypes.byref(DWORD())))


def for_icacls(user: str) -> str:
    """Return how icacls names an account: those of the system by their identifiers, in every language."""
    sid = _KNOWN.get(user.upper())
    return user if sid is None else f"*{sid}"


def let_log_on(user: str) -> bool:
    """Let an account log on as a service, as the console of services does; False where that is refused."""
    if _is_of_system(user):
        return True
    rights = win32security.POLICY_CREATE_ACCOUNT | win32security.POLICY_LOOKUP_NAMES
    try:
        policy = win32security.LsaOpenPolicy(None, rights)
        sid = win32security.ConvertStringSidToSid(sid_of(user))
        win32security.LsaAddAccountRights(policy, sid, (_MAY_LOG_ON,))
    except pywintypes.error:
        return False
    return True


def _is_of_system(user: str) -> bool:
    return user.upper() in _KNOWN or is_own_account(user)
