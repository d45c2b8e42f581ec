"""The packages of the code: which may use which, and that the page about them is true."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "meshctl"
PAGE = (PACKAGE / "README.md").read_text(encoding="utf-8")
# What every package may use.
BELOW = ("errors", "clock", "safe_xml", "sizes")


def _packages() -> list[str]:
    """Return the packages in the order of the page's table: each may use those before it."""
    table = PAGE[PAGE.index("| package |") : PAGE.index("Each package may use")]
    cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    return [*BELOW, *re.findall(r"`(\w+)/`", " ".join(_terminal_first(cells)))]


def _terminal_first(cells: list[str]) -> list[str]:
    """Return the cells with `terminal/` before `commands/`, which share a row."""
    return [cell.replace("`commands/`, `terminal/`", "`terminal/`, `commands/`") for cell in cells]


def _uses() -> Iterator[tuple[str, str, str]]:
    """Yield each package that a module uses, and the module."""
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        if len(relative.parts) > 1:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("meshctl."):
                    yield relative.parts[0], str(node.module).split(".")[1], relative.as_posix()


def test_the_page_names_every_package() -> None:
    """A new package needs a row, which says what is decided there."""
    there = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

    assert set(_packages()) - set(BELOW) == there


def test_packages_use_only_those_before_them() -> None:
    """Dependencies go one way: what MESH defines at one end, the commands at the other."""
    rank = {package: place for place, package in enumerate(_packages())}

    upwards = [(module, used) for package, used, module in _uses() if rank[used] > rank[package]]

    assert upwards == []


def test_what_the_page_points_to_is_there() -> None:
    """Every file that the page names exists."""
    named = set(re.findall(r"`((?:\w+/)+\w+\.(?:py|toml))`", PAGE))

    assert len(named) >= 5
    assert [name for name in sorted(named) if not (PACKAGE / name).exists()] == []
