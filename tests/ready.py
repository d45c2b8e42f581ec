"""meshctl as a process that is ready at once: forked from one that has loaded it and nothing else.

Python's start and imports are most of the processor time of a test that runs a few commands. What is forked
is the whole command from its arguments on. Daemons, and what a test runs itself, start as users start them.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from meshctl.cli import main

# Each loads what its kind of command needs.
_LOADED = (
    "commands.run",
    "commands.send",
    "commands.list",
    "commands.check",
    "commands.show",
    "bridge.connect",
)
_TOP = Path(__file__).parent.parent


def is_possible(environ: Mapping[str, str]) -> bool:
    """True if processes fork here, run as the user of this one, and no variable changes Python itself."""
    return (
        sys.platform != "win32"
        and os.geteuid() == os.getuid()
        and all(name.startswith(("MESHCTL_", "MESH_", "COLUMNS")) for name in environ)
    )


def run(arguments: Sequence[str], environ: Mapping[str, str], seconds: int) -> tuple[int, bytes, bytes]:
    """Run `meshctl ARGUMENTS` to its end; return exit code (negative for a signal), output and errors.

    It is ended by SIGALRM when it takes longer than so many seconds.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        request = {"arguments": arguments, "environ": dict(environ), "seconds": seconds, "cwd": os.getcwd()}
        server.stdin.write(json.dumps({**request, "out": out.name, "err": err.name}).encode() + b"\n")
        server.stdin.flush()
        return int(server.stdout.readline()), out.read(), err.read()


@cache
def _server() -> "subprocess.Popen[bytes]":
    """Start the process that forks; it ends when its input does, with this process."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_TOP
    )


def _serve() -> None:
    """Fork a meshctl for each request that comes, and answer with its exit code."""
    for name in _LOADED:
        import_module(f"meshctl.{name}")
    for line in sys.stdin:
        process_id = os.fork()
        if process_id == 0:
            _become_meshctl(**json.loads(line))
        _, status = os.waitpid(process_id, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become_meshctl(
    arguments: list[str], environ: dict[str, str], seconds: int, cwd: str, out: str, err: str
) -> NoReturn:
    code: Any = 1
    signal.alarm(seconds)
    for number, name in ((0, os.devnull), (1, out), (2, err)):
        descriptor = os.open(name, os.O_RDWR)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["meshctl", *arguments]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        kind, error, traceback = sys.exc_info()
        if kind is not None and error is not None:
            sys.excepthook(kind, error, traceback)
        sys.stdout.flush()
        sys.stderr.flush()
        # Not back to the loop that serves.
        os._exit(code)


if __name__ == "__main__":
    _serve()
