"""The tables in the pages, made from the code, and the parts of the pages.

`python -m tests.readme_tables` writes the tables into their pages; with `--check` it writes nothing and fails
where a page is stale, as a test does.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from meshctl.journal.events import event_table
from meshctl.journal.reasons import own_codes
from meshctl.payload.sidecar import KEYS
from meshctl.settings.model import SECTIONS
from meshctl.settings.types import Section, default_of, example_of
from meshctl.settings.use_cases import UseCaseSettings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SERVER_PAGE = ROOT / "systemd" / "README.md"
MONITORING_PAGE = ROOT / "systemd" / "monitoring.md"
SERVER_BRIDGE_PAGE = ROOT / "systemd" / "bridge.md"
UPKEEP_PAGE = ROOT / "systemd" / "upkeep.md"
LOG_PAGE = ROOT / "meshctl" / "journal" / "README.md"
SETTINGS_PAGE = ROOT / "meshctl" / "settings" / "README.md"
PAYLOAD_PAGE = ROOT / "meshctl" / "payload" / "README.md"
OUTBOUND_PAGE = ROOT / "meshctl" / "outbound" / "README.md"
INBOUND_PAGE = ROOT / "meshctl" / "inbound" / "README.md"
BRIDGE_PAGE = ROOT / "meshctl" / "bridge" / "README.md"
WINDOWS_PAGE = ROOT / "meshctl" / "platform" / "README.md"
TESTS_PAGE = ROOT / "tests" / "README.md"
PAGES = (
    README,
    SERVER_PAGE,
    SERVER_BRIDGE_PAGE,
    MONITORING_PAGE,
    UPKEEP_PAGE,
    LOG_PAGE,
    SETTINGS_PAGE,
    PAYLOAD_PAGE,
    OUTBOUND_PAGE,
    INBOUND_PAGE,
    BRIDGE_PAGE,
    WINDOWS_PAGE,
    TESTS_PAGE,
)
_HEADING = re.compile(r"^(#+ .*)$", re.MULTILINE)


def settings_table() -> str:
    """Return every setting with default and meaning, section by section."""
    rows = [("key", "default", "meaning")]
    sections: dict[str, type[Section]] = {**SECTIONS, "use_cases.NAME": UseCaseSettings}
    for name, model in sections.items():
        rows += _setting_rows(f"[{name}]", model)
    return _markdown(rows)


def sidecar_table() -> str:
    """Return every key of a sidecar with its option, whether it is a column of an index, and its meaning."""
    rows = [("key", "option", "column", "meaning")]
    for name, key in KEYS.items():
        option = f"`{key.option}`" if key.option else ""
        rows.append((f"`{name}`", option, "yes" if key.is_column else "", key.field.description or ""))
    return _markdown(rows)


def events_table() -> str:
    """Return the events of the log, with level, number in the Event Log and meaning."""
    rows = [("event", "level", "id", "meaning")]
    rows += [
        (f"`{kind.name}`", logging.getLevelName(kind.level), str(kind.number), kind.meaning)
        for kind in event_table().values()
    ]
    return _markdown(rows)


def codes_table() -> str:
    """Return meshctl's own codes, with meaning and advice."""
    rows = [("code", "meaning", "what to do")]
    rows += [(f"`{one.code}`", one.meaning, one.advice) for one in own_codes().values()]
    return _markdown(rows)


def alerts_table() -> str:
    """Return the events that the alert command hears of, and when."""
    rows = [("alert", "when")]
    rows += [(f"`{kind.name}`", kind.alert) for kind in event_table().values() if kind.alert]
    return _markdown(rows)


TABLES: dict[str, tuple[Path, Callable[[], str]]] = {
    "settings": (SETTINGS_PAGE, settings_table),
    "events": (LOG_PAGE, events_table),
    "codes": (LOG_PAGE, codes_table),
    "alerts": (MONITORING_PAGE, alerts_table),
    "sidecar": (PAYLOAD_PAGE, sidecar_table),
}
"""What stands between `<!-- NAME -->` and `<!-- /NAME -->`, and in which page."""


def fresh_tables(page: Path) -> str:
    """Return the text of a page with its tables as the code has them now."""
    text = page.read_text(encoding="utf-8")
    for name, (place, make) in TABLES.items():
        if place == page:
            before, begin, rest = text.partition(f"<!-- {name} -->\n")
            _, end, after = rest.partition(f"<!-- /{name} -->")
            assert end, f"{page} has no place for the table {name}"
            text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def stale_pages() -> list[Path]:
    """Return the pages whose tables are not those of the code."""
    return [page for page in PAGES if page.read_text(encoding="utf-8") != fresh_tables(page)]


def code_blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(text: str, title: str) -> str:
    """Return what stands under a heading, up to the next of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"README.md has no section {title}"
    return found[1]


def parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield each heading of a page, and what stands under it up to the next of any level."""
    # A comment of a block begins as a heading does.
    pieces = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    title, gathered = "", ""
    for piece in pieces:
        if piece.startswith("```"):
            gathered += piece + "\n"
            continue
        before, *rest = _HEADING.split(piece)
        gathered += before
        for heading, after in zip(rest[::2], rest[1::2], strict=True):
            yield title, gathered
            title, gathered = heading.lstrip("# "), after
    yield title, gathered


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


def main(arguments: Sequence[str]) -> int:
    """Renew the tables of stale pages, or name the pages with `--check`; return the exit code."""
    is_check = list(arguments) == ["--check"]
    stale = stale_pages()
    for page in stale:
        if not is_check:
            page.write_text(fresh_tables(page), encoding="utf-8")
        sys.stdout.write(f"{page.relative_to(ROOT)} {'is stale' if is_check else 'renewed'}\n")
    return 1 if is_check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
