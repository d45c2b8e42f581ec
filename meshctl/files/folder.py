"""A folder that others can write to, held open: no step uses a path that they could redirect.

Whoever may write to the outbox may at any time put a link in the place of a sub-folder, or another folder in
the place of this one. So a folder is opened once, and everything in it is done by that handle (see
`OpenFolder` of each system).
"""

import errno
import os
from contextlib import suppress

from meshctl.platform import system

_LONGEST_NAME_BYTES = 255


class Folder(system.OpenFolder):
    """An open folder; `path` is for people to read. Every name is one of a file in it."""

    def enter(self, name: str) -> "Folder":
        """Open a folder in this one. Raises NotADirectoryError for what leads elsewhere, OSError."""
        # The path has the form that scans and events use.
        return Folder(os.path.join(self.path, name), name, self)

    def check_in_place(self) -> None:
        """Raise FileNotFoundError if another folder, or none, has the path now."""
        if not os.path.samestat(os.stat(self.path), os.stat(self.place)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, name: str) -> bool:
        """True if something has this name."""
        try:
            self.status(name)
        except FileNotFoundError:
            return False
        except OSError as error:
            if system.is_name_too_long(error) and len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
                return False
            raise
        return True

    def unlink_if_there(self, name: str) -> None:
        """Remove a file, if there is one. Raises OSError."""
        with suppress(FileNotFoundError):
            self.unlink(name)
