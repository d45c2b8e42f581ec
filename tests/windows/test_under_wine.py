"""The project's own tests, run by two Windows Pythons: rooms, but for what is alike and `posix_only.toml`."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.windows.rig import NEWEST, OLDEST, TOP, NoRigError, Rig, build

# What CPython does in another way since 3.12.4, the rights of a folder that it makes, is tried with both.
RIGHTS = ("platform", "files", "windows/test_access_lists.py")
CHECKS = (
    *(f"check/test_{name}.py" for name in ("access_lists", "healthy")),
    "check/test_broken.py::test_a_fault_of_an_access_list_is_named_with_its_remedy",
)
# Parts of about the same length.
OF_OLDEST = (
    ("outbound", "strangers", "inbound"),
    ("daemon", "commands", *CHECKS, "journal/test_file.py", "settings", "test_demo.py", *RIGHTS),
)
# What is read, decided and said is the same on every system, as are payloads and control files: their tests
# are left out. Of each kind of file and command some stay.
ALIKE = (
    *(f"outbound/test_{name}.py" for name in ("hl7", "wrap", "cda", "compose", "documents", "index")),
    *(f"outbound/test_hl7_{name}.py" for name in ("versions", "results", "chains")),
    *(f"inbound/test_{name}.py" for name in ("many", "itk2", "orders", "report", "acknowledgement")),
    *(f"inbound/test_{name}.py" for name in ("believed", "deadlines", "match", "date_formats", "client")),
    *(f"commands/test_{name}.py" for name in ("resend", "report", "list", "show", "find", "control")),
    *(f"commands/test_{name}.py" for name in ("status", "output", "every_mailbox", "examples", "alert")),
    *(f"daemon/test_{name}.py" for name in ("alerts", "alert_mail", "alerts_kept", "clock_guard")),
    *(f"daemon/test_{name}.py" for name in ("metrics", "obstacles", "wake_ups")),
)
OF_NEWEST = ("windows", "platform", "files")
# A busy machine takes three times what two idle cores do.
_SECONDS = 1800


@pytest.fixture(scope="module")
def oldest() -> Rig:
    return _built(OLDEST)


@pytest.fixture(scope="module")
def newest() -> Rig:
    return _built(NEWEST)


def _built(version: str) -> Rig:
    try:
        return build(version)
    except NoRigError as error:
        pytest.skip(str(error))


@pytest.mark.windows
@pytest.mark.timeout(_SECONDS + 300)
def test_the_suites_pass_on_windows(oldest: Rig, newest: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Every test passes that is not spared, those of rights with both Pythons; their number is said."""
    with ThreadPoolExecutor() as parts:
        ended = list(parts.map(_run, (oldest, oldest.twin, newest), (*OF_OLDEST, OF_NEWEST)))

    with capsys.disabled():
        print("", *(_summary(said) for _, said in ended), sep="\n")
    for exit_code, said in ended:
        assert exit_code == 0, said[-20_000:]
        assert " passed" in said


def test_what_is_left_out_is_there() -> None:
    """A test that was renamed would be run again, and time with it."""
    assert [name for name in ALIKE if not (TOP / "tests" / name).is_file()] == []


def _run(rig: Rig, rooms: tuple[str, ...]) -> tuple[int, str]:
    """Return the exit code of the tests in these rooms, and what pytest said."""
    options = ("-q", "-n", str(os.cpu_count() or 1), "-p", "no:cacheprovider", "--timeout", "200")
    left_out = (f"--ignore=tests/{name}" for name in ALIKE)
    ended = rig.run(
        "-m", "pytest", *options, *left_out, *(f"tests/{room}" for room in rooms), seconds=_SECONDS
    )
    return ended.returncode, ended.stdout


def _summary(said: str) -> str:
    """Return what pytest said of the tests that it skipped, and its last line."""
    skipped = re.findall(r"^SKIPPED \[\d+\].*$", said, re.MULTILINE)
    return "\n".join([*skipped, said.rstrip().rpartition("\n")[2]])
