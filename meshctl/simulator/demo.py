"""The demo: the real daemon and the simulator as processes on a copy of the sample mailbox.

It drops the sample's payloads as its script says, and knows of the messages only what the ledger says, as any
other program would. It shows nothing itself but yields scenes, and it ends its processes, however it is left.
Nothing is ever written into the sample itself.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from time import monotonic, sleep

import meshctl
from meshctl.errors import MeshctlError
from meshctl.ledger import reads
from meshctl.ledger.database import LedgerError
from meshctl.ledger.records import Message
from meshctl.mesh.states import FINAL
from meshctl.outbound.names import SIDECAR_SUFFIX
from meshctl.settings.load import load_settings
from meshctl.settings.mailboxes import FILE_NAME
from meshctl.settings.model import Settings

TIME_LIMIT_SECONDS = 50.0
RULES_NAME = "rules.toml"
PAYLOADS = "payloads"
_SCRIPT_NAME = "demo.toml"
_SAMPLE = "sample_mailbox"
_KEEPS_FOLDER = ".gitkeep"
_LOOK_SECONDS = 0.1
_START_SECONDS = 60.0
_STOP_SECONDS = 6.0
_OUR_VARIABLES = "MESHCTL_"


@dataclass(frozen=True, slots=True)
class Drop:
    """One payload of the script: when it is dropped, and what must become of it.

    `file` is its path below `payloads/`, and below the outbox. An outcome is `overdue`, or a final
    state with its reason's code: `completed`, `completed (assumed)`, `failed EPL-154`.
    """

    file: str
    at_seconds: float
    outcomes: frozenset[str]

    @property
    def name(self) -> str:
        """Return the name that the ledger has of the file."""
        return self.file.rpartition("/")[2]


def sample_folder() -> Path:
    """Return the sample: in an installed package beside this module, in a checkout at its top.

    Raises MeshctlError when neither is there.
    """
    installed = Path(str(resources.files(__package__))) / _SAMPLE
    checkout = Path(str(resources.files("meshctl"))).parent / _SAMPLE
    for folder in (installed, checkout):
        if (folder / FILE_NAME).is_file():
            return folder
    raise MeshctlError(f"The sample mailbox is missing: there is no {installed}. Install meshctl again.")


def copy_sample(sample: Path, folder: Path | None) -> Path:
    """Copy a sample into `folder`, made if need be, else into a new temporary one; return which.

    Raises MeshctlError when `folder` is there and not an empty folder.
    """
    target = new_folder(folder)

    def left_behind(inside: str, names: list[str]) -> set[str]:
        below = Path(inside).relative_to(sample).parts
        if not below or below[0] == PAYLOADS:
            return set()
        return {name for name in names if name != _KEEPS_FOLDER and not os.path.isdir(f"{inside}/{name}")}

    # Without their rights: an installed sample may be read-only.
    shutil.copytree(sample, target, ignore=left_behind, dirs_exist_ok=True, copy_function=shutil.copyfile)
    return target


def new_folder(folder: Path | None) -> Path:
    """Return `folder`, new or empty, else a new temporary one.

    Raises MeshctlError when `folder` is there and not an empty folder.
    """
    if folder is None:
        # Resolved, for people who compare paths.
        return Path(tempfile.mkdtemp(prefix="meshctl-demo-")).resolve()
    target = folder.absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise MeshctlError(f"{target} is there already. Name an empty folder, or a new one.")
    return target


def read_script(folder: Path) -> tuple[Drop, ...]:
    """Return the demo's script in a copy of the sample, in the order of the drops."""
    script = tomllib.loads((folder / _SCRIPT_NAME).read_text(encoding="utf-8"))
    drops = (Drop(row["file"], row["at_seconds"], frozenset(row["outcomes"])) for row in script["drops"])
    return tuple(sorted(drops, key=lambda drop: drop.at_seconds))


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs, its name, and the file with its output."""

    process: "subprocess.Popen[bytes]"
    name: str
    output: Path

    def check(self) -> None:
        """Raise MeshctlError if the program has ended, with its last words."""
        if self.process.poll() is not None:
            last = (
                self.output.read_text(encoding="utf-8", errors="backslashreplace").strip().splitlines()[-2:]
            )
            raise MeshctlError(
                f"{self.name} ended by itself with exit code {self.process.returncode}."
                f" Its last words, from {self.output}: {' '.join(last) or 'none.'}"
            )


@contextmanager
def running_meshctl(settings: Settings, *arguments: str) -> Iterator[Process]:
    """Run a command of the very meshctl that plays the demo, installed or not, while the block lasts."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(_OUR_VARIABLES)}
    environ["PYTHONPATH"] = str(Path(meshctl.__file__).parents[1])
    # A demo stays on this machine, even where a proxy leads out of it.
    environ |= dict.fromkeys(("no_proxy", "NO_PROXY"), "*")
    command = [sys.executable, "-m", "meshctl", "-c", str(settings.file), *arguments]
    output = settings.log.file.parent / f"{arguments[0]}.out"
    with running(f"meshctl {arguments[0]}", command, environ, output) as process:
        yield process


@contextmanager
def running(name: str, command: Sequence[str], environ: Mapping[str, str], output: Path) -> Iterator[Process]:
    """Run a program in the folder of its output while the block lasts."""
    with output.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=output.parent,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Process(process, name, output)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True, slots=True)
class DemoPart:
    """One message of the demo: its place in the script, and what the ledger knows of it so far."""

    drop: Drop
    message: Message | None = None

    @property
    def seen(self) -> frozenset[str]:
        """Return the outcomes that are in the ledger, in the words of the script."""
        return frozenset() if self.message is None else frozenset(_outcomes(self.message))

    @property
    def missing(self) -> frozenset[str]:
        """Return the outcomes that the script wants and that have not come."""
        return self.drop.outcomes - self.seen


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see at one moment. `unexpected` counts messages that the script does not know."""

    elapsed_seconds: float
    parts: tuple[DemoPart, ...]
    unexpected: int = 0

    @property
    def arrived(self) -> int:
        """Return how many messages ended as the script says."""
        return sum(not part.missing for part in self.parts)

    @property
    def as_written(self) -> bool:
        """True if every outcome of the script has been seen, and nothing else has come."""
        return self.arrived == len(self.parts) and not self.unexpected


class Demo:
    """The demo on one copy of the sample."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(folder / FILE_NAME, {})
        self._folder = folder
        self.script = read_script(folder)

    def play(self) -> Generator[Scene, None, None]:
        """Play the script until everything came as written or the time is over, which the last scene shows.

        Raises MeshctlError when the daemon or the simulator ends by itself or does not start.
        """
        for drop in self.script:
            (self.settings.staging.outbox / drop.file).parent.mkdir(parents=True, exist_ok=True)
        rules = str(self._folder / RULES_NAME)
        with (
            running_meshctl(self.settings, "simulate", "--rules", rules) as simulator,
            running_meshctl(self.settings, "run") as daemon,
        ):
            await_ledger(self.settings, (simulator, daemon))
            to_drop = list(self.script)

            def drop_due(elapsed_seconds: float) -> None:
                while to_drop and to_drop[0].at_seconds <= elapsed_seconds:
                    put_in(self.settings, to_drop[0].file, *payload_of(self._folder, to_drop[0]))
                    del to_drop[0]

            yield from scenes(self.settings, self.script, (simulator, daemon), drop_due, TIME_LIMIT_SECONDS)


def payload_of(sample: Path, drop: Drop) -> tuple[bytes, bytes | None]:
    """Return a payload of a sample, and its sidecar if it has one."""
    payload = sample / PAYLOADS / drop.file
    sidecar = payload.with_name(payload.name + SIDECAR_SUFFIX)
    return payload.read_bytes(), sidecar.read_bytes() if sidecar.exists() else None


def put_in(settings: Settings, name: str, data: bytes, sidecar: bytes | None) -> None:
    """Bring a file with its sidecar into an outbox the safe way: complete elsewhere, then renamed in."""
    elsewhere = settings.file.parent / ".dropping"
    for end, content in ((SIDECAR_SUFFIX, sidecar), ("", data)):
        if content is not None:
            elsewhere.write_bytes(content)
            os.replace(elsewhere, settings.staging.outbox / f"{name}{end}")


def scenes(
    settings: Settings,
    script: Sequence[Drop],
    processes: Sequence[Process],
    act: Callable[[float], None],
    limit_seconds: float,
) -> Generator[Scene, None, None]:
    """Yield a scene a moment, after `act` with the seconds since the start, until the script has come true.

    Raises MeshctlError when a process ends by itself.
    """
    began = monotonic()
    while True:
        elapsed = monotonic() - began
        act(elapsed)
        scene = scene_of(settings, script, elapsed)
        yield scene
        if scene.as_written or elapsed > limit_seconds:
            return
        for process in processes:
            process.check()
        sleep(_LOOK_SECONDS)


def scene_of(settings: Settings, script: Sequence[Drop], elapsed_seconds: float) -> Scene:
    """Return what the ledger knows of a script's messages. Raises LedgerError."""
    with reads.snapshot(settings.state.folder) as connection:
        messages = reads.select(connection, reads.Selection())
    newest = {message.file_name: message for message in reversed(messages)}
    parts = tuple(DemoPart(drop, newest.pop(drop.name, None)) for drop in script)
    expected = sum(part.message is not None for part in parts)
    return Scene(elapsed_seconds, parts, len(messages) - expected)


def await_ledger(settings: Settings, processes: Sequence[Process]) -> None:
    """Return once the daemon has begun its ledger. Raises MeshctlError if one ends or it takes long."""
    await_start("The daemon", lambda: _has_ledger(settings), processes)


def await_start(name: str, has_started: Callable[[], bool], processes: Sequence[Process]) -> None:
    """Return once a program has started. Raises MeshctlError if a process ends or it takes long."""
    give_up_at = monotonic() + _START_SECONDS
    while not has_started():
        for process in processes:
            process.check()
        if monotonic() > give_up_at:
            raise MeshctlError(f"{name} did not start within {_START_SECONDS:g} s.")
        sleep(_LOOK_SECONDS)


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
        code = message.reason.code if message.reason is not None else ""
        assumed = "(assumed)" if message.assumed else ""
        yield " ".join(filter(None, (message.state.value, code, assumed)))
