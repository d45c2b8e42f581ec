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


@pytest.mark.parametrize(
    ("posix", "windows"),
    [("posix", "windows"), ("posix_host", "windows_host"), ("posix_shell", "windows_shell")],
)
def test_both_have_the_same_names(posix: str, windows: str) -> None:
    on_posix, on_windows = _of_module(posix), _of_module(windows)
    # What only tests ask for; and what takes an open folder on POSIX, which Windows knows by its path.
    own = {"MOUNT_TABLE", "ask", "rename_new", "OpenFolder.place"}

    assert set(on_posix) - own == set(on_windows) - own
    for name in set(on_posix) - own:
        # "" for what POSIX takes over from `os` as it is.
        assert on_posix[name] in {on_windows[name], ""}, name


def test_no_folder_is_made_with_a_mode_but_on_posix() -> None:
    """On Windows the mode 0700 gives a folder a list that shuts out the account of the service."""
    made = [
        f"{path.relative_to(FOLDER.parent).as_posix()}:{node.lineno}"
        for path in FOLDER.parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _makes_with_mode(node)
    ]

    assert [place for place in made if not place.startswith("platform/posix")] == []


def _makes_with_mode(call: ast.Call) -> bool:
    """True for os.mkdir(path, mode), Path.mkdir(mode), and either with mode=."""
    name = ast.unparse(call.func)
    positional = 2 if name in {"os.mkdir", "os.makedirs"} else 1
    is_making = name.rpartition(".")[2] in {"mkdir", "makedirs"}
    return is_making and (len(call.args) >= positional or any(each.arg == "mode" for each in call.keywords))
