"""What the package imports is what it declares, so that it runs where only its dependencies are."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[1]
# What is installed on Windows alone, by the names of its modules.
_OF_PYWIN32 = ("pywintypes", "servicemanager", "win32evtlogutil", "win32security", "win32service")
_ON_WINDOWS = {name: ["pywin32"] for name in _OF_PYWIN32}


def _imported() -> Iterator[str]:
    for source in (CHECKOUT / "meshctl").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                yield node.module.partition(".")[0]


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", one)[0].lower().replace("_", "-") for one in requirements}


def _needed(names: set[str]) -> set[str]:
    """Return these packages and all that they need here, as pip would install them without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            requirements = (Requirement(text) for text in requires(name) or [])
            waiting += [
                canonicalize_name(each.name)
                for each in requirements
                if each.marker is None or each.marker.evaluate({"extra": ""})
            ]
    return found


def test_constraints_pin_everything_that_is_needed() -> None:
    """constraints.txt has what meshctl[api] needs, each once, at a version that pyproject.toml allows."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["api"]
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    wanted = {canonicalize_name(each.name): each for each in map(Requirement, declared)}

    assert len(pins) == len(pinned)
    assert set(pinned) == _needed(set(wanted))
    assert [name for name, each in wanted.items() if not each.specifier.contains(pinned[name])] == []


def test_imports_and_declared_dependencies_are_the_same() -> None:
    """Every package that meshctl imports is declared, in the core or in an extra, and no other is."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    core = _names(project["dependencies"])
    optional = set().union(*(_names(extras[extra]) for extra in extras if extra != "test"))
    providers = {**_ON_WINDOWS, **packages_distributions()}
    third_party = {name for name in _imported() if name not in {*sys.stdlib_module_names, "meshctl"}}

    imported = {provider.lower().replace("_", "-") for name in third_party for provider in providers[name]}

    assert core <= imported
    assert imported <= core | optional
