"""The durable notes about uploads under way: what may have reached MESH, and how far it got.

A note is written before the first byte of a message is sent, and goes when its pair is where it belongs. What
a note has lost (a disk fault) counts as not known, never as not sent.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from meshctl import durable

# Short: the name of a pair may fill all that a file system allows, and had four characters after it.
_NOTE: Final = ".up"
_NEXT: Final = ".next"
_PRIVATE_FOLDER: Final = 0o700
_PRIVATE_FILE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Upload:
    """One message on its way; `mesh_id` is None as long as MESH has not answered.

    `file_name` is what MESH is told, and empty if the note was lost. Chunks are cut as when it began,
    whatever the settings say by now; the last one may be on its way when `chunks_sent` is one less than
    `chunks`. `missed_at` is when MESH first said that it has not got it, in seconds from 1970.
    """

    file_name: str
    size_bytes: int
    chunk_bytes: int
    compress: bool
    mesh_id: str | None = None
    chunks_sent: int = 0
    missed_at: float | None = None

    @property
    def chunks(self) -> int:
        """How many chunks the message has."""
        return max(1, -(-self.size_bytes // max(1, self.chunk_bytes)))

    @property
    def is_known_whole(self) -> bool:
        """Whether MESH has said that it has all of it."""
        return self.mesh_id is not None and self.chunks_sent >= self.chunks


class Uploads:
    """The notes in one folder, by the stem of the pair."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        durable.make_folders(self._folder, _PRIVATE_FOLDER)
        with suppress(FileNotFoundError):
            # Of an earlier process, which did not come to the end of it.
            os.unlink(f"{self._folder}/{_NEXT}")

    def get(self, stem: str) -> Upload | None:
        """Return the note about a pair; None if there is none, and so nothing of it was sent."""
        try:
            data = Path(self._path(stem)).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Upload(**json.loads(data))
        except (ValueError, TypeError):
            return Upload("", size_bytes=0, chunk_bytes=0, compress=False)

    def stems(self) -> list[str]:
        """Return the stems that there are notes about."""
        names = os.listdir(self._folder)
        return [name.removesuffix(_NOTE) for name in names if name.endswith(_NOTE) and name != _NEXT]

    def write(self, stem: str, upload: Upload) -> None:
        """Write a note, over the one before; durable on return."""
        new = f"{self._folder}/{_NEXT}"
        with suppress(FileNotFoundError):
            os.unlink(new)
        durable.write_new(new, json.dumps(asdict(upload)).encode(), _PRIVATE_FILE)
        durable.sync_file(new)
        os.replace(new, self._path(stem))
        durable.sync_folder(self._folder)

    def drop(self, stem: str) -> None:
        """Remove a note, if there is one; durable on return."""
        try:
            os.unlink(self._path(stem))
        except FileNotFoundError:
            return
        durable.sync_folder(self._folder)

    def _path(self, stem: str) -> str:
        return f"{self._folder}/{stem}{_NOTE}"
