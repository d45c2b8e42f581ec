"""What docstrings, comments and the README name is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_references_to_files_and_modules_lead_somewhere() -> None:
    """A file or module that a docstring, a comment or the README names is there, where it says."""
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if ".venv" not in path.parts}
    shipped = [
        path for path in sorted((ROOT / "meshctl").rglob("*")) if path.suffix in (".py", ".sql", ".toml")
    ]
    assert shipped

    dangling = []
    for source in [*shipped, ROOT / "README.md"]:
        text = source.read_text(encoding="utf-8")
        places = [source.parent.relative_to(ROOT).as_posix(), "meshctl", "tests", ""]
        named = re.findall(r"(?<![\w/{@.-])((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|sql))\b", text)
        modules = re.findall(r"`(meshctl(?:\.[a-z_0-9]+)+)`", text)
        for name in named:
            if not any((Path(place) / name).as_posix() in files for place in places):
                dangling.append(f"{source.name}: {name}")
        for module in modules:
            path = module.replace(".", "/")
            if not {path, f"{path}.py", f"{path.rpartition('/')[0]}.py"} & files:
                dangling.append(f"{source.name}: {module}")

    assert dangling == []
