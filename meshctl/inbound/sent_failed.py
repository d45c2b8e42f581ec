"""SENT and FAILED: the pairs that the MESH Client kept, and what they prove of our messages.

Both folders hold other applications' pairs as well, and SENT may keep ours for ever: a control file is read
only if its name is a message's and the ledger lacks what it could tell. Nothing is moved or changed there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meshctl.inbound.control_reader import ControlReader, Unread, UnreadReason
from meshctl.inbound.notices import Notices
from meshctl.inbound.record import EvidenceEvent, FoundEvidence, Recorder
from meshctl.inbound.report import evidence_of_failed, evidence_of_sent, is_delay
from meshctl.inbound.scan import DONE, GONE, FolderScan, NextLook
from meshctl.inbound.set_aside import UNREADABLE
from meshctl.journal.masking import mask_file_name
from meshctl.ledger import reads
from meshctl.ledger.reads import Candidate
from meshctl.ledger.services import Services
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.states import Evidence, State

BATCH = 256
"""So many files are read, recorded in one transaction and told of together."""

SOON_SECONDS = 1.0
LATER_SECONDS = 60.0

_READ = "read"
_AT_MESH = frozenset({State.SENT, State.RECEIVED, State.COMPLETED, State.FAILED})


@dataclass(frozen=True, slots=True)
class Kept:
    """What a folder of kept pairs proves. `evidence` gets None for a file that cannot be read."""

    is_known: Callable[[Candidate], bool]
    evidence: Callable[[ControlFile | None], Evidence | None]
    teaches_mesh_id: bool


SENT = Kept(
    is_known=lambda message: message.state in _AT_MESH and message.mesh_id is not None,
    # What cannot be read is told of as unreadable, and the deadline for `sent` goes on running.
    evidence=lambda control: None if control is None else evidence_of_sent(control),
    teaches_mesh_id=True,
)
FAILED = Kept(
    is_known=lambda message: message.state is State.FAILED,
    # A control file that the client could not read either is no less a failure.
    evidence=evidence_of_failed,
    teaches_mesh_id=False,
)


class SentFailedFolder:
    """One of the two folders. `on_mesh_id` hears of every MESH id that a message turns out to have."""

    def __init__(
        self,
        kept: Kept,
        folder_scan: FolderScan,
        reader: ControlReader,
        recorder: Recorder,
        services: Services,
        on_mesh_id: Callable[[str], None],
    ) -> None:
        self._kept = kept
        self.folder_scan = folder_scan
        self._reader = reader
        self._recorder = recorder
        self._notices = Notices(services)
        self._services = services
        self._on_mesh_id = on_mesh_id

    def work(self) -> None:
        """Deal with one batch. Raises OSError, LedgerError, sqlite3.Error."""
        names = self.folder_scan.batch(BATCH)
        if not names:
            return
        messages = reads.by_message_id(self._services.ledger.connection, [_stem(name) for name in names])
        pieces: list[FoundEvidence] = []
        next_looks: dict[str, NextLook] = {}
        for name in names:
            message = messages.get(_stem(name))
            if message is None or self._kept.is_known(message):
                next_looks[name] = DONE
            elif message.state is State.CLAIMED:
                # Its hand-off was interrupted after the client had seen it, and is about to be finished.
                next_looks[name] = NextLook(again_seconds=SOON_SECONDS)
            else:
                evidence, next_looks[name] = self._examine(name)
                if evidence is not None:
                    said = EvidenceEvent.DELAY if is_delay(evidence) else None
                    pieces.append(FoundEvidence(message.message_id, evidence, said, mask_file_name(name)))
        changes = self._recorder.record(pieces)
        self.folder_scan.note_outcomes(next_looks)
        for piece, change in zip(pieces, changes, strict=True):
            if piece.evidence.mesh_id is not None and change is not None and change.is_new:
                self._on_mesh_id(piece.evidence.mesh_id)

    def _examine(self, name: str) -> tuple[Evidence | None, NextLook]:
        path = f"{self.folder_scan.folder}/{name}"
        found = self._reader.read(path)
        if isinstance(found, Unread):
            return self._judge_unread(name, found)
        evidence = self._kept.evidence(found.control)
        if not self._kept.teaches_mesh_id or evidence is None or evidence.mesh_id is not None:
            return evidence, DONE
        if self._reader.is_finished(path, found.changed_ns):
            return evidence, NextLook(_READ)
        # The client rewrites the control file to add the MESH id; this may be the one before.
        return evidence, NextLook(again_seconds=SOON_SECONDS)

    def _judge_unread(self, name: str, found: Unread) -> tuple[Evidence | None, NextLook]:
        if found.why is UnreadReason.GONE:
            return None, GONE
        if found.why is UnreadReason.UNFINISHED:
            return None, NextLook(again_seconds=SOON_SECONDS)
        evidence = None if found.why is UnreadReason.NOT_A_FILE else self._kept.evidence(None)
        if self.folder_scan.outcome(name) != UNREADABLE:
            self._notices.unreadable(name, self.folder_scan.label, found)
        return evidence, NextLook(UNREADABLE, again_seconds=LATER_SECONDS)


def _stem(name: str) -> str:
    return name[: -len(".ctl")]
