"""A command, mostly `meshctl run --once`, as a process that is ready at once: forked from a loaded one.

Python's start-up would be most of the time of a sweep over hundreds of kill points. What is forked is the
whole command from its arguments on; a test compares its calls with those of the command as users start it.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from meshctl.cli import main
from tests.crash import strace
from tests.crash.strace import Call
from tests.forked import Waiting, waiting
from tests.site import Site

RUN = ("run", "--once")
Meanwhile = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Ended:
    """How a process ended: by our SIGKILL or with an exit code, and what it printed."""

    killed: bool
    exit_code: int
    printed: str


def load() -> None:
    """Load what the command loads first of all, so that the forked processes need not."""
    import_module("meshctl.commands.run")


def run(site: Site, meanwhile: Meanwhile = nullcontext, *, arguments: Sequence[str] = RUN) -> Ended:
    """Run a command to its end; what `meanwhile` makes is entered while it runs."""
    with _waiting(site, arguments) as waiting, meanwhile():
        return waiting.go()


def record(
    site: Site,
    roots: tuple[Path, ...],
    trace: Path,
    meanwhile: Meanwhile = nullcontext,
    *,
    arguments: Sequence[str] = RUN,
) -> tuple[Ended, list[Call]]:
    """Run to the end, and return the calls that changed something below the roots."""
    with (
        _waiting(site, arguments) as waiting,
        strace.recording(waiting.process_id, trace),
        meanwhile(),
    ):
        ended = waiting.go()
    return ended, strace.changing_calls(trace, roots)


def record_data(site: Site, trace: Path) -> Ended:
    """Run to the end, and leave in `trace` every call with all its data."""
    with _waiting(site) as waiting, strace.recording(waiting.process_id, trace, with_data=True):
        return waiting.go()


def run_until(
    site: Site,
    call: Call,
    meanwhile: Meanwhile = nullcontext,
    *,
    slow: str | None = None,
    arguments: Sequence[str] = RUN,
) -> Ended:
    """Run until the process is killed on entering `call`, or to the end if it does not come to that."""
    with (
        _waiting(site, arguments) as waiting,
        strace.killing(waiting.process_id, call, slow=slow),
        meanwhile(),
    ):
        return waiting.go()


class _Held:
    """The command, forked and held."""

    def __init__(self, process: Waiting, output: IO[bytes]) -> None:
        self.process_id = process.process_id
        self._process = process
        self._output = output

    def go(self) -> Ended:
        """Let it go and wait for its end."""
        code = self._process.wait()
        self._output.seek(0)
        return Ended(code == -signal.SIGKILL, code, self._output.read().decode())


@contextmanager
def _waiting(site: Site, arguments: Sequence[str] = RUN) -> Iterator[_Held]:
    with TemporaryFile() as output, waiting(partial(_command, site, arguments), output.fileno()) as process:
        yield _Held(process, output)


def _command(site: Site, arguments: Sequence[str]) -> None:
    for name in [name for name in os.environ if name.startswith("MESHCTL_")]:
        del os.environ[name]
    os.environ.update(site.environ)
    sys.argv = ["meshctl", "-c", str(site.settings_file), *arguments]
    main()
