"""`meshctl simulate`: simulates MESH Client, MESH and practice; nothing leaves this machine."""

import select
import signal
import sys
import threading
import time
from pathlib import Path

import click

from meshctl.daemon.mailbox_lock import serving
from meshctl.platform import host
from meshctl.simulator.mesh import SimulatedMesh, flags_in_force
from meshctl.simulator.rules import load_rules
from meshctl.simulator.service import Simulator, check_unused, make_mailbox_folders
from meshctl.terminal.context import settings_of
from meshctl.terminal.output import epilog

_LOOK_SECONDS = 0.1
_FASTEST = 10_000_000
_LINES_AT_ONCE = 200
# A pipe that takes anything takes 4,096 bytes; a line has a hundred at most.
_LINES_A_WRITE = 30
_PATIENCE_SECONDS = 1.0

_EPILOG = epilog(
    {
        "meshctl simulate": "deliver everything; acknowledge as the messages ask",
        "meshctl simulate --rules rules.toml --speed 3600": "an hour takes a second; with these rules",
        "meshctl simulate --once": "take what is in OUT, deliver what is due, and end",
    },
    {
        0: "ended, by --once or a signal",
        1: "the mailbox cannot be served",
        2: "wrong usage, settings or rules",
    },
)


class _Screen:
    """Prints a line about each step, with the time; many at once when there are many.

    A program that started the simulator and never reads its output must not bring it to a halt: lines that
    nobody takes are left out, and counted once somebody does.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._left_out = 0

    def say(self, text: str) -> None:
        self._lines.append(f"{time.strftime('%H:%M:%S')} {text}")
        if len(self._lines) >= _LINES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        for start in range(0, len(self._lines), _LINES_A_WRITE):
            lines = self._lines[start : start + _LINES_A_WRITE]
            if not self._is_read():
                self._left_out += len(lines)
                continue
            if self._left_out:
                lines.insert(0, f"({self._left_out} lines left out: nobody read them)")
                self._left_out = 0
            click.echo("\n".join(lines))
        self._lines.clear()

    def _is_read(self) -> bool:
        """True if a write would go through; a reader that keeps up is waited for."""
        if sys.stdout.isatty():
            return True
        patience = 0.0 if self._left_out else _PATIENCE_SECONDS
        try:
            return bool(select.select([], [sys.stdout], [], patience)[1])
        except (OSError, ValueError):
            # What is no file of the system's cannot fill up; on Windows a pipe cannot be asked.
            return True


@click.command(epilog=_EPILOG)
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What comes back about a message, and when, as TOML.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, _FASTEST, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times faster than real time.",
)
@click.option("--once", is_flag=True, help="Do all that can be done now, then exit.")
@click.option("--test-mailbox", is_flag=True, help="Serve a mailbox that has messages in IN, SENT or FAILED.")
@click.pass_context
def command(
    ctx: click.Context, rules_file: Path | None, speed: float, once: bool, test_mailbox: bool
) -> None:
    """Simulate MESH Client, MESH and practice, on the folders of the mailbox.

    Takes pairs from OUT, moves them to SENT or FAILED, and delivers reports and acknowledgements to IN, as
    the rules say. Nothing leaves this machine: never run it on a mailbox that a MESH Client serves.
    """
    settings = settings_of(ctx)
    rules = load_rules(rules_file)
    mailbox = settings.mailbox
    if not test_mailbox:
        check_unused(mailbox)
    flags = flags_in_force(rules.client, mailbox.client)
    mesh = SimulatedMesh(mailbox.id, settings.use_cases, rules, flags, speed)
    screen = _Screen()
    pause_seconds = mesh.pick_up_seconds if once else _LOOK_SECONDS
    there = next(folder for folder in (mailbox.folder, *mailbox.folder.parents) if folder.is_dir())
    # What root would put into IN, the daemon could not read.
    with host.acting_as_owner_of(there):
        make_mailbox_folders(mailbox)
        with serving(mailbox, "the simulator"):
            screen.say(f"simulating MESH at {mailbox.folder}; nothing leaves this machine")
            simulator = Simulator(mailbox, mesh, screen.say)
            _serve(simulator, screen, pause_seconds, once)
    screen.say(f"ended, with {simulator.outstanding} deliveries still to come")
    screen.flush()


def _serve(simulator: Simulator, screen: _Screen, pause_seconds: float, once: bool) -> None:
    """Work until a signal comes; with `once`, until what is in OUT now is old enough and taken."""
    stop = threading.Event()
    former = {
        number: signal.signal(number, lambda *_: stop.set())
        for name in ("SIGINT", "SIGTERM", "SIGBREAK")
        if (number := getattr(signal, name, None)) is not None
    }
    try:
        if once:
            simulator.step()
            stop.wait(pause_seconds)
            simulator.step()
            return
        blocked = ""
        while not stop.is_set():
            blocked = _try_step(simulator, screen, blocked)
            screen.flush()
            stop.wait(pause_seconds)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _try_step(simulator: Simulator, screen: _Screen, blocked: str) -> str:
    """Work on; print an error once, and return it: a share may come back."""
    try:
        simulator.step()
    except OSError as error:
        reason = f"cannot go on, {error.strerror}; trying again"
        if reason != blocked:
            screen.say(reason)
        return reason
    return ""
