"""The helper process of `examine_batches`: a copy of this process that runs tasks beside it.

It is forked off before this process has a thread, a lock or an open ledger, so it is there at once and shares
its memory. It runs one task after the other, and ends with the process that made it, however that ends.
"""

import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

if sys.platform == "linux":
    import fcntl

_ENOUGH_PROCESSORS = 2
_PIPE_BYTES = 1 << 20
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, prctl(2)
_IGNORED_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGIO")


class HelperTask(Protocol):
    """What the helper can be asked to do; it and its result must be picklable."""

    def run(self) -> object:
        """Do it, and return what came of it."""


class Helper:
    """The helper process, spoken to over pipes. Once it is gone, asking has no effect and nothing answers."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        requests, self._requests = context.Pipe(duplex=False)
        self._answers, answers = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(requests, answers), daemon=True)
        # What is there now is the same in both for ever; a collector that looks through it would copy it.
        gc.freeze()
        self._process.start()
        if sys.platform == "linux":
            # Room for what is asked ahead, should the helper be held up.
            with suppress(OSError):
                fcntl.fcntl(self._requests.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        requests.close()
        answers.close()
        self.is_there = True

    def ask(self, task: HelperTask) -> None:
        """Hand over a task, without waiting for the ones before it."""
        with suppress(OSError):
            self._requests.send(task)

    def has_answered(self) -> bool:
        """True if `answer` need not wait."""
        return not self.is_there or self._answers.poll(0)

    def answer(self, patience_seconds: float) -> object:
        """Return the result of the oldest task; None when the helper is gone or takes too long."""
        with suppress(EOFError, OSError, pickle.UnpicklingError):
            if self._answers.poll(patience_seconds):
                return self._answers.recv()
        self.close()
        return None

    def close(self) -> None:
        """End the process."""
        if self.is_there:
            self.is_there = False
            self._process.kill()
            self._process.join()
            self._requests.close()
            self._answers.close()


def start_helper() -> Helper | None:
    """Start the helper where it is of use and can be had; call it before anything else has been opened."""
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < _ENOUGH_PROCESSORS:
        return None
    try:
        return Helper()
    except OSError:
        # At a limit of processes or open files the work is done in one process, as on one processor.
        return None


def _serve(requests: Connection, answers: Connection) -> None:
    for name in _IGNORED_SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    _close_all_but({0, 1, 2, requests.fileno(), answers.fileno()})
    tasks: SimpleQueue[HelperTask] = SimpleQueue()
    results: SimpleQueue[bytes] = SimpleQueue()
    # Neither pipe may hold up the work: with both sides waiting to write, nothing would ever move.
    Thread(target=_receive, args=(requests, tasks), daemon=True).start()
    Thread(target=_send, args=(answers, results), daemon=True).start()
    try:
        while True:
            results.put(pickle.dumps(tasks.get().run(), pickle.HIGHEST_PROTOCOL))
    except BaseException:  # noqa: BLE001 - a traceback would be printed, and its text may quote a file
        os._exit(1)


def _close_all_but(kept: set[int]) -> None:
    """Let go of what was open: the other ends of the pipes, and a log that will be rotated and removed."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in kept:
            with suppress(OSError):
                os.close(number)


def _receive(requests: Connection, tasks: "SimpleQueue[HelperTask]") -> None:
    """Take tasks off the pipe as they come."""
    try:
        while True:
            tasks.put(requests.recv())
    except BaseException:  # noqa: BLE001 - as above; most often this is the end of the process that asks
        os._exit(1)


def _send(answers: Connection, results: "SimpleQueue[bytes]") -> None:
    """Put results into the pipe as they are read from it."""
    try:
        while True:
            answers.send_bytes(results.get())
    except BaseException:  # noqa: BLE001 - as above
        os._exit(1)
