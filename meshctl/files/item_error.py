"""What an error of the system says about one item: whether it is the item's at all, why, and what to do.

Whatever one file or folder meets is its own affair, and keeps no other waiting. Only what says nothing about
an item (too many open files, no memory) is the whole process's.
"""

import errno
import os
from typing import Final

NOT_A_FILE_ADVICE: Final = "Move it away, and have whoever puts it there write an ordinary file."
NAME_ADVICE: Final = "Give it, and what goes with it, a short, plain name; it is then tried again by itself."
ROOM_ADVICE: Final = "Free space there, or make the file smaller; it is then tried again by itself."
_GENERAL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_RIGHTS: Final = (
    "Let the user that meshctl runs as read it, and move it out of its folder; it is then tried again by"
    " itself."
)
_ADVICE: Final = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "Mount the file system for writing; it is then tried again by itself.",
    errno.EXDEV: "Put it on the file system of the outbox and the work folder, under one mount of it.",
    errno.ENAMETOOLONG: NAME_ADVICE,
    errno.EINVAL: NAME_ADVICE,
    errno.EILSEQ: NAME_ADVICE,
    errno.ELOOP: NOT_A_FILE_ADVICE,
    errno.ENOSPC: ROOM_ADVICE,
    errno.EDQUOT: ROOM_ADVICE,
}
_OTHERWISE: Final = (
    "Look into the system's own log: disk, network or share fail. It is tried again by itself."
)


def is_general(error: OSError) -> bool:
    """True if the whole process suffers from this, and not one item."""
    return error.errno in _GENERAL


def reason_of(error: OSError) -> str:
    """Return what the system says is wrong, without the path."""
    return os.strerror(error.errno or 0)


def advice_on(error: OSError) -> str:
    """Return what to do about an error that one item meets."""
    return _ADVICE.get(error.errno or 0, _OTHERWISE)
