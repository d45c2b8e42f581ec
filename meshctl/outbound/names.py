"""What the name of a dropped file says about it. Pure."""

import re
from collections.abc import Iterator
from enum import Enum, auto
from itertools import count

from meshctl.errors import Refusal

SIDECAR_SUFFIX = ".meta.json"
ERROR_SUFFIX = ".error.json"

_IGNORED_STARTS = (".", "~")
_IGNORED_ENDS = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp")
_PAIR_ENDS = (".dat", ".ctl")
# What shells, Windows, control files or a reader of a log would take for something else.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\]|\.\.')
_LONGEST_BYTES = 255 - len(SIDECAR_SUFFIX)


class Kind(Enum):
    """How a name is treated."""

    IGNORED = auto()
    SIDECAR = auto()
    PAYLOAD = auto()


def kind_of(name: str) -> Kind:
    """Tell whether a name is ignored (design: half-written files), a sidecar or a payload."""
    if name.startswith(_IGNORED_STARTS) or name.lower().endswith(_IGNORED_ENDS):
        return Kind.IGNORED
    if name.endswith(SIDECAR_SUFFIX) and len(name) > len(SIDECAR_SUFFIX):
        return Kind.SIDECAR
    return Kind.PAYLOAD


def check_name(name: str) -> None:
    """Raise Refusal for a payload's name that must not be sent on."""
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        raise _refused("The file's name is not valid UTF-8.") from None
    if _UNSAFE.search(name):
        raise _refused("The file's name holds a control character, a quotation mark, a backslash or '..'.")
    if len(encoded) > _LONGEST_BYTES:
        raise _refused(
            f"The file's name is {len(encoded)} bytes long; at most {_LONGEST_BYTES} leave room for more."
        )
    if name.lower().endswith(_PAIR_ENDS):
        raise Refusal(
            "control_file_by_hand",
            "The file's name ends in .dat or .ctl, which only meshctl and the MESH Client make.",
            "Drop the payload under its own name; meshctl writes the control file.",
        )


def numbered(name: str) -> Iterator[str]:
    """Yield a name and then, without end, the name with a number: `letter.pdf`, `letter.2.pdf` ..."""
    yield name
    stem, dot, ending = name.rpartition(".")
    for number in count(2):
        yield f"{stem}.{number}.{ending}" if dot and stem else f"{name}.{number}"


def _refused(text: str) -> Refusal:
    return Refusal("file_name_unsafe", text, "Rename the file and drop it again.")
