"""Every error that meshctl raises on purpose, and the exit code each one ends a command with.

Texts are for people: what was wrong, where, what to do. They never contain patient data, so callers may print
and log them as they are.
"""

import errno
import sys
from pathlib import Path


class MeshctlError(Exception):
    """An error that a person has to know about; the command ends with `exit_code`."""

    exit_code = 1


class ConfigError(MeshctlError):
    """Wrong usage or configuration: exit code 2."""

    exit_code = 2


class ClosedSettingsError(ConfigError):
    """The settings, or a file that they need, may not be read by this user.

    `outbox` is the outbox, where that much could be read.
    """

    outbox: Path | None = None


class Rejection(MeshctlError):
    """Why a dropped file cannot be sent: `code` for programs, `text` and `advice` for people."""

    def __init__(self, code: str, text: str, advice: str) -> None:
        super().__init__(f"{text} {advice}")
        self.code = code
        self.text = text
        self.advice = advice


def is_closed_pipe(error: OSError) -> bool:
    """True if the reader of standard output has gone: Windows calls that an invalid argument."""
    is_invalid = sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    return is_invalid or isinstance(error, BrokenPipeError)
