"""Programs that write as the field's do: shares that lie about times, writers who pause, names created first.

Run as a program of its own, as another user if it is told to: it writes all its files side by side, a piece
of each and then a pause, and says at the end what it found. It needs nothing of this project.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

_LONG_AGO = 315532800
_AN_HOUR = 3600
# Windows would make two characters of each line end.
_WRITE = os.O_WRONLY | getattr(os, "O_BINARY", 0)
_NEW = _WRITE | os.O_CREAT | os.O_EXCL
_APPEND = _WRITE | os.O_APPEND

Pieces = list[bytes]
Writing = Iterator[None]


def stamped_held(name: str, pieces: Pieces) -> Writing:
    """Write as robocopy does: the file has its old stamp from the first byte on, and stays open."""
    descriptor = os.open(name, _NEW, 0o644)
    for piece in pieces:
        os.write(descriptor, piece)
        _stamp(descriptor, name, _LONG_AGO)
        yield
    os.close(descriptor)


def stamped_closed(name: str, pieces: Pieces) -> Writing:
    """Write the same through an NFS server, which opens the file for every piece."""
    return _closed_between(name, pieces, lambda _: _LONG_AGO)


def stamped_ahead(name: str, pieces: Pieces) -> Writing:
    """Write with the stamps of a clock that is an hour ahead."""
    ahead = int(time.time()) + _AN_HOUR
    return _closed_between(name, pieces, lambda _: ahead)


def frozen(name: str, pieces: Pieces) -> Writing:
    """Write as a share shows it: the size grows, the write time stays that of the first piece."""
    return _closed_between(name, pieces, lambda began: began)


def stalling(name: str, pieces: Pieces) -> Writing:
    """Write half, do nothing for a while with the file open, write the rest; times as they come."""
    whole = b"".join(pieces)
    descriptor = os.open(name, _NEW, 0o644)
    os.write(descriptor, whole[: len(whole) // 2])
    yield from (None for _ in pieces)
    os.write(descriptor, whole[len(whole) // 2 :])
    os.close(descriptor)


def late_held(name: str, pieces: Pieces) -> Writing:
    """Create the file, and write it later, as a Samba server does for a client that is slow to begin."""
    descriptor = os.open(name, _NEW, 0o644)
    yield from (None for _ in pieces)
    os.write(descriptor, b"".join(pieces))
    os.close(descriptor)


def late_closed(name: str, pieces: Pieces) -> Writing:
    """Create the file and close it; open it again later, and write it."""
    os.close(os.open(name, _NEW, 0o644))
    yield from (None for _ in pieces)
    descriptor = os.open(name, _APPEND)
    os.write(descriptor, b"".join(pieces))
    os.close(descriptor)


def renamed_held(name: str, pieces: Pieces) -> Writing:
    """Give the file its last name while it is half written and open, and go on after a while."""
    whole, unfinished = b"".join(pieces), f"{name}.part"
    descriptor = os.open(unfinished, _NEW, 0o644)
    os.write(descriptor, whole[: len(whole) // 2])
    yield
    os.rename(unfinished, name)
    yield from (None for _ in pieces)
    os.write(descriptor, whole[len(whole) // 2 :])
    os.close(descriptor)


def private(name: str, pieces: Pieces) -> Writing:
    """Write as cp -p and rsync do, whose file nobody else may read until it is whole, and stall."""
    whole = b"".join(pieces)
    descriptor = os.open(name, _NEW, 0o600)
    os.write(descriptor, whole[: len(whole) // 2])
    yield from (None for _ in pieces)
    os.write(descriptor, whole[len(whole) // 2 :])
    _stamp(descriptor, name, _LONG_AGO)
    os.chmod(name, 0o644)
    os.close(descriptor)


def _closed_between(name: str, pieces: Pieces, stamp: Callable[[float], float]) -> Writing:
    began = time.time()
    for number, piece in enumerate(pieces):
        # Once it is gone it is not made again.
        descriptor = os.open(name, _APPEND if number else _APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, piece)
        _stamp(descriptor, name, stamp(began))
        os.close(descriptor)
        yield


def _stamp(descriptor: int, name: str, at: float) -> None:
    os.utime(descriptor if os.utime in os.supports_fd else name, (at, at))


KINDS: Mapping[str, Callable[[str, Pieces], Writing]] = {
    made.__name__: made
    for made in (
        stamped_held, stamped_closed, stamped_ahead, frozen, stalling, late_held, late_closed, renamed_held,
        private,
    )
}  # fmt: skip


def write_all(kind: str, files: Mapping[str, bytes], pieces: int, pause: float) -> dict[str, object]:
    """Write all files at once; return those that went away meanwhile, and the longest pause of all."""
    running = {name: KINDS[kind](name, _cut(data, pieces)) for name, data in files.items()}
    gone: list[str] = []
    longest, last = 0.0, time.monotonic()
    while running:
        for name, writing in list(running.items()):
            try:
                next(writing)
            except StopIteration:
                del running[name]
            except FileNotFoundError:
                del running[name]
                gone.append(name)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        if running:
            time.sleep(pause)
    return {"gone": gone, "longest_pause": longest}


def _cut(data: bytes, pieces: int) -> Pieces:
    ends = [len(data) * number // pieces for number in range(pieces + 1)]
    return [data[start:end] for start, end in pairwise(ends)]


def become(user: int) -> None:
    """Go on as another user, in the folder that we are in."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def _main() -> None:
    asked = json.load(sys.stdin)
    # Before the other user, who may be kept out of what lies above it.
    os.chdir(asked["folder"])
    if asked["user"] is not None:
        become(asked["user"])
    files = {name: text.encode() for name, text in asked["files"].items()}
    print(json.dumps(write_all(asked["kind"], files, asked["pieces"], asked["pause"])))


if __name__ == "__main__":
    _main()
