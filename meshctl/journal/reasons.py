"""What the `code` of a line in the log means, where it is meshctl's own: a table, `reasons.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class OwnCode:
    """One code: `kind` is `rejection`, `caution`, `bridge` or `deadline`."""

    kind: str
    code: str
    meaning: str
    advice: str


@cache
def own_codes() -> Mapping[str, OwnCode]:
    """Return every code of the table by its name, in the order of the table."""
    text = resources.files(__package__).joinpath("reasons.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text).items()
    codes = (OwnCode(kind, code, *texts) for kind, rows in tables for code, texts in rows.items())
    return MappingProxyType({one.code: one for one in codes})
