import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from meshctl.daemon.wake_ups import Signals

# A process that waits for ever, again and again, each time until a signal has come.
_WAITING = """
import sys
from meshctl.daemon.wake_ups import Signals
signals = Signals()
with signals.listen():
    for line in sys.stdin:
        print("waiting", flush=True)
        while not signals.stop_requested:
            signals.wait(3600)
        signals.stop_requested = False
        print("stopped", flush=True)
"""


@pytest.fixture
def signals() -> Iterator[Signals]:
    with closing(Signals()) as made:
        yield made


def test_a_wake_before_the_wait_ends_it(signals: Signals) -> None:
    signals.wake()

    signals.wait(3600)


def test_more_wakes_than_anything_holds_still_wake(signals: Signals) -> None:
    for _ in range(100_000):
        signals.wake()

    signals.wait(3600)


def test_another_thread_stops_the_loop(signals: Signals) -> None:
    threading.Thread(target=signals.stop, args=["a test"]).start()

    signals.wait(3600)

    assert (signals.stop_requested, signals.asked_by) == (True, "a test")


def test_a_signal_ends_the_wait_whenever_it_comes() -> None:
    """Also one that comes between the last look at the flags and the wait."""
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(1000):
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"waiting\n"
            os.kill(process.pid, signal.SIGTERM)
            assert process.stdout.readline() == b"stopped\n"
        process.stdin.close()
