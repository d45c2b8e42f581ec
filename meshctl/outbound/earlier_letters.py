"""Whose sidecar and attachments lie beside a letter: its own, or those of an earlier letter of that name.

Names are used again, and programs write a file twice, or late: a sidecar or an attachment that waits for a
letter may belong to one that has left. Whoever writes the letter first never has that trouble. What left in
the last hour is noted in memory, and kept in the ledger from one run to the next; a kill loses it.
"""

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from meshctl.files.folder import Folder
from meshctl.ledger.services import Services
from meshctl.outbound.letter import Letter, OfEarlierError, attachment_names
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.payload.sidecar import Sidecar
from meshctl.platform import system

_FACT: Final = "parts_left"
_NOTED_SECONDS: Final = 3600.0
_MOST_NOTED, _MOST_KEPT = 100_000, 5000
_TOGETHER_NS: Final = 1_000_000_000


class _Left(NamedTuple):
    """A part that a letter left with: which letter, the part's hash, None where it was missing, and when."""

    letter: str
    content: str | None
    at_seconds: float


class EarlierLetters:
    """With which sidecar and attachments letters have left in the last hour."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept = services.ledger.fact(_FACT) or "[]"
        # By the keyed hash of folder and name of the part, the oldest first.
        self._left = {key: _Left(*left) for key, *left in json.loads(self._kept)}

    def keep(self) -> None:
        """Keep what was noted in the ledger, for the next start, if the ledger can be written."""
        kept = [(key, *left) for key, left in self._left.items() if not self._is_over(left)]
        written = json.dumps(kept[-_MOST_KEPT:])
        if written != self._kept:
            with suppress(sqlite3.Error):
                self._services.ledger.set_fact(_FACT, written)

    def note_taken(self, folder: Folder, letter: Letter) -> None:
        """Note a letter that was taken from a folder.

        One that was rejected may be written again with the same parts: only what it lacked is noted.
        """
        own, now = letter.name + SIDECAR_SUFFIX, self._services.clock.steady()
        parts: dict[str, str | None] = dict.fromkeys((own, *attachment_names(letter.sidecar)))
        present = {each.name: each.reading.sha256 or "" for each in letter.attachments}
        if letter.sidecar_status is not None:
            present[own] = self._hash(letter.sidecar)
        for name, content in (parts | present).items():
            key = self._key(folder, name)
            self._left.pop(key, None)
            if content is None or letter.rejection is None:
                self._left[key] = _Left(_file_of(letter), content, now)
        while self._left and (
            len(self._left) > _MOST_NOTED or self._is_over(next(iter(self._left.values())))
        ):
            del self._left[next(iter(self._left))]

    def check_own(self, folder: Folder, letter: Letter) -> None:
        """Raise OfEarlierError if a sidecar or an attachment may be an earlier letter's. Raises OSError."""
        sidecar, own = letter.sidecar, letter.name + SIDECAR_SUFFIX
        if sidecar is None or letter.sidecar_status is None or sidecar.resend_of is not None:
            return
        # One that names nobody may be the same for all letters.
        content = self._hash(sidecar) if sidecar.patient or sidecar.document else ""
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
        earlier = self._left.get(self._key(folder, name))
        if earlier is None or self._is_over(earlier) or earlier.letter == _file_of(letter):
            return False
        if earlier.content not in (None, content):
            return False
        # One that its letter went without comes late; one that a program writes with its letter does not.
        before_ns = _TOGETHER_NS if earlier.content is None else 0
        return all(_arrived_ns(folder, name) + before_ns < _arrived_ns(folder, other) for other in others)

    def _is_over(self, earlier: _Left) -> bool:
        return earlier.at_seconds < self._services.clock.steady() - _NOTED_SECONDS

    def _key(self, folder: Folder, name: str) -> str:
        return self._services.keys.of(f"{folder.path}/{os.path.normcase(name)}").hex()

    def _hash(self, sidecar: Sidecar | None) -> str:
        return self._services.keys.of(sidecar.written().decode()).hex() if sidecar else ""


def _file_of(letter: Letter) -> str:
    return letter.sha256 or " ".join(map(str, letter.identity))


def _arrived_ns(folder: Folder, name: str) -> int:
    return system.arrived_ns(f"{folder.path}/{name}", folder.status(name))


def _of_earlier(part: str, code: str, advice: str) -> OfEarlierError:
    return OfEarlierError(
        f"{code}_of_earlier",
        f"The {part} came before the file, and may belong to an earlier one: it is the same as one that has"
        " left under its name, or was missing there.",
        f"See whose it is. If this file's, put all back: meshctl redrop. Else drop the file again. {advice}",
    )
