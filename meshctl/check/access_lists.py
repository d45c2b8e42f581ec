"""Who may read and write a file on Windows, as its access list says. Without pywin32 nothing is known.

Who is let in by a group of the site's own, or kept out by a denial, is not followed further: what counts here
is whether everybody is let in, and by which names a person is told of the others.
"""

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class Access:
    """What one account or group, by its security identifier, may do with a file or folder."""

    sid: str
    is_everybody: bool
    may_read: bool
    may_write: bool
    may_replace: bool


def close_command(path: Path) -> str:
    """Return what takes from everybody the access to a file or a folder, and leaves it to all others."""
    groups = " ".join(f"*{one}" for one in _EVERYBODY)
    return f"icacls {subprocess.list2cmdline([str(path)])} /inheritance:d /remove:g {groups}"


if sys.platform == "win32" and find_spec("win32security") is not None:
    import pywintypes
    import win32security

    ARE_READABLE = True

    def access_list(path: Path) -> list[Access]:
        """Return who may do what; nothing for what is not there or may not be asked about.

        A file without a list is open to everybody.
        """
        try:
            security = win32security.GetFileSecurity(str(path), win32security.DACL_SECURITY_INFORMATION)
        except pywintypes.error:
            return []
        entries = security.GetSecurityDescriptorDacl()
        if entries is None:
            return [Access(_EVERYBODY[0], True, True, True, True)]
        found: list[Access] = []
        for number in range(entries.GetAceCount()):
            (kind, flags), mask, *_, sid = entries.GetAce(number)
            if kind == _ALLOWED and not flags & _INHERIT_ONLY:
                rights = (bool(mask & some) for some in (_READ, _WRITE, _REPLACE))
                text = win32security.ConvertSidToStringSid(sid)
                found.append(Access(text, text in _EVERYBODY, *rights))
        return found

    def account_name(sid: str) -> str:
        """Return the name of an account, for which a server may be asked; `sid` where it has none."""
        try:
            return win32security.LookupAccountSid(None, win32security.ConvertStringSidToSid(sid))[0]
        except pywintypes.error:
            return sid

else:
    ARE_READABLE = False
    """Whether access lists can be read here: on Windows, with pywin32."""

    def access_list(path: Path) -> list[Access]:
        """Return nothing: access lists cannot be read here."""
        del path
        return []

    def account_name(sid: str) -> str:
        """Return the identifier itself."""
        return sid
