"""Access lists of Windows."""

import sys
from pathlib import Path

READ, ALL = 0x120089, 0x1F01FF
_EVERYBODY = "S-1-1-0"


def let_in(path: Path, everybody: int = 0) -> None:
    """Let its owner in, and everybody with these rights, and nobody else; only on Windows."""
    if sys.platform == "win32":
        import win32security  # noqa: PLC0415 - not there on other systems

        of_owner, of_list = win32security.OWNER_SECURITY_INFORMATION, win32security.DACL_SECURITY_INFORMATION
        owner = win32security.GetFileSecurity(str(path), of_owner).GetSecurityDescriptorOwner()
        entries = win32security.ACL()
        entries.AddAccessAllowedAce(win32security.ACL_REVISION, ALL, owner)
        if everybody:
            all_users = win32security.ConvertStringSidToSid(_EVERYBODY)
            entries.AddAccessAllowedAce(win32security.ACL_REVISION, everybody, all_users)
        security = win32security.SECURITY_DESCRIPTOR()
        security.SetSecurityDescriptorDacl(True, entries, False)
        win32security.SetFileSecurity(str(path), of_list, security)
