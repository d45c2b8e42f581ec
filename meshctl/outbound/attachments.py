"""Which letters in the outbox name which files as their attachments, as their sidecars say."""

import os
import stat
from collections.abc import Collection

from meshctl.errors import Rejection
from meshctl.files.folder import Folder
from meshctl.files.item_error import is_general
from meshctl.outbound.letter import FileIdentity, Letter, is_of_one_owner
from meshctl.outbound.names import SIDECAR_SUFFIX, is_sidecar
from meshctl.payload.sidecar import SIDECAR_BYTES, read_sidecar
from meshctl.platform import system


class Attachments:
    """What the sidecars in each folder name; they are read once in a turn, and only if somebody asks."""

    def __init__(self) -> None:
        # By folder and name of a file, the letters that name it, with their sidecars.
        self._named: dict[str, dict[str, dict[str, os.stat_result]]] = {}
        self._shared: set[tuple[str, FileIdentity]] = set()

    def start_turn(self) -> None:
        """Have the sidecars read anew when somebody asks."""
        self._named.clear()

    def naming(self, folder: Folder, name: str) -> set[str]:
        """Return which letters name a file as their attachment, and may have it."""
        naming = self._named_in(folder).get(os.path.normcase(name))
        if not naming:
            return set()
        try:
            status = folder.status(name)
        except FileNotFoundError:
            return set(naming)
        return {letter for letter, sidecar in naming.items() if is_of_one_owner(sidecar, status)}

    def is_shared(self, folder: Folder, letter: Letter, attachment: str) -> bool:
        """True if another letter names the same file as an attachment: whose it is then nobody knows.

        Asked once of a letter that shares, it is so for all that do, also when one of them has gone.
        """
        if (folder.path, letter.identity) in self._shared:
            return True
        others = self.naming(folder, attachment) - {letter.name}
        for other in others:
            try:
                status = folder.status(other)
            except OSError:
                continue
            self._shared.add((folder.path, FileIdentity.of(status)))
        return bool(others)

    def _named_in(self, folder: Folder) -> dict[str, dict[str, os.stat_result]]:
        if folder.path not in self._named:
            named: dict[str, dict[str, os.stat_result]] = {}
            with folder.entries() as entries:
                sidecars = [entry.name for entry in entries if is_sidecar(entry.name)]
            for sidecar in sidecars:
                names, status = _read(folder, sidecar)
                if status is None:
                    continue
                for name in names:
                    named.setdefault(os.path.normcase(name), {})[sidecar[: -len(SIDECAR_SUFFIX)]] = status
            self._named[folder.path] = named
        return self._named[folder.path]


def _read(folder: Folder, sidecar: str) -> tuple[Collection[str], os.stat_result | None]:
    """Return the names that a sidecar has for attachments, and its status; none if it cannot be read."""
    try:
        descriptor = folder.open(sidecar, system.READ)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return (), None
            document = read_sidecar(os.read(descriptor, SIDECAR_BYTES + 1)).document
        finally:
            os.close(descriptor)
    except (Rejection, OSError) as error:
        if isinstance(error, OSError) and is_general(error):
            raise
        return (), None
    return (document.attachments if document else None) or (), status
