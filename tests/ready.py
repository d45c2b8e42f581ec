"""meshctl as a process that is ready at once: one that has loaded it and nothing else, and forks.

Python's start and imports are most of the processor time of a test. What is forked is the whole command from
its arguments on. Windows cannot fork: there one process runs the commands that a test's worker asks for, one
after the other, and daemons start as users start them.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Timer
from typing import Any

from meshctl.cli import main
from meshctl.journal.events import held_back
from meshctl.journal.log_file import release_log

# Each loads what its kind of command needs.
_LOADED = (
    "commands.run",
    "commands.send",
    "commands.list",
    "commands.check",
    "commands.show",
    "bridge.connect",
)
_POLL_SECONDS = 0.005
_MOST_FILES = 64
_TOP = Path(__file__).parent.parent


def is_possible(environ: Mapping[str, str]) -> bool:
    """True if a ready process does as well: it is the same user's, and no variable changes Python itself."""
    is_ours = sys.platform == "win32" or os.geteuid() == os.getuid()
    return is_ours and all(name.startswith(("MESHCTL_", "MESH_", "COLUMNS")) for name in environ)


def run(arguments: Sequence[str], environ: Mapping[str, str], seconds: int) -> tuple[int, bytes, bytes]:
    """Run `meshctl ARGUMENTS` to its end; return exit code (negative for a signal), output and errors.

    It is ended when it takes longer than so many seconds.
    """
    server, folder = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    outputs = _outputs(Path(folder.name))
    request = {"arguments": arguments, "environ": dict(environ), "seconds": seconds, "cwd": os.getcwd()}
    server.stdin.write(json.dumps({**request, **outputs}).encode() + b"\n")
    server.stdin.flush()
    # Forked, it ends itself.
    too_long = Timer(seconds, server.kill)
    if sys.platform == "win32":
        too_long.start()
    answer = server.stdout.readline()
    too_long.cancel()
    if not answer:
        server.communicate()
        _server.cache_clear()
        raise AssertionError(f"meshctl {' '.join(arguments)} was ended, or took its process with it")
    return int(answer), Path(outputs["out"]).read_bytes(), Path(outputs["err"]).read_bytes()


class Started:
    """A command that was forked and goes on: what a test asks of a `subprocess.Popen`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pid = int((folder / "pid").read_text())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            with suppress(FileNotFoundError):
                self.returncode = int((self._folder / "code").read_text())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended. Raises subprocess.TimeoutExpired."""
        ends_at = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if ends_at is not None and timeout is not None and time.monotonic() > ends_at:
                raise subprocess.TimeoutExpired("meshctl", timeout)
            time.sleep(_POLL_SECONDS)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Return what it printed once it has ended. Raises subprocess.TimeoutExpired."""
        self.wait(timeout)
        return (self._folder / "out").read_bytes(), (self._folder / "err").read_bytes()

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM, if it runs."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[str], environ: Mapping[str, str]) -> Started:
    """Start `meshctl ARGUMENTS`, which goes on; whoever starts it ends it."""
    server, parent = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    folder = Path(tempfile.mkdtemp(dir=parent.name))
    request = {"arguments": arguments, "environ": dict(environ), "keep_in": str(folder), "cwd": os.getcwd()}
    server.stdin.write(json.dumps({**request, **_outputs(folder)}).encode() + b"\n")
    server.stdin.flush()
    assert server.stdout.readline(), "the process that forks has ended"
    return Started(folder)


def _outputs(folder: Path) -> dict[str, str]:
    return {"out": str(folder / "out"), "err": str(folder / "err")}


@cache
def _server() -> "tuple[subprocess.Popen[bytes], tempfile.TemporaryDirectory[str]]":
    """Start the process, which ends when its input does; also return the folder for what commands print."""
    server = subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_TOP
    )
    return server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def _serve() -> None:
    """Run meshctl for each request that comes, and answer with its exit code."""
    for name in _LOADED:
        import_module(f"meshctl.{name}")
    with open(os.dup(0), encoding="utf-8") as requests, open(os.dup(1), "w", encoding="ascii") as answers:
        for line in requests:
            asked = json.loads(line)
            if keep_in := asked.pop("keep_in", None):
                _keep(asked, Path(keep_in))
                answers.write("0\n")
                answers.flush()
                continue
            seconds = asked.pop("seconds")
            if sys.platform == "win32":
                code = run_here(**asked)
                held_back.take()
            else:
                process_id = os.fork()
                if process_id == 0:
                    signal.alarm(seconds)
                    # Not back to this loop.
                    os._exit(run_here(**asked))
                _, status = os.waitpid(process_id, 0)
                code = os.waitstatus_to_exitcode(status)
            answers.write(f"{code}\n")
            answers.flush()


def _keep(asked: dict[str, Any], folder: Path) -> None:
    """Fork a command that goes on, and a process that notes in `folder` which it is and how it ended."""
    if sys.platform == "win32":
        raise NotImplementedError
    keeper = os.fork()
    if keeper:
        # It has forked once more, and ends at once.
        os.waitpid(keeper, 0)
        return
    told, tell = os.pipe()
    if os.fork():
        os.read(told, 1)
        os._exit(0)
    process_id = os.fork()
    if process_id == 0:
        # All that this process has open beside its output, which the command gets anew.
        os.closerange(3, _MOST_FILES)
        os._exit(run_here(**asked))
    (folder / "pid").write_text(str(process_id))
    os.write(tell, b"1")
    _, status = os.waitpid(process_id, 0)
    (folder / "code.new").write_text(str(os.waitstatus_to_exitcode(status)))
    (folder / "code.new").rename(folder / "code")
    os._exit(0)


def run_here(arguments: list[str], environ: dict[str, str], cwd: str, out: str, err: str) -> Any:
    """Run one command in this process, which is not the same afterwards; return its exit code."""
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        descriptor = os.open(name, flags | getattr(os, "O_BINARY", 0), 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["meshctl", *arguments]
    code: Any = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException as error:  # noqa: BLE001 - so does the interpreter
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        # As the end of a process does: lines that still wait for the log are written.
        release_log()
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve()
