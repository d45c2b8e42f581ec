"""What a check found: whether it is right, how much it matters, what to do. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MOST_LISTED = 10
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"))


class Severity(StrEnum):
    """How much a finding matters: nothing works, something will go wrong, good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. What is in order is `ok`, of severity info, and needs no advice."""

    name: str
    ok: bool
    severity: Severity
    text: str
    advice: str = ""


def right(name: str, text: str) -> Finding:
    """Return that something is in order."""
    return Finding(name, True, Severity.INFO, text)


def error(name: str, text: str, advice: str) -> Finding:
    """Return that messages cannot pass, may be lost sight of, or may be seen by others."""
    return Finding(name, False, Severity.ERROR, text, advice)


def warning(name: str, text: str, advice: str) -> Finding:
    """Return that something will go wrong one day, or is set up unwisely."""
    return Finding(name, False, Severity.WARNING, text, advice)


def remark(name: str, text: str, advice: str) -> Finding:
    """Return that something is not as it might be, which can be meant so."""
    return Finding(name, False, Severity.INFO, text, advice)


def any_error(findings: list[Finding]) -> bool:
    """True if an error is among the findings."""
    return any(not finding.ok and finding.severity is Severity.ERROR for finding in findings)


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """Write items for a person: ten at most, and how many more there are."""
    more = len(items) - MOST_LISTED
    return separator.join(items[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def span(seconds: float) -> str:
    """Write a span of time for a person: "3 h", "45 s"."""
    for size, unit in _SPANS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:.0f} s"
