"""The alert command: one process at a time, in a thread of its own, each for a limited time.

Nothing here raises into its caller or delays the daemon. The command is an argument list, never a shell line;
it gets one event as JSON on its standard input, and what it prints is discarded.
"""

import contextlib
import json
import os
import subprocess
from collections import deque
from collections.abc import Collection
from threading import Condition, Thread
from typing import Final

from meshctl.journal.events import Alert, Journal, error_fields
from meshctl.platform import host
from meshctl.settings.model import AlertSettings

MOST_WAITING: Final = 10_000
"""How many alerts wait at most; of more, the oldest are dropped, and the log says how many."""

# Where systemd puts the credentials of a service.
_CREDENTIALS: Final = ("CREDENTIALS_DIRECTORY",)
_ADVICE: Final = "Try the command of [alerts] by hand, with an event on its standard input."


class Alerts:
    """Runs the alert command of one mailbox; does nothing without a command.

    `hidden` are the environment variables that hold secrets; the command does not get them.
    """

    def __init__(self, settings: AlertSettings, journal: Journal, hidden: Collection[str] = ()) -> None:
        self._command = list(settings.command)
        self._hidden = hidden
        self._timeout_seconds = settings.timeout.total_seconds()
        self._journal = journal
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._is_closing = self._has_given_up = False
        self._process: _Command | None = None
        self._thread: Thread | None = None
        # Guards everything above, and wakes the thread for new alerts.
        self._changed = Condition()

    def send(self, alert: Alert) -> None:
        """Run the command for an alert, after those that wait already; returns at once."""
        if not self._command:
            return
        data = json.dumps(alert.as_json(), default=str).encode() + b"\n"
        with self._changed:
            if self._is_closing:
                return
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(data)
            self._changed.notify()
            if self._thread is None:
                self._thread = self._new_thread()

    def close(self, timeout: float) -> None:
        """Send what waits for up to `timeout` seconds, then end the command and drop the rest."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
            thread = self._thread
        if thread is None:
            return
        thread.join(timeout)
        if not thread.is_alive():
            return
        with self._changed:
            self._has_given_up = True
            unsent = len(self._waiting) + (self._process is not None)
            self._waiting.clear()
            if self._process is not None:
                self._process.end()
        thread.join(1.0)
        self._log("The daemon stopped before these alerts were sent.", unsent=unsent)

    def _new_thread(self) -> Thread | None:
        thread = Thread(target=self._work, name="alerts", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no thread left; this alert waits, and the next one tries again.
            return None
        return thread

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                data = self._waiting.popleft()
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._log(
                    "More alerts came than the command could take; the oldest are lost.", dropped=dropped
                )
            self._run(data)

    def _run(self, data: bytes) -> None:
        """Run the command once; whatever goes wrong is only logged."""
        try:
            command = _Command(self._command, self._hidden)
        except (OSError, ValueError) as error:
            self._log(_reason(error))
            return
        with self._changed:
            self._process = command
        try:
            exit_code = command.run(data, self._timeout_seconds)
        except subprocess.TimeoutExpired:
            command.end()
            self._log(f"The command took longer than {self._timeout_seconds:g} s and was ended.")
        except (OSError, ValueError) as error:
            command.end()
            self._log(_reason(error))
        else:
            if exit_code != 0 and not self._has_given_up:
                self._log("The command failed.", exit_code=exit_code)
        finally:
            with self._changed:
                self._process = None
            command.close()

    def _log(self, text: str, **more: int) -> None:
        self._journal.warning("daemon.alert_failed", text=text, **more, advice=_ADVICE)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"The command cannot be run: {os.strerror(error.errno)}."
    return f"The command cannot be run: {error_fields(error)['error']}."


def _without_secrets(hidden: Collection[str]) -> dict[str, str]:
    """Return the environment without what leads to a secret of the service."""
    return {name: value for name, value in os.environ.items() if name not in {*hidden, *_CREDENTIALS}}


class _Command:
    """The command as a process, which ends with all its children."""

    def __init__(self, arguments: list[str], hidden: Collection[str]) -> None:
        self._tree = host.ProcessTree()
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_without_secrets(hidden),
            # A process group of its own; no effect on Windows, which has jobs instead.
            start_new_session=True,
            creationflags=self._tree.creation_flags,
        )
        self._tree.add(self._process.pid)

    def run(self, data: bytes, timeout_seconds: float) -> int:
        """Write `data` to its standard input and wait for its end; return its exit code.

        Raises subprocess.TimeoutExpired, OSError, ValueError.
        """
        self._process.communicate(data, timeout=timeout_seconds)
        return self._process.returncode

    def end(self) -> None:
        """End it and all its children at once, and wait until it has ended."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            self._tree.end()
            self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Release its handles; processes that it left running go on."""
        self._tree.close()
