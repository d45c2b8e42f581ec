"""A site whose outbox belongs to others too, as in the layout that systemd/README describes.

Where the tests run as root, meshctl runs as root without any of its powers, who is a user like any other, and
those who drop files are another one.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.site import Site, documents_in, make_site
from tests.strangers import droppers, writers

# Root without its powers is a user like any other, who may be told apart from the owner of a file.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
MAY_LEASE = ("setpriv", "--bounding-set=-all,+lease", "--inh-caps=-all,+lease")
_WRITERS, _DROPPERS = str(Path(writers.__file__)), str(Path(droppers.__file__))
_SECONDS = 240


@cache
def can_be_powerless() -> bool:
    """True if there can be two users here who are told apart."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run([*POWERLESS, "true"], capture_output=True, check=False).returncode == 0


ANOTHER_USER = 65534
needs_two_users = pytest.mark.skipif(not can_be_powerless(), reason="needs root, to be two users")

# On a machine on which every change of a name takes longer than a stranger needs to do something meanwhile.
SLOWLY = (
    "strace", "-qqq", "-o", "/dev/null",
    "-e", "trace=rename,renameat,renameat2,link,linkat",
    "-e", "inject=rename,renameat,renameat2,link,linkat:delay_enter=60000",
)  # fmt: skip


@cache
def _can_be_slow() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run([*SLOWLY, "true"], capture_output=True, check=False).returncode == 0


needs_slowness = pytest.mark.skipif(not _can_be_slow(), reason="needs a strace that can inject delays")


@dataclass
class SharedSite(Site):
    """A site, and how meshctl is run on it."""

    prefix: tuple[str, ...] = field(default_factory=lambda: POWERLESS if can_be_powerless() else ())

    def allow_leases(self) -> None:
        """Have meshctl run with the right to ask for leases on the files of others."""
        self.prefix = MAY_LEASE

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs meshctl on this site."""
        return [*self.prefix, *super().command(*arguments)]


def make_shared_site(root: Path, **sections: Mapping[str, Any]) -> SharedSite:
    """Make a site whose outbox, and one sub-folder of it, another user may write to."""
    site = SharedSite(make_site(root, **sections).root)
    (site.outbox / "send-document").mkdir()
    if can_be_powerless():
        for folder in (site.outbox, site.outbox / "send-document"):
            os.chown(folder, 0, ANOTHER_USER)
            folder.chmod(0o2770)
    return site


@dataclass(frozen=True)
class Written:
    """What a writer says at its end."""

    gone: list[str]
    longest_pause: float


class Writer:
    """A process of another user that writes files."""

    def __init__(self, folder: Path, kind: str, files: Mapping[str, bytes], pieces: int) -> None:
        self._written: Written | None = None
        asked = {
            "folder": str(folder),
            "user": ANOTHER_USER if can_be_powerless() else None,
            "kind": kind,
            "files": {name: data.decode() for name, data in files.items()},
            "pieces": pieces,
            "pause": 0.1,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-SE", _WRITERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        json.dump(asked, self._process.stdin)
        self._process.stdin.close()
        self._process.stdin = None

    @property
    def has_ended(self) -> bool:
        """True if it has written everything."""
        return self._process.poll() is not None

    def wait(self) -> Written:
        """Return what it says when it has ended."""
        if self._written is None:
            out, _ = self._process.communicate(timeout=_SECONDS)
            assert self._process.returncode == 0
            self._written = Written(**json.loads(out))
        return self._written

    def end(self) -> None:
        """End it where it is."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def writing(folder: Path, kind: str, files: Mapping[str, bytes], *, pieces: int = 15) -> Iterator[Writer]:
    """Have a process of another user write files into a folder, a piece of each and then a pause."""
    writer = Writer(folder, kind, files, pieces)
    try:
        yield writer
    finally:
        writer.end()


class Dropper:
    """A process of another user that does one of `droppers.KINDS` in a folder."""

    def __init__(self, folder: Path, kind: str, **asked: object) -> None:
        user = ANOTHER_USER if can_be_powerless() else None
        self._process = subprocess.Popen(
            [sys.executable, "-SE", _DROPPERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        told = {"folder": str(folder), "user": user, "kind": kind, **asked}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "begun\n"

    def stop(self) -> Any:
        """End its input, which may have it end; return what it says that it has done."""
        out, _ = self._process.communicate(timeout=_SECONDS)
        assert self._process.returncode == 0
        return json.loads(out)

    def kill(self) -> None:
        """End it where it is."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def dropping(folder: Path, kind: str, **asked: object) -> Iterator[Dropper]:
    """Have a process of another user do one of `droppers.KINDS`, from when it says that it has begun."""
    dropper = Dropper(folder, kind, **asked)
    try:
        yield dropper
    finally:
        dropper.kill()


@dataclass
class Taken:
    """What a MESH Client that never sleeps would have read: each pair as it was when it was first seen."""

    site: Site
    documents: dict[str, list[bytes]] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def look(self) -> int:
        """Read what is new in OUT; return how many pairs there were so far."""
        for stem in self.site.stems():
            if stem not in self._seen:
                self._seen.add(stem)
                documents = documents_in(self.site.payload(stem))
                self.documents.setdefault(self.site.control(stem).to_dts, []).extend(documents)
        return len(self._seen)


def contents(site: Site) -> Iterator[tuple[Path, list[bytes]]]:
    """Yield every file on the site, with its content and those of the documents in it."""
    for path in site.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            yield path, [data, *documents_in(data)]


def pdf(text: str, lines: int = 1) -> bytes:
    """Return a whole PDF, as far as anybody looks who looks for its end."""
    body = "".join(f"% {text}, line {number}\n" for number in range(lines))
    return f"%PDF-1.4\n{body}%%EOF\n".encode()
