"""What docstrings, comments and the README name is there."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.readme_tables import PAGES, ROOT

FILE = re.compile(r"(?<![\w/{@.-])((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|sql))\b")
MODULE = re.compile(r"`(meshctl(?:\.[a-z_0-9]+)+)`")


def _dangling(source: Path) -> Iterator[str]:
    text = source.read_text(encoding="utf-8")
    places = (source.parent, ROOT / "meshctl", ROOT / "tests", ROOT)
    yield from (name for name in FILE.findall(text) if not any((place / name).exists() for place in places))
    if source.suffix == ".py":
        for name in MODULE.findall(text):
            path = ROOT / name.replace(".", "/")
            # A module, a package, or something that a module defines.
            if not (
                path.is_dir() or path.with_suffix(".py").exists() or path.parent.with_suffix(".py").exists()
            ):
                yield name


def test_references_to_files_and_modules_lead_somewhere() -> None:
    """A file or module that a docstring, a comment or the README names is there, where it says."""
    shipped = [path for path in (ROOT / "meshctl").rglob("*") if path.suffix in (".py", ".sql", ".toml")]
    assert shipped

    found = {str(path.relative_to(ROOT)): list(_dangling(path)) for path in [*shipped, *PAGES]}

    assert {path: names for path, names in found.items() if names} == {}
