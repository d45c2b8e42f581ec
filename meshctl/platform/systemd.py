"""Telling systemd how the service is doing: starting, ready, at work, reloading, stopping (sd_notify(3)).

Our own few lines, because no library fits: sdnotify has had no release since 2017 and has no
types; systemd-python needs a compiler and libsystemd; systemd-watchdog measures on the wall clock, which
somebody may set back a day, and cannot say that the service reloads or stops.

A watchdog fed by a thread of its own proves only that threads run. Here the loop itself reports that it goes
on, after each turn and between the batches of a long one. Nothing here raises or waits: a service
manager that does not listen must not keep a letter from being sent.

A service is ready as soon as nobody else can do its work and its log is open. What blocks the work is in the
status, and does not hold up `systemctl start`, or the boot, for as long as it lasts.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_STATUS_EVERY_SECONDS = 5.0
_SECOND_IN_USEC = 1_000_000
_LONGEST_STATUS = 300
_BEGINNING = "Beginning: what an earlier run has left is looked at first."


class ServiceManager:
    """Tells systemd how the service is doing; does nothing without systemd (no $NOTIFY_SOCKET)."""

    def __init__(self, environ: Mapping[str, str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._period = _watchdog_seconds(environ) if self._address else None
        self._monotonic = monotonic
        self._is_ready = False
        self._alive_at = float("-inf")
        self._status_at = float("-inf")
        self._obstacles: tuple[str, ...] = ()

    @property
    def longest_wait_seconds(self) -> float:
        """Return how long the loop may rest between turns: half of what the watchdog allows."""
        return float("inf") if self._period is None else self._period / 2

    def alive(self) -> None:
        """Notify systemd that the loop is running; may be called at any rate."""
        now = self._monotonic()
        if self._period is None or not self._is_ready or now - self._alive_at < self._period / 4:
            return
        self._alive_at = now
        self._say("WATCHDOG=1")

    def ready(self) -> None:
        """Notify systemd that the service has begun its work, whatever may block that."""
        self._is_ready = self._say("READY=1", f"STATUS={_BEGINNING}")

    def turned(self, obstacles: Sequence[str], counts: Callable[[], str]) -> None:
        """Notify systemd what came of a turn: `obstacles` stood in its way, `counts` says how all stands."""
        if self._address is None:
            return
        self.alive()
        if not self._is_ready:
            # Nobody listened before.
            self._is_ready = self._say("READY=1", *self._status(obstacles, counts))
        elif tuple(obstacles) != self._obstacles or (
            self._monotonic() - self._status_at >= _STATUS_EVERY_SECONDS
        ):
            self._say(*self._status(obstacles, counts))

    def reloading(self) -> None:
        """Notify systemd that the settings are being read again."""
        self._say(
            "RELOADING=1",
            f"MONOTONIC_USEC={time.monotonic_ns() // 1000}",
            "STATUS=Reading the settings again.",
        )

    def reloaded(self) -> None:
        """Notify systemd that the settings were read; the next turn reports the state of things."""
        self._say("READY=1")
        self._status_at = float("-inf")

    def stopping(self) -> None:
        """Notify systemd that the service stops."""
        self._say("STOPPING=1", "STATUS=Finishing the step in hand.")

    def _status(self, obstacles: Sequence[str], counts: Callable[[], str]) -> list[str]:
        self._status_at = self._monotonic()
        self._obstacles = tuple(obstacles)
        text = f"Blocked: {' '.join(obstacles)}" if obstacles else counts()
        return [f"STATUS={_printable(text)[:_LONGEST_STATUS]}"]

    def _say(self, *lines: str) -> bool:
        """Send one datagram; return whether it went out."""
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            return False
        return True


def own_unit(environ: Mapping[str, str], control_group: Path = Path("/proc/self/cgroup")) -> str | None:
    """Return the name of the service that systemd runs this process as; None if it runs it as none."""
    if "INVOCATION_ID" not in environ:
        return None
    try:
        groups = control_group.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return None
    names = (group.rpartition("/")[2] for group in groups)
    return next((name for name in names if name.endswith(".service")), None)


def drop_in(unit: str, *lines: str) -> str:
    """Return for a person how to add lines to the [Service] section of a unit, and have them in force."""
    return (
        f"Run systemctl edit {unit}, which writes /etc/systemd/system/{unit}.d/override.conf; put there"
        f" [Service] and, below it, {' and '.join(lines)}; then systemctl restart {unit}."
    )


def signal_main_process(environ: Mapping[str, str]) -> bool:
    """Send the main process of the unit that runs us SIGHUP; False if no unit does, or it cannot be done."""
    process = environ.get("MAINPID", "")
    if not process.isascii() or not process.isdigit() or int(process) == 0 or not hasattr(signal, "SIGHUP"):
        return False
    try:
        os.kill(int(process), signal.SIGHUP)
    except OSError:
        return False
    return True


def _printable(text: str) -> str:
    """Return `text` with control characters as `\\x1b`: a line of its own would be a message of its own."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def _address(named: str) -> str | None:
    """Return the socket's address: a path, or with `@` one in Linux's abstract name space."""
    if not hasattr(socket, "AF_UNIX"):
        return None
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return how long systemd waits for a sign of life (sd_watchdog_enabled(3)); None when it does not."""
    period, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not period.isascii() or not period.isdigit() or int(period) == 0:
        return None
    return int(period) / _SECOND_IN_USEC if process in {"", str(os.getpid())} else None
