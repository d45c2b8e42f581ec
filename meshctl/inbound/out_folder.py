"""OUT: pairs that are no longer there were taken by the MESH Client.

The folder's names are compared with the messages that the ledger takes to lie there, in one pass. Only looked
at: what is in OUT belongs to the client. A folder that was replaced by another proves nothing about anyone.
"""

import os
from array import array
from bisect import bisect_left

from meshctl.files.item_error import is_general
from meshctl.files.safe_open import is_there
from meshctl.inbound.record import FoundEvidence, Recorder
from meshctl.inbound.report import LEFT_OUT
from meshctl.inbound.scan import FolderChange
from meshctl.inbound.sent_failed import BATCH
from meshctl.ledger import reads
from meshctl.ledger.services import Services
from meshctl.settings.model import MailboxSettings

_CONTROL_END = ".ctl"
_REPLACED = (
    "OUT was removed and made anew while pairs lay in it; whether the MESH Client had them is not known."
)
_REPLACED_ADVICE = (
    "Look for these pairs in SENT and in the client's log. Those that it did not take: meshctl resend ID."
)


class OutFolder:
    """Notices pairs that leave OUT."""

    def __init__(
        self,
        mailbox: MailboxSettings,
        recorder: Recorder,
        services: Services,
        full_look_seconds: float,
    ) -> None:
        self._mailbox = mailbox
        self._recorder = recorder
        self._services = services
        self._identity: tuple[int, int] | None = None
        self._gone: list[str] = []
        self._lost: set[str] = set()
        self._left = 0
        self.change = FolderChange(services.clock, full_look_seconds)

    def work(self) -> None:
        """Look if that is due, and record one batch. Raises OSError, LedgerError, sqlite3.Error."""
        folder = str(self._mailbox.out_folder)
        if not self._gone and self.change.is_due(folder):
            self._look(folder)
            self.change.looked()
        if not self._gone:
            return
        batch = self._gone[-BATCH:]
        # The hand-off or a person may have put a pair back since.
        left = [stem for stem in batch if _has_left(f"{folder}/{stem}{_CONTROL_END}")]
        self._recorder.record([FoundEvidence(stem, LEFT_OUT) for stem in left])
        self._left += len(left)
        del self._gone[-BATCH:]

    def take_left(self) -> int:
        """Return how many pairs have left OUT since the last call."""
        left, self._left = self._left, 0
        return left

    @property
    def is_busy(self) -> bool:
        """True if there is more to record."""
        return bool(self._gone)

    def _look(self, folder: str) -> None:
        status = os.stat(folder)
        # Nothing is handed over meanwhile: this thread does that, too.
        there = _stems(folder)
        queued = reads.queued_ids(self._services.ledger.connection)
        gone = [stem for stem in queued if not _holds(there, hash(stem)) and stem not in self._lost]
        identity = (status.st_dev, status.st_ino)
        was_replaced = self._identity not in (None, identity)
        self._identity = identity
        if was_replaced and gone:
            self._log_lost(set(gone))
        else:
            self._gone = sorted(gone, reverse=True)

    def _log_lost(self, stems: set[str]) -> None:
        """Log pairs that were in a folder that is no more; they stay queued and become overdue."""
        self._lost |= stems
        count = len(stems)
        self._services.journal.tell(
            "message.payload_missing",
            {"messages": count},
            messages=count,
            folder="OUT",
            text=_REPLACED,
            advice=_REPLACED_ADVICE,
        )


def _has_left(control: str) -> bool:
    """True if a control file is certainly not there. Raises OSError that is not about this file."""
    try:
        return not is_there(control)
    except OSError as error:
        if is_general(error):
            raise
        return False


def _stems(folder: str) -> "array[int]":
    """Return the hashes of the stems of all control files, sorted; the stems would take many megabytes."""
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries if entry.name.endswith(_CONTROL_END))
        return array("q", sorted(hash(name[: -len(_CONTROL_END)]) for name in names))


def _holds(hashes: "array[int]", wanted: int) -> bool:
    at = bisect_left(hashes, wanted)
    return at < len(hashes) and hashes[at] == wanted
