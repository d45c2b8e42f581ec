"""What is wrong in a TOML file: tomllib's own sentence with its line, what to do, and never a value."""

import tomllib
from pathlib import Path

import pytest

from meshctl.errors import ConfigError
from meshctl.settings.load import read_toml

_GENERAL = (
    'Write each setting once, on its own line, as key = value, with text in quotes: folder = "outbox".'
    " A text with a backslash needs single quotes: folder = 'C:\\outbox'. Close each quote and bracket."
)


def _error(folder: Path, text: str) -> str:
    file = folder / "meshctl.toml"
    file.write_bytes(text.encode())
    with pytest.raises(ConfigError) as rejected:
        read_toml(file, "settings")
    return str(rejected.value).removeprefix(f"{file}: ")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize(
    ("text", "last", "first"),
    [
        ('[staging]\nwatch = "poll"\n\nwatch = "events"\n', 4, 2),
        ('[mailbox]\nid = "A"\n[staging]\nid = "A"\nid = "B"\n', 5, 4),
        ('folder = "a"\nfolder = "b"', 2, 1),
        ("[staging]\nquiet_seconds = 1\n[log]\nkeep = 1\n[staging] # again\nrescan_seconds = 2\n", 5, 1),
        ('[use_cases."a.b"]\n[use_cases.a.b]\n[use_cases."a.b"]\n', 3, 1),
        ("[[rules]]\ncode = 1\n[[rules]]\ncode = 2\ncode = 3\n", 5, 4),
        ('[x]\nnote = """\nid = 5\n[y]\n"""\nid = 1\nid = 2\n', 7, 6),
        ('[alerts]\ncommand = ["a"]\ncommand = [\n  "b",\n]\n', 3, 2),
    ],
)
def test_what_is_set_twice_is_named_by_both_lines(
    tmp_path: Path, text: str, last: int, first: int, line_end: str
) -> None:
    assert _error(tmp_path, text.replace("\n", line_end)).endswith(
        f"Line {last} repeats line {first}: keep one of the two, or put both under one heading."
    )


@pytest.mark.parametrize(
    "text",
    [
        '[staging]\noutbox = "out\nwork = "w"\n',
        '[staging]\noutbox = """out\nwork = "w"\n\n',
        '[alerts]\ncommand = [\n  "a"\ntimeout = "1s"\n',
        'a = 1\nfolder = "out\x01"\n',
        'a = 1\nfolder = "C:\\mesh"\n',
        "[mailbox]\nid = X26ABC1\n",
        "[staging\n",
        '[staging] watch = "poll"\n',
        "; a remark\n",
        "[log]\nkeep = 1\nkeep.most = 2\n",
        "[rules]\n[[rules]]\n",
        f"size = {'9' * 5000}\n",
    ],
)
def test_any_other_fault_is_explained_by_tomllib(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as explained:
        tomllib.loads(text)

    assert _error(tmp_path, text) == f"not TOML: {explained.value}. {_GENERAL}"


def test_nesting_beyond_reason_is_an_error(tmp_path: Path) -> None:
    assert _error(tmp_path, f"a = {'[' * 3000}") == "lists or tables in braces are nested too deeply."


@pytest.mark.parametrize(
    "text",
    [
        'password = "s3cret"\npassword = "s3cret"',
        'password = "s3cret',
        "password = s3cret",
        'key = "a"\nkey = """\nAAAA\ns3cret=="""\n',
        'id = 1\nkey = """\n[s3cret]\n"""\nid = 2\n',
        'key = ["a",\n  "s3cret"\nid = 1\n',
        'key = """\ns3cret =\ns3cret =\n',
    ],
)
def test_no_value_is_quoted(tmp_path: Path, text: str) -> None:
    """A value may be a secret that somebody put there."""
    assert "s3cret" not in _error(tmp_path, text)
