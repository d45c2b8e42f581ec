"""How commands speak to programs and to people: one JSON document, relative times, help with examples.

Tables are in `meshctl.terminal.views`, which takes longer to load.
"""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePath

import click

from meshctl.clock import iso
from meshctl.journal.masking import escape_unprintable, mask_numbers

_STEPS = ((86_400 * 2, 86_400, "d"), (3_600 * 2, 3_600, "h"), (60 * 2, 60, "min"), (10, 1, "s"))


def print_json(value: object) -> None:
    """Print `value` as one JSON document. Instants become ISO 8601 UTC, paths text.

    ASCII only, so that a file name that is not UTF-8 cannot break the document.
    """
    click.echo(json.dumps(value, indent=2, default=_plain))


def relative_time(at: datetime, now: datetime) -> str:
    """Return how long before or after `now` an instant is: "just now", "5 min ago", "in 3 d"."""
    seconds = (now - at).total_seconds()
    for least, size, unit in _STEPS:
        if abs(seconds) >= least:
            span = f"{int(abs(seconds) // size)} {unit}"
            return f"{span} ago" if seconds > 0 else f"in {span}"
    return "just now"


def local_time(at: datetime, *, milliseconds: bool = False) -> str:
    """Return an instant in this computer's zone, and the zone: "2026-11-22 09:15:02 GMT"."""
    local = at.astimezone()
    fraction = f".{local.microsecond // 1000:03d}" if milliseconds else ""
    return f"{local:%Y-%m-%d %H:%M:%S}{fraction} {local:%Z}"


class Times(StrEnum):
    """How a command shows instants to a person."""

    RELATIVE = "relative"
    """How long ago: "12 min ago"."""
    BOTH = "both"
    """The local time and how long ago: "2026-11-22 09:15:02 GMT, 12 min ago"."""
    EXACT = "exact"
    """As in the log: ISO 8601 UTC."""

    def text(self, at: datetime, now: datetime) -> str:
        """Return an instant as it is shown at `now`."""
        if self is Times.EXACT:
            return iso(at)
        ago = relative_time(at, now)
        return ago if self is Times.RELATIVE else f"{local_time(at)}, {ago}"


def epilog(examples: Mapping[str, str], exit_codes: Mapping[int, str]) -> str:
    """Return the end of a command's help: examples with what each does, and exit codes."""
    lines = ["\b", "Examples:"]
    for line, meaning in examples.items():
        lines += [f"  {line}", f"      {meaning}"]
    lines += ["", "\b", "Exit codes:"]
    lines += [f"  {code}  {meaning}" for code, meaning in exit_codes.items()]
    return "\n".join(lines)


def os_error_text(error: OSError) -> str:
    """Return what the operating system refused, with file names made safe to show."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    shown = " and ".join(escape_unprintable(mask_numbers(name)) for name in names)
    reason = error.strerror or type(error).__name__
    return f"{shown}: {reason}." if shown else f"{reason}."


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value.astimezone(UTC))
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"no JSON for a {type(value).__name__}")


def has_terminal() -> bool:
    """True if standard error is a terminal; a Windows service has no standard error."""
    return sys.stderr is not None and sys.stderr.isatty()
