"""How many tests run at a time, which are slow, in which order they run, and which Windows is spared."""

import os
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.site import Site, make_site

_TESTS = Path(__file__).parent
POSIX_ONLY: dict[str, dict[str, str]] = tomllib.loads((_TESTS / "posix_only.toml").read_text("utf-8"))

# Without bytecode every process that a test starts would compile meshctl, for the tenfold time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine would miss a deadline, and be too slow. .ci/run takes the whole.
for _name, _examples in (("quick", 20), ("whole", 100)):
    settings.register_profile(
        _name, max_examples=_examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("quick")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Let `-n auto` mean two workers a processor: much of the time tests wait for processes."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _as_wide_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the COLUMNS that a test's worker inherits: output into a pipe obeys it."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> Site:
    """A mailbox with all its folders, on which the daemon has never run."""
    return make_site(tmp_path / "site")


@pytest.fixture(name="london")
def _london(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be in London, whatever the zone of the machine."""
    if sys.platform == "win32":
        pytest.skip("the zone of a process cannot be changed")
    monkeypatch.setenv("TZ", "Europe/London")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(name="interruptible")
def _interruptible() -> Iterator[None]:
    """Let SIGINT end what a test starts; a shell has it ignored by what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(name="other_file_system")
def _other_file_system(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the mailbox's."""
    memory = Path("/dev") / "shm"
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder).resolve()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the modules that import what Windows has not."""
    return True if _posix_only(collection_path, "") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases that are not in a sample as slow, and begin with the tests that may take longest."""
    for cases in _sampled(items):
        for case in cases:
            case.add_marker(pytest.mark.slow)
    items.sort(key=_seconds_allowed, reverse=True)
    for item in items:
        if reason := _posix_only(item.path, item.name.partition("[")[0]):
            item.add_marker(pytest.mark.skip(reason=f"POSIX only: {reason}"))


def _sampled(items: list[pytest.Item]) -> Iterator[list[pytest.Item]]:
    """Yield, for each test that is marked `sampled(N)`, all its cases but N, which are spread evenly."""
    sweeps: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled") is not None:
            sweeps.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in sweeps.values():
        marker = cases[0].get_closest_marker("sampled")
        assert marker is not None
        quick = {index * len(cases) // marker.args[0] for index in range(marker.args[0])}
        yield [case for index, case in enumerate(cases) if index not in quick]


def _posix_only(path: Path, test: str) -> str | None:
    """Return why Windows is spared a test, or with "" a whole module."""
    if os.name != "nt" or not path.is_relative_to(_TESTS):
        return None
    return POSIX_ONLY.get(path.relative_to(_TESTS).as_posix(), {}).get(test)


def _seconds_allowed(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None else 0.0
