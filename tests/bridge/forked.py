"""A piece of the bridge's work as a process of its own, to be recorded or killed at any system call."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tests.crash import strace
from tests.crash.strace import Call

_PR_SET_PTRACER = 0x59616D61
_ANYBODY = -1
_RUN_SECONDS = 240

Work = Callable[[], None]


def run(work: Work) -> int:
    """Do the work in a process of its own; return its exit code, negative for a signal."""
    with _waiting(work) as go:
        return go.wait()


def record(work: Work, root: Path, trace: Path, *, with_data: bool = False) -> list[Call]:
    """Do the work undisturbed, and return the calls that change something below `root`."""
    with _waiting(work) as go, strace.recording(go.process_id, trace, with_data=with_data):
        code = go.wait()
    assert code == 0, f"the work ended with {code}"
    return strace.changing_calls(trace, [root])


def run_until(work: Work, call: Call) -> bool:
    """Do the work until the process is killed on entering `call`; False if it came to its end before."""
    with _waiting(work) as go, strace.killing(go.process_id, call):
        code = go.wait()
    assert code in (0, -signal.SIGKILL), f"the work ended with {code}"
    return code != 0


def run_failing(work: Work, call: Call, error: str) -> None:
    """Do the work while one call of the process fails with an error such as `EIO`."""
    with _waiting(work) as go, strace.failing(go.process_id, call, error):
        code = go.wait()
    assert code == 0, f"the work ended with {code}"


class _Waiting:
    """A forked process that waits for a byte before it does anything."""

    def __init__(self, process_id: int, gate: int) -> None:
        self.process_id = process_id
        self._gate = gate
        self._ended = False

    def wait(self) -> int:
        """Let it go and wait for its end."""
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
def _waiting(work: Work) -> Iterator[_Waiting]:
    entrance, gate = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process_id = os.fork()
    if process_id == 0:
        os.close(gate)
        _become_worker(work, entrance)
    os.close(entrance)
    waiting = _Waiting(process_id, gate)
    try:
        yield waiting
    finally:
        waiting.end()
        os.close(gate)


def _become_worker(work: Work, entrance: int) -> NoReturn:
    code = 70
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.alarm(_RUN_SECONDS)
        os.read(entrance, 1)
        work()
        code = 0
    finally:
        if sys.exc_info()[0] is not None:
            # Leaving at once, as a child of this process must, would leave no trace of it.
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
