"""Halves of pairs that lie alone in OUT: a control file whose payload is gone, a payload that nobody takes.

In the midst of a hand-off or of a collection either is right for a moment, so only what has lain there for
minutes counts. Of other applications' files the log tells only what the MESH Client will trip over.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshctl.files.safe_open import lying_since_ns
from meshctl.journal.masking import mask_file_name
from meshctl.ledger import reads
from meshctl.ledger.services import Services
from meshctl.mesh.message_id import is_message_id
from meshctl.mesh.states import State
from meshctl.settings.model import MailboxSettings

PATIENCE_SECONDS: Final = 600.0
"""How long half a pair may lie alone."""

_LABEL = "OUT halves"
_TOLD = "told"
_CONTROL_END, _PAYLOAD_END = ".ctl", ".dat"
_LOOK_EVERY_SECONDS = 60.0
# Looking through a big folder must never take more than a twentieth of a core.
_REST_PER_LOOK = 20.0
_CONTROL_TEXT = (
    "A control file has lain in OUT without its payload for minutes: the MESH Client reports COLLECT 02."
)
_PAYLOAD_TEXT = "A payload of ours has lain in OUT without its control file for minutes: nobody takes it."
_OUR_ADVICE = "See what became of the message (meshctl show ID); one that has not arrived: meshctl resend ID."
_THEIR_ADVICE = (
    "Tell whoever put it there: the payload comes first, and stays until the client has taken both."
)


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a pair, alone; `lies_since` counts seconds from 1970."""

    name: str
    is_control: bool
    lies_since: float

    @property
    def stem(self) -> str:
        """Return the name that its other half would share."""
        return self.name[: -len(_CONTROL_END)]


def lone_halves(out: Path) -> list[Half]:
    """Return the control files without payload and the payloads without control file. Raises OSError."""
    # Hashes: the names of a large backlog would take many megabytes.
    lone: set[int] = set()
    for name in _halves(out):
        lone ^= {_key(name)}
    if not lone:
        return []
    found = []
    for name in sorted(name for name in _halves(out) if _key(name) in lone):
        path = out / name
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        since = max(status.st_mtime, lying_since_ns(str(path), status) / 1e9)
        found.append(Half(name, name.lower().endswith(_CONTROL_END), since))
    return found


def _halves(out: Path) -> Iterator[str]:
    with os.scandir(out) as entries:
        for entry in entries:
            if entry.name.lower().endswith((_CONTROL_END, _PAYLOAD_END)) and entry.name[0] != ".":
                yield entry.name


def _key(name: str) -> int:
    return hash(name[: -len(_CONTROL_END)])


class HalfPairs:
    """Tells once of each half that stays alone."""

    def __init__(self, mailbox: MailboxSettings, services: Services) -> None:
        self._mailbox = mailbox
        self._services = services
        self._told = set(reads.seen_files(services.ledger.connection, _LABEL))
        self._next_look = float("-inf")

    def work(self) -> None:
        """Look if that is due. Raises OSError, LedgerError, sqlite3.Error."""
        clock = self._services.clock
        began = clock.monotonic()
        if began < self._next_look:
            return
        halves = {self._services.keys.of(half.name): half for half in lone_halves(self._mailbox.out_folder)}
        now = clock.monotonic()
        self._next_look = now + max(_LOOK_EVERY_SECONDS, (now - began) * _REST_PER_LOOK)
        gone = self._told.difference(halves)
        if gone:
            self._services.ledger.forget_files(_LABEL, gone)
            self._told -= gone
        long_before = clock.now().timestamp() - PATIENCE_SECONDS
        new = {
            key: half
            for key, half in halves.items()
            if key not in self._told and half.lies_since < long_before
        }
        if not new:
            return
        under_way = self._under_way(new.values())
        for half in new.values():
            if half.stem not in under_way:
                self._tell(half)
        kept = [key for key, half in new.items() if half.stem not in under_way]
        self._services.ledger.remember_files(_LABEL, [(key, _TOLD) for key in kept])
        self._told.update(kept)

    def _under_way(self, halves: Collection[Half]) -> set[str]:
        """Return the stems whose hand-off was begun and not finished: it will be."""
        found = reads.by_message_id(self._services.ledger.connection, [half.stem for half in halves])
        return {stem for stem, message in found.items() if message.state is State.CLAIMED}

    def _tell(self, half: Half) -> None:
        is_ours = is_message_id(half.stem.removeprefix(self._mailbox.file_prefix))
        if not half.is_control and not is_ours:
            return
        self._services.journal.warning(
            "client.half_pair",
            message_id=half.stem if is_ours else None,
            file=mask_file_name(half.name),
            folder="OUT",
            text=_CONTROL_TEXT if half.is_control else _PAYLOAD_TEXT,
            advice=_OUR_ADVICE if is_ours else _THEIR_ADVICE,
        )
