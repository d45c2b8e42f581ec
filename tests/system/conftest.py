"""What the machines of these tests are laid over, and the wheel that they install, built once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.once import made_once
from tests.system.debian import debootstrapped
from tests.system.machine import THIS_MACHINE, skip_where_it_cannot_be
from tests.system.wheel import build_wheel

_DEBIAN = pytest.param("debootstrap", marks=[pytest.mark.long, pytest.mark.timeout(1200)])


@pytest.fixture(scope="session", name="below", params=[pytest.param("here", marks=pytest.mark.slow), _DEBIAN])
def _below(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Each test runs on this machine's own file system, and on a Debian from debootstrap."""
    if request.param == "here":
        skip_where_it_cannot_be()
        yield THIS_MACHINE
        return
    folder = tmp_path_factory.mktemp("debian")
    try:
        yield debootstrapped(folder / "tree")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session", name="wheel")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (wheel,) = made_once(tmp_path_factory, "wheel", build_wheel).glob("meshctl-*.whl")
    return wheel
