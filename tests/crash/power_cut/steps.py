"""What one run did to its files, call by call with all data, from strace's record."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_LINE = re.compile(r"(\w+)\((.*)\) += (-?\d+)(.*)", re.DOTALL)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"(\d+)<((?:[^>\\]|\\.)*)>")
_STAMP = re.compile(r"tv_sec=(\d+), tv_nsec=(\d+)")
_UNREAD = ("sendfile", "copy_file_range", "writev", "pwritev", "pwritev2", "fallocate", "creat", "open")


class Kind(StrEnum):
    """What a step does."""

    OPEN = "open"
    WRITE = "write"
    TRUNCATE = "truncate"
    RENAME = "rename"
    LINK = "link"
    SYMLINK = "symlink"
    UNLINK = "unlink"
    MAKE_FOLDER = "mkdir"
    REMOVE_FOLDER = "rmdir"
    TOUCH = "touch"
    SYNC = "sync"
    SYNC_SYSTEM = "syncfs"


@dataclass(frozen=True)
class Step:
    """One call that succeeded. `descriptor` is what an open returned, or what another call worked on.

    `other` is a rename's or link's new name. `offset` None is where the descriptor stands.
    """

    kind: Kind
    call: str
    path: str = ""
    other: str = ""
    descriptor: int = -1
    data: bytes = b""
    offset: int | None = None
    size_bytes: int = 0
    stamp_ns: int = 0
    flags: str = ""

    def __str__(self) -> str:
        """Return the call, without its data."""
        return f"{self.call}({self.path}{' -> ' if self.other else ''}{self.other})"


def read_steps(record: Path) -> list[Step]:
    """Return the steps of a record made with all data. A call that is not understood raises ValueError."""
    return list(_steps(record.read_text(encoding="utf-8", errors="surrogateescape")))


def _steps(text: str) -> Iterator[Step]:
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or int(match[3]) < 0:
            continue
        call, arguments, result, rest = match.groups()
        texts = [_unescaped(each) for each in _TEXT.findall(arguments)]
        names = [each.decode(errors="surrogateescape") for each in texts]
        found = _DESCRIPTOR.match(arguments)
        descriptor = int(found[1]) if found else -1
        path = _unescaped(found[2]).decode(errors="surrogateescape") if found else ""
        numbers = [int(each) for each in re.findall(r", (\d+)", _TEXT.sub("", arguments))]
        if call in _UNREAD and "/" in path + "".join(names):
            raise ValueError(f"the model does not know {call}: {line[:200]}")
        if call == "openat":
            yield Step(Kind.OPEN, call, names[0], descriptor=int(result), flags=arguments)
        elif call == "write":
            yield Step(Kind.WRITE, call, path, descriptor=descriptor, data=texts[0][: int(result)])
        elif call == "pwrite64":
            data = texts[0][: int(result)]
            yield Step(Kind.WRITE, call, path, descriptor=descriptor, data=data, offset=numbers[-1])
        elif call == "ftruncate":
            yield Step(Kind.TRUNCATE, call, path, descriptor=descriptor, size_bytes=numbers[-1])
        elif call in ("fsync", "fdatasync"):
            yield Step(Kind.SYNC, call, path, descriptor=descriptor)
        elif call == "syncfs":
            yield Step(Kind.SYNC_SYSTEM, call, path, descriptor=descriptor)
        elif call == "utimensat":
            seconds, nanoseconds = _STAMP.findall(arguments)[1]
            yield Step(Kind.TOUCH, call, names[0], stamp_ns=int(seconds) * 10**9 + int(nanoseconds))
        elif call in ("unlinkat", "unlink", "rmdir"):
            removes_folder = call == "rmdir" or "AT_REMOVEDIR" in arguments
            yield Step(Kind.REMOVE_FOLDER if removes_folder else Kind.UNLINK, call, names[0])
        elif call in ("mkdir", "mkdirat"):
            yield Step(Kind.MAKE_FOLDER, call, names[0])
        elif call in ("rename", "renameat", "renameat2"):
            yield Step(Kind.RENAME, call, names[0], names[1])
        elif call in ("link", "linkat"):
            yield Step(Kind.LINK, call, names[0], names[1])
        elif call in ("symlink", "symlinkat"):
            yield Step(Kind.SYMLINK, call, names[0], names[1])
        # What is left changes only modes and owners.
        del rest


def _unescaped(text: str) -> bytes:
    decoded, _ = codecs.escape_decode(text.encode(errors="surrogateescape"))
    return bytes(decoded)
