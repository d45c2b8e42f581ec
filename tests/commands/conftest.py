"""What tests of commands share."""

from pathlib import Path

import pytest

from tests.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A mailbox with all its folders, on which the daemon has never run."""
    return make_site(tmp_path / "mesh")
