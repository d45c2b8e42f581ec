"""The demo: the real daemon and the stand-in as processes on a copy of the sample, fed as its script says.

Knows of the messages only what the ledger says, as any other program would. Shows nothing itself: it yields
a scene each time somebody may want to look. Ends its processes, however it is left.
"""

import os
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from meshctl.errors import MeshctlError
from meshctl.ledger import reads
from meshctl.ledger.database import LedgerError
from meshctl.ledger.records import Message
from meshctl.mesh.states import FINAL
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.settings.load import load_settings
from meshctl.settings.model import Settings
from meshctl.simulator.processes import Process, running_meshctl
from meshctl.simulator.sample import PAYLOADS, RULES_NAME, Drop, read_script

TIME_LIMIT_SECONDS = 50.0
_LOOK_SECONDS = 0.1
_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class DemoPart:
    """One message of the demo: its place in the script, and what the ledger knows of it so far."""

    drop: Drop
    message: Message | None = None

    @property
    def seen(self) -> frozenset[str]:
        """Return the outcomes that the ledger tells of, in the words of the script."""
        return frozenset() if self.message is None else frozenset(_outcomes(self.message))

    @property
    def missing(self) -> frozenset[str]:
        """Return the outcomes that the script wants and that have not come."""
        return self.drop.outcomes - self.seen


@dataclass(frozen=True, slots=True)
class Scene:
    """What is to be seen at one moment. `unexpected` counts messages that the script does not know."""

    elapsed_seconds: float
    parts: tuple[DemoPart, ...]
    unexpected: int = 0

    @property
    def arrived(self) -> int:
        """Return how many messages have come to the end that the script gives them."""
        return sum(not part.missing for part in self.parts)

    @property
    def as_written(self) -> bool:
        """True if every outcome of the script has been seen, and nothing else has come."""
        return self.arrived == len(self.parts) and not self.unexpected


class Demo:
    """The demo on one copy of the sample."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(folder / "meshctl.toml", {})
        self._folder = folder
        self.script = read_script(folder)

    def play(self) -> Generator[Scene, None, None]:
        """Play the script, until all has come out as written or the time is over; the last scene tells.

        Raises MeshctlError when the daemon or the stand-in ends by itself or does not start.
        """
        for drop in self.script:
            (self.settings.staging.outbox / drop.file).parent.mkdir(parents=True, exist_ok=True)
        rules = str(self._folder / RULES_NAME)
        with self._running("simulate", "--rules", rules) as standin, self._running("run") as daemon:
            await_ledger(self.settings, (standin, daemon))
            began = time.monotonic()
            to_drop = list(self.script)
            while True:
                elapsed = time.monotonic() - began
                while to_drop and to_drop[0].at_seconds <= elapsed:
                    self._drop(to_drop.pop(0))
                scene = scene_of(self.settings, self.script, elapsed)
                yield scene
                if scene.as_written or elapsed > TIME_LIMIT_SECONDS:
                    return
                for process in (standin, daemon):
                    process.check()
                time.sleep(_LOOK_SECONDS)

    def _drop(self, drop: Drop) -> None:
        """Bring a payload into the outbox the sure way: complete elsewhere, then renamed in."""
        for end in (SIDECAR_SUFFIX, ""):
            source = self._folder / PAYLOADS / f"{drop.file}{end}"
            if source.exists():
                shutil.copyfile(source, self._folder / ".dropping")
                os.replace(self._folder / ".dropping", self.settings.staging.outbox / f"{drop.file}{end}")

    def _running(self, *arguments: str) -> AbstractContextManager[Process]:
        said = self.settings.log.file.parent / f"{arguments[0]}.out"
        return running_meshctl(self.settings.file, said, *arguments)


def scene_of(settings: Settings, script: Sequence[Drop], elapsed_seconds: float) -> Scene:
    """Return what the ledger knows of a script's messages. Raises LedgerError."""
    with reads.snapshot(settings.state.folder) as connection:
        messages = reads.select(connection, reads.Selection())
    newest = {message.file_name: message for message in reversed(messages)}
    parts = tuple(DemoPart(drop, newest.pop(drop.name, None)) for drop in script)
    told = sum(part.message is not None for part in parts)
    return Scene(elapsed_seconds, parts, len(messages) - told)


def await_ledger(settings: Settings, processes: Sequence[Process]) -> None:
    """Return once the daemon has begun its ledger. Raises MeshctlError if one ends or it takes long."""
    give_up_at = time.monotonic() + _START_SECONDS
    while not _has_ledger(settings):
        for process in processes:
            process.check()
        if time.monotonic() > give_up_at:
            raise MeshctlError(f"The daemon did not start within {_START_SECONDS:g} s.")
        time.sleep(_LOOK_SECONDS)


def _has_ledger(settings: Settings) -> bool:
    try:
        with reads.snapshot(settings.state.folder):
            return True
    except LedgerError:
        # Not there yet, or there without its tables.
        return False


def _outcomes(message: Message) -> Iterator[str]:
    # A deadline that was missed has its name; the one that ends the waiting has none.
    if any(entry.event == "DEADLINE" and entry.code for entry in message.history):
        yield "overdue"
    if message.state in FINAL:
        said = [message.state.value]
        if message.reason is not None and message.reason.code:
            said.append(message.reason.code)
        if message.assumed:
            said.append("(assumed)")
        yield " ".join(said)
