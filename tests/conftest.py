"""How many tests run at a time, in which order they begin, and how wide their output is."""

import os

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Let `-n auto` mean two workers a processor: much of the time tests wait for processes."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _as_wide_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the COLUMNS that a test's worker inherits: output into a pipe obeys it."""
    monkeypatch.delenv("COLUMNS", raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that may take longest, so that no worker is left with one in the end."""
    items.sort(key=_seconds_allowed, reverse=True)


def _seconds_allowed(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None else 0.0
