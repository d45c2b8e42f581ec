"""A message around a document that was made before, changed to say that it replaces another one. Pure."""

import re
from typing import Final
from uuid import UUID

from meshctl.payload.itk3 import RFC4122

_ATTACHMENT: Final = b"<Binary>"
_RELATION: Final = re.compile(
    rb"(</custodian>)(?:<relatesTo>(?:(?!</?relatesTo>).)*</relatesTo>)?", re.DOTALL
)
_VERSIONS: Final = (
    re.compile(rb'(<Bundle><id value="[^"]*"/><meta>)(?:<versionId value="[0-9]+"/>)?'),
    re.compile(rb'(<Composition><id value="[^"]*"/><meta>)(?:<versionId value="[0-9]+"/>)?'),
)


def has_replaced(message: bytes) -> bool:
    """True if a message says that it replaces another one."""
    return b"<relatesTo>" in message.partition(_ATTACHMENT)[0]


def as_replacement(message: bytes, replaced: UUID, version: int) -> bytes | None:
    """Return a message as `make_envelope` would have made it for this version, which replaces another one.

    None if it is no such message. Nothing else of it is changed.
    """
    head, mark, rest = message.partition(_ATTACHMENT)
    relation = (
        '<relatesTo><code value="replaces"/><targetIdentifier>'
        f'<system value="{RFC4122}"/><value value="{replaced}"/></targetIdentifier></relatesTo>'
    ).encode()
    number = f'<versionId value="{version}"/>'.encode()
    for pattern, text in ((_RELATION, relation), *((each, number) for each in _VERSIONS)):
        head, count = pattern.subn(rb"\g<1>" + text, head)
        if count != 1:
            return None
    return head + mark + rest
