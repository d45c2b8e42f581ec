"""Pairs on their way out: what one says, whose turn it is, and where it goes in the end.

What cannot be read is rejected as the MESH Client rejects it (COLLECT 01, COLLECT 02), and what HTTP or MESH
cannot carry as MESH rejects it, before anything is sent. A rejection names the element, never its value:
To_DTS and Subject hold patients. Any other OSError, of a disk that fails, may be gone next time and is raised
as it is.
"""

import errno
import hashlib
import os
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Final

from meshctl import clock
from meshctl.bridge.upload import MexHeaders, Uploads
from meshctl.files import durable
from meshctl.files.client_folders import ClientFolders, DecidedPair, PairOutcome, TakenPair
from meshctl.files.reading import load_control, open_regular
from meshctl.journal.masking import mask_numbers
from meshctl.mesh.codes import ERROR, SUCCESS
from meshctl.mesh.control_file import (
    MAX_CHARACTERS,
    ControlFile,
    ControlFileError,
    StatusRecord,
    write_control_file,
    write_report,
)
from meshctl.platform import system

_PRIVATE: Final = 0o700
_REPORT_MODE: Final = 0o640
_UNREADABLE: Final = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO}
)
_NO_CONTROL: Final = ("COLLECT", "01")
_NO_DATA: Final = ("COLLECT", "02")
_MALFORMED: Final = ("TRANSFER", "06")
_INVALID_FROM: Final = ("SEND", "07")
_MISSING_TO: Final = ("SEND", "08")
_INVALID_TYPE: Final = ("SEND", "11")

# Element, field of the control file, name that mesh_client gives the header.
_TEXTS: Final = (
    ("WorkflowId", "workflow_id", "workflow_id"),
    ("Subject", "subject", "subject"),
    ("LocalId", "local_id", "local_id"),
    ("PartnerId", "partner_id", "partner_id"),
    ("DataChecksum", "data_checksum", "checksum"),
)
# Most characters: those of the API's specification, else as mesh-sandbox has them.
_MAX_CHARACTERS: Final = {**MAX_CHARACTERS, "PartnerId": 500, "DataChecksum": 100}
# MESH rejects these in any header; of them HTTP itself allows only the tab.
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")
_MESSAGE_ID: Final = re.compile(r"[0-9]{20}_[0-9A-F]{6}$")
_PLAIN_STEM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

_MOST_SET_BACK: Final = 8
_TRANSFERRED: Final = "Transferred to the MESH server"
_CONTROL: Final = ".ctl"


@dataclass(frozen=True, slots=True)
class SendFailure:
    """Why a message was not sent, as in a status record.

    `logged` is what the log says in place of the text, where that is in MESH's own words.
    """

    event: str
    code: str
    text: str
    logged: str = ""


class UnfitPairError(Exception):
    """A pair that cannot be sent as it is; its text holds no value."""

    def __init__(self, event_and_code: tuple[str, str], text: str) -> None:
        super().__init__(text)
        self.failure = SendFailure(*event_and_code, text)


def read_control(path: str) -> ControlFile:
    """Read the control file of a pair. Raises UnfitPairError, OSError."""
    try:
        return load_control(path)
    except ControlFileError as error:
        raise UnfitPairError(_NO_CONTROL, f"Control file is unreadable: {error}") from None
    except OSError as error:
        raise _unfit(error, _NO_CONTROL, "Control file is missing or inaccessible") from None


def payload_size_bytes(path: str) -> int:
    """Return how large the payload of a pair is. Raises UnfitPairError, OSError."""
    try:
        with open_regular(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _unfit(error, _NO_DATA, "Data file is missing or inaccessible") from None
    if size_bytes == 0:
        # MESH rejects an empty body itself; a compressed one would not look empty.
        raise UnfitPairError(_NO_DATA, "Data file is empty.")
    return size_bytes


def _unfit(error: OSError, event_and_code: tuple[str, str], text: str) -> Exception:
    """Return the error, or what it means where another attempt would not help."""
    if error.errno not in _UNREADABLE:
        return error
    return UnfitPairError(event_and_code, f"{text} ({errno.errorcode[error.errno]}).")


def mex_headers(control: ControlFile, file_name: str, mailbox_id: str) -> MexHeaders:
    """Return the headers of a message of the mailbox; `file_name` is that of `mex_file_name`.

    Content-Encoding does what Compress=Y asks for, so IsCompressed counts only where the payload itself is
    compressed: there, Compress is not Y.

    Raises:
        UnfitPairError: a report, another sender, no recipient or workflow id, a text that no header can hold.

    """
    if control.message_type and control.message_type.lower() != "data":
        raise UnfitPairError(_INVALID_TYPE, "Invalid message type for the transfer: only Data is sent.")
    if control.from_dts.casefold() != mailbox_id.casefold():
        raise UnfitPairError(_INVALID_FROM, "From_DTS is not the mailbox of this bridge.")
    if not control.to_dts:
        raise UnfitPairError(_MISSING_TO, "To_DTS missing.")
    if not control.workflow_id:
        raise UnfitPairError(_MALFORMED, "MalformedControlFile: WorkflowId missing.")
    recipient = _carried("To_DTS", control.to_dts)
    texts = ((name, _carried(tag, getattr(control, field))) for tag, field, name in _TEXTS)
    options: dict[str, str | bool] = {name: text for name, text in texts if text}
    options["filename"] = file_name
    if control.encrypted:
        options["encrypted"] = True
    if control.is_compressed and not control.compress:
        options["compressed"] = True
    return MexHeaders(recipient, options)


def mex_file_name(stem: str, fingerprint: str) -> str:
    """Return the Mex-FileName of a pair, by which MESH's answers name this message and no other.

    A stem that is a message id is unique. Any other may come again, so it gets a hash of the fingerprint; if
    it may name a patient, the hash stands alone.
    """
    is_plain = _PLAIN_STEM.fullmatch(stem) is not None and mask_numbers(stem) == stem
    if is_plain and _MESSAGE_ID.search(stem):
        return f"{stem}.dat"
    digest = hashlib.sha256(f"{stem}\0{fingerprint}".encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{stem}-{digest}.dat" if is_plain else f"{digest}.dat"


def _carried(tag: str, text: str) -> str:
    """Return the text of an element if a header can carry it. Raises UnfitPairError."""
    text, most = text.strip(), _MAX_CHARACTERS[tag]
    if len(text) > most:
        fault = f"{tag} has {len(text)} characters, a header of MESH at most {most}."
    elif _CONTROL_CHARACTER.search(text):
        fault = f"{tag} has a line break or another control character, which no header can carry."
    elif any(character > "\xff" for character in text):
        fault = f"{tag} has a character beyond Latin-1 (ISO 8859-1), which no header can carry."
    else:
        return text
    raise UnfitPairError(_MALFORMED, f"MalformedControlFile: {fault}")


class SendQueue:
    """The pairs of one mailbox in turn: those under way first, then those in OUT, oldest first.

    One in OUT has its turn when its control file is `pick_up_seconds` old. A pair whose call failed lets
    others pass until one of them got through, so that one message that MESH cannot take does not hold up all.
    While MESH takes none, most stay in OUT.
    """

    def __init__(self, folders: ClientFolders, pick_up_seconds: float) -> None:
        self._folders = folders
        self._pick_up_seconds = pick_up_seconds
        self._under_way: deque[TakenPair] = deque()
        self._set_back: deque[TakenPair] = deque()
        self._resting: list[tuple[float, TakenPair]] = []
        self._in_out: deque[str] = deque()

    def restart(self, under_way: Iterable[TakenPair]) -> None:
        """Start again with the pairs that were taken from OUT before; those that were set back stay so."""
        set_back = {pair.stem for pair in self._set_back}
        pairs = list(under_way)
        self._under_way = deque(pair for pair in pairs if pair.stem not in set_back)
        self._set_back = deque(pair for pair in pairs if pair.stem in set_back)
        self._resting.clear()
        self._in_out.clear()

    def next(self) -> TakenPair | None:
        """Return the current pair, taken from OUT if need be; None when there is none now.

        It stays the current one until it is set back, postponed or finished. Raises OSError.
        """
        now = monotonic()
        rested = [pair for until, pair in self._resting if until <= now]
        if rested:
            self._resting = [one for one in self._resting if one[0] > now]
            self._under_way.extend(rested)
        if not self._under_way and len(self._set_back) < _MOST_SET_BACK:
            self._take()
        if not self._under_way and self._set_back:
            self._under_way.append(self._set_back.popleft())
        return self._under_way[0] if self._under_way else None

    def set_back(self, pair: TakenPair) -> None:
        """Let others pass a pair, if it still is the current one."""
        if self._under_way and self._under_way[0] is pair:
            self._set_back.append(self._under_way.popleft())

    def postpone(self, seconds: float) -> None:
        """Postpone the current pair."""
        self._resting.append((monotonic() + seconds, self._under_way.popleft()))

    def finish(self) -> None:
        """Finish the current pair."""
        self._under_way.popleft()
        self._under_way.extend(self._set_back)
        self._set_back.clear()

    def _take(self) -> None:
        if not self._in_out:
            self._in_out = deque(self._folders.waiting(self._pick_up_seconds))
        while self._in_out:
            pair = self._folders.take(self._in_out.popleft())
            if pair is not None:
                self._under_way.append(pair)
                return


class PairFinisher:
    """Puts pairs of one mailbox into SENT, or into FAILED with a report in IN, as the MESH Client does.

    A report is durable before its pair is decided upon, and a decided pair is only ever finished. So after a
    kill the report comes once, even if the daemon has taken it meanwhile. `work` is the bridge's folder.
    """

    def __init__(self, folders: ClientFolders, uploads: Uploads, work: Path, mailbox_id: str) -> None:
        self._folders = folders
        self._uploads = uploads
        self._reports = str(work / "reports")
        self._mailbox_id = mailbox_id
        durable.make_folders(self._reports, _PRIVATE)

    def recover(self) -> None:
        """Remove the reports on pairs that are not decided upon; they are made again. Raises OSError."""
        failed = {pair.stem for pair in self._folders.decided() if pair.outcome is PairOutcome.FAILED}
        for name in os.listdir(self._reports):
            if name.removesuffix(_CONTROL) not in failed:
                system.unlink(f"{self._reports}/{name}")
        durable.sync_folder(self._reports)

    def sent(self, pair: TakenPair, control: ControlFile | None, mesh_id: str) -> DecidedPair:
        """Decide that a pair goes into SENT, with the id that MESH gave it. Raises OSError."""
        now = clock.now()
        status = StatusRecord(f"{now:%Y%m%d%H%M%S}", "TRANSFER", SUCCESS, "00", _TRANSFERRED)
        final = _with_status(control, mesh_id, status)
        return self._decide(DecidedPair(now.timestamp(), pair.stem, PairOutcome.SENT), pair, final)

    def failed(
        self, pair: TakenPair, control: ControlFile | None, failure: SendFailure, mesh_id: str = ""
    ) -> DecidedPair:
        """Decide that a pair goes into FAILED, and a report on it into IN. Raises OSError."""
        now = clock.now()
        status = StatusRecord(f"{now:%Y%m%d%H%M%S}", failure.event, ERROR, failure.code, failure.text)
        report = self._staged_report(pair.stem)
        system.unlink_if_there(report)
        durable.write_new(report, self._report(control, mesh_id, status), _REPORT_MODE)
        durable.sync_file(report)
        durable.sync_folder(self._reports)
        final = _with_status(control, mesh_id, status)
        return self._decide(DecidedPair(now.timestamp(), pair.stem, PairOutcome.FAILED), pair, final)

    def finish(self, decided: DecidedPair) -> None:
        """Put a decided pair where it belongs, from wherever that broke off. Raises OSError."""
        report = self._staged_report(decided.stem)
        if decided.outcome is PairOutcome.FAILED and self._folders.is_to_be_delivered(decided.stem, report):
            self._folders.deliver(decided.stem, report, None)
            durable.sync_folder(self._reports)
        self._folders.finish(decided)
        self._uploads.drop(decided.stem)

    def _decide(self, decided: DecidedPair, pair: TakenPair, control: bytes | None) -> DecidedPair:
        self._folders.decide(pair, decided.outcome, control, decided.finish_at)
        return decided

    def _report(self, control: ControlFile | None, mesh_id: str, status: StatusRecord) -> bytes:
        try:
            return write_report(control, self._mailbox_id, mesh_id, status)
        except ControlFileError:
            # Its own texts fit in no control file; the name of the file says which message it is.
            return write_report(None, self._mailbox_id, mesh_id, status)

    def _staged_report(self, stem: str) -> str:
        return f"{self._reports}/{stem}{_CONTROL}"


def _with_status(control: ControlFile | None, mesh_id: str, status: StatusRecord) -> bytes | None:
    """Return a control file with the status of its message; None if it has to stay as it is."""
    if control is None:
        return None
    try:
        return write_control_file(replace(control, dts_id=mesh_id, status=status))
    except ControlFileError:
        return None
