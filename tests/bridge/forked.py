"""A piece of the bridge's work as a process of its own, to be recorded or killed at any system call."""

import signal
from pathlib import Path

from tests.crash import strace
from tests.crash.strace import Call
from tests.forked import Work, waiting


def run(work: Work) -> int:
    """Do the work in a process of its own; return its exit code, negative for a signal."""
    with waiting(work) as go:
        return go.wait()


def record(work: Work, root: Path, trace: Path, *more: Path, with_data: bool = False) -> list[Call]:
    """Do the work undisturbed, and return the calls that change something below `root` and `more`."""
    with waiting(work) as go, strace.recording(go.process_id, trace, with_data=with_data):
        code = go.wait()
    assert code == 0, f"the work ended with {code}"
    return strace.changing_calls(trace, [root, *more])


def run_until(work: Work, call: Call) -> bool:
    """Do the work until the process is killed on entering `call`; False if it came to its end before."""
    with waiting(work) as go, strace.killing(go.process_id, call):
        code = go.wait()
    assert code in (0, -signal.SIGKILL), f"the work ended with {code}"
    return code != 0


def run_failing(work: Work, call: Call, error: str) -> None:
    """Do the work while one call of the process fails with an error such as `EIO`."""
    with waiting(work) as go, strace.failing(go.process_id, call, error):
        code = go.wait()
    assert code == 0, f"the work ended with {code}"
