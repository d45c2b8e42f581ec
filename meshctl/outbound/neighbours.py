"""The files beside a letter in a folder of the outbox: whose sidecar, whose attachments, which came later."""

import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
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
    OfEarlierError,
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


class _Left(NamedTuple):
    """A part that a letter left with: which letter, the part's hash, None where it was missing, and when."""

    letter: str | FileIdentity
    content: str | None
    at_seconds: float


class EarlierLetters:
    """With which sidecar and attachments letters have left; for an hour, until a restart or a reload.

    Names are used again, and programs write a file twice, or late: a sidecar or an attachment that waits for
    a letter may belong to one that has left. Whoever writes the letter first never has that trouble.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # By folder and name of the part, the oldest first.
        self._left: dict[tuple[str, str], _Left] = {}

    def note_taken(self, folder: Folder, letter: Letter) -> None:
        """Note a letter that was taken from a folder."""
        parts: dict[str, str | None] = dict.fromkeys(attachment_names(letter.sidecar))
        parts |= {each.name: each.reading.sha256 for each in letter.attachments}
        has_own = letter.sidecar_status is not None and letter.sidecar is not None
        parts[letter.name + SIDECAR_SUFFIX] = _hash(letter.sidecar) if has_own else None
        for name, content in parts.items():
            key = folder.path, os.path.normcase(name)
            self._left.pop(key, None)
            self._left[key] = _Left(_file_of(letter), content, self._monotonic())
        while self._left and (
            len(self._left) > _MOST_REMEMBERED or self._is_over(next(iter(self._left.values())))
        ):
            del self._left[next(iter(self._left))]

    def check_own(self, folder: Folder, letter: Letter) -> None:
        """Raise OfEarlierError if a sidecar or an attachment may be an earlier letter's. Raises OSError."""
        sidecar, own = letter.sidecar, letter.name + SIDECAR_SUFFIX
        if sidecar is None or letter.sidecar_status is None or sidecar.resend_of is not None:
            return
        # One that names nobody may be the same for all letters.
        content = _hash(sidecar) if sidecar.patient or sidecar.document else ""
        if sidecar.sha256 is None and self._may_have_left(folder, letter, own, content, [letter.name]):
            raise _of_earlier(
                "sidecar",
                "sidecar",
                "Have the program write sidecars after their files, with sha256, or use each name once.",
            )
        for each in letter.attachments:
            if self._may_have_left(folder, letter, each.name, each.reading.sha256, [letter.name, own]):
                raise _of_earlier(
                    "attachment",
                    "document_attachment",
                    "Have the program write attachments last, or use each name once.",
                )

    def _may_have_left(
        self, folder: Folder, letter: Letter, name: str, content: str | None, others: Sequence[str]
    ) -> bool:
        """True if a part is an earlier letter's, or was missing there, and came before the others of this."""
        earlier = self._left.get((folder.path, os.path.normcase(name)))
        if earlier is None or self._is_over(earlier) or earlier.letter == _file_of(letter):
            return False
        is_its = earlier.content in (None, content)
        return is_its and all(_arrived_ns(folder, name) < _arrived_ns(folder, other) for other in others)

    def _is_over(self, earlier: _Left) -> bool:
        return earlier.at_seconds < self._monotonic() - _REMEMBERED_SECONDS


def _hash(sidecar: Sidecar | None) -> str:
    return blake2b(sidecar.written(), digest_size=16).hexdigest() if sidecar else ""


def _file_of(letter: Letter) -> str | FileIdentity:
    return letter.sha256 or letter.identity


def _arrived_ns(folder: Folder, name: str) -> int:
    return system.arrived_ns(f"{folder.path}/{name}", folder.status(name))


def _of_earlier(part: str, code: str, advice: str) -> OfEarlierError:
    return OfEarlierError(
        f"{code}_of_earlier",
        f"The {part} came before the file, and may belong to an earlier one: it is the same as one that has"
        " left under its name, or was missing there.",
        f"See whose it is. If this file's, put all back: meshctl redrop. Else drop the file again. {advice}",
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
