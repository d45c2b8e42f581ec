"""SENT, FAILED and OUT: what the MESH Client kept, took, or left in pieces, and what that proves.

SENT and FAILED hold other applications' pairs as well, and SENT may keep ours for ever: a control file is
read only if its name is a message's and the ledger lacks what it could prove. Nothing is moved or changed
there, nor in OUT, which belongs to the client.
"""

import json
import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshctl.files.reading import is_general, is_there
from meshctl.inbound.evidence import LEFT_OUT, evidence_of_failed, evidence_of_sent, is_delay
from meshctl.inbound.folders import (
    BATCH,
    DONE,
    GONE,
    LATER_SECONDS,
    REST_PER_LOOK,
    SOON,
    ControlReader,
    FolderPoll,
    FolderScan,
    NextLook,
    SeenFiles,
    Unread,
    UnreadReason,
)
from meshctl.inbound.notices import Notices
from meshctl.inbound.record import EvidenceEvent, FoundEvidence, Recorder
from meshctl.journal.masking import mask_file_name
from meshctl.ledger import reads
from meshctl.ledger.reads import Candidate
from meshctl.ledger.records import LOST_PAIRS_FACT, Outcome
from meshctl.ledger.services import Services
from meshctl.mesh.control_file import ControlFile
from meshctl.mesh.message_id import is_message_id
from meshctl.mesh.states import AT_MESH, Evidence, State
from meshctl.outbound.withdrawal import Withdrawals, withdrawn_id, withdrawn_mark
from meshctl.platform import system
from meshctl.settings.model import MailboxSettings, Settings

_CONTROL_END, _PAYLOAD_END = ".ctl", ".dat"


@dataclass(frozen=True, slots=True)
class KeptPairs:
    """What a folder of kept pairs proves. `evidence` is called with None for a file that cannot be read."""

    label: str
    is_recorded: Callable[[Candidate], bool]
    evidence: Callable[[ControlFile | None], Evidence | None]
    gives_mesh_id: bool


SENT: Final = KeptPairs(
    "SENT",
    is_recorded=lambda message: message.state in AT_MESH and message.mesh_id is not None,
    # A file that cannot be read is logged as unreadable, and the deadline for `sent` goes on running.
    evidence=lambda control: None if control is None else evidence_of_sent(control),
    gives_mesh_id=True,
)
FAILED: Final = KeptPairs(
    "FAILED",
    is_recorded=lambda message: message.state is State.FAILED,
    evidence=evidence_of_failed,
    gives_mesh_id=False,
)


class KeptFolder:
    """SENT or FAILED."""

    def __init__(
        self,
        kept: KeptPairs,
        settings: Settings,
        reader: ControlReader,
        recorder: Recorder,
        services: Services,
    ) -> None:
        self._kept = kept
        self.scan = FolderScan(kept.label, settings, services, {Outcome.UNREADABLE})
        self._reader = reader
        self._recorder = recorder
        self._notices = Notices(services)
        self._services = services

    def work(self) -> list[str]:
        """Deal with one batch; return the MESH ids that messages turn out to have.

        Raises OSError, LedgerError, sqlite3.Error.
        """
        names = self.scan.batch()
        if not names:
            return []
        messages = reads.by_message_id(self._services.ledger.connection, [_stem(name) for name in names])
        pieces: list[FoundEvidence] = []
        next_looks: dict[str, NextLook] = {}
        for name in names:
            message = messages.get(_stem(name))
            if message is None or self._kept.is_recorded(message):
                next_looks[name] = DONE
            elif message.state is State.CLAIMED:
                # Its hand-off was interrupted after the client had seen it, and is about to be finished.
                next_looks[name] = SOON
            else:
                evidence, next_looks[name] = self._examine(name)
                if evidence is not None:
                    event = EvidenceEvent.DELAY if is_delay(evidence) else None
                    pieces.append(FoundEvidence(message.message_id, evidence, event, mask_file_name(name)))
        changes = self._recorder.record(pieces)
        self.scan.note(next_looks)
        return [
            piece.evidence.mesh_id
            for piece, change in zip(pieces, changes, strict=True)
            if piece.evidence.mesh_id is not None and change is not None and change.is_new
        ]

    def _examine(self, name: str) -> tuple[Evidence | None, NextLook]:
        path = f"{self.scan.folder}/{name}"
        found = self._reader.read(path)
        if isinstance(found, Unread):
            return self._judge_unread(name, found)
        evidence = self._kept.evidence(found.control)
        if not self._kept.gives_mesh_id or evidence is None or evidence.mesh_id is not None:
            return evidence, DONE
        if self._reader.is_finished(path, found.changed_ns):
            return evidence, NextLook(Outcome.READ)
        # The client rewrites the control file to add the MESH id; this may be the one before.
        return evidence, SOON

    def _judge_unread(self, name: str, found: Unread) -> tuple[Evidence | None, NextLook]:
        if found.why is UnreadReason.GONE:
            return None, GONE
        if found.why is UnreadReason.UNFINISHED:
            return None, SOON
        evidence = None if found.why is UnreadReason.NOT_A_FILE else self._kept.evidence(None)
        if self.scan.outcome(name) != Outcome.UNREADABLE:
            self._notices.unreadable(name, self.scan.label, found)
        return evidence, NextLook(Outcome.UNREADABLE, again_seconds=LATER_SECONDS)


def _stem(name: str) -> str:
    return name[: -len(_CONTROL_END)]


_REPLACED = (
    "OUT was removed and made again while pairs were in it; nothing shows whether the MESH Client took them."
)
_REPLACED_ADVICE = (
    "If the folder that was OUT is still somewhere, put its files back into OUT, each .dat before its .ctl."
    " What the client took is in SENT, or in its log. Drop the files of all others again: meshctl check names"
    " the messages, and meshctl show ID says which file each was."
)
_MOST_NAMED = 20


class OutFolder:
    """OUT: pairs that are no longer there were taken by the MESH Client.

    The folder's names are compared with the messages that the ledger takes to be there, in one pass. A folder
    that was replaced by another proves nothing about any of them.
    """

    def __init__(self, settings: Settings, recorder: Recorder, services: Services) -> None:
        self._mailbox = settings.mailbox
        self._recorder = recorder
        self._services = services
        self._withdrawals = Withdrawals(settings, services)
        self._withdrawn: set[str] = set()
        self._identity: tuple[int, int] | None = None
        self._gone: list[str] = []
        # A restart must not take them for collected.
        self._lost = set(reads.lost_pairs(services.ledger.connection))
        self._left = 0
        self.poll = FolderPoll(settings, services.clock)

    def work(self) -> None:
        """Look if that is due, and record one batch. Raises OSError, LedgerError, sqlite3.Error."""
        folder = str(self._mailbox.out_folder)
        if not self._gone and self.poll.begin(folder):
            self._look(folder)
            self.poll.end()
        if self._gone:
            batch = self._gone[-BATCH:]
            left = [stem for stem in batch if _has_left(folder, stem)]
            self._recorder.record([FoundEvidence(stem, LEFT_OUT) for stem in left])
            self._left += len(left)
            del self._gone[-BATCH:]
        self._finish_withdrawals()

    def _finish_withdrawals(self) -> None:
        """Take those pairs out of OUT that were withdrawn. Raises OSError if one cannot be."""
        obstacle: OSError | None = None
        for message_id in sorted(self._withdrawn):
            try:
                self._withdrawals.finish(message_id)
                self._withdrawn.discard(message_id)
            except OSError as error:
                obstacle = obstacle or error
        if obstacle is not None:
            raise obstacle

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
        there, self._withdrawn = _stem_hashes(folder)
        queued = reads.queued_ids(self._services.ledger.connection)
        # Somebody may have put them back.
        self._keep_lost({stem for stem in self._lost if not _holds(there, hash(stem))})
        gone = [stem for stem in queued if not _holds(there, hash(stem)) and stem not in self._lost]
        gone = [stem for stem in gone if stem not in self._withdrawn]
        identity = (status.st_dev, status.st_ino)
        was_replaced = self._identity not in (None, identity)
        self._identity = identity
        if was_replaced and gone:
            self._announce_lost(set(gone))
        else:
            self._gone = sorted(gone, reverse=True)

    def _keep_lost(self, stems: set[str]) -> None:
        if stems != self._lost:
            self._services.ledger.set_fact(LOST_PAIRS_FACT, json.dumps(sorted(stems)))
            self._lost = stems

    def _announce_lost(self, stems: set[str]) -> None:
        """Announce pairs that were in a folder that is no more; they stay queued and become overdue."""
        self._keep_lost(self._lost | stems)
        named = sorted(stems)[:_MOST_NAMED]
        more = len(stems) - len(named)
        self._services.journal.tell(
            "message.payload_missing",
            {"messages": len(stems), "message_ids": named},
            messages=len(stems),
            message_ids=" ".join(named) + (f" and {more} more" if more else ""),
            folder="OUT",
            text=_REPLACED,
            advice=_REPLACED_ADVICE,
        )


def _has_left(folder: str, stem: str) -> bool:
    """True if a control file is certainly not there, and not withdrawn.

    Raises OSError that is not about this file.
    """
    try:
        # The hand-off or a person may have put a pair back since; or a person has withdrawn it since.
        is_gone = not is_there(f"{folder}/{stem}{_CONTROL_END}")
        return is_gone and not is_there(f"{folder}/{withdrawn_mark(stem)}")
    except OSError as error:
        if is_general(error):
            raise
        return False


def _stem_hashes(folder: str) -> "tuple[array[int], set[str]]":
    """Return the hashes of the stems of all control files, sorted, and the messages that are being withdrawn.

    The stems would take many megabytes.
    """
    withdrawn: set[str] = set()
    with os.scandir(folder) as entries:

        def stems() -> Iterator[str]:
            for entry in entries:
                if entry.name.endswith(_CONTROL_END):
                    yield _stem(entry.name)
                elif entry.name[0] == "." and (message_id := withdrawn_id(entry.name)):
                    withdrawn.add(message_id)

        return array("q", sorted(hash(stem) for stem in stems())), withdrawn


def _holds(hashes: "array[int]", wanted: int) -> bool:
    at = bisect_left(hashes, wanted)
    return at < len(hashes) and hashes[at] == wanted


LONE_PART_SECONDS: Final = 600.0
"""How long one part of a pair may be alone in OUT."""

# As the ledger names them.
_SEEN_LABEL = "OUT halves"
_LOOK_EVERY_SECONDS = 60.0
_CONTROL_TEXT = (
    "A control file has been in OUT without its payload for minutes: the MESH Client reports COLLECT 02."
)
_PAYLOAD_TEXT = (
    "A payload of one of our messages has been in OUT without its control file for minutes: the MESH Client"
    " does not take it."
)
_OUR_ADVICE = (
    "See what became of the message (meshctl show ID). If it has not arrived, move what is left of it out of"
    " OUT, and drop its file again."
)
_THEIR_ADVICE = (
    "Tell whoever put it there: the payload comes first, and stays until the client has taken both."
)


@dataclass(frozen=True, slots=True)
class LonePart:
    """One part of a pair, alone; `since` counts seconds from 1970."""

    name: str
    is_control: bool
    since: float

    @property
    def stem(self) -> str:
        """Return the name that the other part would share."""
        return _stem(self.name)


def lone_parts(out: Path) -> list[LonePart]:
    """Return the control files without payload and the payloads without control file. Raises OSError."""
    # Hashes: the names of a large backlog would take many megabytes.
    alone: set[int] = set()
    for name in _parts(out):
        alone ^= {hash(_stem(name))}
    if not alone:
        return []
    found = []
    for name in sorted(name for name in _parts(out) if hash(_stem(name)) in alone):
        path = out / name
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        since = max(status.st_mtime, system.arrived_ns(str(path), status) / 1e9)
        found.append(LonePart(name, name.lower().endswith(_CONTROL_END), since))
    return found


def _parts(out: Path) -> Iterator[str]:
    with os.scandir(out) as entries:
        for entry in entries:
            if entry.name.lower().endswith((_CONTROL_END, _PAYLOAD_END)) and entry.name[0] != ".":
                yield entry.name


class LoneParts:
    """Logs once each control file whose payload is gone, and each payload that nobody takes.

    In the midst of a hand-off or of a collection either is right for a moment, so only what has been alone
    for minutes counts. Of other applications' files only those are logged that the client will trip over.
    """

    def __init__(self, mailbox: MailboxSettings, services: Services) -> None:
        self._mailbox = mailbox
        self._services = services
        self._seen = SeenFiles(_SEEN_LABEL, services)
        self._next_look = float("-inf")

    def work(self) -> None:
        """Look if that is due. Raises OSError, LedgerError, sqlite3.Error."""
        clock = self._services.clock
        began = clock.monotonic()
        if began < self._next_look:
            return
        parts = lone_parts(self._mailbox.out_folder)
        now = clock.monotonic()
        self._next_look = now + max(_LOOK_EVERY_SECONDS, (now - began) * REST_PER_LOOK)
        logged = self._seen.keep_only(part.name for part in parts)
        long_ago = clock.now().timestamp() - LONE_PART_SECONDS
        new = [part for part in parts if part.name not in logged and part.since < long_ago]
        if new:
            under_way = self._under_way(new)
            new = [part for part in new if part.stem not in under_way]
            for part in new:
                self._log(part)
            self._seen.note(dict.fromkeys((part.name for part in new), Outcome.LOGGED))

    def _under_way(self, parts: Collection[LonePart]) -> set[str]:
        """Return the stems whose hand-off was begun and not finished: it will be."""
        found = reads.by_message_id(self._services.ledger.connection, [part.stem for part in parts])
        return {stem for stem, message in found.items() if message.state is State.CLAIMED}

    def _log(self, part: LonePart) -> None:
        is_ours = is_message_id(part.stem.removeprefix(self._mailbox.file_prefix))
        if not part.is_control and not is_ours:
            return
        self._services.journal.warning(
            "client.half_pair",
            message_id=part.stem if is_ours else None,
            file=mask_file_name(part.name),
            folder="OUT",
            text=_CONTROL_TEXT if part.is_control else _PAYLOAD_TEXT,
            advice=_OUR_ADVICE if is_ours else _THEIR_ADVICE,
        )
