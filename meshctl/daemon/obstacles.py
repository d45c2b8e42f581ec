"""What blocks the daemon, written down in the state folder, where `status`, `check` and `list` read it.

Not in the ledger, which may be what is blocked. The file is written when something begins or ceases to block,
never for a letter, and says what was in the way when the work was last tried: it outlives a daemon that ends
or is killed, and the next one to do that work corrects it.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from meshctl.clock import instant, iso, now
from meshctl.daemon.notes import read_note, write_note
from meshctl.daemon.problems import folders_of, problem_of
from meshctl.platform import system
from meshctl.settings.model import Settings

NOTE_NAME: Final = "blocked.json"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What blocks one part of the work (`outbound`, `inbound`, `ledger`, `log`), and what to do if known."""

    part: str
    text: str
    advice: str | None
    since: datetime

    def __str__(self) -> str:
        return f"{self.text}. {self.advice or ''}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """Return it as `status --json` has it."""
        return {"part": self.part, "since": iso(self.since), "text": self.text, "advice": self.advice}


class ObstacleNote:
    """The file that says what blocks the daemon of a state folder. Only the holder of the lock writes it."""

    def __init__(self, state_folder: Path) -> None:
        self._path = state_folder / NOTE_NAME
        self._written: Sequence[Obstacle] | None = None

    def keep(self, obstacles: Sequence[Obstacle]) -> None:
        """Write down what blocks the work now, unless that is what is written. Never raises."""
        if self._written is not None and _what(obstacles) == _what(self._written):
            return
        with suppress(OSError):
            before = _read(self._path) if self._written is None else self._written
            since = {(each.part, each.text): each.since for each in before or ()}
            told = [replace(each, since=since.get((each.part, each.text), each.since)) for each in obstacles]
            if before is None or told != list(before):
                _write(self._path, told)
            self._written = told


def read_obstacles(state_folder: Path) -> tuple[Obstacle, ...]:
    """Return what blocked the daemon of a state folder when it last tried; nothing where it says nothing.

    Raises PermissionError if that may not be read.
    """
    return _read(state_folder / NOTE_NAME) or ()


def _read(path: Path) -> tuple[Obstacle, ...] | None:
    """Return what is written down; None if nothing is that can be read as such. Raises PermissionError."""
    try:
        return tuple(
            Obstacle(
                str(entry["part"]),
                str(entry["text"]),
                None if entry["advice"] is None else str(entry["advice"]),
                instant(str(entry["since"])),
            )
            for entry in read_note(path)
        )
    except (ValueError, KeyError, TypeError):
        return None


def _write(path: Path, obstacles: Sequence[Obstacle]) -> None:
    """Write down as many obstacles as there is room for. Raises OSError."""
    told = [each.as_json() for each in obstacles]
    while True:
        try:
            return write_note(path, told)
        except ValueError:
            told.pop()


def _what(obstacles: Sequence[Obstacle]) -> list[tuple[str, str, str | None]]:
    return [(each.part, each.text, each.advice) for each in obstacles]


def obstacles_of(settings: Settings) -> list[Obstacle]:
    """Return what blocks the work on a mailbox: what its daemon wrote down, and what anybody can see.

    Without a daemon, or before it has looked again, a missing outbox must not look like an empty one; and a
    disk that takes no writes takes none of the daemon's either. Raises PermissionError.
    """
    state_folder = settings.state.folder
    found = list(read_obstacles(state_folder))
    seen: list[tuple[str, OSError]] = []
    try:
        with os.scandir(settings.staging.outbox):
            pass
    except OSError as error:
        seen.append(("outbound", error))
    with suppress(OSError):
        if system.is_read_only(state_folder):
            seen.append(("ledger", OSError(errno.EROFS, os.strerror(errno.EROFS), str(state_folder))))
    for part, trouble in seen:
        problem = problem_of(trouble, folders_of(settings))
        if problem.text not in {each.text for each in found}:
            found.append(Obstacle(part, problem.text, problem.advice, now()))
    return found
