"""meshctl as a process that is ready at once: one that has loaded it and nothing else, and forks.

Python's start and imports are most of the processor time of a test that runs a few commands. What is forked
is the whole command from its arguments on. Windows cannot fork: there one process runs the commands that a
test's worker asks for, one after the other. Daemons, and what a test runs itself, start as users start them.
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
    out, err = Path(folder.name, "out"), Path(folder.name, "err")
    request = {"arguments": arguments, "environ": dict(environ), "seconds": seconds, "cwd": os.getcwd()}
    server.stdin.write(json.dumps({**request, "out": str(out), "err": str(err)}).encode() + b"\n")
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
    return int(answer), out.read_bytes(), err.read_bytes()


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
            seconds = asked.pop("seconds")
            if sys.platform == "win32":
                code = run_here(**asked)
                # What the end of a process does.
                release_log()
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
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve()
