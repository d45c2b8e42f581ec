"""Take a message back out of OUT before the MESH Client takes it, and put its file into `rejected/`.

Whoever withdraws takes one step; whoever holds the daemon's lock does the rest, as in `redrop.py`:

1. **hide**: the control file is renamed, within OUT, to the hidden name of a mark: **the point of no
   return**, and what decides between us and a client that takes the pair in the same instant. Without its
   control file the client takes nothing; where the client was quicker, the rename fails, and nothing is done.
2. What goes to `rejected/` beside the payload is written into the letter's folder in `.work`: a sidecar made
   from the control file, and the explanation, with the code `withdrawn`.
3. The log has its line, then the ledger says `failed`, by the event WITHDRAW.
4. The payload moves out of OUT into the letter's folder.
5. The letter goes to `rejected/`, as every rejected letter does, and last the mark is removed.

A kill before step 1 changes nothing. After it the mark stays until all is done, and whoever next looks into
OUT with the lock goes on: from step 2 while the payload is in OUT, from step 5 once it is not. As long as the
mark is there, the absence of the control file proves no collection.

A client may read a control file, and take the payload, before it touches the control file again. Then it was
quicker: if the payload is gone at step 2 the message counts as collected; if it was only read, what comes
later says so (SENT, a report, an acknowledgement), and takes precedence over the withdrawal.

`failed` and not `rejected`: the message was handed over, evidence about it may still come, and must find it.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import Final

from meshctl.errors import MeshctlError, Rejection
from meshctl.files import durable
from meshctl.files.folder import Folder
from meshctl.ledger import reads
from meshctl.ledger.records import Message
from meshctl.ledger.services import Services
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFileError, read_control_file
from meshctl.mesh.states import LEFT_OUT_EVENT, WITHDRAWN, Evidence, State
from meshctl.outbound.drop import name_again, sidecar_again
from meshctl.outbound.letter import LetterFolder, WorkFolder
from meshctl.outbound.names import SIDECAR_SUFFIX, NameRules
from meshctl.outbound.rejected import Explained, RejectedFolder
from meshctl.platform import system
from meshctl.settings.model import Settings

WITHDRAWN_CODE: Final = "withdrawn"
"""The code of a message that was withdrawn, in the ledger and in its explanation."""
WRAPPED_ENDING: Final = ".xml"
"""What the name of a document gets that is withdrawn as the message around it."""

_MARK_END: Final = ".ctl.withdrawn"
_REJECTION: Final = Rejection(
    WITHDRAWN_CODE,
    "It was withdrawn before the MESH Client took it. The file is in rejected/.",
    "Nothing to do. To send it after all: meshctl redrop, with its name in rejected/.",
)
_EVIDENCE: Final = Evidence(
    WITHDRAWN, State.FAILED, WITHDRAWN_CODE, text=_REJECTION.text, advice=_REJECTION.advice
)
_TAKEN: Final = Evidence(
    LEFT_OUT_EVENT, State.COLLECTED, text="It was withdrawn too late: the MESH Client had taken the payload."
)
_LATE_ADVICE: Final = (
    "Tell whoever withdrew it, and the recipient; what is in rejected/ must not be dropped again."
)
_FILE_MODE = 0o640


class Hidden(Enum):
    """What came of step 1."""

    DONE = auto()
    BEFORE = auto()
    """Somebody has withdrawn it before, and that is not finished yet."""
    TOO_LATE = auto()


def withdrawn_mark(message_id: str) -> str:
    """Return the name in OUT of the mark on a message that is being withdrawn."""
    return f".{message_id}{_MARK_END}"


def withdrawn_id(mark: str) -> str | None:
    """Return the message that a mark is on; None for another name."""
    return mark[1 : -len(_MARK_END)] if mark.startswith(".") and mark.endswith(_MARK_END) else None


def hide(out_folder: Path, message_id: str) -> Hidden:
    """Do step 1. Raises OSError."""
    mark = withdrawn_mark(message_id)
    with Folder(str(out_folder)) as out:
        try:
            out.rename(f"{message_id}.ctl", mark)
        except FileNotFoundError:
            return Hidden.BEFORE if out.has(mark) else Hidden.TOO_LATE
        durable.sync_folder(out)
    return Hidden.DONE


class Withdrawals:
    """Does steps 2 to 5 for one mailbox."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._rejected = RejectedFolder(settings.staging.rejected, services.keys, settings.mailbox.id)
        self._work = WorkFolder(settings.staging.work)
        self._names = NameRules(settings.staging)

    def finish(self, message_id: str) -> None:
        """Go on with a message whose mark is in OUT. Raises OSError, sqlite3.Error."""
        ledger = self._services.ledger
        message = reads.message(ledger.connection, message_id)
        if message is not None and message.state is State.CLAIMED:
            # Its hand-off was interrupted, and is finished first.
            return
        place = self._work.letter_folder(message_id, None)
        with Folder(str(self._settings.mailbox.out_folder)) as out:
            has_payload = out.has(f"{message_id}.dat")
            if message is None or out.has(f"{message_id}.ctl"):
                # The ledger was lost, and is rebuilt at the next start; or nobody of us has put the mark
                # there.
                return
            if not message.is_withdrawn and (message.state is not State.QUEUED or not has_payload):
                self._note_late(message)
            elif has_payload:
                self._prepare(place, message, out)
                if not message.is_withdrawn:
                    self._note_withdrawn(message)
                self._take_payload(place, message_id, out)
            if place.is_there:
                self._reject(place)
            out.unlink_if_there(withdrawn_mark(message_id))
            durable.sync_folder(out)

    def _prepare(self, place: LetterFolder, message: Message, out: Folder) -> None:
        """Do step 2, afresh if it was begun before."""
        self._work.make()
        self._rejected.make()
        place.empty()
        if not place.is_there:
            place.make()
        name = self._name(message)
        files = []
        sidecar = self._sidecar(message, out)
        if sidecar is not None:
            files.append(place.path_of(name + SIDECAR_SUFFIX))
            durable.write_new(files[0], sidecar, _FILE_MODE)
        explained = Explained(message.message_id, message.file_name, _REJECTION, self._services.clock.now())
        files.append(self._rejected.draft_for(place, name, explained))
        durable.barrier(files, [place.path, self._work.letters, out])

    def _name(self, message: Message) -> str:
        """Return the name of the file in `rejected/`; a message around a document is no document."""
        name = name_again(message, self._names, "withdrawn")
        if message.wrapped_bytes is None:
            return name
        return name_again(replace(message, file_name=name + WRAPPED_ENDING), self._names, "withdrawn")

    def _sidecar(self, message: Message, out: Folder) -> bytes | None:
        """Return what the control file says, as a sidecar; None where it does not say it all."""
        try:
            descriptor = out.open(withdrawn_mark(message.message_id), system.READ)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            # Somebody has put a link in its place.
            return None
        try:
            control = read_control_file(os.read(descriptor, CONTROL_FILE_MAX_BYTES + 1))
            return sidecar_again(message, control, self._settings).written()
        except (ControlFileError, MeshctlError):
            return None
        finally:
            os.close(descriptor)

    def _note_withdrawn(self, message: Message) -> None:
        """Do step 3, once the mark is durable. Raises sqlite3.Error."""
        self._services.journal.warning(
            "message.withdrawn",
            message_id=message.message_id,
            use_case=message.use_case,
            file=message.file_name,
            code=WITHDRAWN_CODE,
            text=_REJECTION.text,
            advice=_REJECTION.advice,
        )
        self._record(message.message_id, _EVIDENCE)

    def _take_payload(self, place: LetterFolder, message_id: str, out: Folder) -> None:
        """Do step 4."""
        sidecar = next(iter(place.names()), None)
        name = place.explanation() if sidecar is None else sidecar.removesuffix(SIDECAR_SUFFIX)
        target = place.path_of(name or message_id)
        durable.move(f"{out.path}/{message_id}.dat", target, place.path_of(".copy"))
        durable.barrier([], [out, place.path])

    def _reject(self, place: LetterFolder) -> None:
        """Do step 5, but for the mark."""
        for step in (self._rejected.move_in, self._rejected.move_explanation):
            step(place)
            durable.barrier([], [self._rejected.folder, place.path])
        place.close()
        durable.sync_folder(self._work.letters)

    def _note_late(self, message: Message) -> None:
        log_late(self._services, message.message_id, message.use_case, message.file_name)
        if message.state is State.QUEUED:
            self._record(message.message_id, _TAKEN)

    def _record(self, message_id: str, evidence: Evidence) -> None:
        clock = self._services.clock
        self._services.ledger.record([(message_id, evidence)], clock.now(), clock.steady())


def log_late(services: Services, message_id: str, use_case: str | None, file_name: str) -> None:
    """Log, and alert, that the MESH Client had a message that was withdrawn."""
    about = {"message_id": message_id, "use_case": use_case, "file": file_name}
    services.journal.tell(
        "message.withdrawn_late",
        about,
        message_id=message_id,
        use_case=use_case,
        file=file_name,
        text="The message was withdrawn, and the MESH Client had taken it all the same.",
        advice=_LATE_ADVICE,
    )


def note_withdrawn(services: Services, message_ids: Sequence[str]) -> None:
    """Enter into a ledger that does not know it that messages were withdrawn. Raises sqlite3.Error."""
    clock, evidence = services.clock, replace(_EVIDENCE, outweighs_absence=True)
    services.ledger.record([(one, evidence) for one in message_ids], clock.now(), clock.steady())
