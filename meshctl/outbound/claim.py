"""The work folder: files that were taken out of the outbox, and control files about to be handed over.

    .work/claims/<claim>/               a batch taken from the outbox itself, under the files' own names
    .work/claims/<claim>.<use case>/    a batch taken from a use case's sub-folder
    .work/ready/<stem>.ctl              control files, complete, where only we look
    .work/indexes/<index>/              an index, and the sidecars that its rows become (see index.py)
    .work/copies/<stem>                 copies of other users' files, about to take their places in the claim

A claim takes a sidecar first, then the attachments that it names, then its payload, so a crash in between
leaves what can be put back, never a payload that has lost what it needs. Nothing here is ever overwritten:
each claim has a fresh folder.
"""

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from meshctl.errors import Refusal
from meshctl.files import change, durable
from meshctl.files.safe_open import read_regular
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.payload.sidecar import SIDECAR_BYTES, read_sidecar

_CLAIMS, _READY, _COPIES, _INDEXES = "claims", "ready", "copies", "indexes"
WORK_NAMES = frozenset({_CLAIMS, _READY, _COPIES, _INDEXES})
"""All that belongs into the work folder."""
_PRIVATE = 0o700
_STAMP = "%Y%m%d%H%M%S%f"
_STAMP_CHARACTERS = 20
_CLAIM_NAME = re.compile(rf"\d{{{_STAMP_CHARACTERS}}}_[0-9a-f]{{6}}(\..+)?")


@dataclass(frozen=True, slots=True)
class Claim:
    """One batch in the work folder: `name` is its folder's, `use_case` the sub-folder it came from."""

    name: str
    folder: str
    use_case: str | None

    @property
    def opened_at(self) -> datetime:
        """Return when it was made, by its name."""
        return datetime.strptime(self.name[:_STAMP_CHARACTERS], _STAMP).replace(tzinfo=UTC)

    def path(self, name: str) -> str:
        """Return where a claimed file lies."""
        return f"{self.folder}/{name}"

    def take(
        self, outbox_folder: str, name: str, *, with_sidecar: bool, attachments: Iterable[str] = ()
    ) -> None:
        """Move a file, and first its sidecar and its attachments, out of the outbox. Raises OSError."""
        sidecars = [name + SIDECAR_SUFFIX] if with_sidecar else []
        for each in (*sidecars, *attachments, name):
            change.rename(f"{outbox_folder}/{each}", self.path(each))

    def give_back(self, outbox_folder: str, names: Iterable[str]) -> None:
        """Move what was taken of these files back to where it came from, where nothing has come since."""
        for name in names:
            if os.path.lexists(self.path(name)) and not os.path.lexists(f"{outbox_folder}/{name}"):
                change.rename(self.path(name), f"{outbox_folder}/{name}")

    def names(self) -> list[str]:
        """Return the names of what still lies in the claim."""
        try:
            return sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []

    def attachments(self, sidecars: Iterable[str] | None = None) -> set[str]:
        """Return the names of the files that sidecars in the claim, or some of them, name as attachments."""
        found: set[str] = set()
        for name in self.names() if sidecars is None else sidecars:
            if name.endswith(SIDECAR_SUFFIX):
                with suppress(Refusal, OSError):
                    document = read_sidecar(read_regular(self.path(name), SIDECAR_BYTES + 1)).document
                    found.update((document.attachments if document else None) or ())
        return found

    def close(self, done: Iterable[str] = ()) -> bool:
        """Remove the sidecars of payloads that are done, then the folder; False when something is left."""
        for name in done:
            change.unlink_if_there(self.path(name + SIDECAR_SUFFIX))
        try:
            change.rmdir(self.folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        return True


class WorkFolder:
    """The layout of `.work`."""

    def __init__(self, folder: Path) -> None:
        self.claims = f"{folder}/{_CLAIMS}"
        self.ready = f"{folder}/{_READY}"
        self.indexes = f"{folder}/{_INDEXES}"
        self._copies = f"{folder}/{_COPIES}"

    def make(self) -> None:
        """Make the folders if they are missing. Raises OSError."""
        for folder in (self.claims, self.ready, self.indexes, self._copies):
            durable.make_folders(folder, _PRIVATE)

    def open_claim(self, now: datetime, use_case: str | None) -> Claim:
        """Make the folder for a new claim."""
        name = f"{now.astimezone(UTC):{_STAMP}}_{secrets.token_hex(3)}" + (f".{use_case}" if use_case else "")
        claim = self._claim(name)
        os.mkdir(claim.folder, _PRIVATE)
        return claim

    def left_claims(self) -> Iterator[Claim]:
        """Yield the claims that lie in the work folder, oldest first."""
        for name in sorted(os.listdir(self.claims)):
            if _CLAIM_NAME.fullmatch(name) and os.path.isdir(f"{self.claims}/{name}"):
                yield self._claim(name)

    def left_stems(self) -> list[str]:
        """Return the stems of the control files that wait to be handed over."""
        return sorted(name.removesuffix(".ctl") for name in os.listdir(self.ready))

    def copy_of(self, stem: str) -> str:
        """Return where a copy of a claimed file grows, before it takes that file's place."""
        return f"{self._copies}/{stem}"

    def discard_copies(self) -> None:
        """Remove the copies that an interrupted run left; none of them is the only one."""
        for name in os.listdir(self._copies):
            change.unlink(f"{self._copies}/{name}")

    def file_clock_ns(self) -> int:
        """Return what time the file system has, by the stamp of a new file; a share has its server's."""
        probe = f"{self._copies}/clock"
        # A crash may have left one.
        change.unlink_if_there(probe)
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
            change.unlink(probe)

    def _claim(self, name: str) -> Claim:
        use_case = name.partition(".")[2] or None
        return Claim(name, f"{self.claims}/{name}", use_case)
