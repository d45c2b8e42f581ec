"""The settings file that `init` writes, made from the models: every key, explained, with its default. Pure.

What a site has to say is live. Every other key stands directly behind a "#" and shows what holds without
it, so that taking the "#" away changes nothing yet.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from meshctl.settings.model import SECTIONS, UseCaseSettings
from meshctl.settings.types import Expected, Section


def toml_value(value: object) -> str:
    """Write a text, path, number, truth value or list as TOML; None as the empty text that means it."""
    match value:
        case None:
            return '""'
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}"
        case float():
            return repr(value)
        case str() | Path():
            # A TOML basic string has JSON's escapes, except that DEL must be escaped too.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case Sequence():
            return f"[{', '.join(toml_value(item) for item in value)}]"
    raise TypeError(f"no TOML for a {type(value).__name__}")


def expected_of(field: FieldInfo) -> Expected:
    """Return what the field's values must be; the annotation nearest to the field counts."""
    # `Kind | None` keeps the kind's own annotations inside the union.
    inner = [item for kind in get_args(field.annotation) for item in getattr(kind, "__metadata__", ())]
    return [item for item in (*inner, *field.metadata) if isinstance(item, Expected)][-1]


def example_of(field: FieldInfo) -> str:
    """Return an example for the field, as TOML: the first given, else its default."""
    return toml_value(field.examples[0]) if field.examples else default_of(field)


def default_of(field: FieldInfo) -> str:
    """Return the field's default, as TOML."""
    value: Any = field.default
    write = expected_of(field).write
    return toml_value(value if write is None else write(value))


_WIDTH = 100
_USE_CASES_BEFORE = "reports"
_HEAD = """\
Settings of meshctl for one mailbox. A key behind "#" shows the value that holds without it.
Paths are relative to this file. Keys ending in _seconds are numbers; other durations are written
"90s", "30m", "1h30m", "2h" or "5d". Unknown keys are errors. MESHCTL_SECTION__KEY in the
environment overrides a key, for example MESHCTL_LOG__LEVEL. "meshctl check" says what is wrong."""


def settings_text(values: Mapping[str, Mapping[str, str | Path]], remarks: Mapping[str, str]) -> str:
    """Return a whole settings file in which the keys of `values`, by section, are set.

    `remarks` are further comments, by dotted key, for values that the person has to look at.
    """
    lines = [f"# {line}" for line in _HEAD.splitlines()]
    for name, model in SECTIONS.items():
        if name == _USE_CASES_BEFORE:
            lines += _use_case_lines()
        lines += ["", "", f"[{name}]", *_comment(_paragraphs(model))]
        for key, field in model.model_fields.items():
            lines += ["", *_comment(field.description or "")]
            if (remark := remarks.get(f"{name}.{key}")) is not None:
                lines += _comment(remark)
            lines += _key_lines(key, field, values.get(name, {}).get(key))
    return "\n".join(lines) + "\n"


def _key_lines(key: str, field: FieldInfo, value: str | Path | None) -> Iterator[str]:
    if value is not None:
        yield f"{key} = {toml_value(value)}"
        return
    if field.is_required():
        yield f"#{key} = {example_of(field)}"
        return
    if field.examples and example_of(field) != default_of(field):
        yield f"# For example {key} = {example_of(field)}"
    yield f"#{key} = {default_of(field)}"


def _use_case_lines() -> Iterator[str]:
    """Write a use case as an example: without these keys the shipped table holds."""
    yield from ("", "", "#[use_cases.local-report]", *_comment(_paragraphs(UseCaseSettings)))
    for key, field in UseCaseSettings.model_fields.items():
        yield from ("", *_comment(field.description or ""), f"#{key} = {example_of(field)}")


def _paragraphs(model: type[Section]) -> str:
    return textwrap.dedent("    " + (model.__doc__ or "")).strip()


def _comment(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from textwrap.wrap(
            " ".join(paragraph.split()), _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
