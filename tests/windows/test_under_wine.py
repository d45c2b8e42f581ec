"""The project's own tests, run by the Windows Python: whole rooms, but for what `posix_only.toml` spares."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.windows.rig import NoRigError, Rig, build

# Two halves of about the same length.
HALVES = (
    ("outbound", "strangers", "inbound", "payload"),
    (
        *("daemon", "commands", "windows", "check", "platform", "files", "journal", "mesh", "settings"),
        "test_demo.py",
    ),
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
    with ThreadPoolExecutor() as halves:
        ended = list(halves.map(_run, (rig, rig.twin), HALVES))

    with capsys.disabled():
        print("", *(_summary(said) for _, said in ended), sep="\n")
    for exit_code, said in ended:
        assert exit_code == 0, said[-20_000:]
        assert " passed" in said


def _run(rig: Rig, rooms: tuple[str, ...]) -> tuple[int, str]:
    """Return the exit code of the tests in these rooms, and what pytest said."""
    options = ("-q", "-n", str(os.cpu_count() or 1), "-p", "no:cacheprovider", "--timeout", "200")
    ended = rig.run("-m", "pytest", *options, *(f"tests/{room}" for room in rooms), seconds=_SECONDS)
    return ended.returncode, ended.stdout


def _summary(said: str) -> str:
    """Return what pytest said of the tests that it skipped, and its last line."""
    skipped = re.findall(r"^SKIPPED \[\d+\].*$", said, re.MULTILINE)
    return "\n".join([*skipped, said.rstrip().rpartition("\n")[2]])
