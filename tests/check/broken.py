"""The shape of the tables of broken set-ups: what is broken, and which finding names it with which remedy."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from meshctl.check.finding import Severity
from tests.check.checked_site import CheckedSite

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Broken:
    """One row. `text` and `advice` must be part of the finding's; `later` is when the check is run."""

    id: str
    break_it: Callable[[CheckedSite], object]
    name: str
    severity: Severity
    text: str
    advice: str
    later: timedelta = timedelta()
