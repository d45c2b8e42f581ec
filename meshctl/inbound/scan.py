"""Scan one of the client's folders: which names are new, which are looked at again, which are done.

Only names are read, never the files themselves, and a folder that did not change costs one stat. The time
of its last change is trusted only when it is well past: file systems stamp in coarse ticks. Network shares
may not stamp at all, so after some while a folder is looked through all the same. What must not be told
twice is remembered in the ledger, by keyed hash of its name, and forgotten when the file is gone.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from meshctl.clock import Clock
from meshctl.ledger import reads
from meshctl.ledger.services import Services
from meshctl.settings.model import MailboxSettings

# FAT stamps in steps of two seconds, the coarsest there is.
_COARSEST_STAMP_SECONDS = 2.0
_NANOSECONDS = 1_000_000_000
# Most file systems stamp in ticks of milliseconds: what comes in the tick of a look may have been missed.
_TICK_SECONDS = 0.05
# Looking through a big folder over and over again must never take more than a twentieth of a core.
_REST_PER_LOOK = 20.0
_NEVER = float("-inf")


class FolderChange:
    """One folder, between two looks at it."""

    def __init__(self, clock: Clock, full_look_seconds: float) -> None:
        self._clock = clock
        self._full_look_seconds = full_look_seconds
        self._trusted_stamp_ns: int | None = None
        self._stamp_ns = self._looked_stamp_ns = 0
        self._began_at = self._looked_at = _NEVER
        self._rests_until = _NEVER
        self._wants_look = False

    def is_due(self, folder: str, *, at_once: bool = False) -> bool:
        """True if to look through the folder now; `at_once`: also when it should rest.

        Raises FileNotFoundError when it is not there, OSError when it cannot be asked.
        """
        self._stamp_ns = os.stat(folder).st_mtime_ns
        now = self._clock.monotonic()
        unchanged = self._stamp_ns == self._trusted_stamp_ns
        if unchanged and now - self._looked_at < self._full_look_seconds:
            self._wants_look = False
            return False
        if now < self._rests_until and not at_once:
            self._wants_look |= self._stamp_ns != self._looked_stamp_ns
            return False
        self._began_at = now
        return True

    def looked(self) -> None:
        """Note that the folder has been looked through since `is_due` said so."""
        age_seconds = abs(self._clock.now().timestamp() - self._stamp_ns / _NANOSECONDS)
        self._looked_stamp_ns = self._stamp_ns
        self._trusted_stamp_ns = self._stamp_ns if age_seconds > _COARSEST_STAMP_SECONDS else None
        self._looked_at = self._clock.monotonic()
        self.rest_from(self._looked_at - self._began_at)
        self._wants_look = age_seconds < _TICK_SECONDS
        if self._wants_look:
            self._rests_until = max(self._rests_until, self._looked_at + _TICK_SECONDS)

    def rest_from(self, cost_seconds: float) -> None:
        """Let the folder rest from a look that took so long."""
        self._rests_until = max(self._rests_until, self._clock.monotonic() + cost_seconds * _REST_PER_LOOK)

    @property
    def next_look_seconds(self) -> float | None:
        """Return in how many seconds to look again at a folder that may hold something new."""
        return max(0.0, self._rests_until - self._clock.monotonic()) if self._wants_look else None


CONTROL_ENDS = (".ctl", ".CTL")
_AT_ONCE = float("-inf")


@dataclass(frozen=True, slots=True)
class NextLook:
    """What became of a name: `outcome` is remembered over restarts, `again_seconds` is when to look again."""

    outcome: str | None = None
    again_seconds: float | None = None
    is_gone: bool = False


GONE = NextLook(is_gone=True)
DONE = NextLook()


class FolderScan:
    """The control files of one of the client's folders (`label`: SENT, FAILED or IN).

    `is_open` says of a remembered outcome whether the file is to be looked at again after a restart.
    """

    def __init__(
        self,
        label: str,
        mailbox: MailboxSettings,
        services: Services,
        full_look_seconds: float,
        *,
        may_be_missing: bool,
        is_open: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.label = label
        self._mailbox = mailbox
        self.folder = str(mailbox.client_folder(label))
        self._ledger = services.ledger
        self._keys = services.keys
        self._clock = services.clock
        self._may_be_missing = may_be_missing
        self._is_open = is_open
        self._remembered: dict[bytes, str] | None = reads.seen_files(services.ledger.connection, label)
        self._done: set[str] = set()
        self._waiting: dict[str, float] = {}
        self._outcomes: dict[str, str] = {}
        self._unsaved: dict[bytes, str] = {}
        self._in_folder = 0
        self._next_due = _AT_ONCE
        self.change = FolderChange(services.clock, full_look_seconds)

    def look(self, *, at_once: bool = False) -> bool:
        """Look for new names if that is due; tell whether there are any. Raises OSError."""
        folder = self.folder = str(self._mailbox.client_folder(self.label))
        try:
            if not self.change.is_due(folder, at_once=at_once):
                return False
            new, still_there = self._scan(folder)
        except FileNotFoundError:
            if self._may_be_missing:
                return False
            raise
        if still_there < len(self._done):
            self._forget_gone(folder)
        if self._remembered is not None:
            new = self._place(new, self._remembered)
            self._remembered = None
        else:
            self._in_folder += len(new)
        # Message ids begin with their time, so in the order of names the oldest come first.
        self._waiting.update((name, _AT_ONCE) for name in sorted(new))
        if new:
            self._next_due = _AT_ONCE
        self.change.looked()
        return bool(new)

    def batch(self, limit: int) -> list[str]:
        """Return up to `limit` names that are to be looked at now; they stay until they are dealt with."""
        now = self._clock.monotonic()
        if now < self._next_due:
            return []
        found = list(islice((name for name, due in self._waiting.items() if due <= now), limit))
        if not found:
            self._next_due = min(self._waiting.values(), default=float("inf"))
        return found

    def note_outcomes(self, next_looks: Mapping[str, NextLook]) -> None:
        """Note what became of names of the last batch. Raises LedgerError, sqlite3.Error."""
        now = self._clock.monotonic()
        forgotten = []
        for name, next_look in next_looks.items():
            if next_look.outcome is not None and self._outcomes.get(name) != next_look.outcome:
                self._outcomes[name] = next_look.outcome
                self._unsaved[self._keys.of(name)] = next_look.outcome
            if next_look.is_gone:
                if self._outcomes.pop(name, None) is not None:
                    forgotten.append(name)
                self._waiting.pop(name, None)
            elif next_look.again_seconds is None:
                if next_look.outcome is None and self._outcomes.pop(name, None) is not None:
                    # It was unreadable, say, and has been dealt with since.
                    forgotten.append(name)
                self._waiting.pop(name, None)
                self._done.add(name)
            else:
                self._waiting[name] = now + next_look.again_seconds
                self._next_due = min(self._next_due, self._waiting[name])
        self._forget(forgotten)
        if self._unsaved:
            self._ledger.remember_files(self.label, self._unsaved.items())
            self._unsaved.clear()

    def outcome(self, name: str) -> str | None:
        """Return what was remembered of a name, so that nothing is told twice."""
        return self._outcomes.get(name)

    def names_with(self, outcomes: Collection[str]) -> list[str]:
        """Return the names that are remembered with one of these outcomes."""
        return [name for name, outcome in self._outcomes.items() if outcome in outcomes]

    def reopen(self, names: Iterable[str]) -> None:
        """Look at these names again."""
        for name in names:
            self._done.discard(name)
            self._waiting[name] = _AT_ONCE
            self._next_due = _AT_ONCE

    def take_arrivals(self) -> int:
        """Return how many names came since the last call; what lay there at the start does not count."""
        arrivals, self._in_folder = self._in_folder, 0
        return arrivals

    @property
    def is_busy(self) -> bool:
        """True if more names are to be looked at now."""
        return bool(self.batch(1))

    @property
    def next_look_seconds(self) -> float | None:
        """Return in how many seconds there is something to look at, as far as is known."""
        waits = [self.change.next_look_seconds]
        if self._waiting:
            waits.append(max(0.0, self._next_due - self._clock.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _scan(self, folder: str) -> tuple[list[str], int]:
        """Return the names never seen before, and how many of those that are done are still there."""
        new, still_there = [], 0
        done, waiting = self._done, self._waiting
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name in done:
                    still_there += 1
                elif name.endswith(CONTROL_ENDS) and name not in waiting and name[0] != ".":
                    new.append(name)
        return new, still_there

    def _place(self, names: list[str], remembered: dict[bytes, str]) -> list[str]:
        """Sort out, at the first look, which names an earlier run has dealt with; return the others."""
        if not remembered:
            return names
        new = []
        for name in names:
            outcome = remembered.pop(self._keys.of(name), None)
            if outcome is not None:
                self._outcomes[name] = outcome
            if outcome is None or self._is_open(outcome):
                new.append(name)
            else:
                self._done.add(name)
        if remembered:
            self._ledger.forget_files(self.label, remembered)
        return new

    def _forget_gone(self, folder: str) -> None:
        gone = self._done.difference(os.listdir(folder))
        self._done -= gone
        self._forget([name for name in gone if self._outcomes.pop(name, None) is not None])

    def _forget(self, names: Collection[str]) -> None:
        keys = [self._keys.of(name) for name in names]
        for key in keys:
            self._unsaved.pop(key, None)
        if keys:
            self._ledger.forget_files(self.label, keys)
