"""Read control files that others wrote, or may still be writing, and say what each is and whose.

A file that cannot be read is first taken for one that is not finished, and read again until nobody has
written to it for a while. Links are not followed, FIFOs not waited for, and no text of a file gets into a
reason. Other applications share mailboxes: what is not ours is left to them.
"""

import errno
import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto

from meshctl.clock import Clock
from meshctl.files import change
from meshctl.files.item_error import NOT_A_FILE_ADVICE, advice_on, is_general, reason_of
from meshctl.files.safe_open import OPEN_SAFELY
from meshctl.inbound.report import meaning_of
from meshctl.inbound.set_aside import CONTENT_ADVICE
from meshctl.journal.events import error_fields
from meshctl.mesh.codes import Effect
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFile, ControlFileError, read_control_file
from meshctl.sizes import size_text

_NOT_A_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV})


class UnreadReason(Enum):
    """Why there is no control file."""

    GONE = auto()
    UNFINISHED = auto()
    UNREADABLE = auto()
    NOT_A_FILE = auto()


@dataclass(frozen=True, slots=True, repr=False)
class Unread:
    """A control file that was not read; `reason` and `advice` are for people and hold nothing of the file."""

    why: UnreadReason
    reason: str = ""
    advice: str = CONTENT_ADVICE


@dataclass(frozen=True, slots=True, repr=False)
class Read:
    """A control file, and when it was last written."""

    control: ControlFile
    changed_ns: int


@dataclass(frozen=True, slots=True)
class _Refused:
    """A file that is known to be no control file, as long as it stays as it is."""

    size_bytes: int
    changed_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Future:
    """A file whose time of change lies in the future: how long it was seen unchanged counts instead."""

    changed_ns: int
    since: float


class ControlReader:
    """Reads control files. A file that nobody wrote to for `patience_seconds` is taken as it is."""

    def __init__(self, clock: Clock, patience_seconds: float) -> None:
        self._clock = clock
        self.patience_seconds = patience_seconds
        self._refused: dict[str, _Refused] = {}
        self._future: dict[str, _Future] = {}

    def read(self, path: str) -> Read | Unread:
        """Read a control file. Raises OSError only for what is not the fault of this file."""
        try:
            found = self._read(path)
        except FileNotFoundError:
            found = Unread(UnreadReason.GONE)
        except OSError as error:
            if is_general(error):
                raise
            if error.errno in _NOT_A_FILE:
                return _not_a_file()
            if change.is_held_open(error):
                return Unread(UnreadReason.UNFINISHED)
            # Rights may be given yet, a network share may come back: whoever calls looks again later.
            reason = f"It cannot be read: {reason_of(error)}."
            return Unread(UnreadReason.UNREADABLE, reason, advice_on(error))
        except Exception as error:  # noqa: BLE001 - one file never stops the others
            return Unread(UnreadReason.UNREADABLE, fault_text(error))
        if isinstance(found, Unread) and found.why is UnreadReason.GONE:
            self._refused.pop(path, None)
            self._future.pop(path, None)
        return found

    def _read(self, path: str) -> Read | Unread:
        descriptor = change.open_file(path, OPEN_SAFELY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return _not_a_file()
            known = self._refused.get(path)
            if known is not None:
                if (known.size_bytes, known.changed_ns) == (status.st_size, status.st_mtime_ns):
                    return Unread(UnreadReason.UNREADABLE, known.reason)
                del self._refused[path]
            if status.st_size > CONTROL_FILE_MAX_BYTES:
                most = size_text(CONTROL_FILE_MAX_BYTES)
                return self._refuse(
                    path, status, f"It has {size_text(status.st_size)}; at most {most} are read."
                )
            data = os.read(descriptor, CONTROL_FILE_MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        try:
            return Read(read_control_file(data), status.st_mtime_ns)
        except ControlFileError as error:
            if not self.is_finished(path, status.st_mtime_ns):
                return Unread(UnreadReason.UNFINISHED)
            return self._refuse(path, status, str(error))

    def is_finished(self, path: str, changed_ns: int) -> bool:
        """True if a file that was written at `changed_ns` is unlikely to be written again."""
        age_seconds = self._clock.age_seconds(changed_ns)
        if age_seconds is None:
            now = self._clock.monotonic()
            seen = self._future.get(path)
            if seen is None or seen.changed_ns != changed_ns:
                seen = self._future[path] = _Future(changed_ns, now)
            age_seconds = now - seen.since
        if age_seconds < self.patience_seconds:
            return False
        self._future.pop(path, None)
        return True

    def _refuse(self, path: str, status: os.stat_result, reason: str) -> Unread:
        self._refused[path] = _Refused(status.st_size, status.st_mtime_ns, reason)
        return Unread(UnreadReason.UNREADABLE, reason)


def fault_text(error: Exception) -> str:
    """Return what to say of an error that nobody foresaw: its kind and place, never its text."""
    fields = error_fields(error)
    return f"A fault in meshctl itself, please report it: {fields['error']} at {fields['where']}."


def _not_a_file() -> Unread:
    reason = "It is no ordinary file but a link, a folder, a FIFO or a device."
    return Unread(UnreadReason.NOT_A_FILE, reason, NOT_A_FILE_ADVICE)


class ControlKind(Enum):
    """What lies in IN."""

    REPORT = auto()
    """A report on a message that left this mailbox."""
    CLIENT = auto()
    """A report of the client about itself."""
    ACKNOWLEDGEMENT = auto()
    """A data message under a workflow id that acknowledgements of ours come back under."""
    DATA = auto()
    """Any other data message for this mailbox."""
    ELSEWHERE = auto()
    """Something for another mailbox."""


def control_kind(
    control: ControlFile,
    mailbox_id: str,
    ack_workflow_ids: Collection[str],
    has_payload: Callable[[], bool],
) -> ControlKind:
    """Return what a control file is; `has_payload` is asked only if that decides it."""
    mine = mailbox_id.casefold()
    sender, recipient = control.from_dts.casefold(), control.to_dts.casefold()
    if _is_report(control, mine, has_payload):
        if mine not in (sender, recipient) and sender and recipient:
            return ControlKind.ELSEWHERE
        meaning = meaning_of(control)
        return (
            ControlKind.CLIENT
            if meaning is not None and meaning.effect is Effect.CLIENT
            else ControlKind.REPORT
        )
    if recipient not in ("", mine):
        return ControlKind.ELSEWHERE
    return ControlKind.ACKNOWLEDGEMENT if control.workflow_id in ack_workflow_ids else ControlKind.DATA


def _is_report(control: ControlFile, mine: str, has_payload: Callable[[], bool]) -> bool:
    if control.is_report:
        return True
    if control.status is None:
        return False
    # A message that arrived carries a record of its transfer as well, but it has a payload and came to us.
    is_data = control.message_type.lower() == "data"
    return (not is_data or control.from_dts.casefold() == mine) and not has_payload()
