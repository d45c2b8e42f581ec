"""What is sent at once: one alert, or a digest of several of a kind; and why it could not be sent.

A digest names the first alert with all it says, and counts the others by code and use case.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from meshctl.errors import MeshctlError
from meshctl.journal.events import FieldValue

_MOST_COUNTED: Final = 10
"""How many pairs of code and use case are counted apart; the rest are one number."""

Content = Mapping[str, object]
"""An alert as the alert command gets it."""


class UndeliveredError(MeshctlError):
    """An alert could not be sent: what was wrong, what to do, and what else the log has to say."""

    def __init__(self, text: str, advice: str, **more: FieldValue) -> None:
        super().__init__(f"{text} {advice}")
        self.text = text
        self.advice = advice
        self.more = more


@dataclass(frozen=True, slots=True)
class Digest:
    """The alerts of one kind that are sent together."""

    first: Content
    count: int = 1
    last_at: str = ""
    tally: Sequence[tuple[str, int]] = ()

    @property
    def event(self) -> str:
        """Return the event that all of them are of."""
        return str(self.first["event"])

    def as_json(self) -> dict[str, object]:
        """Return what the alert command gets: the first alert, and how many there are if more than one."""
        if self.count == 1:
            return dict(self.first)
        counts = dict(self.tally)
        return {**self.first, "count": self.count, "last_at": self.last_at, "counts": counts}


def digest_of(alerts: Sequence[Content]) -> Digest:
    """Return the digest of alerts of a kind, oldest first."""
    if len(alerts) == 1:
        return Digest(alerts[0])
    counted = Counter(label for alert in alerts if (label := _label(alert)))
    tally = counted.most_common(_MOST_COUNTED)
    if rest := counted.total() - sum(count for _, count in tally):
        tally.append(("others", rest))
    return Digest(alerts[0], len(alerts), str(alerts[-1]["at"]), tally)


def _label(alert: Content) -> str:
    """Return code and use case of an alert, empty for one that has neither."""
    return ", ".join(str(alert[key]) for key in ("code", "use_case") if alert.get(key))


class Channel(Protocol):
    """A way to send alerts: mail, or a command."""

    @property
    def name(self) -> str:
        """Return its name, as log and metrics have it."""

    @property
    def target(self) -> str:
        """Return whom or what it reaches, for a person."""

    def deliver(self, digest: Digest) -> str | None:
        """Send it; return what went wrong although it was sent, None if nothing. Raises UndeliveredError."""

    def end(self) -> None:
        """Break off what is under way; called from another thread."""
