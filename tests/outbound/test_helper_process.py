"""The helper process: what it is asked it does, and without it nobody waits."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshctl.outbound.helper_process import Helper, start_helper

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no helper elsewhere")
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Say:
    """An errand whose result is known."""

    word: str

    def run(self) -> object:
        return [self.word, os.getpid()]


class Break:
    """An errand that nobody can do."""

    def run(self) -> object:
        raise ValueError("9990000042")


class OpenFiles:
    """An errand that tells what the process has open."""

    def run(self) -> object:
        return [str(path.resolve()) for path in Path("/proc/self/fd").iterdir()]


@pytest.fixture(name="helper")
def _helper() -> Iterator[Helper]:
    # Whatever this machine has, the tests are of the helper itself.
    helper = start_helper() or Helper()
    yield helper
    helper.close()


def test_errands_are_run_in_order_by_another_process(helper: Helper) -> None:
    """What is asked ahead is answered in the order of asking, each by the helper."""
    for word in ("one", "two", "three"):
        helper.ask(Say(word))
    answers = [helper.answer(PATIENCE_SECONDS) for _ in range(3)]
    assert [answer[0] for answer in answers if isinstance(answer, list)] == ["one", "two", "three"]
    assert os.getpid() not in {answer[1] for answer in answers if isinstance(answer, list)}


def test_large_errands_do_not_wait_for_each_other(helper: Helper) -> None:
    """However much is asked ahead, and however long the answers are, nobody waits for ever."""
    for _ in range(4):
        helper.ask(Say("x" * 3_000_000))
    answers = [helper.answer(PATIENCE_SECONDS) for _ in range(4)]
    assert all(isinstance(answer, list) and len(answer[0]) == 3_000_000 for answer in answers)


def test_helper_that_breaks_is_gone(helper: Helper, capfd: pytest.CaptureFixture[str]) -> None:
    """An errand that fails ends the helper in silence, and every answer from then on is None."""
    helper.ask(Break())
    assert helper.answer(PATIENCE_SECONDS) is None
    helper.ask(Say("anybody"))
    assert (helper.is_there, helper.has_answered(), helper.answer(PATIENCE_SECONDS)) == (False, True, None)
    assert capfd.readouterr() == ("", "")


def test_helper_that_hangs_is_not_waited_for(helper: Helper) -> None:
    """A helper that takes too long is ended."""
    helper.ask(Say("first"))
    answer = helper.answer(PATIENCE_SECONDS)
    assert isinstance(answer, list)
    os.kill(answer[1], signal.SIGSTOP)
    for _ in range(3):
        helper.ask(Say("x" * 300_000))
    assert helper.answer(0.05) is None
    assert not helper.is_there


def test_helper_keeps_no_file_open(tmp_path: Path) -> None:
    """What this process had open, a log that is rotated away say, the helper lets go of."""
    with (tmp_path / "meshctl.log").open("w"):
        helper = Helper()
        helper.ask(OpenFiles())
        answer = helper.answer(PATIENCE_SECONDS)
        helper.close()
    assert isinstance(answer, list)
    assert answer
    assert not [path for path in answer if path.startswith(str(tmp_path))]
