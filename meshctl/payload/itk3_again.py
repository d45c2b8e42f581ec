"""A message around a document that was made before, changed to say that it replaces another one. Pure."""

import re
from typing import Final
from uuid import UUID

from meshctl.payload.itk3 import RFC4122

_ATTACHMENT: Final = b"<Binary>"
_RELATION: Final = re.compile(
    rb"(</custodian>)(?:<relatesTo>(?:(?!</?relatesTo>).)*</relatesTo>)?", re.DOTALL
)


def has_replaced(message: bytes) -> bool:
    """True if a message says that it replaces another one."""
    return b"<relatesTo>" in message.partition(_ATTACHMENT)[0]


def as_replacement(message: bytes, replaced: UUID) -> bytes | None:
    """Return a message as `make_envelope` would have made it, had it replaced another one.

    None for what that has not made. Nothing else of it is changed: its version is in its text, and in its
    control file, too.
    """
    head, mark, rest = message.partition(_ATTACHMENT)
    relation = (
        '<relatesTo><code value="replaces"/><targetIdentifier>'
        f'<system value="{RFC4122}"/><value value="{replaced}"/></targetIdentifier></relatesTo>'
    ).encode()
    head, count = _RELATION.subn(rb"\g<1>" + relation, head)
    return head + mark + rest if count == 1 else None
