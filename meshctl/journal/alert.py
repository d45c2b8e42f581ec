"""An alert: what a person is told of an event that needs them, without patient data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from meshctl.clock import iso


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. `about` holds the further keys of its JSON, such as a message's."""

    event: str
    at: datetime
    text: str | None
    advice: str | None
    about: Mapping[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the alert as the alert command gets it."""
        return {
            "event": self.event,
            "at": iso(self.at),
            **self.about,
            "text": self.text,
            "advice": self.advice,
        }


def about_message(
    message_id: str | None,
    use_case: str | None,
    workflow_id: str | None,
    file_name: str | None,
    code: str | None,
) -> dict[str, object]:
    """Return the keys that the alerts about messages share; `file_name` is masked already."""
    return {
        "message_id": message_id,
        "use_case": use_case,
        "workflow_id": workflow_id,
        "file": file_name,
        "code": code,
    }


def ignore(alert: Alert) -> None:
    """Alert nobody."""
    del alert


AlertSink = Callable[[Alert], None]
"""What takes alerts."""
