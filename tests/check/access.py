"""Access lists of Windows."""

import sys
from pathlib import Path
from typing import Any

READ, ALL = 0x120089, 0x1F01FF
_EVERYBODY = "S-1-1-0"


def let_nobody_in(path: Path) -> None:
    """Take all rights from everybody, also the owner; only on Windows."""
    _set(path, [])


def let_in(path: Path, everybody: int = 0) -> None:
    """Let its owner in, and everybody with these rights, and nobody else; only on Windows."""
    if sys.platform == "win32":
        import win32security  # noqa: PLC0415 - not there on other systems

        of_owner = win32security.OWNER_SECURITY_INFORMATION
        owner = win32security.GetFileSecurity(str(path), of_owner).GetSecurityDescriptorOwner()
        all_users = win32security.ConvertStringSidToSid(_EVERYBODY)
        _set(path, [(ALL, owner), *([(everybody, all_users)] if everybody else [])])


def _set(path: Path, allowed: list[tuple[int, Any]]) -> None:
    if sys.platform == "win32":
        import win32security  # noqa: PLC0415 - not there on other systems

        of_list, entries = win32security.DACL_SECURITY_INFORMATION, win32security.ACL()
        for rights, account in allowed:
            entries.AddAccessAllowedAce(win32security.ACL_REVISION, rights, account)
        security = win32security.SECURITY_DESCRIPTOR()
        security.SetSecurityDescriptorDacl(True, entries, False)
        win32security.SetFileSecurity(str(path), of_list, security)
