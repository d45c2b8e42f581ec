"""Writing a file anew so that whoever reads it sees the old one or the new one, never a part.

The new content goes to a hidden file beside it, which is renamed over it.
"""

import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Write `data` to `path`, which may exist, with the permissions `mode`. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
