"""The project's own tests, run by the Windows Python: whole rooms, but for what `posix_only.toml` spares."""

import os
import re

import pytest

from tests.windows.rig import NoRigError, Rig, build

ROOMS = (
    *("mesh", "payload", "settings", "files", "log", "checks", "outbound", "inbound", "process", "commands"),
    *("windows", "test_demo.py"),
)
_SECONDS = 900


@pytest.fixture(scope="module")
def rig() -> Rig:
    try:
        return build()
    except NoRigError as error:
        pytest.skip(str(error))


@pytest.mark.windows
@pytest.mark.timeout(_SECONDS + 300)
def test_the_suites_pass_on_windows(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Every test passes that is not spared; how many there were is said."""
    workers = str(2 * (os.cpu_count() or 1))
    options = ("-q", "-n", workers, "-p", "no:cacheprovider", "--timeout", "200")
    ended = rig.run("-m", "pytest", *options, *(f"tests/{room}" for room in ROOMS), seconds=_SECONDS)

    said = ended.stdout
    with capsys.disabled():
        print(f"\n{_summary(said)}")
    assert ended.returncode == 0, said[-20_000:]
    assert " passed" in said


def _summary(said: str) -> str:
    """Return what pytest said of the tests that it skipped, and its last line."""
    skipped = re.findall(r"^SKIPPED \[\d+\].*$", said, re.MULTILINE)
    return "\n".join([*skipped, said.rstrip().rpartition("\n")[2]])
