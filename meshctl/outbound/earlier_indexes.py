"""Which indexes were read in the last week: one that comes again speaks of the files that lay beside it then.

A system sends yesterday's index once more while today's scans, of the same names, wait for their own: each
would go to yesterday's patient. Of an index that is the same to the last byte, a row is used for a file that
was sent before, which is a repeat, and for no other.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from meshctl.clock import iso
from meshctl.files.folder import Folder
from meshctl.ledger.services import Services
from meshctl.platform import system

_FACT: Final = "indexes_read"
_KEPT: Final = timedelta(days=7)
_MOST_KEPT: Final = 500


class EarlierIndexes:
    """The indexes that were read in the last week, kept in the ledger by keyed hash."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def was_read(self, use_case: str | None, data: bytes) -> bool:
        """True if the same index was read in the same folder. Raises sqlite3.Error."""
        return self._key(use_case, data) in self._kept()

    def note_read(self, use_case: str | None, data: bytes) -> None:
        """Note that an index was read, and had a file. Raises sqlite3.Error."""
        kept = self._kept()
        kept.pop(key := self._key(use_case, data), None)
        kept[key] = iso(self._services.clock.now())
        newest = dict(list(kept.items())[-_MOST_KEPT:])
        self._services.ledger.set_fact(_FACT, json.dumps(newest))

    def were_sent(self, folder: Folder, names: Sequence[str]) -> set[str]:
        """Return which of the files have a content that was sent before. Raises sqlite3.Error."""
        digests = {name: digest for name in names if (digest := _digest(folder, name)) is not None}
        known = self._services.ledger.earlier_with_content(list(digests.values()))
        return {name for name, digest in digests.items() if digest in known}

    def _key(self, use_case: str | None, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        return self._services.keys.of(f"index\x1e{use_case or ''}\x1e{digest}").hex()

    def _kept(self) -> dict[str, str]:
        since = iso(self._services.clock.now() - _KEPT)
        kept: dict[str, str] = json.loads(self._services.ledger.fact(_FACT) or "{}")
        return {key: at for key, at in kept.items() if at > since}


def _digest(folder: Folder, name: str) -> bytes | None:
    """Return the SHA-256 of a file; None where it cannot be read now."""
    try:
        with open(folder.open(name, system.READ), "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
