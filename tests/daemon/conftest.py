"""Alerts to be told, closed after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.alerting import Alerting


@pytest.fixture
def alerting(tmp_path: Path) -> Iterator[Alerting]:
    """Alerts of a site; a test gives them a channel."""
    made = Alerting(tmp_path)
    yield made
    made.close()
