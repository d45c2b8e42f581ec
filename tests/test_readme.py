"""The README and its pages are true: its tables, commands, examples, keys and names are those of the code."""

import re
import shlex
from pathlib import Path

import click
import pytest

from meshctl.cli import cli
from meshctl.journal.events import event_table
from meshctl.journal.lines import parse_line
from meshctl.mesh.states import State
from meshctl.outbound.names import NameKind, NameRules
from meshctl.payload.index import read_index
from meshctl.payload.sidecar_reader import read_sidecar
from meshctl.settings.layout import Mailbox, folder_layout, make_layout
from meshctl.settings.load import load_settings
from meshctl.settings.model import StagingSettings
from tests.readme_tables import (
    INBOUND_PAGE,
    OUTBOUND_PAGE,
    PAGES,
    PAYLOAD_PAGE,
    README,
    code_blocks,
    section,
    stale_pages,
)

TEXT = README.read_text(encoding="utf-8")
ALL_PAGES = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
PAYLOAD_TEXT = PAYLOAD_PAGE.read_text(encoding="utf-8")
OUTBOUND_TEXT = OUTBOUND_PAGE.read_text(encoding="utf-8")
MOST_LINES = 180
CELL = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def _commands() -> list[str]:
    """Return every line that begins with `meshctl` in the pages' blocks and in their prose."""
    shells = ("sh", "bat", "powershell")
    blocks = [block for shell in shells for block in code_blocks(ALL_PAGES, shell)]
    shell = [line for block in blocks for line in block.splitlines()]
    prose = re.findall(r"`(meshctl [^`]+)`", ALL_PAGES)
    by_sudo = re.findall(r"/usr/local/bin/(meshctl -.*|meshctl check.*)$", ALL_PAGES, re.MULTILINE)
    typed = [line.removesuffix(" &").removesuffix(" | more") for line in (*shell, *prose, *by_sudo)]
    lines = [line for line in typed if re.match(r"meshctl (?!--version$)", line)]
    return [line for line in dict.fromkeys(lines) if not re.search(r" (COMMAND|ID|CODE)\b", line)]


def test_tables_are_those_of_the_code() -> None:
    """`python -m tests.readme_tables` renews them."""
    assert stale_pages() == []


def test_the_readme_is_read_in_one_sitting() -> None:
    """What is only for a server, for the bridge or for developers stands on a page of its own."""
    assert len(TEXT.splitlines()) <= MOST_LINES


def test_newcomer_is_told_two_commands() -> None:
    """The first block has two lines, the demo and the tests, which .ci/run runs as they stand."""
    first, second = code_blocks(TEXT, "sh")[0].splitlines()

    assert first.endswith("&& .venv/bin/meshctl demo")
    assert second == ".venv/bin/pytest -n auto"


@pytest.mark.parametrize("line", _commands())
def test_every_command_line_can_be_typed(line: str) -> None:
    """Each command line in the README has options and arguments that meshctl takes."""
    assert isinstance(cli, click.Group)
    words = shlex.split(line)[1:]
    if words[:1] in (["-c"], ["-m"]):
        words = words[2:]
    name, *arguments = words
    parent = click.Context(cli, info_name="meshctl")
    command = cli.get_command(parent, name)

    assert command is not None, f"no command {name}"
    command.make_context(name, arguments, parent=parent).close()


def test_sidecar_example_is_a_sidecar() -> None:
    """The sidecars in the pages are ones that meshctl reads."""
    examples = code_blocks(TEXT, "json") + code_blocks(PAYLOAD_TEXT, "json")
    letter, first, document = (read_sidecar(example.encode()) for example in examples)

    assert letter.use_case == first.use_case == "send-document"
    assert document.document is not None
    assert document.document.author is not None


def test_index_example_is_an_index() -> None:
    """The index in the pages is one that meshctl reads."""
    (example,) = set(code_blocks(TEXT, "csv") + code_blocks(PAYLOAD_TEXT, "csv"))

    (row,) = read_index(example.encode(), NameRules(StagingSettings()).check_named)
    assert row.rejection is None
    assert read_sidecar(row.sidecar).document is not None


def test_states_are_those_of_the_ledger() -> None:
    """The table of states has every state, in order, and no other."""
    assert CELL.findall(INBOUND_PAGE.read_text(encoding="utf-8")) == [state.value for state in State]


def test_folders_are_those_that_init_makes() -> None:
    """The table of folders has each folder of our own that `init` makes."""
    folders = CELL.findall(section(OUTBOUND_TEXT, "Folders"))
    made = folder_layout(Path("/srv/mesh"), Mailbox("X26ABC1")).folders
    ours = {path.name for path in made if path.parent == Path("/srv/mesh")} - {"mailbox"}

    assert ours <= {name.rstrip("/") for name in folders}


def test_ignored_names_are_those_that_are_ignored() -> None:
    """What the README calls names that are never taken are such names, each of its kind."""
    told = section(OUTBOUND_TEXT, "When a file counts as complete")
    kinds = dict(re.findall(r"^- \*\*(unfinished|left over)\*\*: (.*?)[;.]$", told, re.MULTILINE | re.DOTALL))
    rules = NameRules(StagingSettings())

    for title, kind in (("unfinished", NameKind.UNFINISHED), ("left over", NameKind.LEFT_OVER)):
        quoted = [one for one in re.findall(r"`([^`]+)`", kinds[title]) if len(one) > 1]
        names = [f"letter{one}" if one[0] == "." else one.replace("NAME", "letter") for one in quoted]
        assert len(names) >= 10
        assert {rules.kind_of(name) for name in names} == {kind}
    assert {rules.kind_of(f"{start}letter.xml") for start in ".~"} == {NameKind.UNFINISHED}


def test_log_line_is_one_of_the_log() -> None:
    """The line shown as an example of the log is one that the log's reader takes apart."""
    (line,) = re.findall(r"^    (\d{4}-.*)$", TEXT, re.MULTILINE)

    entry = parse_line(line)

    assert entry.event == "message.queued"
    assert entry.values["file"] == "letter.pdf"


@pytest.mark.parametrize("block", code_blocks(ALL_PAGES, "toml"))
def test_settings_shown_are_settings(block: str, tmp_path: Path) -> None:
    """Each piece of a settings file in the README is one that meshctl takes."""
    make_layout(folder_layout(tmp_path, Mailbox("X26ABC1")), replace=False)
    mailbox = "[mailbox]\nid = 'X26ABC1'\nfolder = 'mailbox/X26ABC1'\n"
    (tmp_path / "meshctl.toml").write_text(mailbox + block, encoding="utf-8")

    settings = load_settings(tmp_path / "meshctl.toml", {})

    alerts = settings.alerts
    assert alerts.command or alerts.mail_to or settings.bridge.certificate or settings.metrics.textfile


def test_events_named_in_prose_exist() -> None:
    """Every event that the prose speaks of is in the table of events."""
    named = re.findall(r"`((?:message|report|ack|file|routing|client|bridge|daemon)\.[a-z_]+)`", ALL_PAGES)

    assert set(named) <= set(event_table())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_somewhere(page: Path) -> None:
    """Every link into the repository is to something that is there."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))

    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
