"""The modules for Windows and for POSIX have the same names, so that no caller asks which system this is."""

import ast
from pathlib import Path

import pytest

import meshctl.platform

FOLDER = Path(meshctl.platform.__file__).parent


def _interface(body: list[ast.stmt]) -> dict[str, str]:
    """Return the public names of a module or class, with the parameters of those that are functions."""
    found: dict[str, str] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = ast.unparse(node.args)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}": kind for name, kind in _interface(node.body).items()}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part for target in targets for part in ast.walk(target)]
            found |= {name.id: "" for name in names if isinstance(name, ast.Name)}
    return {name: kind for name, kind in found.items() if not name.rpartition(".")[2].startswith("_")}


def _of_module(name: str) -> dict[str, str]:
    return _interface(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8")).body)


@pytest.mark.parametrize(("posix", "windows"), [("posix", "windows"), ("posix_host", "windows_host")])
def test_both_have_the_same_names(posix: str, windows: str) -> None:
    on_posix, on_windows = _of_module(posix), _of_module(windows)
    # What only tests ask for; and what takes an open folder on POSIX, which Windows knows by its path.
    own = {"MOUNT_TABLE", "ask", "rename_new", "OpenFolder.place"}

    assert set(on_posix) - own == set(on_windows) - own
    for name in set(on_posix) - own:
        # "" for what POSIX takes over from `os` as it is.
        assert on_posix[name] in {on_windows[name], ""}, name
