"""Asks MESH after messages that are overdue: whether the recipient has collected them.

It reads the ledger, which is the adapter's, and never writes there; the answers go into `tracked.json`, for
`meshctl show`. Each message is asked after once an hour, one a step, so that nothing else waits for it.
"""

from collections import deque
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from requests import RequestException
from urllib3.exceptions import HTTPError as Urllib3Error

from meshctl.bridge.api_errors import BridgeFault, FailureKind, fault_of
from meshctl.bridge.client import BridgeClient
from meshctl.bridge.tracked import Tracked, read_tracked, status_named, write_tracked
from meshctl.journal.events import Journal
from meshctl.ledger import reads
from meshctl.ledger.database import LedgerError
from meshctl.ledger.reads import Selection
from meshctl.mesh.states import State

_PAUSE: Final = timedelta(hours=1)
_OPEN: Final = (State.SENT, State.RECEIVED)
# MESH limits how often it may be called; what is left out has its turn in the next hour.
_MOST_AN_HOUR: Final = 500
_MOST_LOOKED_AT: Final = 5000


class Tracker:
    """The enquiries of one mailbox; `state_folder` is the one that holds the ledger."""

    def __init__(self, client: BridgeClient, state_folder: Path, journal: Journal) -> None:
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
            return status_named(self._client.track(mesh_id).get("status"))
        except (RequestException, Urllib3Error) as error:
            fault = fault_of(error)
            if fault.kind is FailureKind.REFUSED:
                return None
            raise BridgeFault(fault) from None
