"""Move files between a mailbox and the work folder of who serves it, also from one file system to another.

A rename does it in one step. Where there can be none, because the two are on different file systems or mounts
(EXDEV), or because the file would keep the access list of its first folder (Windows), the content is copied.
What is on disk after each of these steps is durable before the next begins.

Out of OUT (`Claims`), where a pair may be withdrawn by others until it is taken:

    1  OUT/.meshctl-taken/NAME   renamed from OUT/NAME: this takes it, and nobody else can from now on
    2  work/taken/NAME           a copy, which has its name only when it is whole
    3  OUT/.meshctl-taken/NAME   removed

A start finds OUT/.meshctl-taken/NAME: with a copy, or with a decision about the pair, it is removed (3);
without, the copy is made (2).

Into SENT, FAILED and, of a payload, IN (`put`), where the same file may be put in its own place again:

    1  FOLDER/NAME               a copy, which has its name only when it is whole
    2  the file in the work folder is removed

A start finds the file in the work folder, and does both.

Of a control file into IN (`show_once`), where it may be taken at once, and must not come again:

    1  IN/.meshctl-HASH          a whole copy
    2  the file in the work folder is removed: from here on it is shown
    3  IN/NAME                   renamed

A start finds the file in the work folder, and does all of it; or only IN/.meshctl-HASH, and does step 3.
"""

import errno
import os
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from meshctl.files import durable
from meshctl.files.reading import is_general, open_regular
from meshctl.platform import host, system

_CLAIMED: Final = f"{durable.HIDDEN_PREFIX}taken"
_PRIVATE: Final = 0o700


def put(source: str, target: str) -> None:
    """Move a file to a name that may show it twice. Raises FileNotFoundError if it has gone, OSError."""
    durable.move(source, target, f"{durable.hidden(target)}.copy")


def show_once(source: str, target: str) -> None:
    """Move a file to a name where others may take it at once: it never comes there again.

    Raises FileNotFoundError if there is nothing to move, OSError.
    """
    hidden, folder = durable.hidden(target), os.path.dirname(target)
    if os.path.lexists(source):
        if os.path.lexists(hidden):
            # Of a start that was killed before it removed the source.
            system.unlink(hidden)
            durable.sync_folder(folder)
        if durable.is_renamed(source, target):
            return
        durable.copy_whole(source, hidden, f"{hidden}.copy")
        system.unlink(source)
        durable.sync_folder(os.path.dirname(source))
    system.rename(hidden, target)
    durable.sync_folder(folder)


def is_to_be_shown(source: str, target: str) -> bool:
    """True if `show_once` has something to do."""
    return os.path.lexists(source) or os.path.lexists(durable.hidden(target))


class Claims:
    """Takes files out of OUT into the folder `taken`; `settle` comes first after a start or an error."""

    def __init__(self, out: str, taken: str) -> None:
        self._out = out
        self._taken = taken
        self._claimed = f"{out}/{_CLAIMED}"

    def take(self, name: str) -> bool:
        """Take a file; False if it is not there, or cannot be read and so not be copied. Raises OSError."""
        try:
            system.rename(f"{self._out}/{name}", f"{self._taken}/{name}")
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            if not self._claim(name):
                return False
            self._carry(name)
            self._tidy()
        return True

    def settle(self, decided: Collection[str]) -> None:
        """Finish what broke off; `decided` are the stems of the pairs decided upon. Raises OSError."""
        if not self._has_claimed():
            # Whatever else others put there, it holds nothing of ours.
            return
        for name in sorted(os.listdir(self._claimed)):
            if os.path.lexists(f"{self._taken}/{name}") or os.path.splitext(name)[0] in decided:
                system.unlink(f"{self._claimed}/{name}")
            else:
                self._carry(name)
        durable.sync_folder(self._claimed)
        self._tidy()

    def _claim(self, name: str) -> bool:
        source = f"{self._out}/{name}"
        try:
            with open_regular(source):
                pass
        except OSError as error:
            if is_general(error):
                raise
            return False
        with suppress(FileExistsError):
            system.make_folder(self._claimed, _PRIVATE)
        if not self._has_claimed():
            # It could lead anywhere.
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._claimed)
        try:
            system.rename(source, f"{self._claimed}/{name}")
        except FileNotFoundError:
            return False
        durable.sync_folder(self._claimed)
        durable.sync_folder(self._out)
        return True

    def _has_claimed(self) -> bool:
        """True if there is a folder of what we took, and it is ours. Raises OSError."""
        try:
            is_folder = stat.S_ISDIR(os.lstat(self._claimed).st_mode)
        except FileNotFoundError:
            return False
        return is_folder and host.is_own_folder(Path(self._claimed))

    def _carry(self, name: str) -> None:
        claim = f"{self._claimed}/{name}"
        durable.copy_whole(claim, f"{self._taken}/{name}", f"{self._taken}/.copy")
        system.unlink(claim)
        durable.sync_folder(self._claimed)

    def _tidy(self) -> None:
        """Leave no empty folder in OUT."""
        with suppress(OSError):
            os.rmdir(self._claimed)
