"""Reading a TOML file: what is wrong in it is told by line, with what to do, and never with a value of it."""

import json
import os
import re
import stat
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshctl.errors import ConfigError

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"[ \t]*({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*=")
_BARE = re.compile(r"[A-Za-z0-9_-]+")

_CLOSE = 'End the text with the quote that it begins with: folder = "outbox".'
_BACKSLASH = "In single quotes a backslash is nothing but itself: folder = 'C:\\outbox'."
_VALUE = 'A text needs quotes: folder = "outbox". Numbers have none, and true and false are in small letters.'
# What tomllib says, what that means, and what to do about it.
_MEANINGS = (
    ("Illegal character '\\n'", "a text is not closed", _CLOSE),
    ("Unterminated string", "a text is not closed", _CLOSE),
    ('Expected "', "a text is not closed", _CLOSE),
    ("Unescaped '\\'", "a backslash in double quotes begins a special character", _BACKSLASH),
    ("Invalid hex value", "a backslash in double quotes begins a special character", _BACKSLASH),
    ("Invalid value", "there is no value that TOML knows behind the =", _VALUE),
    ("Expected '='", "there is no = behind a key", 'Write a setting as key = value: folder = "outbox".'),
    (
        "Unclosed array",
        "a list is not closed",
        'End it with a square bracket: command = ["/usr/local/bin/alert"].',
    ),
    (
        "Unclosed inline table",
        "a table in braces is not closed",
        "End it with a brace, on the line it begins on.",
    ),
    ("Illegal character", "there is a character that TOML does not allow", "Remove it; it may be invisible."),
    ("Expected ']'", "the name of a section is not closed", "Write it alone on its line: [staging]."),
    (
        "Expected newline",
        "there is more on the line than one setting",
        "Write each setting, and each [section], on a line of its own, and a text in one pair of quotes.",
    ),
    (
        "Invalid statement",
        "the line is neither a setting nor a section",
        "Write a setting as key = value, a section as [name], and # before what is only a remark.",
    ),
)
_TWICE = (
    "Cannot declare",
    "Cannot overwrite a value",
    "Cannot mutate immutable namespace",
    "Cannot redefine namespace",
    "Duplicate inline table key",
)


@dataclass(frozen=True, slots=True)
class _Statement:
    """A setting or a section's header: the line it begins on, and the names it consists of."""

    line: int
    name: tuple[str, ...]
    # "[" or "[[" begins a section; a setting has neither.
    brackets: str

    def shown(self, section: tuple[str, ...] = ()) -> str:
        """Return the name as TOML writes it, below its section."""
        return ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in section + self.name)


def read_toml(file: Path, what: str, *, of_others: bool = True) -> dict[str, Any]:
    """Return what a TOML file says; `what` is a plural that names its content: "settings".

    Without `of_others` it must belong to the caller or to root.

    A byte order mark and line ends of Windows are taken. Raises ConfigError when it cannot be read, is not
    UTF-8, or is not TOML; then its text says on which line, what is wrong, and what to do.
    """
    try:
        # A byte order mark is what some editors on Windows begin a file with.
        text = _read(file, of_others=of_others).decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(f"{file}: the {what} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not in UTF-8; save the {what} in that encoding.") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: {_explain(str(error), text)}") from None
    except RecursionError:
        raise ConfigError(f"{file}: lists or tables in braces are too deep in each other.") from None


def _read(file: Path, *, of_others: bool) -> bytes:
    with file.open("rb") as opened:
        if not of_others and sys.platform != "win32":
            status = os.fstat(opened.fileno())
            owners = {status.st_uid, file.lstat().st_uid}
            if not owners <= {os.geteuid(), 0} or status.st_mode & stat.S_IWOTH:
                raise ConfigError(
                    f"{file} belongs to another user, or anybody may write it. Settings of the current folder"
                    " count only if they are yours or root's alone; if you trust these, name them with -c."
                )
        return opened.read()


def _explain(message: str, text: str) -> str:
    place = _PLACE.search(message)
    told = message[: place.start()] if place else message
    lines = text.split("\n")
    number = int(place[1]) if place and place[1] else len(lines)
    statements = list(_statements(lines[:number]))
    if statements and told.startswith(_TWICE):
        return _twice(statements, is_section=told.startswith("Cannot declare"))
    if statements and (not (place and place[1]) or told.startswith("Unclosed")):
        # What is not closed is noticed further down, at worst at the end of the file.
        number = statements[-1].line
    for start, meaning, advice in _MEANINGS:
        if told.startswith(start) or (start == 'Expected "' and told.startswith('Expected "\'"')):
            return f"line {number}: {meaning}. {advice}"
    return f"line {number}: not TOML: {told}."


def _statements(lines: list[str]) -> Iterator[_Statement]:
    """Return what begins on which line; the last may be wrong or cut off, all before it are right.

    A statement ends where it can be read alone. So no line of a list or of a text over several lines, which
    may be a secret, is taken for a key.
    """
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            empty = not tomllib.loads("\n".join(lines[begin:end]))
        except tomllib.TOMLDecodeError:
            if end < len(lines):
                continue
            empty = False
        if not empty:
            yield _statement(begin + 1, lines[begin])
        begin = end


def _statement(number: int, line: str) -> _Statement:
    written = line.lstrip()
    brackets = "[[" if written.startswith("[[") else "[" if written.startswith("[") else ""
    key = _KEY.match(line)
    header = line if brackets else f"[{key[1]}]" if key else ""
    try:
        return _Statement(number, tuple(_names(tomllib.loads(header))), brackets)
    except tomllib.TOMLDecodeError:
        return _Statement(number, (), brackets)


def _names(table: object) -> Iterator[str]:
    """Return the names of a header from what it reads as: [a.b] is a table in a table, [[a]] in a list."""
    while table:
        if isinstance(table, dict):
            ((name, table),) = table.items()
            yield name
        elif isinstance(table, list):
            table = table[0]


def _twice(statements: list[_Statement], *, is_section: bool) -> str:
    """Return what to say of the last statement, which sets what one before it has set."""
    *before, second = statements
    if second.brackets:
        return _section_twice(before, second, is_section=is_section)
    begins = next((place for place in reversed(range(len(before))) if before[place].brackets), None)
    section = () if begins is None else before[begins].name
    shown = second.shown(section) or "a key"
    # Only here: a section begins once, and each [[section]] is one of its own.
    beside = before if begins is None else before[begins + 1 :]
    first = next((other.line for other in beside if other.name == second.name), None)
    if first is None:
        return (
            f"line {second.line}: {shown}, or a part of it, is set twice."
            " Keep the right one, remove the other."
        )
    return (
        f"{shown} is set twice, on line {first} and on line {second.line}. Keep the line that is right, and"
        " remove the other."
    )


def _section_twice(before: list[_Statement], second: _Statement, *, is_section: bool) -> str:
    name = f"[{second.shown()}]"
    first = next((other for other in before if other.brackets and other.name == second.name), None)
    if first is not None and first.brackets != second.brackets:
        one, two = (f"{each.brackets}{each.shown()}{']' * len(each.brackets)}" for each in (first, second))
        return f"line {second.line}: {two} is written {one} on line {first.line}. Write both in the same way."
    if first is not None:
        return (
            f"line {second.line}: the section {name} begins twice, first on line {first.line}. Move the"
            f" settings below line {second.line} to the others of {name}, and remove line {second.line}."
        )
    if is_section:
        # It was made by a setting: the same name with a dot, or in braces.
        return (
            f"line {second.line}: the section {name} begins twice, or a setting further up has its name."
            " Remove one of the two."
        )
    return f"line {second.line}: {name} is set further up too. Remove one of the two."
