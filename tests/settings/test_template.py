"""The settings file that init writes: it loads, is complete, and shows the defaults that hold."""

import re
import tomllib
from pathlib import Path

from meshctl.settings.layout import settings_text
from meshctl.settings.load import load_settings
from meshctl.settings.model import SECTIONS, Settings
from meshctl.settings.types import Section
from meshctl.settings.use_cases import UseCaseSettings

ESSENTIALS: dict[str, dict[str, str | Path]] = {"mailbox": {"id": "X26ABC1", "folder": "mailbox/X26ABC1"}}
_COMMENTED_LINE = re.compile(r"#(?=[a-z_0-9]+ = |\[)")


def _load(folder: Path, text: str) -> Settings:
    (folder / "meshctl.toml").write_text(text, encoding="utf-8")
    return load_settings(folder / "meshctl.toml", {})


def _uncommented(text: str) -> str:
    return "\n".join(_COMMENTED_LINE.sub("", line) for line in text.splitlines())


def test_the_file_loads_as_written(tmp_path: Path) -> None:
    settings = _load(tmp_path, settings_text(ESSENTIALS, {}))

    assert settings.mailbox.id == "X26ABC1"
    assert settings.mailbox.folder == tmp_path / "mailbox" / "X26ABC1"


def test_every_key_is_in_the_file() -> None:
    document = tomllib.loads(_uncommented(settings_text(ESSENTIALS, {})))

    use_case = document.pop("use_cases")["local-report"]
    assert {name: set(model.model_fields) for name, model in SECTIONS.items()} == {
        name: set(table) for name, table in document.items()
    }
    assert set(UseCaseSettings.model_fields) == set(use_case)


def test_taking_the_comment_signs_away_changes_nothing(tmp_path: Path) -> None:
    """Every commented default is the default: with all of them live, the settings are the same."""
    text = settings_text(ESSENTIALS, {})
    as_written = _load(tmp_path, text)

    all_live = _load(tmp_path, _uncommented(text))

    added = set(all_live.use_cases) - set(as_written.use_cases)
    assert added == {"local-report"}
    assert as_written.model_dump(exclude={"use_cases"}) == all_live.model_dump(exclude={"use_cases"})


def test_every_key_is_explained() -> None:
    lines = settings_text(ESSENTIALS, {}).splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"#?[a-z_0-9]+ = ", line)]

    models: list[type[Section]] = [*SECTIONS.values(), UseCaseSettings]
    assert len(keys) == sum(len(model.model_fields) for model in models)
    assert all(lines[number - 1].startswith("# ") for number in keys)


def test_values_and_remarks_are_written() -> None:
    """Given values are live, also ones that TOML must escape, and remarks stand above their keys."""
    folder = 'C:\\mesh "A"\\ü'

    text = settings_text({"mailbox": {"id": "X26ABC1", "folder": folder}}, {"mailbox.id": "Look at this."})

    assert tomllib.loads(text)["mailbox"]["folder"] == folder
    assert '# Look at this.\nid = "X26ABC1"' in text


def test_lines_fit_a_terminal() -> None:
    """No line of the file is longer than 100 characters, bar examples that cannot be broken."""
    long = [line for line in settings_text(ESSENTIALS, {}).splitlines() if len(line) > 100]

    assert long == []
