"""What MESH answered when the bridge asked after messages: `tracked.json` in the state folder.

The bridge writes it, commands read it. It holds ids, a status and a time, nothing of a patient or recipient.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from meshctl.clock import iso
from meshctl.files.durable import replace_file

TRACKED_NAME: Final = "tracked.json"
_MODE: Final = 0o640
_MAX_BYTES: Final = 16 << 20
_STATUS: Final = re.compile(r"[a-z][a-z _-]{0,39}")
_UNKNOWN: Final = "unknown"
# The statuses of the MESH API's tracking.
_TEXTS: Final = {
    "uploading": "its upload is not complete",
    "accepted": "accepted, not yet collected by the recipient",
    "acknowledged": "collected by the recipient",
    "undeliverable": "not delivered; a report says why",
    "error": "not accepted; a report says why",
    _UNKNOWN: "a status that meshctl does not know",
}


@dataclass(frozen=True, slots=True)
class Tracked:
    """One answer: the status that MESH gave of the message with this id of its own, and when it was asked."""

    mesh_id: str
    status: str
    asked_at: datetime

    @property
    def text(self) -> str:
        """Return what the status means, for a person."""
        return _TEXTS.get(self.status) or f"status {self.status}"

    def as_json(self) -> dict[str, str]:
        """Return the answer as `meshctl show --json` prints it."""
        return {"status": self.status, "text": self.text, "asked_at": iso(self.asked_at)}


def status_named(text: object) -> str:
    """Return a status as MESH wrote it, in lower case; `unknown` for what is none."""
    status = text.strip().lower() if isinstance(text, str) else ""
    return status if _STATUS.fullmatch(status) else _UNKNOWN


def read_tracked(state_folder: Path) -> dict[str, Tracked]:
    """Return the answers by message id; none where there is no file, or one that cannot be read."""
    try:
        with (state_folder / TRACKED_NAME).open("rb") as file:
            told = json.loads(file.read(_MAX_BYTES))
        return {
            str(message_id): Tracked(
                mesh_id=str(one["mesh_id"]),
                status=status_named(one["status"]),
                asked_at=datetime.fromisoformat(one["asked_at"]).astimezone(UTC),
            )
            for message_id, one in told.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        # It is a courtesy, and the next answer writes it anew.
        return {}


def answer_about(state_folder: Path, message_id: str, mesh_id: str | None) -> Tracked | None:
    """Return what MESH last answered about a message that it knows as `mesh_id`; None if nothing."""
    tracked = read_tracked(state_folder).get(message_id)
    return tracked if tracked is not None and tracked.mesh_id == mesh_id else None


def write_tracked(state_folder: Path, tracked: Mapping[str, Tracked]) -> None:
    """Write the answers anew, in one step. Raises OSError."""
    told = {message_id: {**asdict(one), "asked_at": iso(one.asked_at)} for message_id, one in tracked.items()}
    replace_file(state_folder / TRACKED_NAME, json.dumps(told, indent=1).encode(), _MODE)
