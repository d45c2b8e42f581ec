"""A process that is ready at once: forked from the test, and held until tracing has begun.

Python's start-up would be most of the time of a sweep over hundreds of kill points.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

Work = Callable[[], None]

_PR_SET_PTRACER = 0x59616D61
_ANYBODY = -1
_RUN_SECONDS = 240


class Waiting:
    """A forked process that waits for a byte before it does anything."""

    def __init__(self, process_id: int, gate: int) -> None:
        self.process_id = process_id
        self._gate = gate
        self._ended = False

    def wait(self) -> int:
        """Let it go and wait for its end; return its exit code, negative for a signal."""
        os.write(self._gate, b"1")
        _, status = os.waitpid(self.process_id, 0)
        self._ended = True
        return os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """End it if it still waits."""
        if not self._ended:
            os.kill(self.process_id, signal.SIGKILL)
            os.waitpid(self.process_id, 0)


@contextmanager
def waiting(work: Work, output: int | None = None) -> Iterator[Waiting]:
    """Fork a process that does the work once it is let go; what it prints goes to the descriptor `output`."""
    entrance, gate = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process_id = os.fork()
    if process_id == 0:
        os.close(gate)
        _become(work, entrance, output)
    os.close(entrance)
    held = Waiting(process_id, gate)
    try:
        yield held
    finally:
        held.end()
        os.close(gate)


def _become(work: Work, entrance: int, output: int | None) -> NoReturn:
    code = 70
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
        if output is not None:
            os.dup2(output, 1)
            os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.alarm(_RUN_SECONDS)
        os.read(entrance, 1)
        work()
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
