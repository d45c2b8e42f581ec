"""The tables of the pages that are made from the code, and the pages' own parts.

`python -m tests.readme_tables` writes the tables anew into their pages; a test fails while they differ.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from meshctl.journal.events import event_table
from meshctl.settings.model import SECTIONS
from meshctl.settings.types import Section, default_of, example_of
from meshctl.settings.use_cases import UseCaseSettings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SERVER_PAGE = ROOT / "systemd" / "README.md"
LOG_PAGE = ROOT / "meshctl" / "journal" / "README.md"
BRIDGE_PAGE = ROOT / "meshctl" / "bridge" / "README.md"
TESTS_PAGE = ROOT / "tests" / "README.md"
PAGES = (README, SERVER_PAGE, LOG_PAGE, BRIDGE_PAGE, TESTS_PAGE)
_PAGE_BY_FAMILY = {"bridge": BRIDGE_PAGE, "daemon": SERVER_PAGE}
_OF_A_SERVER = ("deadlines", "alerts", "log", "metrics", "state", "use_cases.NAME")
_PAGE_BY_SECTION = {"bridge": BRIDGE_PAGE, **dict.fromkeys(_OF_A_SERVER, SERVER_PAGE)}


def settings_table(page: Path) -> str:
    """Return the settings that a page is about with default and meaning, section by section."""
    rows = [("key", "default", "meaning")]
    sections: dict[str, type[Section]] = {**SECTIONS, "use_cases.NAME": UseCaseSettings}
    for name, model in sections.items():
        if _PAGE_BY_SECTION.get(name, README) == page:
            rows += _setting_rows(f"[{name}]", model)
    return _markdown(rows)


def events_table(page: Path) -> str:
    """Return the events of the log that a page is about, with level and meaning."""
    rows = [("event", "level", "meaning")]
    rows += [
        (f"`{kind.name}`", logging.getLevelName(kind.level), kind.meaning)
        for kind in event_table().values()
        if _PAGE_BY_FAMILY.get(kind.name.partition(".")[0], LOG_PAGE) == page
    ]
    return _markdown(rows)


def alerts_table() -> str:
    """Return the events that the alert command hears of, and when."""
    rows = [("alert", "when")]
    rows += [(f"`{kind.name}`", kind.alert) for kind in event_table().values() if kind.alert]
    return _markdown(rows)


TABLES: dict[str, tuple[Path, Callable[[], str]]] = {
    "settings": (README, partial(settings_table, README)),
    "server-settings": (SERVER_PAGE, partial(settings_table, SERVER_PAGE)),
    "events": (LOG_PAGE, partial(events_table, LOG_PAGE)),
    "server-events": (SERVER_PAGE, partial(events_table, SERVER_PAGE)),
    "alerts": (SERVER_PAGE, alerts_table),
    "bridge-settings": (BRIDGE_PAGE, partial(settings_table, BRIDGE_PAGE)),
    "bridge-events": (BRIDGE_PAGE, partial(events_table, BRIDGE_PAGE)),
}
"""What stands between `<!-- NAME -->` and `<!-- /NAME -->`, and in which page."""


def table_in(text: str, name: str) -> str:
    """Return the table of that name as it stands in a README."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert found, f"README.md has no place for the table {name}"
    return found[1]


def with_fresh_tables(page: Path) -> str:
    """Return the text of a page with its tables made anew."""
    text = page.read_text(encoding="utf-8")
    for name, (place, make) in TABLES.items():
        if place == page:
            before, begin, rest = text.partition(f"<!-- {name} -->\n")
            _, end, after = rest.partition(f"<!-- /{name} -->")
            text = f"{before}{begin}{make()}\n{end}{after}"
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


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join([f"| {lines[0]} |", "|---" * len(rows[0]) + "|", *(f"| {line} |" for line in lines[1:])])


if __name__ == "__main__":
    for page in (README, SERVER_PAGE, LOG_PAGE, BRIDGE_PAGE):
        old, new = page.read_text(encoding="utf-8"), with_fresh_tables(page)
        page.write_text(new, encoding="utf-8")
        was = "as it should be" if new == old else "brought up to date"
        sys.stdout.write(f"{page.relative_to(ROOT)} was {was}\n")
