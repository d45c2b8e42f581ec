"""What cannot be handled now: each item is named once, left where it is, and tried again; the rest goes on.

Which errors are an item's own: `files/reading.py`. What is set aside is in the ledger, so that
`meshctl status` and `meshctl check` show it.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from meshctl.clock import iso
from meshctl.files.reading import advice_on, is_general, reason_of
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.records import SET_ASIDE_FACT
from meshctl.ledger.services import Services
from meshctl.outbound.letter import FileIdentity, LetterFolder
from meshctl.outbound.names import SIDECAR_SUFFIX

RETRY_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Item:
    """An item that is set aside: why, since when, and when to try it again."""

    name: str
    reason: str
    advice: str
    since: str
    identity: FileIdentity | None
    retry_clock: float
    is_current: bool = True


class SetAside:
    """What is set aside, by use-case folder and name; a sidecar and its file are one item."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._items: dict[tuple[str | None, str], _Item] = {}
        self._written = services.ledger.fact(SET_ASIDE_FACT) or "[]"
        # From earlier runs: what is met again soon after the start is no news.
        self._earlier: list[dict[str, str]] = json.loads(self._written)
        self._earlier_until = services.clock.monotonic() + RETRY_SECONDS

    @contextmanager
    def guarding(self, name: str, use_case: str | None) -> Iterator[None]:
        """Set an item aside if the block fails because of it; one that has gone is no error."""
        try:
            yield
        except FileNotFoundError:
            pass
        except OSError as error:
            self.note(name, use_case, error)

    def note(
        self, name: str, use_case: str | None, error: OSError, status: os.stat_result | None = None
    ) -> None:
        """Set an item aside for an error. Raises the error if it is not the item's own."""
        if is_general(error):
            raise error
        self.note_reason(name, use_case, f"{reason_of(error)}.", advice_on(error), status)

    def note_folder(self, name: str, error: OSError) -> None:
        """Set a use-case folder aside with its files. Raises the error if it is not the folder's own."""
        if is_general(error):
            raise error
        reason = f"The use-case folder cannot be used: {reason_of(error)}."
        self.note_reason(name, None, reason, advice_on(error))

    def note_letter(self, place: LetterFolder, error: OSError) -> None:
        """Set a letter aside that cannot be finished now. Raises the error if it is not the letter's own."""
        names = place.names()
        name = place.payload() or (names[0] if names else place.message_id)
        self.note(name, place.use_case, error)

    def note_reason(
        self,
        name: str,
        use_case: str | None,
        reason: str,
        advice: str,
        status: os.stat_result | None = None,
    ) -> None:
        """Set an item aside, and log and alert if it was not set aside before."""
        clock, key, shown = self._services.clock, _key(use_case, name), mask_file_name(name)
        before = self._items.get(key)
        since = before.since if before else self._since_earlier(shown, use_case, reason)
        self._items[key] = _Item(
            before.name if before else name,
            reason,
            advice,
            since or iso(clock.now()),
            None if status is None else FileIdentity.of(status),
            clock.monotonic() + RETRY_SECONDS,
        )
        if since is not None:
            return
        about = {"file": shown, "folder": use_case}
        self._services.journal.tell("file.set_aside", about, **about, text=reason, advice=advice)

    def _since_earlier(self, shown: str, use_case: str | None, reason: str) -> str | None:
        """Return since when an earlier run had set an item aside for this reason; None if it had not."""
        is_soon = self._services.clock.monotonic() < self._earlier_until
        for item in self._earlier if is_soon else ():
            if (item["file"], item["folder"], item["reason"]) == (shown, use_case, reason):
                self._earlier.remove(item)
                return item["since"]
        return None

    def rests(self, name: str, use_case: str | None, status: os.stat_result) -> bool:
        """True if an item was set aside unchanged, and the time to try it again has not come."""
        item = self._items.get(_key(use_case, name))
        if item is None or item.identity != FileIdentity.of(status):
            return False
        item.is_current = self._services.clock.monotonic() < item.retry_clock
        return item.is_current

    def holds(self, name: str, use_case: str | None) -> bool:
        """True if an item is set aside."""
        return _key(use_case, name) in self._items

    def retry_seconds(self) -> float | None:
        """Return in how many seconds to try the next item again; None if nothing is set aside."""
        now = self._services.clock.monotonic()
        return min((max(item.retry_clock - now, 0.0) for item in self._items.values()), default=None)

    def finish_turn(self) -> None:
        """Forget what this turn has not met again, and write the rest to the ledger. Raises sqlite3.Error."""
        self._items = {key: item for key, item in self._items.items() if item.is_current}
        for item in self._items.values():
            item.is_current = False
        self._write()

    def break_off_turn(self) -> None:
        """Write what is known to the ledger, if it can be: a turn that is stopped may not come to all."""
        with suppress(sqlite3.Error):
            self._write()

    def _write(self) -> None:
        shown = [
            {
                "file": mask_file_name(item.name),
                "folder": use_case,
                "reason": item.reason,
                "advice": item.advice,
                "since": item.since,
            }
            for (use_case, _), item in self._items.items()
        ]
        written = json.dumps(shown, ensure_ascii=False)
        if written != self._written:
            self._services.ledger.set_fact(SET_ASIDE_FACT, written)
            self._written = written


def _key(use_case: str | None, name: str) -> tuple[str | None, str]:
    return use_case, name.removesuffix(SIDECAR_SUFFIX)
