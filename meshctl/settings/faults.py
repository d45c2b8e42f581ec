"""Faults in settings, told so that a person can mend them: the key, what was found, what was expected.

Never quotes a long value, nor anything of `[alerts]` and `[bridge]`, where somebody may have put a password.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from meshctl.settings.model import SECTIONS
from meshctl.settings.section import Section
from meshctl.settings.toml_text import example_of, expected_of
from meshctl.settings.values import ExplainedError

_LONGEST_QUOTE = 60
_UNQUOTED_SECTIONS = frozenset({"alerts", "bridge"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: the dotted key it is about, and a sentence."""

    key: str
    text: str

    def line(self, sources: Mapping[str, str]) -> str:
        """Write the fault; `sources` names the environment variable behind a key that came from one."""
        variable = sources.get(self.key.partition("[")[0])
        return f"{self.key}{f' (from {variable})' if variable else ''}: {self.text}"


def section_faults(name: str, model: type[Section], error: ValidationError) -> list[Fault]:
    """Return what is wrong in the section that the file calls `name`."""
    return [_fault(name, model, detail) for detail in error.errors(include_url=False)]


def unknown_key(key: str, known: Iterable[str], elsewhere: Mapping[str, Iterable[str]]) -> str:
    """Say that `key` is unknown, with the nearest known key, or the section in `elsewhere` that has it."""
    known = list(known)
    near = nearest(key, known)
    if near:
        return f"unknown key; did you mean {near}?"
    sections = [f"[{section}]" for section, keys in elsewhere.items() if key in keys]
    if sections:
        return f"unknown key here; it belongs under {' or '.join(sections)}"
    return f"unknown key; known are {', '.join(known)}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` is most likely a misspelling of."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def found(value: object) -> str:
    """Describe a value that was found in the file, as TOML names it."""
    if isinstance(value, str) and len(value) > _LONGEST_QUOTE:
        return f"a text of {len(value)} characters"
    if isinstance(value, str | bool | int | float):
        return json.dumps(value, ensure_ascii=not str(value).isprintable())
    if isinstance(value, list | tuple):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"


def _fault(name: str, model: type[Section], detail: Any) -> Fault:
    location = detail["loc"]
    if not location:
        return Fault(name, f"found {found(detail['input'])}; expected a table, written [{name}]")
    key = str(location[0])
    dotted = f"{name}.{key}" + "".join(f"[{part}]" for part in location[1:] if isinstance(part, int))
    if detail["type"] == "extra_forbidden":
        elsewhere = {section: other.model_fields for section, other in SECTIONS.items() if section != name}
        return Fault(dotted, unknown_key(key, model.model_fields, elsewhere))
    field = model.model_fields[key]
    cause = detail.get("ctx", {}).get("error")
    expected = f"expected {expected_of(field).text}, for example {key} = {example_of(field)}"
    if detail["type"] == "missing":
        return Fault(dotted, f"missing; {expected}")
    quoted = "a wrong value" if name in _UNQUOTED_SECTIONS else found(detail["input"])
    if isinstance(cause, ExplainedError):
        return Fault(dotted, f"found {quoted}: {cause}; for example {key} = {example_of(field)}")
    return Fault(dotted, f"found {quoted}; {expected}")
