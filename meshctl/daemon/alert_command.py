"""The alert command: a process for each digest, for a limited time, with all that it starts.

It is an argument list, never a shell line. It gets one event as JSON on its standard input. What it prints is
discarded; what it writes to its standard error is in the log if it fails, masked and cut.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Collection
from contextlib import ExitStack, suppress
from threading import Event, Lock, Thread
from typing import IO, Final

from meshctl.daemon.digest import Digest, UndeliveredError
from meshctl.journal.events import error_fields
from meshctl.journal.masking import mask_output
from meshctl.platform import host
from meshctl.settings.model import Settings
from meshctl.settings.secrets import CREDENTIALS_VARIABLE

_MOST_STDERR_BYTES: Final = 1_000_000
_KEPT_STDERR_BYTES: Final = 4_000
_LOOK_SECONDS: Final = 0.5
_ADVICE: Final = (
    "Try the command of [alerts] by hand, an event on its standard input, then with meshctl alert --test."
    " Under systemd it has no network and no more rights than the unit: systemd/meshctl-alerts.conf gives it"
    " what it needs."
)


class CommandChannel:
    """Runs the command of the settings."""

    name = "command"

    def __init__(self, settings: Settings) -> None:
        self._command = settings.alerts.command
        self._hidden = settings.secret_variables
        self._timeout_seconds = settings.alerts.timeout.total_seconds()
        self._process: _Process | None = None
        self._is_ended = False
        # Guards the two above.
        self._lock = Lock()

    @property
    def target(self) -> str:
        """Return the program."""
        return self._command[0]

    def deliver(self, digest: Digest) -> str | None:
        """Run the command once. Raises UndeliveredError if it cannot be run, fails or takes too long."""
        data = json.dumps(digest.as_json(), default=str).encode() + b"\n"
        with ExitStack() as held:
            # A file, not a pipe: what the command leaves running may hold it open, and is not waited for.
            stderr: IO[bytes] | None = None
            with suppress(OSError):
                stderr = held.enter_context(tempfile.TemporaryFile())
            try:
                process = _Process(self._command, self._hidden, stderr)
            except (OSError, ValueError) as error:
                raise UndeliveredError(_reason(error), _ADVICE) from None
            held.callback(process.close)
            self._run(process, data)
        return None

    def _run(self, process: "_Process", data: bytes) -> None:
        with self._lock:
            self._process = process
            if self._is_ended:
                process.end()
        try:
            exit_code = process.run(data, self._timeout_seconds)
        except subprocess.TimeoutExpired:
            process.end()
            text = f"The command took longer than {self._timeout_seconds:g} s and was ended."
            raise UndeliveredError(text, _ADVICE, stderr=process.stderr()) from None
        except (OSError, ValueError) as error:
            process.end()
            raise UndeliveredError(_reason(error), _ADVICE, stderr=process.stderr()) from None
        finally:
            with self._lock:
                self._process = None
        if exit_code != 0:
            stderr = process.stderr()
            raise UndeliveredError("The command failed.", _ADVICE, exit_code=exit_code, stderr=stderr)

    def end(self) -> None:
        """End the process, and any that would follow it."""
        with self._lock:
            self._is_ended = True
            if self._process is not None:
                self._process.end()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"The command cannot be run: {os.strerror(error.errno)}."
    return f"The command cannot be run: {error_fields(error)['error']}."


def _without_secrets(hidden: Collection[str]) -> dict[str, str]:
    """Return the environment without what leads to a secret of the service."""
    left_out = {*hidden, CREDENTIALS_VARIABLE}
    return {name: value for name, value in os.environ.items() if name not in left_out}


class _Process:
    """The command as a process, which ends with all its children."""

    def __init__(self, arguments: Collection[str], hidden: Collection[str], stderr: IO[bytes] | None) -> None:
        self._tree = host.ProcessTree()
        self._stderr = stderr
        self._is_too_loud = False
        try:
            self._process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr or subprocess.DEVNULL,
                env=_without_secrets(hidden),
                # A process group of its own; no effect on Windows, which has jobs instead.
                start_new_session=True,
                creationflags=self._tree.creation_flags,
            )
        except BaseException:
            self.close()
            raise
        self._tree.add(self._process.pid)

    def run(self, data: bytes, timeout_seconds: float) -> int:
        """Write `data` to its standard input and wait for its end; return its exit code.

        Raises subprocess.TimeoutExpired, ValueError if it writes without end, OSError.
        """
        has_ended = Event()
        watching = Thread(target=self._watch, args=(has_ended,), name="alert command's output", daemon=True)
        # Without a thread left in the system, its output is read by nobody.
        with suppress(RuntimeError):
            watching.start()
        try:
            self._process.communicate(data, timeout=timeout_seconds)
        finally:
            has_ended.set()
            if watching.ident is not None:
                watching.join()
        if self._is_too_loud:
            raise ValueError("too much on standard error")
        return self._process.returncode

    def _watch(self, has_ended: Event) -> None:
        """Kill it if it fills the disk with what it writes to its standard error."""
        while self._stderr is not None and not has_ended.wait(_LOOK_SECONDS):
            if os.fstat(self._stderr.fileno()).st_size > _MOST_STDERR_BYTES:
                self._is_too_loud = True
                self._kill()
                return

    def stderr(self) -> str | None:
        """Return the end of what it wrote to its standard error, fit for the log; None if nothing."""
        if self._stderr is None:
            return None
        with suppress(OSError):
            size_bytes = self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, size_bytes - _KEPT_STDERR_BYTES))
            return mask_output(self._stderr.read(_KEPT_STDERR_BYTES), end=True) or None
        return None

    def end(self) -> None:
        """End it and all its children at once, and wait until it has ended."""
        if self._process.returncode is not None:
            return
        self._kill()
        self._process.wait()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            self._tree.end()
            self._process.kill()

    def close(self) -> None:
        """Release its handles; processes that it left running go on."""
        self._tree.close()
