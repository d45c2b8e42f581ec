"""A payload of any size is sent in little memory."""

import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.bridge import forked
from tests.bridge.mailbox import LETTER, OTHER, STEM, Mailbox
from tests.bridge.sandbox import Sandbox

_LARGE_BYTES: Final = 120_000_000


def _peak_growth_bytes(mailbox: Mailbox, told: Path) -> None:
    """Send all, and write down by how much that made the process larger at its largest."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert mailbox.send() == []
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    told.write_text(str(grown * 1024))


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox of the test's own."""
    with Sandbox(tmp_path / "sandbox") as sandbox:
        yield sandbox


@pytest.mark.slow
@pytest.mark.parametrize("allow_chunking", [True, False], ids=["chunks", "one piece"])
@pytest.mark.parametrize("compress", [True, False], ids=["compressed", "plain"])
def test_a_large_payload_takes_no_memory(
    sandbox: Sandbox, tmp_path: Path, compress: bool, allow_chunking: bool
) -> None:
    """A payload of 120 MB is sent with a few MB at most, in chunks or in one piece."""
    mailbox = Mailbox(tmp_path / "mailbox", sandbox.url)
    control = replace(LETTER, compress=compress, allow_chunking=allow_chunking)
    mailbox.put(control=control)
    os.truncate(mailbox.root / "OUT" / f"{STEM}.dat", _LARGE_BYTES)

    assert forked.run(lambda: _peak_growth_bytes(mailbox, tmp_path / "grown")) == 0

    assert int((tmp_path / "grown").read_text()) < 20_000_000
    assert mailbox.files("SENT") == [f"{STEM}.ctl", f"{STEM}.dat"]
    assert (sandbox.message(sandbox.inbox(OTHER)[0])["file_size"] == _LARGE_BYTES) is not compress
