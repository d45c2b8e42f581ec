"""The system calls of one process that change something on a site: recorded, or made the last ones.

strace counts each kind of call by itself, from when it attaches, so a call is named by its kind and number.
A killed call has not happened: strace sends SIGKILL before the kernel carries it out.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHANGING = (
    "open", "openat", "creat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "write", "writev", "pwrite64", "pwritev", "pwritev2",
    "sendfile", "copy_file_range", "truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "syncfs",
    "sync_file_range", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "utimensat",
)  # fmt: skip

_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)(.*)", re.DOTALL)
_WITHIN_A_STEP = {
    "write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range", "truncate",
    "ftruncate", "fallocate", "fsync", "fdatasync", "syncfs", "sync_file_range", "chmod", "fchmod",
    "fchmodat", "chown", "fchown", "fchownat", "utimensat",
}  # fmt: skip
_OPENING = {"open", "openat", "creat"}
_ALL_DATA_BYTES = 1 << 24
_ATTACH_SECONDS = 240.0


@dataclass(frozen=True)
class Call:
    """The `number`th call of a kind (from 1) that a process makes; `text` is what strace said of it."""

    kind: str
    number: int
    text: str

    @property
    def is_step(self) -> bool:
        """True if another process sees something new after it: a name, or a transaction.

        SQLite writes a transaction in pieces, and syncs it when it is whole.
        """
        return self.kind not in _WITHIN_A_STEP or (self.kind == "fdatasync" and "sqlite-wal" in self.text)


def obstacle() -> str | None:
    """Return why processes cannot be traced here; None when they can."""
    if shutil.which("strace") is None:
        return "strace is missing: apt-get install strace"
    tried = subprocess.run(["strace", "-qqq", "-o", "/dev/null", "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        return "strace may not trace here: give the container the capability SYS_PTRACE"
    return None


@contextmanager
def recording(process_id: int, record: Path, *, with_data: bool = False) -> Iterator[None]:
    """Record the changing calls of a process that waits to be let go; the record is whole afterwards."""
    shown_bytes = str(_ALL_DATA_BYTES if with_data else 0)
    options = ["-y", "-s", shown_bytes, "-o", str(record), "-e", f"trace={','.join(CHANGING)}"]
    with _attached(process_id, options):
        yield


@contextmanager
def killing(process_id: int, call: Call, *, slow: str | None = None) -> Iterator[None]:
    """Kill a process that waits to be let go as it enters `call`.

    `slow` is a kind of call after which the process is held up, for others to act meanwhile.
    """
    kinds = [call.kind] if slow is None else [call.kind, slow]
    options = ["-o", "/dev/null", "-e", f"trace={','.join(kinds)}"]
    options += ["-e", f"inject={call.kind}:signal=KILL:when={call.number}"]
    if slow is not None:
        options += ["-e", f"inject={slow}:delay_exit=1500"]
    with _attached(process_id, options):
        yield


@contextmanager
def failing(process_id: int, call: Call, error: str) -> Iterator[None]:
    """Let one call of a process that waits to be let go fail with an error such as `EIO`, undone."""
    options = ["-o", "/dev/null", "-e", f"trace={call.kind}"]
    options += ["-e", f"inject={call.kind}:error={error}:when={call.number}"]
    with _attached(process_id, options):
        yield


def changing_calls(record: Path, roots: Iterable[Path]) -> list[Call]:
    """Return the recorded calls that succeeded and changed something below one of the roots."""
    named = tuple(str(root) for root in roots)
    seen: Counter[str] = Counter()
    calls = []
    for line in record.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        kind, arguments, result, _ = match.groups()
        seen[kind] += 1
        only_reads = kind in _OPENING and "O_CREAT" not in arguments and "O_TRUNC" not in arguments
        if int(result) >= 0 and not only_reads and any(root in arguments for root in named):
            calls.append(Call(kind, seen[kind], f"{kind}({arguments})"))
    return calls


@contextmanager
def _attached(process_id: int, options: list[str]) -> Iterator[None]:
    """Run strace on a process; when the block ends, the process must have, and strace with it."""
    command = ["strace", "-qqq", "-p", str(process_id), "-e", "signal=none", *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        _wait_until_traced(process_id, tracer)
        yield
        _, said = tracer.communicate(timeout=_ATTACH_SECONDS)
        assert not said, said.decode()


def _wait_until_traced(process_id: int, tracer: "subprocess.Popen[bytes]") -> None:
    status = Path(f"/proc/{process_id}/status")
    while f"\nTracerPid:\t{tracer.pid}\n" not in status.read_text():
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            raise AssertionError(f"strace cannot attach: {tracer.stderr.read().decode()}")
