"""A site for faults: one that is readable to other users, made again for every test."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshctl.settings.layout import Mailbox, folder_layout, make_layout
from tests.faults.faulty_site import FaultySite, settings_for
from tests.site import MAILBOX_ID


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that other users may enter, as those that pytest makes may not be."""
    folder = Path(tempfile.mkdtemp(prefix="meshctl-faults-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(root: Path) -> FaultySite:
    """A site on which something is about to go wrong."""
    return make_faulty_site(root / "site")


def make_faulty_site(root: Path) -> FaultySite:
    """Make the folders of a site, and settings under which it is looked through often."""
    make_layout(folder_layout(root, Mailbox(MAILBOX_ID)), replace=False)
    site = FaultySite(root)
    site.settle(**settings_for())
    return site
