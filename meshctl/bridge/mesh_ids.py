"""Message ids as the network tells them: which are fit for an address, a file name and a log. Pure."""

import re
from typing import Final, TypeGuard

# MESH's own ids, the older DTS ones, the sandbox's; nothing that a file system or an address misreads.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,99}")


def is_sane_id(told: object) -> TypeGuard[str]:
    """Tell whether what the network says is a message id can be used as one."""
    return isinstance(told, str) and _SANE_ID.fullmatch(told) is not None
