"""What became of messages that are overdue, as MESH says: `tracked.json` in the state folder.

The bridge asks MESH and writes, commands read. It reads the ledger, which is the daemon's, and never writes
there. The file holds ids, a status and a time, nothing of a patient or recipient.
"""

import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshctl.clock import iso
from meshctl.files.durable import replace_file
from meshctl.journal.events import Journal
from meshctl.ledger import reads
from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import Selection
from meshctl.mesh.states import State

if TYPE_CHECKING:
    # Commands that only read run without the extra `api`.
    from meshctl.bridge.client import BridgeClient

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
_PAUSE: Final = timedelta(hours=1)
_OPEN: Final = (State.SENT, State.RECEIVED)
# MESH limits how often it may be called; the others have their turn in the next hour.
_MOST_AN_HOUR: Final = 500
_MOST_LOOKED_AT: Final = 5000


@dataclass(frozen=True, slots=True)
class Tracked:
    """The status that MESH gave of the message with this id of its own, and when it was asked."""

    mesh_id: str
    status: str
    asked_at: datetime

    @property
    def text(self) -> str:
        """Return what the status means, for a person."""
        return _TEXTS.get(self.status) or f"status {self.status}"

    def as_json(self) -> dict[str, str]:
        """Return the status as `meshctl show --json` prints it."""
        return {"status": self.status, "text": self.text, "asked_at": iso(self.asked_at)}


def _status_named(text: object) -> str:
    """Return a status of MESH in lower case; `unknown` if it is none."""
    status = text.strip().lower() if isinstance(text, str) else ""
    return status if _STATUS.fullmatch(status) else _UNKNOWN


def _read_tracked(state_folder: Path) -> dict[str, Tracked]:
    """Return the statuses by message id; none if there is no file, or an unreadable one."""
    try:
        with (state_folder / TRACKED_NAME).open("rb") as file:
            saved = json.loads(file.read(_MAX_BYTES))
        return {
            str(message_id): Tracked(
                mesh_id=str(one["mesh_id"]),
                status=_status_named(one["status"]),
                asked_at=datetime.fromisoformat(one["asked_at"]).astimezone(UTC),
            )
            for message_id, one in saved.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        # The next status rewrites it.
        return {}


def tracked_status(state_folder: Path, message_id: str, mesh_id: str | None) -> Tracked | None:
    """Return the last status of a message that MESH knows as `mesh_id`; None if there is none."""
    tracked = _read_tracked(state_folder).get(message_id)
    return tracked if tracked is not None and tracked.mesh_id == mesh_id else None


def _write_tracked(state_folder: Path, tracked: Mapping[str, Tracked]) -> None:
    saved = {
        message_id: {**asdict(one), "asked_at": iso(one.asked_at)} for message_id, one in tracked.items()
    }
    replace_file(state_folder / TRACKED_NAME, json.dumps(saved, indent=1).encode(), _MODE)


class Tracker:
    """Asks MESH whether overdue messages were collected; `state_folder` holds the ledger.

    Each is asked about once an hour, one a step, so that nothing else waits for it.
    """

    def __init__(self, client: "BridgeClient", state_folder: Path, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._state_folder = state_folder
        self._tracked = _read_tracked(state_folder)
        self._due: deque[tuple[str, str]] = deque()
        self._next_look_at: datetime | None = None

    def step(self, now: datetime) -> bool:
        """Ask about one message, if one is due; False when none is.

        Raises BridgeFault when MESH cannot be asked, OSError when its status cannot be written.
        """
        if not self._due and (self._next_look_at is None or now >= self._next_look_at):
            self._next_look_at = now + _PAUSE
            self._look(now)
        if not self._due:
            return False
        message_id, mesh_id = self._due[0]
        text = self._client.status_of(mesh_id)
        self._due.popleft()
        status = None if text is None else _status_named(text)
        if status is None:
            self._tracked.pop(message_id, None)
        else:
            self._tracked[message_id] = Tracked(mesh_id, status, now)
        _write_tracked(self._state_folder, self._tracked)
        self._journal.debug("bridge.tracked", message_id=message_id, mesh_id=mesh_id, status=status)
        return True

    def _look(self, now: datetime) -> None:
        """Find the messages to ask about, those that have waited longest first; forget all others."""
        try:
            mesh_ids = self._overdue()
        except LedgerError:
            # The daemon reports it.
            return
        self._tracked = {
            message_id: one for message_id, one in self._tracked.items() if message_id in mesh_ids
        }
        asked_at = {message_id: one.asked_at for message_id, one in self._tracked.items()}
        # A time in the future is from before the clock was set back.
        due = [one for one in mesh_ids if one not in asked_at or not now - _PAUSE < asked_at[one] <= now]
        due.sort(key=lambda one: (one in asked_at, asked_at.get(one, now), one))
        self._due.extend((one, mesh_ids[one]) for one in due[:_MOST_AN_HOUR])

    def _overdue(self) -> dict[str, str]:
        """Return the MESH ids, by message id, of overdue messages that MESH has."""
        if not reads.exists(self._state_folder):
            return {}
        with reads.snapshot(self._state_folder) as connection:
            found = reads.select(connection, Selection(states=_OPEN, overdue=True, limit=_MOST_LOOKED_AT))
        return {one.message_id: one.mesh_id for one in found if one.mesh_id}
