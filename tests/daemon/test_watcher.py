"""The watches go on when a thread of theirs has ended: a share hiccups, and the library raises."""

import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from meshctl.daemon.watcher import Watcher
from tests.site import wait_until


class _Told:
    """What is called at each event: it raises, which ends the thread that calls it, until it is to listen."""

    def __init__(self) -> None:
        self.listens = False
        self.heard = Event()

    def __call__(self) -> None:
        if not self.listens:
            raise OSError(64, "The specified network name is no longer available")
        self.heard.set()


@pytest.fixture
def told() -> _Told:
    return _Told()


@pytest.fixture
def watcher(told: _Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    watcher = Watcher(told)
    yield watcher
    watcher.close()


def test_a_thread_that_has_ended_is_started_again(watcher: Watcher, told: _Told, tmp_path: Path) -> None:
    """All folders are watched again with the next turn, and an untouched watch is left alone."""
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    watcher.watch(map(str, folders))
    threads = _threads()
    watcher.watch(map(str, folders))
    assert _threads() == threads

    _drop(folders[0])
    wait_until(lambda: not all(thread.is_alive() for thread in threads), "a thread to end")

    told.listens = True
    for folder in folders:
        watcher.watch(map(str, folders))
        told.heard.clear()
        _drop(folder)
        assert told.heard.wait(60), folder.name


@pytest.mark.skipif(sys.platform != "win32", reason="only there each folder is read by a thread of its own")
def test_a_folder_whose_reader_has_ended_is_watched_again(
    watcher: Watcher, told: _Told, tmp_path: Path
) -> None:
    """The handle of a share's folder becomes invalid; everything else about the watch looks alive."""
    told.listens = True
    watcher.watch([str(tmp_path)])
    threads = _threads()
    observer: Any = vars(watcher)["_observer"]
    [emitter] = observer.emitters
    kernel: Any = import_module("ctypes").WinDLL("kernel32")
    kernel.CloseHandle(vars(vars(emitter)["_reader"])["_handle"])
    (tmp_path / "first").touch()
    wait_until(lambda: not all(thread.is_alive() for thread in threads), "the reader to end")

    watcher.watch([str(tmp_path)])
    told.heard.clear()
    _drop(tmp_path)

    assert told.heard.wait(60)


def _threads() -> set[Thread]:
    return set(threading.enumerate()) - {threading.current_thread(), threading.main_thread()}


def _drop(folder: Path) -> None:
    (folder / "letter.part").write_text("a letter")
    (folder / "letter.part").replace(folder / "letter")
