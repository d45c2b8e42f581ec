"""Reading a TOML file: what is wrong in it is told by line, with what to do, and never with a value of it."""

import re
import tomllib
from pathlib import Path
from typing import Any

from meshctl.errors import ConfigError

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_HEADER = re.compile(r"""\s*\[\[?\s*([A-Za-z0-9_.\-"' ]+?)\s*\]\]?\s*(?:#.*)?$""")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_QUOTES = str.maketrans("", "", "\"' \t")

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
_TWICE = ("Cannot overwrite a value", "Cannot mutate immutable namespace", "Duplicate inline table key")


def read_toml(file: Path, what: str) -> dict[str, Any]:
    """Return what a TOML file says; `what` is a plural that names its content: "settings".

    A byte order mark and line ends of Windows are taken. Raises ConfigError when it cannot be read, is not
    UTF-8, or is not TOML; then its text says on which line, what is wrong, and what to do.
    """
    try:
        # A byte order mark is what some editors on Windows begin a file with.
        text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(f"{file}: the {what} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not in UTF-8; save the {what} in that encoding.") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: {_explain(str(error), text)}") from None


def _explain(message: str, text: str) -> str:
    lines = text.split("\n")
    place = _PLACE.search(message)
    number = int(place[1]) if place and place[1] else _last_line(lines)
    told = message[: place.start()] if place else message
    if told.startswith("Cannot declare"):
        return _section_twice(lines, number)
    if told.startswith(_TWICE):
        return _key_twice(lines, number)
    for start, meaning, advice in _MEANINGS:
        if told.startswith(start) or (start == 'Expected "' and told.startswith('Expected "\'"')):
            return f"line {number}: {meaning}. {advice}"
    return f"line {number}: not TOML: {told}."


def _last_line(lines: list[str]) -> int:
    return max((number for number, line in enumerate(lines, start=1) if line.strip()), default=1)


def _section_twice(lines: list[str], second: int) -> str:
    name = _section_of(lines[second - 1])
    first = next((number for number, line in _before(lines, second) if _section_of(line) == name), None)
    begun = f"the section [{name}] begins twice" if name else "a section begins twice"
    if first is None:
        # It was made by a setting: the same name with a dot, or in braces.
        return f"line {second}: {begun}, or a setting further up has its name. Remove one of the two."
    return (
        f"line {second}: {begun}, first on line {first}. Move the settings below line {second} to the others"
        f" of [{name}], and remove line {second}."
    )


def _key_twice(lines: list[str], second: int) -> str:
    line = lines[second - 1]
    section, key = _section_before(lines, second), _key_of(line)
    if key is None:
        name = _section_of(line)
        return (
            f"line {second}: {f'[{name}]' if name else 'a key'} is set further up too. Remove one of the two."
        )
    shown = f"{section}.{key}" if section else key
    first = next(
        (
            number
            for number, other in _before(lines, second)
            if _key_of(other) == key and _section_before(lines, number) == section
        ),
        None,
    )
    if first is None:
        return f"line {second}: {shown}, or a part of it, is set twice. Keep the right one, remove the other."
    return (
        f"{shown} is set twice, on line {first} and on line {second}. Keep the line that is right, and remove"
        " the other."
    )


def _before(lines: list[str], number: int) -> list[tuple[int, str]]:
    return list(enumerate(lines[: number - 1], start=1))


def _section_before(lines: list[str], number: int) -> str:
    found = (_section_of(line) for line in reversed(lines[: number - 1]))
    return next((name for name in found if name is not None), "")


def _section_of(line: str) -> str | None:
    found = _HEADER.fullmatch(line)
    return found[1].translate(_QUOTES) if found else None


def _key_of(line: str) -> str | None:
    found = _KEY.match(line)
    return found[1].translate(_QUOTES) if found else None
