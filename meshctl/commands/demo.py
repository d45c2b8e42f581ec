"""`meshctl demo`: a day of a mailbox in under a minute."""

import signal
import sys
from contextlib import closing
from pathlib import Path

import click

from meshctl.cli import EXIT_TROUBLE
from meshctl.commands.demo_view import print_opening, print_summary, show_live, tell_plainly
from meshctl.commands.output import epilog
from meshctl.commands.tables import make_console
from meshctl.standin.demo import Demo
from meshctl.standin.sample import copy_sample, sample_folder

_EPILOG = epilog(
    {
        "meshctl demo": "in a new temporary folder, which is kept",
        "meshctl demo --folder try": "in ./try, to look around in afterwards",
    },
    {
        0: "every message came out as it should",
        1: "one did not, or the folder is not empty",
        2: "wrong usage",
        130: "interrupted",
    },
)
# What a closed terminal and a service manager send; the processes started here must not outlive the demo.
_ENDING_SIGNALS = ("SIGTERM", "SIGHUP")


@click.command(epilog=_EPILOG)
@click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to play it: a new or an empty folder. Else a new temporary one.",
)
def command(folder: Path | None) -> None:
    """Show a day of a mailbox in under a minute.

    The real daemon and a stand-in for MESH Client, MESH and practices work on a copy of the sample mailbox,
    whose days are seconds. Nothing leaves this machine, and no settings of yours are used. The folder with
    the log is kept; the last lines say where it is and how to remove it.
    """
    for name in _ENDING_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    console = make_console()
    copy = copy_sample(sample_folder(), folder)
    demo = Demo(copy)
    print_opening(copy, len(demo.script), console)
    present = show_live if sys.stdout.isatty() else tell_plainly
    with closing(demo.play()) as scenes:
        last = present(scenes, console)
    if last is not None:
        print_summary(last, demo.settings, console)
    if last is None or not last.as_written:
        raise click.exceptions.Exit(EXIT_TROUBLE)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
