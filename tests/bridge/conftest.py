"""One sandbox for all tests that do not stop it: its start takes a second."""

from collections.abc import Iterator

import pytest

from tests.bridge.sandbox import Sandbox


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_running: Sandbox) -> Sandbox:
    """A sandbox without messages."""
    _running.reset()
    return _running
