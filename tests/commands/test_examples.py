"""The examples in each command's help can be typed, and name what there is."""

import itertools
import shlex
from collections.abc import Iterator

import click
import pytest

from meshctl.cli import COMMANDS, cli
from meshctl.mesh.use_cases import shipped_use_cases

_NAMES = [name for entries in COMMANDS.values() for name in entries]
_JUDGES = ("send", "control")


def _command(name: str) -> click.Command:
    assert isinstance(cli, click.Group)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def _examples(name: str) -> Iterator[list[str]]:
    """Yield the words of each example that is this command alone, after its name."""
    for line in (_command(name).epilog or "").split("\n"):
        words = shlex.split(line.partition(" | ")[0]) if line.startswith("  meshctl ") else []
        if words[1:2] in (["-c"], ["-m"]):
            del words[1:3]
        if words[1:2] == [name]:
            yield words[2:]


def _values(words: list[str], option: str) -> list[str]:
    return [value for before, value in itertools.pairwise(words) if before == option]


@pytest.mark.parametrize("name", _NAMES)
def test_its_use_cases_are_in_the_table(name: str) -> None:
    for words in _examples(name):
        assert set(_values(words, "--use-case")) <= set(shipped_use_cases()), words


@pytest.mark.parametrize("name", _JUDGES)
def test_a_document_has_its_use_case(name: str) -> None:
    """A file that says nothing of itself and gets a sidecar from options gets its use case, too."""
    examples = [words for words in _examples(name) if "--nhs-number" in words]

    assert examples
    for words in examples:
        assert _values(words, "--use-case"), words
