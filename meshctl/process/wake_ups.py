"""What the outside tells the daemon: stop (SIGTERM, SIGINT), read the settings again (SIGHUP), look now.

Handlers only set flags and wake the loop through a queue that is safe to use inside a handler.
"""

import signal
from queue import Empty, SimpleQueue
from types import FrameType


class Signals:
    """Wake-ups and requests for the loop."""

    def __init__(self) -> None:
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self.stop_requested = False
        self.reload_requested = False

    def wake(self) -> None:
        """Wake the loop; safe from any thread and from a signal handler."""
        self._wakes.put(None)

    def wait(self, seconds: float) -> None:
        """Return when woken, or after `seconds`."""
        try:
            self._wakes.get(timeout=max(seconds, 0))
        except Empty:
            return
        while not self._wakes.empty():
            self._wakes.get()

    def listen(self) -> None:
        """Install the signal handlers."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._on_reload)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.stop_requested = True
        self.wake()

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.reload_requested = True
        self.wake()
