"""What blocks daemon and bridge, written down where `status`, `check` and `list` read it.

The daemon's note is in the state folder, the bridge's in its work folder. Not in the ledger, which may be
what is blocked. The file is written when something begins or ceases to block, never for a letter, and says
what was in the way when the work was last tried: it outlives a process that ends or is killed, and the next
one to do that work corrects it.
"""

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from meshctl.clock import instant, iso, now
from meshctl.daemon.lock import holder_of, silent_since
from meshctl.daemon.notes import read_note, write_note
from meshctl.daemon.problems import Problem, folders_of, problem_of
from meshctl.files.mounts import has_no_room
from meshctl.platform import system
from meshctl.settings.model import Settings

NOTE_NAME: Final = "blocked.json"
METRICS_PART: Final = "metrics"
HANGS_PART: Final = "daemon"
_BRIDGE: Final = "bridge."
_HANGS_ADVICE: Final = (
    "See whether a share or a disk does not answer (the system's log), or somebody has stopped the process."
    " If it does not go on, restart the daemon: what it was about is finished at the start."
)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What blocks one part of the work, and what to do if known.

    The parts of the daemon are `outbound`, `inbound`, `ledger` and `log`, or `daemon` for one that hangs;
    those of the bridge begin with `bridge.`. With `is_warning` no letter waits for a person: MESH is away,
    and has not been for so long that an alert was sent; or the `metrics` cannot be written.
    """

    part: str
    text: str
    advice: str | None
    since: datetime
    is_warning: bool = False

    @property
    def process(self) -> str:
        """Return whose work it blocks: `daemon` or `bridge`."""
        return "bridge" if self.part.startswith(_BRIDGE) else "daemon"

    def __str__(self) -> str:
        return str(Problem(self.text, self.advice))

    def as_json(self) -> dict[str, Any]:
        """Return it as `status --json` has it."""
        severity = "warning" if self.is_warning else "error"
        kept = {"part": self.part, "since": iso(self.since), "severity": severity}
        return {**kept, "text": self.text, "advice": self.advice}


class ObstacleNote:
    """The file in `folder` that says what blocks the process whose folder it is, which alone writes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NOTE_NAME
        self._written: Sequence[Obstacle] | None = None

    def keep(self, obstacles: Sequence[Obstacle]) -> None:
        """Write down what blocks the work now, unless that is what is written. Never raises."""
        if self._written is not None and _what(obstacles) == _what(self._written):
            return
        with suppress(OSError):
            before = _read(self._path) if self._written is None else self._written
            since = {(each.part, each.text): each.since for each in before or ()}
            kept = [replace(each, since=since.get((each.part, each.text), each.since)) for each in obstacles]
            if before is None or kept != list(before):
                _write(self._path, kept)
            self._written = kept


def read_obstacles(folder: Path) -> tuple[Obstacle, ...]:
    """Return what blocked the process whose folder it is when it last tried; nothing where it says nothing.

    Raises PermissionError if that may not be read.
    """
    return _read(folder / NOTE_NAME) or ()


def read_bridge_obstacles(settings: Settings) -> tuple[Obstacle, ...]:
    """Return what blocked the bridge when it last tried; nothing where none serves the mailbox.

    Raises PermissionError if that may not be read.
    """
    return () if settings.bridge.environment is None else read_obstacles(settings.bridge_work)


def of_bridge(obstacles: Iterable[Obstacle]) -> list[Obstacle]:
    """Return the obstacles of the bridge's parts as others see them, each once."""
    return each_once(replace(each, part=f"{_BRIDGE}{each.part}") for each in obstacles)


def each_once(obstacles: Iterable[Obstacle]) -> list[Obstacle]:
    """Return the obstacles, of those with the same text the first."""
    kept: dict[str, Obstacle] = {}
    for each in obstacles:
        kept.setdefault(each.text, each)
    return list(kept.values())


def _read(path: Path) -> tuple[Obstacle, ...] | None:
    """Return what is written down; None if nothing is that can be read as such. Raises PermissionError."""
    try:
        return tuple(
            Obstacle(
                str(entry["part"]),
                str(entry["text"]),
                None if entry["advice"] is None else str(entry["advice"]),
                instant(str(entry["since"])),
                entry["severity"] == "warning",
            )
            for entry in read_note(path)
        )
    except (ValueError, KeyError, TypeError):
        return None


def _write(path: Path, obstacles: Sequence[Obstacle]) -> None:
    """Write down as many obstacles as there is room for. Raises OSError."""
    entries = [each.as_json() for each in obstacles]
    while True:
        try:
            return write_note(path, entries)
        except ValueError:
            entries.pop()


def _what(obstacles: Sequence[Obstacle]) -> list[tuple[str, str, str | None, bool]]:
    return [(each.part, each.text, each.advice, each.is_warning) for each in obstacles]


def obstacles_of(settings: Settings) -> list[Obstacle]:
    """Return what blocks the work on a mailbox: what daemon and bridge wrote down, and what anybody can see.

    Without a daemon, or before it has looked again, a missing outbox must not look like an empty one; and a
    disk that takes no writes takes none of the daemon's either. Warnings come last. Raises PermissionError.
    """
    state_folder = settings.state.folder
    found = list(read_obstacles(state_folder))
    silent_at = silent_since(state_folder, settings.staging.rescan_seconds)
    if silent_at is not None:
        text = f"The daemon ({holder_of(state_folder)}) was stopped, or hangs: it shows no sign of work"
        found.insert(0, Obstacle(HANGS_PART, text, _HANGS_ADVICE, silent_at))
    seen: list[tuple[str, OSError]] = []
    for folder in (settings.staging.outbox, settings.staging.rejected):
        try:
            with os.scandir(folder):
                pass
        except FileNotFoundError as error:
            # The daemon makes the other one.
            if folder == settings.staging.outbox:
                seen.append(("outbound", error))
        except OSError as error:
            seen.append(("outbound", error))
    with suppress(OSError):
        if system.is_read_only(state_folder):
            seen.append(("ledger", OSError(errno.EROFS, os.strerror(errno.EROFS), str(state_folder))))
        elif has_no_room(state_folder) and not any(each.part == "ledger" for each in found):
            seen.append(("ledger", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(state_folder))))
    for part, trouble in seen:
        problem = problem_of(trouble, folders_of(settings))
        if problem.text not in {each.text for each in found}:
            found.append(Obstacle(part, problem.text, problem.advice, now()))
    found += read_bridge_obstacles(settings)
    return sorted(found, key=lambda each: each.is_warning)
