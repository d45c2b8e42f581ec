"""Small files in the state folder by which the daemon lets other programs know how it is doing.

Each has one size, so that on a full disk it can be written over in place. They can be made again, so they
are not durable: what a power cut leaves is no note. Only the holder of the lock writes them.
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from meshctl.files.durable import replace_file
from meshctl.files.reading import read_regular
from meshctl.platform import system

NOTE_BYTES: Final = 8192
"""The size of a note, of which the content may be shorter."""

_MODE: Final = 0o600
# One that is being written over in place is whole a moment later.
_TRIES, _PAUSE_SECONDS = 3, 0.02


def write_note(path: Path, content: object) -> None:
    """Write content as JSON. Raises OSError; ValueError if it is longer than a note."""
    text = json.dumps(content)
    if len(text) > NOTE_BYTES:
        raise ValueError(f"a note of {len(text)} characters")
    # Without another character than ASCII's, a character is a byte.
    data = text.ljust(NOTE_BYTES).encode()
    try:
        replace_file(path, data, _MODE)
    except OSError:
        # No room for a second file; the first one has the room that it needs.
        descriptor = system.open_file(path, system.WRITE_OVER)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


def read_note(path: Path) -> Any:
    """Return the content of a note; None if there is none, or if it is not one. Raises PermissionError."""
    for _ in range(_TRIES):
        with suppress(ValueError):
            try:
                return json.loads(read_regular(path, NOTE_BYTES))
            except OSError as error:
                # Windows lets nobody open a file in the instant in which it is renamed.
                if not system.is_held_open(error):
                    if isinstance(error, PermissionError):
                        raise
                    return None
        time.sleep(_PAUSE_SECONDS)
    return None
