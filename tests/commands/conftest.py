"""What tests of commands share."""

from pathlib import Path

import pytest

from tests.commands.server import Server, make_server
from tests.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A mailbox with all its folders, on which the daemon has never run."""
    return make_site(tmp_path / "mesh")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server without a mailbox yet, whose folder of settings is not the machine's."""
    return make_server(tmp_path, monkeypatch)
