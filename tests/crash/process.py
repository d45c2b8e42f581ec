"""`meshctl run --once` as a process that is ready at once: forked from one that has meshctl loaded already.

Python's start-up would be most of the time of a sweep over hundreds of kill points. What is forked is the
whole command from its arguments on; a test compares its calls with those of the command as users start it.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NoReturn

from meshctl.cli import main
from tests.crash import strace
from tests.crash.strace import Call
from tests.site import Site

Meanwhile = Callable[[], AbstractContextManager[object]]

_PR_SET_PTRACER = 0x59616D61
_ANYBODY = -1
_RUN_SECONDS = 240


@dataclass(frozen=True)
class Ended:
    """How a process ended: by our SIGKILL or with an exit code, and what it printed."""

    killed: bool
    exit_code: int
    printed: str


def load() -> None:
    """Load what the command loads first of all, so that the forked processes need not."""
    import_module("meshctl.commands.run")


def run(site: Site, meanwhile: Meanwhile = nullcontext) -> Ended:
    """Run `meshctl run --once` to its end; what `meanwhile` makes is entered while it runs."""
    with _waiting(site) as waiting, meanwhile():
        return waiting.go()


def record(
    site: Site, roots: tuple[Path, ...], trace: Path, meanwhile: Meanwhile = nullcontext
) -> tuple[Ended, list[Call]]:
    """Run to the end, and return the calls that changed something below the roots."""
    with _waiting(site) as waiting, strace.recording(waiting.process_id, trace), meanwhile():
        ended = waiting.go()
    return ended, strace.changing_calls(trace, roots)


def record_data(site: Site, trace: Path) -> Ended:
    """Run to the end, and leave in `trace` every call with all its data."""
    with _waiting(site) as waiting, strace.recording(waiting.process_id, trace, with_data=True):
        return waiting.go()


def run_until(
    site: Site, call: Call, meanwhile: Meanwhile = nullcontext, *, slow: str | None = None
) -> Ended:
    """Run until the process is killed on entering `call`, or to the end if it does not come to that."""
    with _waiting(site) as waiting, strace.killing(waiting.process_id, call, slow=slow), meanwhile():
        return waiting.go()


class _Waiting:
    """A forked process that waits for a byte before it does anything."""

    def __init__(self, process_id: int, gate: int, output: IO[bytes]) -> None:
        self.process_id = process_id
        self._gate = gate
        self._output = output
        self._ended = False

    def go(self) -> Ended:
        """Let it go and wait for its end."""
        os.write(self._gate, b"1")
        _, status = os.waitpid(self.process_id, 0)
        self._ended = True
        self._output.seek(0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        return Ended(killed, os.waitstatus_to_exitcode(status), self._output.read().decode())

    def end(self) -> None:
        """End it if it still waits."""
        if not self._ended:
            os.kill(self.process_id, signal.SIGKILL)
            os.waitpid(self.process_id, 0)


@contextmanager
def _waiting(site: Site) -> Iterator[_Waiting]:
    entrance, gate = os.pipe()
    with TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        process_id = os.fork()
        if process_id == 0:
            os.close(gate)
            _become_meshctl(site, entrance, output.fileno())
        os.close(entrance)
        waiting = _Waiting(process_id, gate, output)
        try:
            yield waiting
        finally:
            waiting.end()
            os.close(gate)


def _become_meshctl(site: Site, entrance: int, output: int) -> NoReturn:
    code = 70
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for name in [name for name in os.environ if name.startswith("MESHCTL_")]:
            del os.environ[name]
        os.environ.update(site.environ)
        sys.argv = ["meshctl", "-c", str(site.settings_file), "run", "--once"]
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.alarm(_RUN_SECONDS)
        os.read(entrance, 1)
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    finally:
        if sys.exc_info()[0] is not None:
            # Leaving at once, as a child of this process must, would leave no trace of it.
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
