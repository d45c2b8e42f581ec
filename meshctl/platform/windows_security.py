"""Access lists, owners and accounts as Windows keeps them; `access_lists` says what they mean."""

import sys

assert sys.platform == "win32"

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.wintypes import BOOL, DWORD, HANDLE, INT, LPCWSTR, LPVOID, LPWSTR
from pathlib import Path
from typing import Any

from meshctl.platform.access_lists import AccessList

_security = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_network = ctypes.WinDLL("netapi32")
_CALLS: tuple[tuple[Any, ...], ...] = (
    (_security.GetNamedSecurityInfoW, DWORD, LPCWSTR, INT, DWORD, *[LPVOID] * 5),
    (_security.SetNamedSecurityInfoW, DWORD, LPCWSTR, INT, DWORD, *[LPVOID] * 4),
    (_security.GetSecurityDescriptorDacl, BOOL, *[LPVOID] * 4),
    (
        _security.ConvertSecurityDescriptorToStringSecurityDescriptorW,
        BOOL,
        LPVOID,
        DWORD,
        DWORD,
        *[LPVOID] * 2,
    ),
    (_security.ConvertStringSecurityDescriptorToSecurityDescriptorW, BOOL, LPCWSTR, DWORD, *[LPVOID] * 2),
    (_security.ConvertStringSidToSidW, BOOL, LPCWSTR, LPVOID),
    (_security.ConvertSidToStringSidW, BOOL, LPVOID, LPVOID),
    (_security.LookupAccountSidW, BOOL, LPCWSTR, *[LPVOID] * 6),
    (_security.LookupAccountNameW, BOOL, LPCWSTR, LPCWSTR, *[LPVOID] * 5),
    (_security.OpenProcessToken, BOOL, HANDLE, DWORD, LPVOID),
    (_security.GetTokenInformation, BOOL, HANDLE, INT, LPVOID, DWORD, LPVOID),
    (_network.NetUserGetLocalGroups, DWORD, LPCWSTR, LPCWSTR, DWORD, DWORD, LPVOID, DWORD, LPVOID, LPVOID),
    (_network.NetApiBufferFree, DWORD, LPVOID),
    (_kernel.GetCurrentProcess, HANDLE),
    (_kernel.CreateDirectoryW, BOOL, LPCWSTR, LPVOID),
    (_kernel.CloseHandle, BOOL, HANDLE),
    (_kernel.LocalFree, HANDLE, LPVOID),
)
for _function, _result, *_arguments in _CALLS:
    _function.restype, _function.argtypes = _result, _arguments

_FILES, _REVISION = 1, 1
_OWNER, _LIST, _PROTECTED, _UNPROTECTED = 0x1, 0x4, 0x80000000, 0x20000000
_TOKEN_QUERY, _TOKEN_USER = 0x8, 1
_LONGEST = 256
_ALSO_BY_OTHER_GROUPS, _NO_LIMIT = 1, 0xFFFFFFFF


class Attributes(ctypes.Structure):
    """What a call takes that makes an object with a list of its own."""

    _fields_ = (("size", DWORD), ("descriptor", LPVOID), ("is_inherited", BOOL))


def list_of(path: str | Path) -> AccessList:
    """Return the access list and the owner of a file or folder. Raises OSError."""
    with _held() as descriptor, _held() as text:
        wanted = _OWNER | _LIST
        _check(
            _security.GetNamedSecurityInfoW(
                str(path), _FILES, wanted, None, None, None, None, ctypes.byref(descriptor)
            ),
            path,
        )
        _must(
            _security.ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor, _REVISION, wanted, ctypes.byref(text), None
            )
        )
        return AccessList.of(ctypes.wstring_at(text.value or 0))


def set_list(path: str | Path, text: str, owner: str | None = None) -> None:
    """Give a file or folder the list of a text, and an owner; what is below inherits it. Raises OSError."""
    new = AccessList.of(text)
    what = _LIST | (_PROTECTED if new.is_protected else _UNPROTECTED) | (_OWNER if owner else 0)
    with described(text) as descriptor, _held() as owner_sid:
        entries, is_there, is_default = LPVOID(), BOOL(), BOOL()
        _must(
            _security.GetSecurityDescriptorDacl(
                descriptor, ctypes.byref(is_there), ctypes.byref(entries), ctypes.byref(is_default)
            )
        )
        if owner is not None:
            _must(_security.ConvertStringSidToSidW(owner, ctypes.byref(owner_sid)))
        _check(_security.SetNamedSecurityInfoW(str(path), _FILES, what, owner_sid, None, entries, None), path)


def make_folder(path: Path, text: str) -> None:
    """Make a folder that has the list of a text from the first instant. Raises OSError."""
    with attributes(text) as given:
        if not _kernel.CreateDirectoryW(str(path), ctypes.byref(given)):
            _check(ctypes.get_last_error(), path)


@contextmanager
def attributes(text: str) -> Iterator[Attributes]:
    """Return what makes an object with the list of a text."""
    with described(text) as descriptor:
        yield Attributes(ctypes.sizeof(Attributes), descriptor, False)


@contextmanager
def described(text: str) -> Iterator[LPVOID]:
    """Return the descriptor that a text describes. Raises OSError for a text that describes none."""
    with _held() as descriptor:
        _must(
            _security.ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text, _REVISION, ctypes.byref(descriptor), None
            )
        )
        yield descriptor


def own_sid() -> str:
    """Return the identifier of the account that this process runs as."""
    token = HANDLE()
    _must(_security.OpenProcessToken(_kernel.GetCurrentProcess(), _TOKEN_QUERY, ctypes.byref(token)))
    try:
        # A pointer to the identifier, then some numbers and the identifier itself.
        found = ctypes.create_string_buffer(_LONGEST)
        _must(_security.GetTokenInformation(token, _TOKEN_USER, found, _LONGEST, ctypes.byref(DWORD())))
        return _written(LPVOID.from_buffer(found))
    finally:
        _kernel.CloseHandle(token)


def sid_of(account: str) -> str | None:
    """Return the identifier of an account or group, for which a server may be asked; None if unknown."""
    sid, domain = ctypes.create_string_buffer(_LONGEST), ctypes.create_unicode_buffer(_LONGEST)
    is_known = _security.LookupAccountNameW(
        None,
        account,
        sid,
        ctypes.byref(DWORD(_LONGEST)),
        domain,
        ctypes.byref(DWORD(_LONGEST)),
        ctypes.byref(DWORD()),
    )
    return _written(sid) if is_known else None


def account_name(sid: str) -> str:
    """Return the name of an account, for which a server may be asked; `sid` where it has none."""
    name, domain = (ctypes.create_unicode_buffer(_LONGEST) for _ in range(2))
    with _held() as binary:
        if not _security.ConvertStringSidToSidW(sid, ctypes.byref(binary)):
            return sid
        is_known = _security.LookupAccountSidW(
            None,
            binary,
            name,
            ctypes.byref(DWORD(_LONGEST)),
            domain,
            ctypes.byref(DWORD(_LONGEST)),
            ctypes.byref(DWORD()),
        )
    if not is_known:
        return sid
    return f"{domain.value}\\{name.value}" if domain.value else name.value


def local_groups(sid: str) -> set[str]:
    """Return the groups of this computer that an account is in, by identifier; none where it is not known."""
    entries, count, whole = ctypes.POINTER(LPWSTR)(), DWORD(), DWORD()
    failed = _network.NetUserGetLocalGroups(
        None,
        account_name(sid),
        0,
        _ALSO_BY_OTHER_GROUPS,
        ctypes.byref(entries),
        _NO_LIMIT,
        ctypes.byref(count),
        ctypes.byref(whole),
    )
    if failed:
        return set()
    try:
        names = [entries[number] for number in range(count.value)]
    finally:
        _network.NetApiBufferFree(entries)
    return {found for name in names if name and (found := sid_of(name)) is not None}


def _written(sid: Any) -> str:
    with _held() as text:
        _must(_security.ConvertSidToStringSidW(sid, ctypes.byref(text)))
        return ctypes.wstring_at(text.value or 0)


@contextmanager
def _held() -> Iterator[LPVOID]:
    """Return a pointer for what the system makes, which is given back at the end."""
    pointer = LPVOID()
    try:
        yield pointer
    finally:
        _kernel.LocalFree(pointer)


def _must(is_done: int) -> None:
    if not is_done:
        raise ctypes.WinError(ctypes.get_last_error())


def _check(number: int, path: str | Path) -> None:
    if number:
        raise OSError(0, ctypes.FormatError(number), os.fspath(path), number)
