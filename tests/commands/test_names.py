"""`meshctl -m NAME`: a mailbox of this server by its name, and what is said where there is none."""

import json
import os
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from meshctl.cli import cli
from tests.commands.server import Server


def test_a_name_stands_for_the_settings_in_the_systems_folder(server: Server) -> None:
    """-m reads the settings of that name, of several mailboxes."""
    server.add("letters")
    outbox = server.add("reports").outbox
    (outbox / "letter.xml").write_bytes(b"x")

    counted = {name: server.meshctl("-m", name, "status", "--json") for name in ("letters", "reports")}

    assert [result.exit_code for result in counted.values()] == [0, 0]
    files = {name: sum(json.loads(one.stdout)["outbox"].values()) for name, one in counted.items()}
    assert files == {"letters": 0, "reports": 1}


def test_an_unknown_name_lists_those_there_are(server: Server) -> None:
    server.add("letters")
    server.add("reports")

    result = server.meshctl("-m", "leters", "status")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "There is no mailbox leters" in result.stderr
    assert result.stderr.endswith("There are: letters, reports.\n")


def test_without_a_name_those_there_are_are_listed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no settings are meant of themselves, the person learns what can be meant."""
    monkeypatch.chdir(tmp_path)
    before = server.meshctl("status")
    server.add("letters")
    server.add("reports")

    result = server.meshctl("status")

    assert "Make one with meshctl init" in before.stderr
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("Say which mailbox of this server with -m NAME: letters, reports.\n")


def test_where_there_is_no_mailbox_it_says_how_one_is_made(server: Server) -> None:
    result = server.meshctl("-m", "letters", "status")

    assert result.exit_code == 2
    assert "There is none yet; meshctl init --system NAME makes one." in result.stderr


@pytest.mark.parametrize(
    "name", ["/etc/meshctl/letters.toml", "../x", "letters.toml", "", ".x", "a b", "a\nb"]
)
def test_what_is_no_name_is_refused_with_what_to_do(server: Server, name: str) -> None:
    """A path, an ending or odd characters name nothing: -c FILE is for files."""
    server.add("letters")

    result = server.meshctl("-m", name, "status")

    assert result.exit_code == 2
    assert "-m takes the name of a mailbox" in result.stderr
    assert "give -c FILE" in result.stderr


def test_a_name_and_a_file_are_too_much(server: Server) -> None:
    server.add("letters")

    result = server.meshctl("-c", "meshctl.toml", "-m", "letters", "status")

    assert result.exit_code == 2
    assert "Give either -c FILE or -m NAME, not both." in result.stderr


def test_a_name_counts_before_the_variable(server: Server) -> None:
    """$MESHCTL_CONFIG names another file; -m is what was typed."""
    server.add("letters")
    server.environ["MESHCTL_CONFIG"] = os.devnull

    assert server.meshctl("-m", "letters", "status", "--json").exit_code == 0


def test_the_shell_completes_names(server: Server) -> None:
    """Only names that -m takes are offered."""
    for name in ("letters", "letters-2", "reports"):
        server.add(name)
    server.write("letters 3", "")
    completion = ShellComplete(cli, {}, "meshctl", "_MESHCTL_COMPLETE")

    offered = completion.get_completions(["-m"], "let")

    assert [item.value for item in offered] == ["letters", "letters-2"]


def test_without_the_folder_nothing_is_offered(server: Server, tmp_path: Path) -> None:
    server.folder.rename(tmp_path / "elsewhere")

    assert ShellComplete(cli, {}, "meshctl", "_MESHCTL_COMPLETE").get_completions(["-m"], "") == []
