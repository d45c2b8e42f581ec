"""Put rejected letters back as they were dropped: the same files, under the same names, in the same folder.

Whoever asks for it takes one step, and whoever holds the daemon's lock does the rest (the daemon itself; the
command where none runs), so that two never move one file:

1. **mark**: the explanation NAME.error.json is renamed, within `rejected/`, to the hidden name of a mark:
   **the point of no return**. Of two who ask at once one finds it gone.
2. **take**: sidecar, attachments, then the file itself move into a folder of their own in `.work/redropped/`,
   under the names that they were dropped with. Nothing takes the place of anything, no link is followed.
3. It is logged and noted in the ledger, and the mark is removed.
4. **put back**: as with a letter that could not be handed over (`put_back` in letter.py), never over a file
   that has come since: until that has gone the letter stays in `.work`, set aside.

A kill before step 1 changes nothing. After it a restart goes forward, before it looks into the outbox: with
the mark from step 2, without it from step 4. At every instant each file is in one place; from another file
system it is copied whole before the original goes, and a copy is known for what it is.
"""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meshctl.clock import instant
from meshctl.errors import Rejection
from meshctl.files import durable
from meshctl.files.reading import read_regular
from meshctl.ledger.services import Services
from meshctl.outbound.letter import LetterFolder, WorkFolder, attachment_names
from meshctl.outbound.names import (
    ERROR_SUFFIX,
    MESSAGE_ID,
    SIDECAR_SUFFIX,
    is_beside,
    with_number,
    without_number,
)
from meshctl.outbound.rejected import (
    RejectedFolder,
    explanations,
    fitting,
    is_moved,
    marked_name,
    read_explanation,
    redrop_mark,
)
from meshctl.outbound.set_aside import SetAside
from meshctl.payload.sidecar_reader import SIDECAR_BYTES, read_sidecar
from meshctl.platform import system
from meshctl.settings.model import Settings

_PRIVATE = 0o700
_NANOSECONDS: Final = 1_000_000_000
# File systems stamp in ticks; a change within one is not seen by the stamp.
_COARSEST_STAMP_SECONDS: Final = 2.0
_TAKEN = "It cannot be put back into the outbox: another file there has its name, or that of its sidecar."
_TAKEN_ADVICE = "Wait until that one is taken, or rename it; this one then follows by itself."


@dataclass(frozen=True, slots=True)
class RejectedLetter:
    """A rejected file by its name in `rejected/`, and what its explanation says."""

    name: str
    content: dict[str, Any]

    @property
    def message_id(self) -> str | None:
        """Return its message id; None for what was rejected without one, such as an index."""
        found = self.content.get("message_id")
        return found if isinstance(found, str) and MESSAGE_ID.fullmatch(found) else None

    @property
    def shown_name(self) -> str:
        """Return its name as log and ledger may have it."""
        return str(self.content.get("file", ""))

    @property
    def code(self) -> str:
        """Return why it was rejected."""
        return str(self.content.get("code", ""))

    def is_of(self, mailbox_id: str) -> bool:
        """True if it was rejected for this mailbox: two settings files may name one folder."""
        return self.content.get("mailbox") in (None, mailbox_id)

    @property
    def at_seconds(self) -> float:
        """Return when it was rejected, in seconds since 1970; 0 where it does not say."""
        try:
            return instant(str(self.content.get("at"))).timestamp()
        except ValueError:
            return 0.0

    @property
    def number(self) -> int:
        """Return the number that its names got in `rejected/`; 1 for none."""
        found = self.content.get("number", 1)
        return found if isinstance(found, int) and found > 0 else 1

    @property
    def dropped_name(self) -> str:
        """Return the name that it was dropped with."""
        return without_number(self.name, self.number)

    def use_case(self, settings: Settings) -> str | None:
        """Return the sub-folder that it was dropped into, if that is one of a use case still."""
        folder = self.content.get("folder")
        return folder if isinstance(folder, str) and folder in settings.use_cases else None

    def target(self, settings: Settings) -> Path:
        """Return where it was dropped."""
        return settings.staging.outbox / (self.use_case(settings) or "") / self.dropped_name


def rejected_letters(folder: Path) -> Iterator[RejectedLetter]:
    """Yield the rejected letters that lie in a folder with their explanations. Raises OSError."""
    for path, content in explanations(str(folder)):
        payload = path.removesuffix(ERROR_SUFFIX)
        letter = RejectedLetter(os.path.basename(payload), content)
        if letter.message_id is not None and os.path.lexists(payload):
            yield letter


def mark(folder: Path, letter: RejectedLetter) -> bool:
    """Do step 1; False if the letter is no longer there to be marked. Raises OSError."""
    try:
        system.rename_new(f"{folder}/{letter.name}{ERROR_SUFFIX}", f"{folder}/{redrop_mark(letter.name)}")
    except FileNotFoundError:
        return False
    durable.sync_folder(folder)
    return True


class Redrops:
    """Does steps 2 to 4 for one mailbox; `put_back` does the last of them, and is false if it cannot now."""

    def __init__(
        self,
        settings: Settings,
        services: Services,
        rejected: RejectedFolder,
        set_aside: SetAside,
        put_back: Callable[[LetterFolder], bool],
    ) -> None:
        self._settings = settings
        self._services = services
        self._rejected = rejected
        self._set_aside = set_aside
        self._put_back = put_back
        self._work = WorkFolder(settings.staging.work)
        self._seen_stamp_ns: int | None = None
        # At the start an earlier run may have left some.
        self._has_some = True

    def work(self) -> None:
        """Go on with every letter that is marked or on its way. Raises OSError, sqlite3.Error."""
        stamp_ns = os.stat(self._rejected.folder).st_mtime_ns
        if stamp_ns != self._seen_stamp_ns:
            age_seconds = abs(self._services.clock.now_ns() - stamp_ns) / _NANOSECONDS
            is_sure = age_seconds > _COARSEST_STAMP_SECONDS
            self._seen_stamp_ns = stamp_ns if self._take_marked() and is_sure else None
        if self._has_some:
            self._has_some = self._put_back_all()

    def _take_marked(self) -> bool:
        """Do steps 2 and 3 for every mark; False if a letter must wait."""
        is_done = True
        with os.scandir(self._rejected.folder) as entries:
            marked = [(entry.path, name) for entry in entries if (name := marked_name(entry.name))]
        for path, name in marked:
            content = read_explanation(path)
            letter = None if content is None else RejectedLetter(name, content)
            if letter is None or letter.message_id is None or not letter.is_of(self._settings.mailbox.id):
                # Somebody else has put it there.
                continue
            self._has_some = True
            try:
                self._take(letter, letter.message_id)
                system.unlink(path)
            except OSError as error:
                self._set_aside.note(letter.dropped_name, letter.use_case(self._settings), error)
                is_done = False
        if marked:
            durable.sync_folder(self._rejected.folder)
        return is_done

    def _take(self, letter: RejectedLetter, message_id: str) -> None:
        """Move a letter into a folder of its own, log it and note it in the ledger."""
        folder, target = self._rejected.folder, letter.dropped_name
        place = self._work.redropped_folder(message_id, letter.use_case(self._settings))
        durable.make_folders(place.path, _PRIVATE)
        self._move(f"{letter.name}{SIDECAR_SUFFIX}", place, f"{target}{SIDECAR_SUFFIX}")
        for attachment in self._attachments(place.path_of(f"{target}{SIDECAR_SUFFIX}"), letter):
            self._move(with_number(fitting(attachment), letter.number), place, attachment)
        self._move(letter.name, place, target)
        durable.barrier([], [place.path, self._work.redropped, folder])
        self._services.journal.info("file.redropped", message_id=message_id, file=letter.shown_name)
        self._services.ledger.note_redropped(message_id, self._services.clock.now())

    def _move(self, name: str, place: LetterFolder, target: str) -> None:
        """Move a file of a letter; one that is not there, or has been moved, is passed over."""
        source = f"{self._rejected.folder}/{name}"
        # With an explanation of its own it is another letter.
        if not os.path.lexists(source) or os.path.lexists(f"{source}{ERROR_SUFFIX}"):
            return
        if not is_moved(source, place.path_of(target)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source)

    def _attachments(self, sidecar: str, letter: RejectedLetter) -> list[str]:
        """Return the attachments that the sidecar names, and that came to `rejected/` with the letter."""
        try:
            named = attachment_names(read_sidecar(read_regular(sidecar, SIDECAR_BYTES + 1)))
        except (OSError, Rejection):
            return []
        plain = [name for name in named if is_beside(name) and not name.startswith(".")]
        return [
            name
            for name in plain
            if name != letter.dropped_name and self._rejected.came_with(letter.content, name)
        ]

    def _put_back_all(self) -> bool:
        """Do step 4 for every letter on its way back; True if one must wait."""
        must_wait = False
        for place in self._work.left_redropped():
            names = place.names()
            if not names:
                place.close()
                continue
            name = place.payload() or names[0]
            try:
                if not self._put_back(place):
                    self._set_aside.note_reason(name, place.use_case, _TAKEN, _TAKEN_ADVICE)
                    must_wait = True
            except OSError as error:
                self._set_aside.note(name, place.use_case, error)
                must_wait = True
        return must_wait
