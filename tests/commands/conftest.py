"""What tests of commands share."""

from pathlib import Path

import pytest

from tests.commands.server import Server, make_server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server without a mailbox yet, whose folder of settings is not the machine's."""
    return make_server(tmp_path, monkeypatch)
