"""Putting a pair where it belongs: SENT, or FAILED with a report in IN, as the MESH Client does.

A report is durable before its pair is decided upon, and a pair that is decided upon is only ever finished. So
after a kill the report comes once, also where the adapter has taken it meanwhile.
"""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from meshctl.bridge.pair import SendFailure
from meshctl.bridge.upload import Uploads
from meshctl.files import change, durable
from meshctl.files.client_folders import ClientFolders, DecidedPair, PairOutcome, TakenPair
from meshctl.mesh.codes import ERROR, SUCCESS
from meshctl.mesh.control_file import (
    ControlFile,
    ControlFileError,
    StatusRecord,
    write_control_file,
    write_report,
)

_TRANSFERRED: Final = "Transferred to the MESH server"
_CONTROL: Final = ".ctl"
_PRIVATE: Final = 0o700
_REPORT_MODE: Final = 0o640


class PairFinisher:
    """The end of every upload of one mailbox; `work` is the bridge's folder."""

    def __init__(self, folders: ClientFolders, uploads: Uploads, work: Path, mailbox_id: str) -> None:
        self._folders = folders
        self._uploads = uploads
        self._reports = str(work / "reports")
        self._mailbox_id = mailbox_id
        durable.make_folders(self._reports, _PRIVATE)

    def recover(self) -> None:
        """Forget the reports on pairs that nothing was decided about; they are made anew."""
        failed = {pair.stem for pair in self._folders.decided() if pair.outcome is PairOutcome.FAILED}
        for name in os.listdir(self._reports):
            if name.removesuffix(_CONTROL) not in failed:
                change.unlink(f"{self._reports}/{name}")
        durable.sync_folder(self._reports)

    def sent(self, pair: TakenPair, control: ControlFile | None, mesh_id: str) -> DecidedPair:
        """Decide that a pair is to go into SENT, with the id that MESH gave it. Raises OSError."""
        now = datetime.now(UTC)
        status = StatusRecord(_stamp(now), "TRANSFER", SUCCESS, "00", _TRANSFERRED)
        return self._decide(pair, PairOutcome.SENT, _with_status(control, mesh_id, status), now)

    def failed(
        self, pair: TakenPair, control: ControlFile | None, failure: SendFailure, mesh_id: str = ""
    ) -> DecidedPair:
        """Decide that a pair is to go into FAILED, and a report on it into IN. Raises OSError."""
        now = datetime.now(UTC)
        status = StatusRecord(_stamp(now), failure.event, ERROR, failure.code, failure.text)
        report = self._staged_report(pair.stem)
        change.unlink_if_there(report)
        durable.write_new(report, self._report(control, mesh_id, status), _REPORT_MODE)
        durable.sync_file(report)
        durable.sync_folder(self._reports)
        return self._decide(pair, PairOutcome.FAILED, _with_status(control, mesh_id, status), now)

    def finish(self, decided: DecidedPair) -> None:
        """Put a pair that is decided upon where it belongs, from wherever that broke off. Raises OSError."""
        report = self._staged_report(decided.stem)
        if decided.outcome is PairOutcome.FAILED and os.path.exists(report):
            self._folders.deliver(decided.stem, report, None)
            durable.sync_folder(self._reports)
        self._folders.finish(decided)
        self._uploads.drop(decided.stem)

    def _decide(
        self, pair: TakenPair, outcome: PairOutcome, control: bytes | None, now: datetime
    ) -> DecidedPair:
        self._folders.decide(pair, outcome, control, now.timestamp())
        return DecidedPair(now.timestamp(), pair.stem, outcome)

    def _report(self, control: ControlFile | None, mesh_id: str, status: StatusRecord) -> bytes:
        try:
            return write_report(control, self._mailbox_id, mesh_id, status)
        except ControlFileError:
            # Of a message that is not what a control file can be, the name of the file has to tell.
            return write_report(None, self._mailbox_id, mesh_id, status)

    def _staged_report(self, stem: str) -> str:
        return f"{self._reports}/{stem}{_CONTROL}"


def _with_status(control: ControlFile | None, mesh_id: str, status: StatusRecord) -> bytes | None:
    """Return a control file with what became of its message; None if it has to stay as it is."""
    if control is None:
        return None
    try:
        return write_control_file(replace(control, dts_id=mesh_id, status=status))
    except ControlFileError:
        return None


def _stamp(now: datetime) -> str:
    return f"{now:%Y%m%d%H%M%S}"
