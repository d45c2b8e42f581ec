"""Track overdue messages: ask MESH whether the recipient has collected them, and keep what it answered.

It reads the ledger, which is the adapter's, and never writes there; the answers go into `tracked.json` in
the state folder, for `meshctl show`: an id, a status and a time, nothing of a patient or recipient. Each
message is asked after once an hour, one a step, so that nothing else waits for it.
"""

import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mesh_client import MeshClient
from requests import RequestException
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl.bridge.api_errors import BridgeFault, Trouble, fault_of
from meshctl.clock import iso
from meshctl.files.durable import replace_file
from meshctl.ledger import reads
from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import Selection
from meshctl.log.events import Journal
from meshctl.mesh.states import State

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


_PAUSE: Final = timedelta(hours=1)
_OPEN: Final = (State.SENT, State.RECEIVED)
# MESH limits how often it may be called; what is left out has its turn in the next hour.
_MOST_AN_HOUR: Final = 500
_MOST_LOOKED_AT: Final = 5000


class Tracking:
    """The enquiries of one mailbox; `state_folder` is the one that holds the ledger."""

    def __init__(self, client: MeshClient, state_folder: Path, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._state_folder = state_folder
        self._tracked = read_tracked(state_folder)
        self._due: deque[tuple[str, str]] = deque()
        self._looks_at: datetime | None = None

    def step(self, now: datetime) -> bool:
        """Ask after one message, if one is due; False when none is.

        Raises BridgeFault when MESH cannot be asked, OSError when the answer cannot be written.
        """
        if not self._due and (self._looks_at is None or now >= self._looks_at):
            self._looks_at = now + _PAUSE
            self._look(now)
        if not self._due:
            return False
        message_id, mesh_id = self._due[0]
        status = self._status_of(mesh_id)
        self._due.popleft()
        if status is None:
            self._tracked.pop(message_id, None)
        else:
            self._tracked[message_id] = Tracked(mesh_id, status, now)
        write_tracked(self._state_folder, self._tracked)
        self._journal.debug("bridge.tracked", message_id=message_id, mesh_id=mesh_id, status=status)
        return True

    def _look(self, now: datetime) -> None:
        """Find the messages to ask after, those longest not asked after first; forget all others."""
        try:
            mesh_ids = self._overdue()
        except LedgerError:
            # The daemon tells of it, and has nothing to know of the answers meanwhile.
            return
        self._tracked = {
            message_id: one for message_id, one in self._tracked.items() if message_id in mesh_ids
        }
        asked_at = {message_id: one.asked_at for message_id, one in self._tracked.items()}
        # A time to come is from before the clock was set back.
        due = [one for one in mesh_ids if one not in asked_at or not now - _PAUSE < asked_at[one] <= now]
        due.sort(key=lambda one: (one in asked_at, asked_at.get(one, now), one))
        self._due.extend((one, mesh_ids[one]) for one in due[:_MOST_AN_HOUR])

    def _overdue(self) -> dict[str, str]:
        """Return the MESH ids, by message id, of messages that MESH has and an answer is overdue to."""
        if not reads.exists(self._state_folder):
            return {}
        with reads.snapshot(self._state_folder) as connection:
            found = reads.select(connection, Selection(states=_OPEN, overdue=True, limit=_MOST_LOOKED_AT))
        return {one.message_id: one.mesh_id for one in found if one.mesh_id}

    def _status_of(self, mesh_id: str) -> str | None:
        """Ask MESH; None when it does not know the message, or will not say."""
        try:
            return status_named(self._client.track_message(mesh_id).get("status"))
        except (RequestException, Urllib3Error) as error:
            fault = fault_of(error)
            if fault.trouble is Trouble.REFUSED:
                return None
            raise BridgeFault(fault) from None
