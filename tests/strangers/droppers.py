"""Programs that drop files and mean harm, or are only fast: they go on until their input ends.

Run as a program of its own, as another user if it is told to, in a folder. It says when it has begun, and
at its end what it has done. It needs nothing of this project.
"""

import ctypes
import json
import os
import random
import select
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE
_PAUSES = (0.0, 0.0, 0.0, 0.0005, 0.002, 0.008)
_LONG_AGO = 315532800


@cache
def _libc() -> ctypes.CDLL:
    # Not at the import, which Windows does too.
    return ctypes.CDLL(None, use_errno=True)


def exchange(one: str, other: str) -> None:
    """Let two names change places, in one step. Raises OSError."""
    if _libc().renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


def swap(asked: Mapping[str, Any]) -> dict[str, int]:
    """Exchange a folder and a link to another one again and again; leave the folder in its place.

    Go on for so many `seconds` after the input has ended; if that is None, put the link there then, and leave
    it. Return how often that was done, and how many links it took, since somebody may take one away.
    """
    folder, aside, target = asked["name"], f".{asked['name']}", asked["target"]
    os.symlink(target, aside)
    _say_begun()
    if asked["seconds"] is None:
        sys.stdin.readline()
        exchange(folder, aside)
        return {"times": 1, "links": 1}
    times, links = 0, 1
    until: float | None = None
    chance = random.Random(1)
    while until is None or time.monotonic() < until:
        if until is None and _is_told_to_end():
            until = time.monotonic() + asked["seconds"]
        try:
            exchange(folder, aside)
        except FileNotFoundError:
            links += _link_again(folder, aside, target)
        # Who looks and acts a moment later is to meet it in all lengths of a moment.
        time.sleep(chance.choice(_PAUSES))
        times += 1
    if os.path.islink(folder):
        exchange(folder, aside)
    if os.path.islink(aside):
        os.unlink(aside)
    return {"times": times, "links": links}


def _link_again(folder: str, aside: str, target: str) -> int:
    """Make the link again, beside the folder; return 0 where nothing is wrong."""
    if os.path.isdir(aside) and not os.path.islink(aside) and not os.path.lexists(folder):
        os.rename(aside, folder)
    if os.path.lexists(aside):
        return 0
    os.symlink(target, aside)
    return 1


def occupy(asked: Mapping[str, Any]) -> list[str]:
    """Make a new file of each name a moment after it is found free; return the contents of all.

    The stamps of those that are `restless` are changed all the time, to old ones: who believes stamps takes
    them for quiet.
    """
    made: list[str] = []
    # The first ones at once.
    free_since = dict.fromkeys(asked["names"], 0.0)
    stamp = _LONG_AGO
    has_begun = False
    while not _is_told_to_end():
        for name in asked["names"]:
            stamp += 1
            try:
                _look_at(name, stamp, is_restless=name in asked["restless"])
            except FileNotFoundError:
                if time.monotonic() - free_since.setdefault(name, time.monotonic()) < asked["pause"]:
                    continue
                del free_since[name]
                made.append(f"%PDF-1.4\n% {name}, number {len(made)}\n%%EOF\n")
                _make(name, made[-1].encode(), stamp)
        if not has_begun and all(map(os.path.exists, asked["names"])):
            has_begun = True
            _say_begun()
    return made


def _look_at(name: str, stamp: int, *, is_restless: bool) -> None:
    if is_restless:
        os.utime(name, (stamp, stamp))
    else:
        os.lstat(name)


def _make(name: str, data: bytes, stamp: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
    os.write(descriptor, data)
    os.utime(descriptor, (stamp, stamp))
    os.close(descriptor)


def _say_begun() -> None:
    print("begun", flush=True)


def _is_told_to_end() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


KINDS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {"swap": swap, "occupy": occupy}


def _main() -> None:
    asked = json.loads(sys.stdin.readline())
    os.chdir(asked["folder"])
    if asked["user"] is not None:
        os.setgroups([])
        os.setgid(asked["user"])
        os.setuid(asked["user"])
    print(json.dumps(KINDS[asked["kind"]](asked)), flush=True)


if __name__ == "__main__":
    _main()
