"""Whose a folder is: state that one mailbox has, and that no other may take up, says so in a file of its own.

Folders are copied, moved and put back from back-ups by hand, and one that lands in the place of another
mailbox's would have its letters sent and its messages followed there.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from meshctl.errors import ConfigError
from meshctl.files.durable import replace_whole
from meshctl.files.reading import read_regular

OWNER_NAME: Final = ".mailbox"
_TEMPORARY: Final = ".mailbox.new"
_MODE: Final = 0o600
_MOST_BYTES: Final = 200


class ForeignFolderError(ConfigError):
    """A folder, or the ledger, is another mailbox's."""

    def __init__(self, what: str, owner: str, mailbox_id: str) -> None:
        super().__init__(
            f"{what} belongs to the mailbox {owner}, not to {mailbox_id}. Put it back to where it belongs, or"
            " name another in the settings."
        )


def owner_of(folder: Path) -> str | None:
    """Return the id of the mailbox that a folder says it belongs to; None if it does not say."""
    try:
        told = read_regular(folder / OWNER_NAME, _MOST_BYTES)
    except OSError:
        return None
    return told.decode(errors="replace").strip() or None


def claim(folder: Path, mailbox_id: str) -> None:
    """Have a folder that is there say whose it is. Raises ForeignFolderError if it is another mailbox's.

    What cannot be written or read keeps nothing from going on: it is a guard against a mistake.
    """
    owner = owner_of(folder)
    if owner is None and folder.is_dir():
        with suppress(OSError):
            path = folder / OWNER_NAME
            replace_whole(str(path), f"{mailbox_id}\n".encode(), _MODE, str(folder / _TEMPORARY))
    elif owner is not None and owner != mailbox_id:
        raise ForeignFolderError(str(folder), owner, mailbox_id)
