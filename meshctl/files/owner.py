"""Which mailbox a folder belongs to: a file in it names the one mailbox that may use it.

The names of the daemon's lock in the mailbox's folder, and of its note, are here too.

Folders are copied, moved and restored from back-ups by hand. In the place of another mailbox's folder, its
letters would be sent, and its messages followed, for the wrong mailbox.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from meshctl.errors import ConfigError
from meshctl.files.durable import replace_whole
from meshctl.files.reading import read_regular

OWNER_NAME: Final = ".mailbox"
WORKER_LOCK_NAME: Final = ".meshctl.lock"
WORKER_NAME: Final = ".meshctl"
_TEMPORARY: Final = ".mailbox.new"
_MODE: Final = 0o600
_MOST_BYTES: Final = 200


def new_id_advice(old_id: str) -> str:
    """Return what to do where a mailbox has got another id at MESH."""
    return (
        f"If MESH has given the mailbox another id, set {old_id} again until nothing is under way (meshctl"
        " status); then stop the daemon, move work folder, archive and state folder away, and set the new id."
        " systemd/upkeep.md has it step by step."
    )


class ForeignFolderError(ConfigError):
    """A folder, the ledger or a back-up belongs to another mailbox."""

    def __init__(self, what: str, owner: str, mailbox_id: str, *, is_backup: bool = False) -> None:
        super().__init__(
            f"{what} belongs to the mailbox {owner}, not to {mailbox_id}. Put it back where it belongs, or"
            f" name another one in the settings.{'' if is_backup else f' {new_id_advice(owner)}'}"
        )


def owner_of(folder: Path) -> str | None:
    """Return the id of the mailbox that a folder belongs to; None if it does not say."""
    try:
        content = read_regular(folder / OWNER_NAME, _MOST_BYTES)
    except OSError:
        return None
    return content.decode(errors="replace").strip() or None


def claim(folder: Path, mailbox_id: str) -> None:
    """Mark an existing folder as a mailbox's. Raises ForeignFolderError if it belongs to another mailbox.

    A mark that cannot be written or read stops nothing: it is a guard against a mistake.
    """
    owner = owner_of(folder)
    if owner is None and folder.is_dir():
        with suppress(OSError):
            path = folder / OWNER_NAME
            replace_whole(str(path), f"{mailbox_id}\n".encode(), _MODE, str(folder / _TEMPORARY))
    elif owner is not None and owner != mailbox_id:
        raise ForeignFolderError(str(folder), owner, mailbox_id)
