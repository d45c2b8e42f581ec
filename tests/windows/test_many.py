"""Ten thousand files at once."""

from pathlib import Path

import pytest

from tests.invariants import check_invariants
from tests.site import make_site
from tests.windows.letters import drop_backlog

_FILES = 10_000


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ten_thousand_files(tmp_path: Path) -> None:
    """Each is in OUT once."""
    site = make_site(tmp_path / "site")
    drop_backlog(site, _FILES)

    with site.daemon() as daemon:
        daemon.wait_for_pairs(_FILES, 1000)

    check_invariants(site)
