"""The tables of the README that are made from the code, and the README's own parts.

`python -m tests.readme_tables` writes the tables anew into README.md; a test fails while they differ.
"""

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from meshctl.log.events import event_table
from meshctl.settings.model import SECTIONS, UseCaseSettings
from meshctl.settings.template import default_of, example_of
from meshctl.settings.types import Section

README = Path(__file__).parents[1] / "README.md"


def settings_table() -> str:
    """Return every setting with its default and meaning, section by section."""
    rows = [("key", "default", "meaning")]
    for name, model in SECTIONS.items():
        rows += _setting_rows(f"[{name}]", model)
        if name == "routing":
            rows += _setting_rows("[use_cases.NAME]", UseCaseSettings)
    return _markdown(rows)


def events_table() -> str:
    """Return every event of the log with its level and meaning."""
    rows = [("event", "level", "meaning")]
    rows += [
        (f"`{kind.name}`", logging.getLevelName(kind.level), kind.meaning) for kind in event_table().values()
    ]
    return _markdown(rows)


TABLES = {"settings": settings_table, "events": events_table}
"""What stands between `<!-- NAME -->` and `<!-- /NAME -->` in the README."""


def table_in(text: str, name: str) -> str:
    """Return the table of that name as it stands in a README."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert found, f"README.md has no place for the table {name}"
    return found[1]


def with_fresh_tables(text: str) -> str:
    """Return a README with its tables made anew."""
    for name, make in TABLES.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"\n<!-- /{name} -->")
        text = f"{before}{begin}{make()}{end}{after}"
    return text


def code_blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(text: str, title: str) -> str:
    """Return what stands under a heading, up to the next of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"README.md has no section {title}"
    return found[1]


def _setting_rows(title: str, model: type[Section]) -> Iterator[tuple[str, str, str]]:
    yield f"**`{title}`**", "", ""
    for key, field in model.model_fields.items():
        is_optional = model is UseCaseSettings
        if field.is_required() or is_optional:
            default = "as shipped" if is_optional else "required"
            yield f"`{key}`", f"{default}; e.g. `{example_of(field)}`", field.description or ""
        else:
            yield f"`{key}`", f"`{default_of(field)}`", field.description or ""


def _markdown(rows: list[tuple[str, str, str]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join([f"| {lines[0]} |", "|---|---|---|", *(f"| {line} |" for line in lines[1:])])


if __name__ == "__main__":
    old = README.read_text(encoding="utf-8")
    new = with_fresh_tables(old)
    README.write_text(new, encoding="utf-8")
    sys.stdout.write("README.md was " + ("as it should be\n" if new == old else "brought up to date\n"))
