"""The files beside a letter in a folder of the outbox: whose sidecar, whose attachments, which came later."""

import os
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from meshctl.errors import Rejection
from meshctl.files.folder import Folder
from meshctl.files.reading import is_general
from meshctl.outbound.completeness import Completeness
from meshctl.outbound.judge import Neighbours
from meshctl.outbound.letter import (
    FileIdentity,
    Letter,
    OtherSidecarError,
    attachment_names,
    is_of_one_owner,
)
from meshctl.outbound.names import SIDECAR_SUFFIX, is_sidecar
from meshctl.payload.sidecar import Sidecar
from meshctl.payload.sidecar_reader import SIDECAR_BYTES, read_sidecar
from meshctl.platform import system

_REMEMBERED_SECONDS = 3600.0
_MOST_REMEMBERED = 100_000


class Source(NamedTuple):
    """An open folder in which files are dropped, and the use case that it stands for."""

    folder: Folder
    use_case: str | None


class _Taken(NamedTuple):
    """The last letter of a name: its file, the hash of its sidecar if it had one, and when it was taken."""

    file: str | FileIdentity
    sidecar: bytes | None
    at_seconds: float


class EarlierSidecars:
    """With which sidecar the last letter of each name went; remembered for an hour, and until a restart.

    Names are used again, and programs write a sidecar twice, or late: one that waits for a file may belong to
    the letter that has left. Whoever writes a file first and then its sidecar never has that trouble.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # The oldest first.
        self._taken: dict[tuple[str, str], _Taken] = {}

    def note_taken(self, folder: Folder, letter: Letter) -> None:
        """Note a letter that was taken from a folder."""
        now, key = self._monotonic(), _key(folder, letter)
        self._taken.pop(key, None)
        has_own = letter.sidecar_status is not None and letter.sidecar is not None
        sidecar = _hash(letter.sidecar) if has_own and letter.sidecar is not None else None
        self._taken[key] = _Taken(_file_of(letter), sidecar, now)
        while self._taken:
            oldest = next(iter(self._taken))
            is_over = self._taken[oldest].at_seconds < now - _REMEMBERED_SECONDS
            if not is_over and len(self._taken) <= _MOST_REMEMBERED:
                break
            del self._taken[oldest]

    def doubt(self, folder: Folder, letter: Letter) -> OtherSidecarError | None:
        """Return why the sidecar beside a letter may be that of an earlier one; None where it is its own."""
        sidecar, status = letter.sidecar, letter.sidecar_status
        if sidecar is None or status is None or _says_which_file(sidecar):
            return None
        earlier = self._taken.get(_key(folder, letter))
        if earlier is None or earlier.at_seconds < self._monotonic() - _REMEMBERED_SECONDS:
            return None
        if earlier.file == _file_of(letter) or not _came_first(folder, letter, status):
            return None
        if earlier.sidecar is None:
            return _other_sidecar("which left without one, and may have come late")
        is_of_one = sidecar.patient is not None or sidecar.document is not None
        if is_of_one and earlier.sidecar == _hash(sidecar):
            return _other_sidecar("whose sidecar said the very same, and may have been written twice")
        return None


def _key(folder: Folder, letter: Letter) -> tuple[str, str]:
    return folder.path, os.path.normcase(letter.name)


def _hash(sidecar: Sidecar) -> bytes:
    return blake2b(sidecar.written(), digest_size=16).digest()


def _file_of(letter: Letter) -> str | FileIdentity:
    return letter.sha256 or letter.identity


def _says_which_file(sidecar: Sidecar) -> bool:
    return sidecar.sha256 is not None or sidecar.resend_of is not None


def _came_first(folder: Folder, letter: Letter, sidecar: os.stat_result) -> bool:
    """True if a sidecar came before its file."""
    own = system.arrived_ns(f"{folder.path}/{letter.name}", letter.status)
    return system.arrived_ns(f"{folder.path}/{letter.name}{SIDECAR_SUFFIX}", sidecar) < own


def _other_sidecar(why: str) -> OtherSidecarError:
    return OtherSidecarError(
        "sidecar_of_earlier",
        f"The sidecar came before the file, and may belong to an earlier file of that name, {why}.",
        "See whose it is. If it is this file's, put both back: meshctl redrop. Else drop the file again, with"
        " its own. Have the program write sidecars after their files, with sha256, or use each name once.",
    )


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
