"""The files beside a letter in a folder of the outbox: whose sidecar, whose attachments, which came later."""

import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from meshctl.errors import Rejection
from meshctl.files.folder import Folder
from meshctl.files.reading import is_general
from meshctl.outbound.completeness import Completeness
from meshctl.outbound.earlier_letters import EarlierLetters
from meshctl.outbound.judge import Neighbours
from meshctl.outbound.letter import (
    FileIdentity,
    Letter,
    attachment_names,
    is_of_one_owner,
)
from meshctl.outbound.names import SIDECAR_SUFFIX, is_sidecar
from meshctl.payload.sidecar_reader import SIDECAR_BYTES, read_sidecar
from meshctl.platform import system


class Source(NamedTuple):
    """An open folder in which files are dropped, and the use case that it stands for."""

    folder: Folder
    use_case: str | None


class Attachments:
    """Which letters name which files as their attachments; sidecars are read once a turn, when needed."""

    def __init__(self) -> None:
        # By folder and name of a file, the letters that name it, with their sidecars.
        self._named: dict[str, dict[str, dict[str, os.stat_result]]] = {}
        self._shared: set[tuple[str, FileIdentity]] = set()

    def start_turn(self) -> None:
        """Forget what the sidecars of the last turn said."""
        self._named.clear()

    def naming(self, folder: Folder, name: str) -> set[str]:
        """Return the letters that name a file as their attachment, and may have it."""
        naming = self._named_in(folder).get(os.path.normcase(name))
        if not naming:
            return set()
        try:
            status = folder.status(name)
        except FileNotFoundError:
            return set(naming)
        return {letter for letter, sidecar in naming.items() if is_of_one_owner(sidecar, status)}

    def is_shared(self, folder: Folder, letter: Letter, attachment: str) -> bool:
        """True if another letter names the same file as an attachment: it is unclear whose it is.

        Once true for one of the letters that share a file, it stays true for all, even if one has gone.
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


@dataclass(frozen=True, slots=True)
class FolderNeighbours(Neighbours):
    """The files in one folder of the outbox, and what its sidecars and an index say of them.

    `sighted` are the files, by name, that were beside the index when it was first seen.
    """

    source: Source
    attachments: Attachments
    earlier_letters: EarlierLetters
    completeness: Completeness
    sighted: Mapping[str, int]

    def is_attached(self, name: str) -> bool:
        """True if a sidecar names a file as an attachment."""
        return bool(self.attachments.naming(self.source.folder, name))

    def was_replaced(self, name: str, status: os.stat_result) -> bool:
        """True if another file had the name when the index was first seen."""
        return self.sighted.get(name, status.st_ino) != status.st_ino

    def is_complete(self, name: str, status: os.stat_result) -> bool:
        """True if a file is complete, so no program writes to it any more."""
        return self.completeness.is_complete(self.source.folder.path, name, status)

    def is_shared(self, letter: Letter, attachment: str) -> bool:
        """True if another letter names the same file as an attachment."""
        return self.attachments.is_shared(self.source.folder, letter, attachment)

    def check_own(self, letter: Letter) -> None:
        """Raise Rejection if a sidecar or an attachment of a letter may be an earlier letter's."""
        self.earlier_letters.check_own(self.source.folder, letter)


def _read(folder: Folder, name: str) -> tuple[Collection[str], os.stat_result | None]:
    """Return the names that a sidecar gives for attachments, and its status; none if it cannot be read."""
    try:
        descriptor = folder.open(name, system.READ)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return (), None
            sidecar = read_sidecar(os.read(descriptor, SIDECAR_BYTES + 1))
        finally:
            os.close(descriptor)
    except (Rejection, OSError) as error:
        if isinstance(error, OSError) and is_general(error):
            raise
        return (), None
    return attachment_names(sidecar), status
