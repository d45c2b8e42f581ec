"""Several mailboxes in one table, a row each: whichever needs a person most comes first."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from meshctl.check.finding import Finding, Severity, any_error, error, listed
from meshctl.check.neighbours import send_as_one
from meshctl.check.settings import wrong_settings
from meshctl.errors import ConfigError
from meshctl.mesh.states import State
from meshctl.terminal.output import print_json
from meshctl.terminal.survey import Answer, Survey
from meshctl.terminal.views import OVERDUE_STYLE, make_console, make_table, plain_text, watch_live


class Need(IntEnum):
    """How much a mailbox needs a person; from TROUBLE on, a command ends with 1."""

    NONE = 0
    STANDS_STILL = 1
    LOOK = 2
    TROUBLE = 3
    NO_ANSWER = 4


_STYLES = {
    Need.NONE: "green",
    Need.STANDS_STILL: OVERDUE_STYLE,
    Need.LOOK: OVERDUE_STYLE,
    Need.TROUBLE: "bold red",
    Need.NO_ANSWER: "bold red",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of one mailbox: a word, numbers under the headings of the table, and a note."""

    name: str
    need: Need
    word: str
    cells: tuple[object | Text, ...]
    note: str

    @property
    def shown_word(self) -> Text:
        """Return the word in the colour of the need."""
        return plain_text(self.word, _STYLES[self.need])


def any_trouble(rows: Iterable[Row]) -> bool:
    """True if a mailbox is in trouble, or did not answer."""
    return any(row.need >= Need.TROUBLE for row in rows)


def worst_first(
    answers: Iterable[Answer[Any]], row_of: Callable[[Answer[Any]], Row]
) -> list[tuple[Row, Answer[Any]]]:
    """Return each answer with its row: the worst first, and as they came among equals."""
    pairs = [(row_of(answer), answer) for answer in answers]
    return sorted(pairs, key=lambda pair: -pair[0].need)


def table_of(headings: Sequence[str], rows: Sequence[Row]) -> RenderableType:
    """Return the table, a note for each row that has one, and a summary.

    `headings` are those of the cells.
    """
    table = make_table(
        ("MAILBOX", "", *headings),
        ((row.name, row.shown_word, *(row.cells or ("",) * len(headings))) for row in rows),
    )
    notes = Table.grid(padding=(0, 2))
    notes.add_column(no_wrap=True)
    notes.add_column(overflow="fold")
    for row in rows:
        if row.note:
            notes.add_row(plain_text(row.name, "bold"), plain_text(row.note))
    words = Counter(row.word for row in rows)
    of_all = f"{len(rows)} mailbox{'' if len(rows) == 1 else 'es'}"
    summary = Text(f"{of_all}: {', '.join(f'{count} {word}' for word, count in words.items())}.")
    return Group(table, Text(), *((notes, Text()) if notes.row_count else ()), summary)


def without_answer(answer: Answer[Any]) -> Row:
    """Return the row of a mailbox that gave no answer."""
    word = "no answer" if answer.hangs else "unreadable"
    return Row(answer.place.name, Need.NO_ANSWER, word, (), answer.short_problem())


STATUS_HEADINGS = ("OUTBOX", "ASIDE", "QUEUED", "OVERDUE", "FAILED", "REJECTED", "CLIENT")


def status_row(answer: Answer[dict[str, Any]]) -> Row:
    """Return the row of a mailbox's status."""
    status = answer.value
    if status is None:
        return without_answer(answer)
    outbox, states, client = status["outbox"], status["states"], status["client"]
    need, word, note = _need_of(status, answer.place.option)
    cells = (
        outbox["ready"] + outbox["waiting"] + outbox["no_use_case"],
        _marked(outbox["set_aside"], OVERDUE_STYLE),
        states[State.QUEUED],
        _marked(status["overdue"], OVERDUE_STYLE),
        _marked(states[State.FAILED], "red"),
        _marked(status["rejected"], "red"),
        client["state"],
    )
    return Row(answer.place.name, need, word, cells, note)


def show_status(survey: Survey[dict[str, Any]], *, watch: bool, as_json: bool) -> int:
    """Show the status of every mailbox, once or live; return the exit code."""
    if watch:
        watch_live(lambda: table_of(STATUS_HEADINGS, _rows(_statuses(survey.answers()))))
        return 0
    pairs = _statuses(survey.answers())
    if as_json:
        print_json([answer.as_json() | (answer.value or {}) for _, answer in pairs])
    else:
        make_console().print(table_of(STATUS_HEADINGS, _rows(pairs)))
    return 1 if any_trouble(_rows(pairs)) else 0


def _statuses(answers: Sequence[Answer[dict[str, Any]]]) -> list[tuple[Row, Answer[dict[str, Any]]]]:
    """Return each answer with its row, which also says where several send as one mailbox."""

    def row_of(answer: Answer[dict[str, Any]]) -> Row:
        row = status_row(answer)
        if answer.settings is None or row.need >= Need.LOOK:
            return row
        one = answer.settings
        others = [each.place.name for each in answers if each.settings and send_as_one(one, each.settings)]
        if len(others) == 1:
            return row
        others.remove(answer.place.name)
        note = f"It sends as {one.mailbox.id}, as {listed(others)} does: meshctl {answer.place.option} check"
        return replace(row, need=Need.LOOK, word="same id", note=note)

    return worst_first(answers, row_of)


CHECK_HEADINGS = ("ERRORS", "WARNINGS", "ABOUT")


def check_row(answer: Answer[list[Finding]]) -> Row:
    """Return the row of what the checks of a mailbox found."""
    if answer.value is None:
        return without_answer(answer)
    errors, warnings = (
        [finding for finding in answer.value if not finding.ok and finding.severity is severity]
        for severity in (Severity.ERROR, Severity.WARNING)
    )
    need, word = Need.NONE, "ok"
    if errors or warnings:
        need, word = (Need.TROUBLE, "error") if errors else (Need.LOOK, "warning")
    note = ""
    if errors:
        others = len(errors) + len(warnings) - 1
        more = f"And {others} more:" if others else "See"
        note = f"{errors[0].name}: {errors[0].text} {more} meshctl {answer.place.option} check"
    about = listed(list(dict.fromkeys(one.name for one in (*errors, *warnings))))
    cells = (_marked(len(errors), "red"), _marked(len(warnings), OVERDUE_STYLE), plain_text(about))
    return Row(answer.place.name, need, word, cells, note)


def show_checks(survey: Survey[list[Finding]], *, as_json: bool) -> int:
    """Show what the checks of every mailbox found; return the exit code."""
    pairs = worst_first(survey.answers(), check_row)
    if as_json:
        print_json([answer.as_json() | _checks_json(answer) for _, answer in pairs])
    else:
        make_console().print(table_of(CHECK_HEADINGS, _rows(pairs)))
    return 1 if any_trouble(_rows(pairs)) else 0


def _checks_json(answer: Answer[list[Finding]]) -> dict[str, Any]:
    """Return the keys of `check --json`; a mailbox without an answer has that as its one finding."""
    findings = answer.value
    if findings is None and answer.settings is None:
        findings = [wrong_settings(ConfigError(answer.problem or ""))]
    elif findings is None:
        findings = [error("answer", answer.problem or "", f"meshctl {answer.place.option} check says more.")]
    return {"ok": not any_error(findings), "checks": [asdict(finding) for finding in findings]}


def _rows(pairs: Iterable[tuple[Row, Answer[Any]]]) -> list[Row]:
    return [row for row, _ in pairs]


def _marked(count: int, style: str) -> Text:
    return plain_text(count, style if count else "")


def _need_of(status: dict[str, Any], option: str) -> tuple[Need, str, str]:
    """Return how much a mailbox needs a person, in a word, and what to look at."""
    blocked = status.get("blocked", [])
    if blocked:
        first, *others = blocked
        more = f" (and {len(others)} more)" if others else ""
        need, word = (Need.TROUBLE, "blocked") if first["severity"] == "error" else (Need.LOOK, "warning")
        return need, word, f"{first['part']}: {first['text']}{more}"
    if status["client"]["state"] == "stalled":
        return Need.LOOK, "stalled", "Pairs wait in OUT, and nothing takes them."
    if status["overdue"]:
        return Need.LOOK, "overdue", f"meshctl {option} list --overdue"
    has_aside = status["outbox"]["set_aside"] or status["reports"]["set_aside"]
    if has_aside or status["outbox"]["no_use_case"]:
        return Need.LOOK, "set aside" if has_aside else "no use case", f"meshctl {option} check"
    if "not running" in (status["daemon"], status["bridge"]):
        return (
            Need.STANDS_STILL,
            "not running",
            "" if status["daemon"] == "not running" else "No bridge runs.",
        )
    return Need.NONE, "ok", ""
