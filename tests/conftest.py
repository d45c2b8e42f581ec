"""How many tests run at a time, in which order, which of them Windows is spared, and how wide output is."""

import os
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

_TESTS = Path(__file__).parent
POSIX_ONLY: dict[str, dict[str, str]] = tomllib.loads((_TESTS / "posix_only.toml").read_text("utf-8"))

if os.name == "nt":
    # What is drawn at random has no system in it; Wine takes five times as long.
    settings.register_profile("windows", max_examples=25)
    settings.load_profile("windows")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Let `-n auto` mean two workers a processor: much of the time tests wait for processes."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _as_wide_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the COLUMNS that a test's worker inherits: output into a pipe obeys it."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(name="interruptible")
def _interruptible() -> Iterator[None]:
    """Let SIGINT end what a test starts; a shell has it ignored by what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the modules that import what Windows has not."""
    return True if _posix_only(collection_path, "") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that may take longest, so that no worker is left with one in the end."""
    items.sort(key=_seconds_allowed, reverse=True)
    for item in items:
        if reason := _posix_only(item.path, item.name.partition("[")[0]):
            item.add_marker(pytest.mark.skip(reason=f"POSIX only: {reason}"))


def _posix_only(path: Path, test: str) -> str | None:
    """Return why Windows is spared a test, or with "" a whole module."""
    if os.name != "nt" or not path.is_relative_to(_TESTS):
        return None
    return POSIX_ONLY.get(path.relative_to(_TESTS).as_posix(), {}).get(test)


def _seconds_allowed(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None else 0.0
