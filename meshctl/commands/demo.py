"""`meshctl demo`: a day of a mailbox in under a minute."""

import signal
import sys
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console

from meshctl.settings.model import Settings
from meshctl.simulator.demo import Demo, Scene, copy_sample, new_folder, sample_folder
from meshctl.simulator.sandbox_demo import Exchange, require_sandbox
from meshctl.terminal.demo import (
    print_opening,
    print_opening_over_sandbox,
    print_plainly,
    print_summary,
    show_live,
)
from meshctl.terminal.output import epilog
from meshctl.terminal.views import make_console

_EPILOG = epilog(
    {
        "meshctl demo": "in a new temporary folder, which is kept",
        "meshctl demo --folder try": "in ./try, to look at afterwards",
        "meshctl demo --sandbox": "a letter from site to site over NHS England's own MESH sandbox",
    },
    {
        0: "every message ended as it should",
        1: "one did not, or the folder is not empty",
        2: "wrong usage, or packages that --sandbox needs are missing",
        130: "interrupted",
    },
)
# From a closed terminal or a service manager: the processes started here must not outlive the demo.
_ENDING_SIGNALS = ("SIGTERM", "SIGHUP")


@click.command(epilog=_EPILOG)
@click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to run it: a new or empty folder. Default: a new temporary folder.",
)
@click.option(
    "--sandbox",
    is_flag=True,
    help="Use two sites, each with daemon and bridge, and NHS England's mesh-sandbox on this machine.",
)
def command(folder: Path | None, sandbox: bool) -> None:
    """Show a day of a mailbox in under a minute.

    The real daemon and a simulator of MESH Client, MESH and practices work on a copy of the sample mailbox,
    in which a day takes seconds. Nothing leaves this machine, and your settings are not used. The folder with
    the log is kept; the last lines say where it is and how to remove it.

    With --sandbox, letters go over the MESH API from one site to another, and acknowledgements come back.
    """
    for name in _ENDING_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    console = make_console()
    last = _play_over_sandbox(folder, console) if sandbox else _play(folder, console)
    if last is None or not last.as_written:
        raise click.exceptions.Exit(1)


def _play(folder: Path | None, console: Console) -> Scene | None:
    copy = copy_sample(sample_folder(), folder)
    demo = Demo(copy)
    print_opening(copy, len(demo.script), console)
    return _present(demo, demo.settings, copy, console)


def _play_over_sandbox(folder: Path | None, console: Console) -> Scene | None:
    require_sandbox()
    target = new_folder(folder)
    exchange = Exchange(target)
    print_opening_over_sandbox(target, len(exchange.script), console)
    last = _present(exchange, exchange.sender, target, console)
    if last is not None:
        console.print(f"Bridge:      {exchange.sender.bridge.log}", soft_wrap=True)
    return last


def _present(play: Demo | Exchange, settings: Settings, folder: Path, console: Console) -> Scene | None:
    """Play to the end, and sum up; return the last scene."""
    with closing(play.play()) as scenes:
        last = show_live(scenes, console) if sys.stdout.isatty() else print_plainly(scenes, console)
    if last is not None:
        print_summary(last, settings, folder, console)
    return last


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
