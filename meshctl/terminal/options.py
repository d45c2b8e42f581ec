"""Options of several commands: the keys of a sidecar, `--since`, and values that are asked for."""

import functools
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from meshctl.clock import now
from meshctl.payload.sidecar import KEYS, nested
from meshctl.payload.sidecar_reader import read_sidecar
from meshctl.settings.types import parse_duration
from meshctl.terminal.output import Times


def parse_since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Return the instant that an option names, as a click callback does; None when it was not given.

    "2h" and "1d" mean that long ago; "2026-11-22" and "2026-11-22T09:15" are local unless they have a zone.
    """
    if value is None:
        return None
    try:
        return now() - parse_duration(value)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "give how long ago, such as 90m, 2h or 1d, or a date and time, such as 2026-11-22 or "
            "2026-11-22T09:15."
        ) from None


def times_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --times and --exact; it gets `times`, which is relative when neither was given."""

    @functools.wraps(command)
    def with_times(*, beside: bool, exact: bool, **arguments: Any) -> None:
        if beside and exact:
            raise click.UsageError("Give either --times or --exact, not both.")
        command(times=Times.EXACT if exact else Times.BOTH if beside else Times.RELATIVE, **arguments)

    decorated: Callable[..., None] = with_times
    decorated = click.option("--exact", is_flag=True, help=EXACT_HELP)(decorated)
    return click.option("--times", "beside", is_flag=True, help="Show local times and their zone, too.")(
        decorated
    )


EXACT_HELP = "Show exact times (UTC), as in the log."


def private(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Return an option's value, as a click callback does; `-` asks at the terminal, or reads the next line.

    What is on a command line is visible in the process list and in the shell's history.
    """
    if value != "-":
        return value
    if sys.stdin.isatty():
        name = (param.name or "").replace("_", " ").capitalize().replace("Nhs", "NHS")
        return str(click.prompt(name, err=True))
    # PowerShell may begin what it pipes with a byte order mark.
    return sys.stdin.readline().strip().removeprefix("\ufeff").removeprefix("\u00ef\u00bb\u00bf")


def sidecar_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a sidecar's keys; it gets `sidecar`, None when none of them was given."""

    @functools.wraps(command)
    def with_sidecar(**arguments: Any) -> None:
        given = {name: value for name in options if (value := arguments.pop(_parameter(name))) is not None}
        # Through the sidecar's own reader, so that an option is rejected as the key would be.
        sidecar = read_sidecar(json.dumps(nested(given)).encode()) if given else None
        command(sidecar=sidecar, **arguments)

    options = {name: key.option for name, key in KEYS.items() if key.option is not None}
    decorated: Callable[..., None] = with_sidecar
    for name, option in reversed(options.items()):
        flag, _, metavar = option.partition(" ")
        decorated = click.option(
            flag,
            _parameter(name),
            metavar=metavar or None,
            is_flag=not metavar,
            default=None,
            help=KEYS[name].field.description,
        )(decorated)
    return decorated


def _parameter(key: str) -> str:
    return key.replace(".", "__")
