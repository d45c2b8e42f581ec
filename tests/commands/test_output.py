"""What commands print: JSON for programs, times and tables for people."""

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from meshctl.terminal.output import print_json, relative_time
from meshctl.terminal.views import make_table, print_table
from tests.commands.recorded import invoke
from tests.payloads import pdf
from tests.site import Site, sidecar

NOW = datetime(2026, 11, 22, 9, 15, tzinfo=UTC)


def test_json_is_one_ascii_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Instants become ISO 8601 UTC, paths text, and a name that is not UTF-8 does no harm."""
    at = datetime(2026, 11, 22, 10, 15, tzinfo=timezone(timedelta(hours=1)))
    file = Path("/srv/mesh")

    print_json({"at": at, "file": file, "name": "l\udcfctter"})

    output = capsys.readouterr().out
    assert output.isascii()
    assert json.loads(output) == {
        "at": "2026-11-22T09:15:00.000Z",
        "file": str(file),
        "name": "l\udcfctter",
    }


def test_json_refuses_what_it_does_not_know() -> None:
    """A value without a JSON form is a fault of the program, not silently a text."""
    with pytest.raises(TypeError, match="no JSON for a set"):
        print_json({1, 2})


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "just now"),
        (9.9, "just now"),
        (10, "10 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7199, "119 min ago"),
        (7200, "2 h ago"),
        (172_799, "47 h ago"),
        (172_800, "2 d ago"),
        (-30, "in 30 s"),
        (-7200, "in 2 h"),
    ],
)
def test_relative_times(seconds: float, expected: str) -> None:
    """Times are told in the largest unit that still tells them apart."""
    assert expected == relative_time(NOW - timedelta(seconds=seconds), NOW)


def test_a_table_is_not_cut_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Into a pipe or a file a long value goes whole, and without colour."""
    print_table(["NAME", "STATE"], [["x" * 200, Text("failed", style="red")], [None, 5]])

    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{'x' * 200}  failed"
    assert lines[2].split() == ["-", "5"]


def test_a_table_obeys_columns_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a pipe with COLUMNS set, lines are folded there, and nothing of a value is lost."""
    monkeypatch.setenv("COLUMNS", "40")

    print_table(["NAME", "STATE"], [["x" * 200, "failed"]])

    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 40
    assert "".join(lines).count("x") == 200


@pytest.mark.sampled(5)
@pytest.mark.parametrize("columns", [None, "100"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("check",),
        ("check", "-v"),
        ("list",),
        ("show",),
        ("use-cases",),
        ("explain", "17"),
    ],
    ids=" ".join,
)
def test_no_line_into_a_pipe_ends_in_blanks(
    site: Site, arguments: tuple[str, ...], columns: str | None
) -> None:
    """Whatever a command prints for a person, a pipe gets no blanks at the end of a line."""
    if columns is not None:
        site.environ["COLUMNS"] = columns
    site.place("letter.pdf", pdf("a letter"), sidecar=sidecar())
    site.run_once()
    named = site.stems() if arguments == ("show",) else []

    printed = invoke(site, *arguments, *named).stdout.splitlines()

    assert printed
    assert [line for line in printed if line != line.rstrip()] == []
    if columns is not None and arguments[0] != "explain":
        assert max(len(line) for line in printed) <= int(columns)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("columns", "folded", "id_whole"),
    [(None, False, True), ("0", False, True), ("80", True, True), ("40", True, False)],
)
@pytest.mark.parametrize("arguments", [("list",), ("find", "--nhs-number", "9990000042")], ids=lambda a: a[0])
def test_no_message_is_cut_into_a_pipe(
    site: Site, arguments: tuple[str, ...], columns: str | None, folded: bool, id_whole: bool
) -> None:
    """Into a pipe no column and no character of a message is left out: what does not fit is folded."""
    if columns is not None:
        site.environ["COLUMNS"] = columns
    name = f"{'long-' * 20}letter.pdf"
    site.place(name, pdf("a letter"), sidecar=sidecar())
    site.run_once()
    (message_id,) = site.messages()

    printed = invoke(site, *arguments).stdout.splitlines()

    begin = next(number for number, line in enumerate(printed) if line.endswith("FILE"))
    heading, lines = printed[begin], printed[begin + 1 :]
    # A narrow heading is folded too, but these two are short enough to stay whole.
    state, file = heading.index("STATE"), heading.index("FILE")
    assert "".join(line[:state].strip() for line in lines) == message_id
    assert lines[0][state:].startswith("queued ")
    assert "".join(line[file:] for line in lines) == name
    use_case = lines[0][:file].rstrip().rindex(" ") + 1
    assert "".join(line[use_case:file].strip() for line in lines) == "send-document"
    assert lines[0].startswith(f"{message_id} ") == id_whole
    assert (len(lines) > 1) == folded
    if folded and columns is not None:
        assert max(len(line) for line in printed) <= int(columns)


@pytest.mark.parametrize(("no_color", "coloured"), [(False, True), (True, False)])
def test_colour_is_for_terminals_without_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: bool, coloured: bool
) -> None:
    """A table is coloured on a terminal, unless NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()

    Console(file=stream, force_terminal=True).print(make_table(["S"], [[Text("failed", style="red")]]))

    assert ("\x1b[31m" in stream.getvalue()) is coloured


def test_values_are_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    """Markup and control characters in a file name stay text and cannot move the cursor."""
    print_table(["FILE"], [["[red]a\x1b[2Jb\n.pdf"]])

    output = capsys.readouterr().out
    assert "[red]a\\x1b[2Jb\\x0a.pdf" in output
