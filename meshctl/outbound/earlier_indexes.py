"""Which indexes were read in the last week: one that comes again speaks of the files that lay beside it then.

A system sends yesterday's index once more while today's scans, of the same names, wait for their own: each
would go to yesterday's patient. So a file is rejected, with its row, where the row was used before, in an
index with the same rows, for another file; a file that came before is a repeat, and goes as such.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final

from meshctl.clock import iso
from meshctl.errors import Rejection
from meshctl.files.folder import Folder
from meshctl.ledger.services import Services
from meshctl.payload.index import Row
from meshctl.platform import system

_FACT: Final = "indexes_read"
_KEPT: Final = timedelta(days=7)
_MOST_KEPT: Final = 100


class EarlierIndexes:
    """The indexes that were read in the last week, kept in the ledger by keyed hash."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def repeated(self, folder: Folder, rows: Sequence[Row], files: Mapping[int, str]) -> set[int]:
        """Return the numbers of the rows that were used before, and whose file is another now.

        `files` are the files of the rows by number. Raises sqlite3.Error.
        """
        _, used = self._kept().get(self._key(rows), ("", []))
        digests = {number: _digest(folder, files[number]) for number in used if number in files}
        known = self._services.ledger.known_contents([each for each in digests.values() if each is not None])
        return {number for number, digest in digests.items() if digest not in known}

    def note_used(self, rows: Sequence[Row], numbers: Collection[int]) -> None:
        """Note that rows of an index had a file. Raises sqlite3.Error."""
        kept = self._kept()
        _, used = kept.pop(key := self._key(rows), ("", []))
        kept[key] = iso(self._services.clock.now()), sorted({*used, *numbers})
        newest = dict(list(kept.items())[-_MOST_KEPT:])
        self._services.ledger.set_fact(_FACT, json.dumps(newest))

    def _key(self, rows: Sequence[Row]) -> str:
        digest = hashlib.sha256()
        for row in rows:
            digest.update(f"{row.file}\0".encode() + row.sidecar + b"\0")
        return self._services.keys.of(f"index {digest.hexdigest()}").hex()

    def _kept(self) -> dict[str, tuple[str, list[int]]]:
        """Return when indexes were read that are still known, and which of their rows had a file."""
        since = iso(self._services.clock.now() - _KEPT)
        kept: dict[str, tuple[str, list[int]]] = json.loads(self._services.ledger.fact(_FACT) or "{}")
        return {key: (at, used) for key, (at, used) in kept.items() if at > since}


def _digest(folder: Folder, name: str) -> bytes | None:
    """Return the SHA-256 of a file; None where it cannot be read now."""
    try:
        with open(folder.open(name, system.READ), "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def repeated_row() -> Rejection:
    """Return the rejection of a file with a row that was used before for another."""
    return Rejection(
        "index_repeated",
        "An index with the same rows was read in the last week, and its row was used for another file.",
        "See whose the file is. If the row is right, put it back: meshctl redrop NAME. Else drop it with the"
        " index that was written for it; the date of the document tells two apart.",
    )
