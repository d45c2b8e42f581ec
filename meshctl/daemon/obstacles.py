"""What blocks the daemon, written down in the state folder, where `status`, `check` and `list` read it.

Not in the ledger, which may be what is blocked. The file is written when something begins or ceases to block,
never for a letter, and says what was in the way when the work was last tried: it outlives a daemon that ends
or is killed, and the next one to do that work corrects it.
"""

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
from meshctl.settings.model import Settings

NOTE_NAME: Final = "blocked.json"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What blocks one part of the work (`outbound`, `inbound`, `ledger`), and what to do if that is known."""

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
        before = _read(self._path) if self._written is None else self._written
        since = {(each.part, each.text): each.since for each in before or ()}
        told = [replace(each, since=since.get((each.part, each.text), each.since)) for each in obstacles]
        with suppress(OSError):
            if before is None or told != list(before):
                _write(self._path, told)
            self._written = told


def read_obstacles(state_folder: Path) -> tuple[Obstacle, ...]:
    """Return what blocked the daemon of a state folder when it last tried; nothing where that is unknown."""
    return _read(state_folder / NOTE_NAME) or ()


def _read(path: Path) -> tuple[Obstacle, ...] | None:
    """Return what is written down; None if nothing is, or if it cannot be read."""
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

    Without a daemon, or before it has looked again, a missing outbox must not look like an empty one.
    """
    found = list(read_obstacles(settings.state.folder))
    try:
        with os.scandir(settings.staging.outbox):
            pass
    except OSError as error:
        problem = problem_of(error, folders_of(settings))
        if problem.text not in {each.text for each in found}:
            found.append(Obstacle("outbound", problem.text, problem.advice, now()))
    return found
