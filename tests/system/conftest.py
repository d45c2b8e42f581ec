"""The wheel that the machines of these tests install, built once."""

from pathlib import Path

import pytest

from tests.system.machine import skip_where_it_cannot_be
from tests.system.wheel import build_wheel


@pytest.fixture(scope="session", name="wheel")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_where_it_cannot_be()
    return build_wheel(tmp_path_factory.mktemp("wheel"))
