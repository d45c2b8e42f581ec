"""What is wrong in a TOML file, told by line and with what to do."""

from pathlib import Path

import pytest

from meshctl.errors import ConfigError
from meshctl.settings.toml_file import read_toml

_CLOSE = 'a text is not closed. End the text with the quote that it begins with: folder = "outbox".'
_BACKSLASH = (
    "a backslash in double quotes begins a special character. In single quotes a backslash is nothing but"
    " itself: folder = 'C:\\outbox'."
)
_VALUE = (
    'there is no value that TOML knows behind the =. A text needs quotes: folder = "outbox". Numbers have'
    " none, and true and false are in small letters."
)
_KEEP = "Keep the line that is right, and remove the other."
_LINE = (
    "there is more on the line than one setting. Write each setting, and each [section], on a line of its"
    " own, and a text in one pair of quotes."
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[staging]\nwatch = "poll"\n\nwatch = "events"\n',
            f"staging.watch is set twice, on line 2 and on line 4. {_KEEP}",
        ),
        (
            '[mailbox]\nid = "A"\n[staging]\nid = "A"\n"id" = "B"\n',
            f"staging.id is set twice, on line 4 and on line 5. {_KEEP}",
        ),
        (
            'folder = "a"\nfolder = "b"',
            f"folder is set twice, on line 1 and on line 2. {_KEEP}",
        ),
        (
            "[staging]\nquiet_seconds = 1\n[log]\nkeep = 1\n[staging] # again\nrescan_seconds = 2\n",
            (
                "line 5: the section [staging] begins twice, first on line 1. Move the settings below line 5"
                " to the others of [staging], and remove line 5."
            ),
        ),
        (
            "[use_cases]\nsend-document = {}\n[use_cases.send-document]\n",
            (
                "line 3: the section [use_cases.send-document] begins twice, or a setting further up has its"
                " name. Remove one of the two."
            ),
        ),
        ("log = 1\n[log]\n", "line 2: [log] is set further up too. Remove one of the two."),
        (
            "log = {keep = 1, keep = 2}\n",
            "line 1: log, or a part of it, is set twice. Keep the right one, remove the other.",
        ),
        (
            "[log]\nkeep = 1\nkeep.most = 2\n",
            "line 3: log.keep.most, or a part of it, is set twice. Keep the right one, remove the other.",
        ),
        (
            "[a.b]\nkeep = 1\n[a]\nb.most = 2\n",
            "line 4: a.b.most, or a part of it, is set twice. Keep the right one, remove the other.",
        ),
        (
            '[x]\n"a.b" = 1\na.b = 2\n"a" . b = 3\n',
            f"x.a.b is set twice, on line 3 and on line 4. {_KEEP}",
        ),
        (
            '[use_cases."a.b"]\n[use_cases.a.b]\n[use_cases."a.b"]\n',
            (
                'line 3: the section [use_cases."a.b"] begins twice, first on line 1. Move the settings below'
                ' line 3 to the others of [use_cases."a.b"], and remove line 3.'
            ),
        ),
        (
            "[[rules]]\ncode = 1\n[[rules]]\ncode = 2\ncode = 3\n",
            f"rules.code is set twice, on line 4 and on line 5. {_KEEP}",
        ),
        (
            "[[rules]]\n[rules]\n",
            "line 2: [rules] is written [[rules]] on line 1. Write both in the same way.",
        ),
        (
            "[rules]\n[[rules]]\n",
            "line 2: [[rules]] is written [rules] on line 1. Write both in the same way.",
        ),
        (
            '[x]\nnote = """\nid = 5\n[y]\n"""\nid = 1\nid = 2\n',
            f"x.id is set twice, on line 6 and on line 7. {_KEEP}",
        ),
        (
            '[alerts]\ncommand = ["a"]\ncommand = [\n  "b",\n]\n',
            f"alerts.command is set twice, on line 2 and on line 3. {_KEEP}",
        ),
        ('[staging]\noutbox = "out\nwork = "w"\n', f"line 2: {_CLOSE}"),
        ('[staging]\noutbox = """out\nwork = "w"\n\n', f"line 2: {_CLOSE}"),
        (
            '[alerts]\ncommand = [\n  "a"\ntimeout = "1s"\n',
            (
                "line 2: a list is not closed. End it with a square bracket: command ="
                ' ["/usr/local/bin/alert"].'
            ),
        ),
        (
            'a = 1\nfolder = "out\x01"\n',
            "line 2: there is a character that TOML does not allow. Remove it; it may be invisible.",
        ),
        (f"a = {'[' * 3000}", "lists or tables in braces are too deep in each other."),
        ("outbox = 'out\n", f"line 1: {_CLOSE}"),
        ('outbox = """out\n', f"line 1: {_CLOSE}"),
        ('a = 1\nfolder = "C:\\mesh"\n', f"line 2: {_BACKSLASH}"),
        ('folder = "C:\\Users\\mesh"\n', f"line 1: {_BACKSLASH}"),
        ("[mailbox]\nid = X26ABC1\n", f"line 2: {_VALUE}"),
        ("compress = True\n", f"line 1: {_VALUE}"),
        ("quiet_seconds =\n", f"line 1: {_VALUE}"),
        (
            'watch: "poll"\n',
            'line 1: there is no = behind a key. Write a setting as key = value: folder = "outbox".',
        ),
        ("[staging\n", "line 1: the name of a section is not closed. Write it alone on its line: [staging]."),
        ('[staging] watch = "poll"\n', f"line 1: {_LINE}"),
        ('watch = "poll" quiet_seconds = 1\n', f"line 1: {_LINE}"),
        (
            "; a remark\n",
            (
                "line 1: the line is neither a setting nor a section. Write a setting as key = value, a"
                " section as [name], and # before what is only a remark."
            ),
        ),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_a_fault_is_told_by_its_line(tmp_path: Path, text: str, told: str, line_end: str) -> None:
    """Each fault says what is wrong, where, and what to do; line ends of Windows count lines alike."""
    file = tmp_path / "meshctl.toml"
    file.write_bytes(text.replace("\n", line_end).encode())

    with pytest.raises(ConfigError) as refused:
        read_toml(file, "settings")

    assert str(refused.value) == f"{file}: {told}"


@pytest.mark.parametrize(
    "text",
    [
        'password = "s3cret"\npassword = "s3cret"',
        'password = "s3cret',
        "password = s3cret",
        'key = "a"\nkey = """\nAAAA\ns3cret=="""\n',
        'id = 1\nkey = """\n[s3cret]\n"""\nid = 2\n',
        'key = ["a",\n  "s3cret"\nid = 1\n',
    ],
)
def test_no_value_is_told(tmp_path: Path, text: str) -> None:
    """A value may be a secret that somebody put there; no error repeats it."""
    file = tmp_path / "meshctl.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as refused:
        read_toml(file, "settings")

    assert "s3cret" not in str(refused.value)


def test_what_is_right_is_read(tmp_path: Path) -> None:
    """A byte order mark and line ends of Windows are taken."""
    file = tmp_path / "meshctl.toml"
    file.write_bytes(b'\xef\xbb\xbf[staging]\r\nwatch = "poll"\r\n')

    assert read_toml(file, "settings") == {"staging": {"watch": "poll"}}
