"""meshctl as a process whose system calls fail wherever they touch one item, or that is killed at a call.

The kernel stops at each call that names a file and asks us what to do (seccomp_unotify(2)). So it makes no
difference how the program names the file: by path, by its name in an open folder, or by its own descriptor.
"""

import ctypes
import os
import platform
import re
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from tests import ready
from tests.site import Finished, Site

if sys.platform != "win32":
    import fcntl

Judge = Callable[[str, Sequence[str]], int]
"""Answers a call, given by its kind and the paths that it names: an errno, KILL, or 0 to let it go on."""

KILL = -1

LOOKING = frozenset({"stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2"})
OPENING = frozenset({"open", "openat", "openat2", "creat"})
READING = frozenset({"read", "pread64", "readv", "preadv", "sendfile", "copy_file_range", "getdents64"})
"""The kinds of call that read what is in a file or folder."""
MOVING = frozenset(
    {
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "unlink",
        "unlinkat",
        "rmdir",
        "symlink",
        "symlinkat",
    }
)
"""The kinds of call that give a file or folder another name, or take its name away."""

# Kind, its numbers on x86-64 and ARM, and which arguments name files: 0 a path, 0:1 a folder's descriptor and
# a name in it, fd0 the file's own descriptor.
_TABLE = """
open 2 - 0                    creat 85 - 0                  truncate 76 45 0
stat 4 - 0                    lstat 6 - 0                   access 21 - 0
rename 82 - 0 1               link 86 - 0 1                 symlink 88 - 1
unlink 87 - 0                 rmdir 84 - 0                  mkdir 83 - 0
readlink 89 - 0               chmod 90 - 0                  chown 92 - 0
lchown 94 - 0                 statfs 137 43 0               getxattr 191 8 0
lgetxattr 192 9 0             setxattr 188 5 0              listxattr 194 11 0
llistxattr 195 12 0           inotify_add_watch 254 27 1
openat 257 56 0:1             openat2 437 437 0:1           newfstatat 262 79 0:1
statx 332 291 0:1             faccessat 269 48 0:1          faccessat2 439 439 0:1
renameat 264 38 0:1 2:3       renameat2 316 276 0:1 2:3     linkat 265 37 0:1 2:3
symlinkat 266 36 1:2          unlinkat 263 35 0:1           mkdirat 258 34 0:1
mknodat 259 33 0:1            readlinkat 267 78 0:1         fchmodat 268 53 0:1
fchownat 260 54 0:1           utimensat 280 88 0:1
read 0 63 fd0                 pread64 17 67 fd0             readv 19 65 fd0
preadv 295 69 fd0             sendfile 40 71 fd1            copy_file_range 326 285 fd0 fd2
getdents64 217 61 fd0         write 1 64 fd0                pwrite64 18 68 fd0
writev 20 66 fd0              ftruncate 77 46 fd0           fallocate 285 47 fd0
fstat 5 80 fd0                fstatfs 138 44 fd0            fsync 74 82 fd0
fdatasync 75 83 fd0           fchmod 91 52 fd0              fchown 93 55 fd0
fgetxattr 193 10 fd0          flistxattr 196 13 fd0         flock 73 32 fd0
"""
_ROW = re.compile(r"([a-z]\w*) (\d+) (\d+|-)((?: (?:fd)?\d(?::\d)?)+)")
_MACHINE = platform.machine()
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}.get(_MACHINE, 0)
# Of <linux/filter.h>, <linux/seccomp.h> and <linux/prctl.h>.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_LET_GO, _ASK = 0x7FFF0000, 0x7FC00000
_SET_FILTER, _NEW_LISTENER, _NO_NEW_PRIVILEGES = 1, 8, 38
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_QUESTION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_GO_ON = 1

_AT_FDCWD = -100
_MOST_PATH_BYTES = 4096
_LOADED = ("commands.run", "commands.check", "commands.status")
_RUN_SECONDS = 240


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


@dataclass(frozen=True)
class _Kind:
    """A kind of system call, and which of its arguments name files."""

    name: str
    arguments: tuple[str, ...]


@dataclass
class Failing:
    """A judge that fails every call, or those of some kinds, on what has this name in or below a folder."""

    name: str
    error: int
    within: Path
    kinds: Collection[str] | None = None
    count: int = 0
    """How many calls have failed."""

    def __call__(self, kind: str, paths: Sequence[str]) -> int:
        """Answer a call."""
        if self.kinds is not None and kind not in self.kinds:
            return 0
        start = f"{self.within}/"
        below = (path.removeprefix(start).split("/") for path in paths if path.startswith(start))
        if not any(self.name in parts for parts in below):
            return 0
        self.count += 1
        return self.error


def killing_when(condition: Callable[[], object]) -> Judge:
    """Kill the process at the first call on a file, before it does anything, once the condition holds."""
    return lambda _kind, _paths: KILL if condition() else 0


def run(site: Site, *arguments: str, judge: Judge) -> Finished:
    """Run `meshctl ARGUMENTS` to its end; the judge answers its calls on files, and those of its children."""
    for name in _LOADED:
        import_module(f"meshctl.{name}")
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        command = ["-c", str(site.settings_file), *arguments]

        def start() -> int:
            return int(ready.run_here(command, site.process_environ(), os.getcwd(), str(out), str(err)))

        code = _run_judged(start, judge)
        return Finished.of(code, out.read_bytes(), err.read_bytes())


@cache
def obstacle() -> str | None:
    """Return why calls cannot be judged here; None when they can."""
    if sys.platform != "linux" or not _SECCOMP_CALL:
        return "needs Linux on x86-64 or ARM, to have system calls fail"
    asked: list[str] = []

    def judge(kind: str, _paths: Sequence[str]) -> int:
        asked.append(kind)
        return 0

    code = _run_judged(lambda: os.path.exists("/") - 1, judge)
    return None if code == 0 and asked else "the kernel lets nobody judge system calls here (seccomp)"


def _run_judged(start: Callable[[], int], judge: Judge) -> int:
    """Run something in a forked process, and return its exit code, negative for a signal."""
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    process_id = os.fork()
    if process_id == 0:
        _begin(start, theirs)
    theirs.close()
    try:
        with closing(ours):
            _, listeners, _, _ = socket.recv_fds(ours, 1, 1)
        for listener in listeners:
            _answer_all(listener, judge)
            os.close(listener)
    except BaseException:
        os.kill(process_id, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(process_id, 0)
    return os.waitstatus_to_exitcode(status)


def _begin(start: Callable[[], int], channel: socket.socket) -> NoReturn:
    code = 70
    try:
        # Not those that pytest has put in their places.
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(_RUN_SECONDS)
        listener = _ask_about_calls()
        socket.send_fds(channel, [b"1"], [listener])
        os.close(listener)
        channel.close()
        code = start()
    finally:
        os._exit(code)


def _ask_about_calls() -> int:
    """Have the kernel ask about this process's calls on files; return where it asks. Raises OSError."""
    numbers = list(_kinds())
    code = [_Instruction(_LOAD, 0, 0, 0)]
    code += [
        _Instruction(_JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)
    ]
    code += [_Instruction(_RETURN, 0, 0, _LET_GO), _Instruction(_RETURN, 0, 0, _ASK)]
    program = _Program(len(code), (_Instruction * len(code))(*code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
        listener = int(libc.syscall(_SECCOMP_CALL, _SET_FILTER, _NEW_LISTENER, ctypes.byref(program)))
        if listener >= 0:
            return listener
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


@cache
def _kinds() -> dict[int, _Kind]:
    """Return the kinds of call that are asked about, by their numbers on this machine."""
    column = 0 if _MACHINE == "x86_64" else 1
    return {
        int(numbers[column]): _Kind(name, tuple(arguments.split()))
        for name, *numbers, arguments in _ROW.findall(_TABLE)
        if numbers[column] != "-"
    }


def _answer_all(listener: int, judge: Judge) -> None:
    """Answer all that the kernel asks until the last process has ended."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        ((_, state),) = poll.poll()
        if not state & select.POLLIN:
            return
        question = bytearray(_QUESTION.size)
        # It may have been killed since.
        with suppress(FileNotFoundError):
            fcntl.ioctl(listener, _RECEIVE, question)
            asked, process_id, _, number, _, _, *arguments = _QUESTION.unpack(question)
            kind = _kinds()[number]
            answer = judge(kind.name, list(_paths(process_id, kind, arguments)))
            if answer == KILL:
                os.kill(process_id, signal.SIGKILL)
            else:
                reply = _ANSWER.pack(asked, 0, -answer, 0 if answer else _GO_ON)
                fcntl.ioctl(listener, _SEND, reply)


def _paths(process_id: int, kind: _Kind, arguments: Sequence[int]) -> Iterator[str]:
    """Yield the absolute paths that a call names, links in them not followed."""
    for argument in kind.arguments:
        if argument.startswith("fd"):
            yield _path_of(process_id, arguments[int(argument[2:])])
            continue
        *folder, place = map(int, argument.split(":"))
        name = _text_at(process_id, arguments[place])
        beside = arguments[folder[0]] if folder else _AT_FDCWD
        path = name if name.startswith("/") else f"{_path_of(process_id, beside)}/{name}"
        yield os.path.normpath(path)


def _path_of(process_id: int, descriptor: int) -> str:
    """Return where an open file or folder lies now; of what is no file, nothing that is a path."""
    number = ctypes.c_int(descriptor).value
    try:
        return os.readlink(f"/proc/{process_id}/" + ("cwd" if number == _AT_FDCWD else f"fd/{number}"))
    except OSError:
        return ""


def _text_at(process_id: int, address: int) -> str:
    try:
        with open(f"/proc/{process_id}/mem", "rb", buffering=0) as memory:
            return os.fsdecode(os.pread(memory.fileno(), _MOST_PATH_BYTES, address).partition(b"\0")[0])
    except OSError:
        return ""
