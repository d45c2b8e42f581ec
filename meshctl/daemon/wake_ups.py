"""What wakes the loop: a stop (SIGTERM, Ctrl-C), a reload (SIGHUP), an event from the file system.

Signal handlers only set flags. The loop waits on a socket that the interpreter itself writes to when a signal
comes: a signal just before the wait ends it, and so does one on Windows, where no signal interrupts a wait.
There two named events take the place of SIGTERM and SIGHUP.
"""

import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from meshctl.platform import host
from meshctl.platform.common import RELOAD, STOP

_STOPPING = ("SIGTERM", "SIGINT", "SIGBREAK")
_RELOADING = ("SIGHUP",)
_READ_BYTES = 4096
_PROCESS = "a process of this user or an administrator"


class Signals:
    """Wake-ups and requests for the loop."""

    def __init__(self) -> None:
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self.stop_requested = False
        self.reload_requested = False
        self.asked_by: str | None = None
        """Who asked last, as the log says it: a signal, the service manager, another process."""

    def wake(self) -> None:
        """Wake the loop; safe from any thread and from a signal handler."""
        # A full socket wakes it as well.
        with suppress(BlockingIOError):
            self._waker.send(b"\0")

    def wait(self, seconds: float) -> None:
        """Return when woken, or after `seconds`."""
        select.select([self._woken], [], [], max(seconds, 0))
        with suppress(BlockingIOError):
            while self._woken.recv(_READ_BYTES):
                pass

    def close(self) -> None:
        """Close the sockets; `wake` and `wait` must not be called after."""
        self._woken.close()
        self._waker.close()

    def stop(self, asked_by: str) -> None:
        """Ask the loop to stop; safe from any thread and from a signal handler."""
        self.asked_by = asked_by
        self.stop_requested = True
        self.wake()

    def reload(self, asked_by: str) -> None:
        """Ask the loop to read the settings again; safe from any thread and from a signal handler."""
        self.asked_by = asked_by
        self.reload_requested = True
        self.wake()

    @contextmanager
    def listen(self, state_folder: Path | None = None) -> Iterator[None]:
        """Handle signals while the block lasts; a no-op outside the main thread.

        On Windows whoever knows `state_folder` can ask for a stop or a reload (see `meshctl reload`).
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_stop(number: int, _frame: FrameType | None) -> None:
            self.stop(signal.Signals(number).name)

        def on_reload(number: int, _frame: FrameType | None) -> None:
            self.reload(signal.Signals(number).name)

        with ExitStack() as undo:
            undo.callback(signal.set_wakeup_fd, -1)
            signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
            for names, handler in ((_STOPPING, on_stop), (_RELOADING, on_reload)):
                for name in names:
                    if hasattr(signal, name):
                        signal.signal(getattr(signal, name), handler)
            if state_folder is not None:
                requests = {STOP: partial(self.stop, _PROCESS), RELOAD: partial(self.reload, _PROCESS)}
                undo.enter_context(host.listening(state_folder, requests))
            yield
