"""Single values written as TOML, for the settings file that `init` makes and for examples in errors. Pure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from meshctl.settings.values import Expected


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
