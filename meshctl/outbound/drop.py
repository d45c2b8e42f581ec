"""Putting a file into the outbox the safe way: complete before it is seen, sidecar first, never replacing.

A file is copied under a hidden name, which scans ignore, made durable, and renamed. The hidden name is made
of the final one and must be new, so that two who drop `letter.pdf` at once cannot both take that name.
Whoever dies on the way leaves a hidden file, never half a payload and never a payload without its sidecar.
"""

import os
import secrets
import shutil
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO, Final

from meshctl.files import durable
from meshctl.outbound.names import SIDECAR_SUFFIX, NameRules, numbered
from meshctl.platform import system

HIDDEN_PREFIX: Final = ".meshctl-"
"""What the names of files on their way begin with; scans ignore them."""

# The daemon may run as another user of the outbox's group; nobody else is to read a patient's letter.
_MODE = 0o640
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_COPY_CHUNK_BYTES = 1 << 20


def place(
    source: str,
    folder: str,
    name: str,
    sidecar: bytes | None,
    names: NameRules,
    check: Callable[[str, str], None],
) -> str:
    """Copy a file into an outbox folder as `name`, or with a number where that is taken; return the name.

    `check` hears of folder and hidden name once the copy is complete; what it raises puts an end to it, and
    nothing stays behind. Raises Rejection for a name, numbered or not, that is never sent; OSError.
    """
    with open(source, "rb", opener=lambda path, _: system.open_file(path, system.READ)) as reader:
        return _place(reader, folder, name, sidecar, names, check)


def place_data(data: bytes, folder: str, name: str, sidecar: bytes, names: NameRules) -> str:
    """Put a file of our own into an outbox folder as `place` does."""
    return _place(BytesIO(data), folder, name, sidecar, names, lambda _folder, _name: None)


def _place(
    reader: BinaryIO,
    folder: str,
    name: str,
    sidecar: bytes | None,
    names: NameRules,
    check: Callable[[str, str], None],
) -> str:
    for candidate in numbered(name):
        names.check_taken(candidate)
        if _placed_as(candidate, reader, folder, sidecar, check):
            break
    return candidate


def _placed_as(
    name: str, reader: BinaryIO, folder: str, sidecar: bytes | None, check: Callable[[str, str], None]
) -> bool:
    """Try to place the file under one name; False when that is taken."""
    hidden = f"{folder}/{HIDDEN_PREFIX}{name}"
    try:
        descriptor = system.open_file(hidden, _NEW, _MODE)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as writer:
            if _is_taken(folder, name):
                return False
            reader.seek(0)
            shutil.copyfileobj(reader, writer, _COPY_CHUNK_BYTES)
            writer.flush()
            os.fsync(writer.fileno())
        check(folder, HIDDEN_PREFIX + name)
        _show(hidden, f"{folder}/{name}", sidecar)
    except FileExistsError:
        return False
    finally:
        system.unlink_if_there(hidden)
    durable.sync_folder(folder)
    return True


def _show(hidden: str, target: str, sidecar: bytes | None) -> None:
    """Bring sidecar and file under their names. Raises FileExistsError when one of them is taken."""
    if sidecar is not None:
        _show_sidecar(target + SIDECAR_SUFFIX, sidecar)
    try:
        system.rename_new(hidden, target)
    finally:
        if sidecar is not None and os.path.lexists(hidden):
            # The file did not get there, and another one of that name must not find our sidecar.
            system.unlink_if_there(target + SIDECAR_SUFFIX)


def _show_sidecar(target: str, sidecar: bytes) -> None:
    # Not made of the name, which may be so long that both endings do not fit.
    hidden = f"{os.path.dirname(target)}/{HIDDEN_PREFIX}{secrets.token_hex(8)}"
    try:
        durable.write_new(hidden, sidecar, _MODE)
        durable.sync_file(hidden)
        system.rename_new(hidden, target)
    finally:
        system.unlink_if_there(hidden)


def _is_taken(folder: str, name: str) -> bool:
    return os.path.lexists(f"{folder}/{name}") or os.path.lexists(f"{folder}/{name}{SIDECAR_SUFFIX}")
