"""A terminal for a command to write to, and what it then shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.site import Site

if sys.platform != "win32":
    import pty

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Screen:
    """A command that runs on a terminal of its own."""

    process: "subprocess.Popen[bytes]"
    descriptor: int
    shown: str = ""

    def read_until(self, awaited: str) -> str:
        """Return what has been shown once the pattern is found in it."""
        while not re.search(awaited, self.shown):
            self.shown += os.read(self.descriptor, 4096).decode(errors="replace")
        return self.shown

    def read_all(self) -> str:
        """Return, without colours, what the command has shown until it ended."""
        while True:
            try:
                some = os.read(self.descriptor, 4096)
            except OSError:
                # The last writer has gone.
                some = b""
            if not some:
                self.process.wait(timeout=240)
                return _COLOUR.sub("", self.shown)
            self.shown += some.decode(errors="replace")


@contextmanager
def on_terminal(site: Site, *arguments: str, columns: int = 100, **environ: str) -> Iterator[Screen]:
    """Run a command on a terminal of so many columns, standard error included."""
    descriptor, terminal = pty.openpty()
    process = subprocess.Popen(
        site.command(*arguments),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=site.process_environ() | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "40", **environ},
    )
    os.close(terminal)
    try:
        yield Screen(process, descriptor)
    finally:
        process.kill()
        process.wait(timeout=240)
        os.close(descriptor)
