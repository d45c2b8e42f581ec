"""What the outside tells the daemon: stop (SIGTERM, Ctrl-C), read the settings again (SIGHUP), look now.

Handlers only set flags. The loop waits at a socket, into which the interpreter itself writes when a signal
comes: so a signal that arrives just before the wait ends it, and on Windows, where no signal interrupts a
wait, it ends at once as well. There the daemon also listens to two named events, as there is no SIGHUP.
"""

import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from meshctl.platform import host
from meshctl.platform.common import RELOAD, STOP

_STOPPING = ("SIGTERM", "SIGINT", "SIGBREAK")
_RELOADING = ("SIGHUP",)
_READ_BYTES = 4096


class Signals:
    """Wake-ups and requests for the loop."""

    def __init__(self) -> None:
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self.stop_requested = False
        self.reload_requested = False

    def wake(self) -> None:
        """Wake the loop; safe from any thread and from a signal handler."""
        # One that is full wakes it as well.
        with suppress(BlockingIOError):
            self._waker.send(b"\0")

    def wait(self, seconds: float) -> None:
        """Return when woken, or after `seconds`."""
        select.select([self._woken], [], [], max(seconds, 0))
        with suppress(BlockingIOError):
            while self._woken.recv(_READ_BYTES):
                pass

    def close(self) -> None:
        """Let go of the sockets; nothing may be asked any more."""
        self._woken.close()
        self._waker.close()

    def stop(self) -> None:
        """Have the loop end; safe from any thread and from a signal handler."""
        self.stop_requested = True
        self.wake()

    def reload(self) -> None:
        """Have the loop read the settings again; safe from any thread and from a signal handler."""
        self.reload_requested = True
        self.wake()

    @contextmanager
    def listen(self, state_folder: Path | None = None) -> Iterator[None]:
        """Heed signals while the block lasts; outside the main thread, which alone may, do nothing.

        On Windows those who know `state_folder` can ask for a stop or a reload (see `meshctl reload`).
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_stop(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        def on_reload(_number: int, _frame: FrameType | None) -> None:
            self.reload()

        with ExitStack() as undo:
            undo.callback(signal.set_wakeup_fd, -1)
            signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
            for names, handler in ((_STOPPING, on_stop), (_RELOADING, on_reload)):
                for name in names:
                    if hasattr(signal, name):
                        signal.signal(getattr(signal, name), handler)
            if state_folder is not None:
                undo.enter_context(host.listening(state_folder, {STOP: self.stop, RELOAD: self.reload}))
            yield
