"""What `meshctl check --nagios` prints: one line with performance data, as Monitoring Plugins do.

The conventions are those of https://www.monitoring-plugins.org/doc/guidelines.html: exit code 0 OK, 1
WARNING, 2 CRITICAL, 3 UNKNOWN; `text | 'label'=value[unit];warn;crit;min`. What hangs is CRITICAL, as no
message passes then; UNKNOWN is for settings that cannot be read. A daemon or bridge that does not run is a
WARNING: for a person at a terminal it is a note, as cron may call `run --once`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from meshctl.check.finding import Finding, Severity
from meshctl.journal.masking import escape_unprintable
from meshctl.terminal.survey import Answer

_LABEL: Final = "MESHCTL"
# NRPE passes on 1024 bytes where it is old, and the performance data should be among them.
_LONGEST_TEXT: Final = 400


class PluginState(IntEnum):
    """The states of a service, by their exit codes."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_MUST_RUN: Final = frozenset({"daemon", "bridge.runs"})

# UNKNOWN hides nothing that is known to be critical.
_WORST_FIRST: Final = (PluginState.CRITICAL, PluginState.UNKNOWN, PluginState.WARNING, PluginState.OK)


@dataclass(frozen=True, slots=True)
class Health:
    """What the checks of a mailbox found, and its status; None where that cannot be read."""

    findings: Sequence[Finding]
    status: Mapping[str, Any] | None


def plugin_line(answers: Sequence[Answer[Health]]) -> tuple[PluginState, str]:
    """Return the state of all mailboxes together, and the line to print."""
    states = [_state_of(answer) for answer in answers]
    state = next(one for one in _WORST_FIRST if one in states)
    worst = answers[states.index(state)]
    text = _about(worst, state)
    if len(answers) > 1:
        others = sum(one is not PluginState.OK for one in states) - 1
        more = f" (and {others} more mailbox{'' if others == 1 else 'es'})" if others > 0 else ""
        text = f"{worst.place.name}: {text}{more}"
        if state is PluginState.OK:
            text = f"{len(answers)} mailboxes are in order"
    data = " ".join(_performance(answers))
    return state, f"{line_of(state, text)} | {data}" if data else line_of(state, text)


def line_of(state: PluginState, text: str) -> str:
    """Return the line without performance data: no line end in it, and nothing that ends the text."""
    plain = escape_unprintable(" ".join(text.split())).replace("|", "/")
    if len(plain) > _LONGEST_TEXT:
        plain = plain[: _LONGEST_TEXT - 3] + "..."
    return f"{_LABEL} {state.name} - {plain}"


def _state_of(answer: Answer[Health]) -> PluginState:
    if answer.value is None:
        return PluginState.CRITICAL if answer.hangs else PluginState.UNKNOWN
    if _of(answer.value, Severity.ERROR):
        return PluginState.CRITICAL
    return PluginState.WARNING if _of(answer.value, Severity.WARNING) else PluginState.OK


def _of(health: Health, severity: Severity) -> list[Finding]:
    """Return the findings that count as errors, or as warnings, here."""
    return [one for one in health.findings if not one.ok and _severity(one) is severity]


def _severity(finding: Finding) -> Severity:
    is_note = finding.severity is Severity.INFO
    return Severity.WARNING if is_note and finding.name in _MUST_RUN else finding.severity


def _about(answer: Answer[Health], state: PluginState) -> str:
    if answer.value is None:
        return answer.short_problem()
    if state is PluginState.OK:
        return f"{answer.place.name}: {sum(finding.ok for finding in answer.value.findings)} checks in order"
    severity = Severity.ERROR if state is PluginState.CRITICAL else Severity.WARNING
    first, *others = _of(answer.value, severity)
    more = f" (and {len(others)} more)" if others else ""
    return f"{first.name}: {first.text}{more}"


def _performance(answers: Sequence[Answer[Health]]) -> Iterator[str]:
    """Yield the numbers, those of several mailboxes added up; the oldest pair is the oldest of all."""
    known = [answer.value for answer in answers if answer.value is not None]
    if not known:
        return
    if len(answers) > 1:
        yield f"'mailboxes'={len(answers)};;;0"
        yield f"'unreadable'={len(answers) - len(known)};;0;0"
    yield f"'errors'={sum(len(_of(one, Severity.ERROR)) for one in known)};;0;0"
    yield f"'warnings'={sum(len(_of(one, Severity.WARNING)) for one in known)};0;;0"
    statuses = [health.status for health in known if health.status is not None]
    if not statuses:
        return
    for label, path in _NUMBERS.items():
        yield f"'{label}'={sum(_number(status, path) for status in statuses)};;;0"
    yield f"'oldest_queued'={max(_number(status, ('oldest_queued_seconds',)) for status in statuses):g}s;;;0"


_NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "outbox": ("outbox",),
    "set_aside": ("outbox", "set_aside"),
    "queued": ("states", "queued"),
    "overdue": ("overdue",),
    "failed": ("states", "failed"),
    "rejected": ("rejected",),
    "blocked": ("blocked",),
}


def _number(status: Mapping[str, Any], path: Sequence[str]) -> float:
    """Return a number of the status; of a table how many there are together, of obstacles the errors."""
    value: Any = status
    for key in path:
        value = value[key]
    if isinstance(value, dict):
        return sum(value.values())
    if isinstance(value, list):
        return len([one for one in value if one["severity"] == "error"])
    number: float = value or 0
    return number
