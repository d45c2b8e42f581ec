"""Settings from the environment: `MESHCTL_<SECTION>__<KEY>` overrides what the file says.

`MESHCTL_MAILBOX__ID`, `MESHCTL_STAGING__QUIET_SECONDS`, `MESHCTL_USE_CASES__SEND_DOCUMENT__VERSION`.
Never guesses: a name that fits no key is a fault.
"""

import tomllib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from meshctl.settings.faults import Fault, nearest
from meshctl.settings.model import SECTIONS, UseCaseSettings
from meshctl.settings.section import Section

_PREFIX = "MESHCTL_"
# Kubernetes sets MESHCTL_PORT and the like for a service of that name: one without "__" is not for us.
_SEPARATOR = "__"
_USE_CASES = "use_cases"
_PARTS_OF_KEY, _PARTS_OF_USE_CASE_KEY = 2, 3
_WRITTEN_AS_TOML = (int, float, bool, tuple)


def apply_environment(
    document: dict[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, str], list[Fault]]:
    """Lay the variables over `document`, in place.

    Returns the variable behind each dotted key that came from one, and the faults.
    """
    sources: dict[str, str] = {}
    faults: list[Fault] = []
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or _SEPARATOR not in variable:
            continue
        parts = variable.removeprefix(_PREFIX).lower().split(_SEPARATOR)
        model, tables = _place(parts)
        field = model.model_fields.get(parts[-1]) if model else None
        if model is None or field is None:
            faults.append(Fault(variable, _unknown(parts)))
            continue
        table = document
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                break
        else:
            table[parts[-1]] = _value(field, environ[variable])
            sources[".".join((*tables, parts[-1]))] = variable
    return sources, faults


def _place(parts: list[str]) -> tuple[type[Section] | None, list[str]]:
    """Return the model a variable's key belongs to, and the tables that lead to it."""
    section = parts[0]
    if section == _USE_CASES and len(parts) == _PARTS_OF_USE_CASE_KEY:
        return UseCaseSettings, [_USE_CASES, parts[1].replace("_", "-")]
    if section in SECTIONS and len(parts) == _PARTS_OF_KEY:
        return SECTIONS[section], [section]
    return None, []


def _unknown(parts: list[str]) -> str:
    """Say that a variable names no key, with the nearest one that does or the shape it should have."""
    if parts[0] == _USE_CASES:
        lead = _SEPARATOR.join(parts[:2])
        known = [f"{lead}{_SEPARATOR}{key}" for key in UseCaseSettings.model_fields]
        shape = "MESHCTL_USE_CASES__NAME__KEY, for example MESHCTL_USE_CASES__SEND_DOCUMENT__VERSION"
    else:
        known = [f"{name}{_SEPARATOR}{key}" for name, model in SECTIONS.items() for key in model.model_fields]
        shape = "MESHCTL_SECTION__KEY, for example MESHCTL_MAILBOX__ID"
    near = nearest(_SEPARATOR.join(parts), known) if len(parts) == known[0].count(_SEPARATOR) + 1 else None
    hint = f"did you mean {_PREFIX}{near.upper()}?" if near else f"expected {shape}"
    return f"no such setting; {hint}"


def _value(field: FieldInfo, text: str) -> object:
    """Read numbers, truth values and lists as TOML writes them; take any other text as it stands."""
    if not any(kind in _WRITTEN_AS_TOML for kind in _kinds(field.annotation)):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _kinds(annotation: object) -> set[object]:
    """Return the plain types behind an annotation: `tuple[str, ...] | None` gives tuple and NoneType."""
    origin = get_origin(annotation)
    if origin in {Union, UnionType}:
        return {kind for member in get_args(annotation) for kind in _kinds(member)}
    if hasattr(annotation, "__metadata__"):
        return _kinds(get_args(annotation)[0])
    return {origin or annotation}
