"""Programs that a demo runs beside itself: started, watched, and ended, however the demo is left."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import meshctl
from meshctl.errors import MeshctlError

_STOP_SECONDS = 6.0
_OUR_VARIABLES = "MESHCTL_"


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs: what it is called, and the file with what it says."""

    process: "subprocess.Popen[bytes]"
    name: str
    said: Path

    def check(self) -> None:
        """Raise MeshctlError if the program has ended, with the last of what it said."""
        if self.process.poll() is not None:
            last = self.said.read_text(encoding="utf-8", errors="backslashreplace").strip().splitlines()[-2:]
            raise MeshctlError(
                f"{self.name} ended by itself with exit code {self.process.returncode}."
                f" Its last words, from {self.said}: {' '.join(last) or 'none.'}"
            )


@contextmanager
def running_meshctl(settings_file: Path, said: Path, *arguments: str) -> Iterator[Process]:
    """Run a command of the very meshctl that plays the demo, installed or not, while the block lasts."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(_OUR_VARIABLES)}
    environ["PYTHONPATH"] = str(Path(meshctl.__file__).parents[1])
    # What a demo does stays on this machine, whatever the way out of it is.
    environ |= dict.fromkeys(("no_proxy", "NO_PROXY"), "*")
    command = [sys.executable, "-m", "meshctl", "-c", str(settings_file), *arguments]
    with running(f"meshctl {arguments[0]}", command, environ, said) as process:
        yield process


@contextmanager
def running(name: str, command: Sequence[str], environ: Mapping[str, str], said: Path) -> Iterator[Process]:
    """Run a program in the folder of the file that takes what it says, while the block lasts."""
    with ExitStack() as opened:
        out = opened.enter_context(said.open("wb"))
        process = subprocess.Popen(
            command,
            cwd=said.parent,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Process(process, name, said)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
