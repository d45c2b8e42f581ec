"""What one run did to its files, call by call with all data, from strace's record."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

_LINE = re.compile(r"(\w+)\((.*)\) += (-?\d+)(.*)", re.DOTALL)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
# A name, after the open folder that it is a name in, if it is.
_NAME = re.compile(r'(?:\d+<((?:[^>\\]|\\.)*)>, )?"((?:[^"\\]|\\.)*)"')
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

    @property
    def changes(self) -> bool:
        """True if anything may be different afterwards."""
        return self.kind is not Kind.OPEN or "O_CREAT" in self.flags or "O_TRUNC" in self.flags

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
        call, arguments, result, _ = match.groups()
        found = _Found(call, arguments, int(result))
        if call in _UNREAD and "/" in found.path + "".join(found.names):
            raise ValueError(f"the model does not know {call}: {line[:200]}")
        kind = _KINDS.get(call)
        # What has no kind changes only modes and owners.
        if kind is not None:
            yield found.step(kind)


class _Found:
    """One call, taken apart."""

    def __init__(self, call: str, arguments: str, result: int) -> None:
        self.call = call
        self.arguments = arguments
        self.result = result
        self.texts = [_unescaped(each) for each in _TEXT.findall(arguments)]
        self.names = [_named(*each) for each in _NAME.findall(arguments)]
        described = _DESCRIPTOR.match(arguments)
        self.descriptor = int(described[1]) if described else -1
        self.path = _unescaped(described[2]).decode(errors="surrogateescape") if described else ""

    def step(self, kind: Kind) -> Step:
        """Return the call as a step of this kind."""
        step = Step(kind, self.call, self.path, descriptor=self.descriptor)
        if kind is Kind.OPEN:
            return replace(step, path=self.names[0], descriptor=self.result, flags=self.arguments)
        if kind is Kind.WRITE:
            offset = self._last_number() if self.call == "pwrite64" else None
            return replace(step, data=self.texts[0][: self.result], offset=offset)
        if kind is Kind.TRUNCATE:
            return replace(step, size_bytes=self._last_number())
        if kind is Kind.TOUCH:
            seconds, nanoseconds = _STAMP.findall(self.arguments)[1]
            return replace(step, path=self.names[0], stamp_ns=int(seconds) * 10**9 + int(nanoseconds))
        if kind in (Kind.SYNC, Kind.SYNC_SYSTEM):
            return step
        return replace(step, path=self.names[0], other=self.names[1] if len(self.names) > 1 else "")

    def _last_number(self) -> int:
        return int(re.findall(r", (\d+)", _TEXT.sub("", self.arguments))[-1])


_KINDS = {
    "openat": Kind.OPEN,
    "write": Kind.WRITE,
    "pwrite64": Kind.WRITE,
    "ftruncate": Kind.TRUNCATE,
    "fsync": Kind.SYNC,
    "fdatasync": Kind.SYNC,
    "syncfs": Kind.SYNC_SYSTEM,
    "utimensat": Kind.TOUCH,
    "unlink": Kind.UNLINK,
    "unlinkat": Kind.UNLINK,
    "rmdir": Kind.REMOVE_FOLDER,
    "mkdir": Kind.MAKE_FOLDER,
    "mkdirat": Kind.MAKE_FOLDER,
    "rename": Kind.RENAME,
    "renameat": Kind.RENAME,
    "renameat2": Kind.RENAME,
    "link": Kind.LINK,
    "linkat": Kind.LINK,
    "symlink": Kind.SYMLINK,
    "symlinkat": Kind.SYMLINK,
}


def _named(folder: str, name: str) -> str:
    """Return the path that a name means, which may be one in an open folder."""
    path = _unescaped(name).decode(errors="surrogateescape")
    return path if path.startswith("/") or not folder else f"{_unescaped(folder).decode()}/{path}"


def _unescaped(text: str) -> bytes:
    decoded, _ = codecs.escape_decode(text.encode(errors="surrogateescape"))
    return bytes(decoded)
