"""Whose sidecar and attachments lie beside a letter: its own, or those of an earlier letter of that name.

Names are used again, and programs write a sidecar twice, or late. Whoever writes the sidecar first replaces
what was left before his file comes. Whoever writes the file first does not: what lies there already is of the
letter before. So it is noted of each letter in which order its parts came, and of the next one of that name,
what came first against that order is doubtful, unless it is another one and came just before. It waits for
another, which will be its own; nothing else may wait so, since what comes first is the next letter's. What
left without a part says nothing of the order: a part that has lain there for some time is then rejected with
the letter at once.

What left in the last hour is noted in memory, and kept in the ledger from run to run; a kill loses it.
"""

import json
import os
import sqlite3
from contextlib import suppress
from typing import Final, NamedTuple

from meshctl.errors import Rejection
from meshctl.files.folder import Folder
from meshctl.ledger.services import Services
from meshctl.outbound.letter import Letter, OfEarlierError, attachment_names
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.payload.sidecar import Sidecar
from meshctl.platform import system

_FACT: Final = "parts_left"
_NOTED_SECONDS: Final = 3600.0
_MOST_NOTED, _MOST_KEPT = 100_000, 5000
# A program, or a person, writes a sidecar and its file within so long.
_TOGETHER_NS: Final = 5_000_000_000
_FIRST, _LATER, _MISSING = "first", "later", "missing"


class _Left(NamedTuple):
    """How a part came to the last letter that has left with it, or without: before the letter, or after.

    `content` is its hash, empty where there was none.
    """

    letter: str
    came: str
    content: str
    at_seconds: float


class EarlierLetters:
    """In which order the parts of letters came that have left in the last hour."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept = services.ledger.fact(_FACT) or "[]"
        # By the keyed hash of owner, folder and name of the part, the oldest first.
        self._left = {key: _Left(*left) for key, *left in json.loads(self._kept)}
        # The content of parts that are in doubt: they are no others when somebody touches them.
        self._doubtful: dict[str, str] = {}

    def keep(self) -> None:
        """Keep what was noted in the ledger, for the next start, if the ledger can be written."""
        kept = [(key, *left) for key, left in self._left.items() if not self._is_over(left)]
        written = json.dumps(kept[-_MOST_KEPT:])
        if written != self._kept:
            with suppress(sqlite3.Error):
                self._services.ledger.set_fact(_FACT, written)

    def note_taken(self, folder: Folder, letter: Letter) -> None:
        """Note a letter that was taken from a folder, whose parts `check_own` has looked at."""
        own, now = letter.name + SIDECAR_SUFFIX, self._services.clock.steady()
        present = {each.name: each.reading.sha256 or "" for each in letter.attachments}
        if letter.sidecar_status is not None:
            present[own] = self._hash(letter.sidecar) if letter.sidecar is not None else ""
        for name in dict.fromkeys((own, *attachment_names(letter.sidecar))):
            key, came = self._key(folder, letter, name), _MISSING
            self._left.pop(key, None)
            was_doubtful = self._doubtful.pop(key, None) is not None
            if name in present and letter.came_first is None:
                # Rejected before that was looked at.
                continue
            if name in present and not was_doubtful:
                came = _FIRST if name in (letter.came_first or ()) else _LATER
            self._left[key] = _Left(_file_of(letter), came, present.get(name, ""), now)
        while self._left and (
            len(self._left) > _MOST_NOTED or self._is_over(next(iter(self._left.values())))
        ):
            del self._left[next(iter(self._left))]

    def check_own(self, folder: Folder, letter: Letter) -> None:
        """Raise Rejection if a sidecar or an attachment may be an earlier letter's; see the top.

        Raises OSError.
        """
        sidecar, own = letter.sidecar, letter.name + SIDECAR_SUFFIX
        if sidecar is None or letter.sidecar_status is None:
            return
        file_ns, sidecar_ns = _arrived_ns(folder, letter.name), _arrived_ns(folder, own)
        parts = [(own, self._hash(sidecar), file_ns - sidecar_ns)]
        for each in letter.attachments:
            before_ns = min(file_ns, sidecar_ns) - _arrived_ns(folder, each.name)
            parts.append((each.name, each.reading.sha256 or "", before_ns))
        letter.came_first = frozenset(name for name, _, before_ns in parts if before_ns >= 0)
        # Another file with that hash would be rejected; what is resent was put there by meshctl.
        is_certain = sidecar.sha256 is not None or sidecar.resend_of is not None
        for name, content, before_ns in parts[1:] if is_certain else parts:
            key = self._key(folder, letter, name)
            self._check_part(key, letter, content, before_ns, is_sidecar=name == own)

    def _check_part(
        self, key: str, letter: Letter, content: str, before_ns: int, *, is_sidecar: bool
    ) -> None:
        earlier = self._left.get(key)
        if earlier is None or self._is_over(earlier) or earlier.letter == _file_of(letter):
            return
        # Another one that comes with its letter is its own.
        may_be_its = earlier.content == content or before_ns > _TOGETHER_NS
        if (earlier.came == _LATER and before_ns > 0 and may_be_its) or self._doubtful.get(key) == content:
            self._doubtful[key] = content
            raise OfEarlierError(*_of_earlier(is_sidecar=is_sidecar))
        self._doubtful.pop(key, None)
        if earlier.came == _MISSING and before_ns > _TOGETHER_NS:
            self._doubtful[key] = content
            raise Rejection(*_of_earlier(is_sidecar=is_sidecar))

    def _is_over(self, earlier: _Left) -> bool:
        return earlier.at_seconds < self._services.clock.steady() - _NOTED_SECONDS

    def _key(self, folder: Folder, letter: Letter, name: str) -> str:
        # What other users drop says nothing of it.
        owner = letter.owner_status.st_uid
        return self._services.keys.of(f"{owner} {folder.path}/{os.path.normcase(name)}").hex()

    def _hash(self, sidecar: Sidecar) -> str:
        return self._services.keys.of(sidecar.written().decode()).hex()


def _file_of(letter: Letter) -> str:
    return letter.sha256 or " ".join(map(str, letter.identity))


def _arrived_ns(folder: Folder, name: str) -> int:
    return system.arrived_ns(f"{folder.path}/{name}", folder.status(name))


OF_EARLIER_CODES: Final = frozenset(
    {"sidecar_of_earlier", "document_attachment_of_earlier", "index_repeated"}
)
"""The codes of letters that a person has to look at before they are put back."""


def _of_earlier(*, is_sidecar: bool) -> tuple[str, str, str]:
    """Return code, text and advice of a letter with a part that may be an earlier one's."""
    part, code = ("sidecar", "sidecar") if is_sidecar else ("attachment", "document_attachment")
    text = (
        f"The {part} was there before the letter, and the last letter of that name left without, or had its"
        " own come later: it may be that letter's, written twice or late."
    )
    advice = (
        "See whose it is. If this letter's, put all back: meshctl redrop NAME. Else drop the letter again."
        " Have the program keep to one order, write sha256 into sidecars, or use each name once."
    )
    return f"{code}_of_earlier", text, advice
