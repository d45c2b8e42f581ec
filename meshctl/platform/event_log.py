"""The Event Log of Windows: the log Application, source `meshctl`. Needs no package.

The texts of our events are the whole entry: Windows' own EventCreate.exe has a message for each number from
1 to 1000 that is nothing but the text it is given.
"""

import sys

assert sys.platform == "win32"

import ctypes
import winreg
from ctypes.wintypes import BOOL, DWORD, HANDLE, LPCWSTR, LPVOID, WORD

SOURCE = "meshctl"
"""Our name in the Event Log."""
ERROR, WARNING = 1, 2
FAILED = 629
"""The number of daemon.failed, for a program that cannot load the table of events."""

# A place of the registry, below HKEY_LOCAL_MACHINE.
_SOURCES = r"SYSTEM\CurrentControlSet\Services\EventLog\Application"
_MESSAGES = r"%SystemRoot%\System32\EventCreate.exe"
_ALL_KINDS = 7
# ReportEvent: a string has at most 31,839 characters.
_MOST_CHARACTERS = 31_000
_library = ctypes.WinDLL("advapi32", use_last_error=True)
_register, _report = _library.RegisterEventSourceW, _library.ReportEventW
_register.restype, _register.argtypes = HANDLE, (LPCWSTR, LPCWSTR)
_library.DeregisterEventSource.argtypes = (HANDLE,)
_report.restype = BOOL
_report.argtypes = (*(HANDLE, WORD, WORD, DWORD, LPVOID, WORD, DWORD, ctypes.POINTER(LPCWSTR), LPVOID),)


def register() -> None:
    """Tell Windows where the texts of our entries are. Raises OSError."""
    with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, f"{_SOURCES}\\{SOURCE}") as key:
        winreg.SetValueEx(key, "EventMessageFile", 0, winreg.REG_EXPAND_SZ, _MESSAGES)
        winreg.SetValueEx(key, "TypesSupported", 0, winreg.REG_DWORD, _ALL_KINDS)


def head(service: str) -> str:
    """Return what an entry begins with: the name of a service and its mailbox."""
    return f"{service} (mailbox {service.rpartition('-')[2]})"


def report(kind: int, number: int, text: str) -> bool:
    """Write an entry, ERROR or WARNING, under an event's number; False where there is no Event Log."""
    source = _register(None, SOURCE)
    if not source:
        return False
    try:
        texts = (LPCWSTR * 1)(text[:_MOST_CHARACTERS])
        return bool(_report(source, kind, 0, number, None, 1, 0, texts, None))
    finally:
        _library.DeregisterEventSource(source)
