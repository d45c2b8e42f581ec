"""A mailbox of its own for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.inbound.inbound_site import InboundSite


@pytest.fixture
def open_mailbox(tmp_path: Path) -> Iterator[Callable[..., InboundSite]]:
    """Open mailboxes with settings of their own, and close them after the test."""
    opened: list[InboundSite] = []

    def _open(settings_text: str = "", client_config: str | None = None) -> InboundSite:
        root = tmp_path / f"site{len(opened)}"
        root.mkdir()
        opened.append(InboundSite(root, settings_text, client_config))
        return opened[-1]

    yield _open
    for mailbox in opened:
        mailbox.close()


@pytest.fixture
def mailbox(open_mailbox: Callable[..., InboundSite]) -> InboundSite:
    """A mailbox with default settings."""
    return open_mailbox()
