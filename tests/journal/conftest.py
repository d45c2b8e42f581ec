"""A log in a folder of its own, released after each test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshctl.journal.events import held_back
from meshctl.journal.log_file import release_log


@dataclass(frozen=True)
class LogSettingsForTest:
    """The settings' section `[log]`, as a test wants it."""

    file: Path
    format: str = "logfmt"
    level: str = "INFO"
    rotate_bytes: int = 0
    keep: int = 3


@pytest.fixture(autouse=True)
def _log_released() -> Iterator[None]:
    release_log()
    held_back.take()
    yield
    release_log()
    held_back.take()


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """Where the log goes; its folder does not exist yet."""
    return tmp_path / "log" / "meshctl.log"
