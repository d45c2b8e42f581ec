"""Tables for people: as wide as the terminal, coloured only there and not under NO_COLOR.

Never interprets a value: control characters become visible, and markup in a file name stays text.
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import IO, TextIO, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from meshctl.journal.masking import escape_unprintable

# Wide enough that nothing is cut or folded when the output goes to a file or another program.
_WIDTH_WITHOUT_TERMINAL = 10_000
_TRAILING_BLANKS = re.compile(r"[ \t]+$", re.MULTILINE)


class _WithoutTrailingBlanks:
    """A text stream that drops the blanks with which tables are filled up; the console writes whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        return self._stream.write(_TRAILING_BLANKS.sub("", text))

    def flush(self) -> None:
        """Pass on what was written."""
        self._stream.flush()


class _Console(Console):
    """A console that leaves the end of a broken pipe to the command line, as all other output does."""

    def on_broken_pipe(self) -> None:
        """Pass on that the reader has gone."""
        raise BrokenPipeError


def make_console() -> Console:
    """Return a console on the present stdout; colours follow the terminal and NO_COLOR.

    It is as wide as the terminal, or as COLUMNS says. Into a pipe or a file without COLUMNS nothing is
    folded, so that grep finds whole lines.
    """
    if sys.stdout.isatty():
        return _Console(highlight=False, markup=False, emoji=False)
    columns = os.environ.get("COLUMNS", "")
    # Nothing fits into no columns: 0 is how some programs say that they do not know.
    width = (int(columns) if columns.isdecimal() else 0) or _WIDTH_WITHOUT_TERMINAL
    stream = cast("IO[str]", _WithoutTrailingBlanks(sys.stdout))
    return _Console(highlight=False, markup=False, emoji=False, width=width, file=stream)


def plain_text(value: object, style: str = "") -> Text:
    """Return a value as text to show: None is a dash, nothing in it is interpreted."""
    return Text("-" if value is None or value == "" else escape_unprintable(str(value)), style=style)


def make_table(
    headings: Sequence[str], rows: Iterable[Sequence[object | Text]], title: str | None = None
) -> Table:
    """Return a table; a cell that is a `Text` keeps its style, any other value is shown as it is."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else plain_text(cell) for cell in row))
    return table


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[object | Text]], title: str | None = None
) -> None:
    """Print a table on stdout."""
    make_console().print(make_table(headings, rows, title))
