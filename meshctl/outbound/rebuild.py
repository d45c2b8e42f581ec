"""What the folders prove of messages whose ledger was lost.

A control file of ours in OUT is a message that waits; one in SENT or FAILED is a message that the client
has dealt with, which the reading of those folders then records. A file in `rejected/` explains itself.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from meshctl.clock import instant, iso
from meshctl.files.safe_open import read_regular
from meshctl.ledger.opening import Books
from meshctl.ledger.records import FOLDERS_READ_FACT, NewMessage, Reason
from meshctl.ledger.writes import Ledger
from meshctl.mesh.address import split_gp_provider
from meshctl.mesh.control_file import CONTROL_FILE_MAX_BYTES, ControlFileError, read_control_file
from meshctl.mesh.message_id import is_message_id
from meshctl.outbound.reject import RejectedFolder
from meshctl.settings.model import Settings

UNKNOWN_FILE = "(lost with the ledger)"
_BATCH = 256


def rebuild(settings: Settings, books: Books) -> int:
    """Enter into a new ledger what the folders prove of earlier messages; return how many those are.

    A ledger counts as new until this has come to its end; run again, it enters what is not there yet.
    """
    refused = list(rejected_rows(RejectedFolder(settings.staging.rejected), books.ledger))
    rows = [row for row in _handed_over(settings, books) if not books.ledger.knows(row.message_id)]
    if rows or refused:
        books.journal.error("daemon.ledger_rebuilt", messages=len(rows) + len(refused))
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        books.ledger.enter(some)
        books.ledger.mark_queued([row.message_id for row in some], books.clock.now(), books.clock.steady())
    books.ledger.enter([], refused)
    books.ledger.set_fact(FOLDERS_READ_FACT, iso(books.clock.now()))
    return len(rows) + len(refused)


def rebuilt_row(control_path: str, payload_path: str, message_id: str, books: Books) -> NewMessage:
    """Return a row for a message from its pair alone. Raises ControlFileError, OSError."""
    control = read_control_file(read_regular(control_path, CONTROL_FILE_MAX_BYTES + 1))
    routed = split_gp_provider(control.to_dts)
    return NewMessage(
        message_id=message_id,
        claim="",
        file_name=UNKNOWN_FILE,
        size_bytes=_size(payload_path),
        sha256=None,
        created_at=books.clock.now(),
        workflow_id=control.workflow_id,
        local_id_key=books.keys.of(control.local_id) if control.local_id else None,
        patient_key=books.keys.of(routed[0]) if routed else None,
    )


def rejected_rows(
    folder: RejectedFolder, ledger: Ledger, since: datetime | None = None
) -> Iterator[NewMessage]:
    """Yield rows for the rejections that lie complete in the folder and are not in the ledger.

    `since` leaves out those that were refused earlier.
    """
    for message_id, payload, content in folder.complete(ledger.knows, since):
        yield NewMessage(
            message_id=message_id,
            claim="",
            file_name=str(content.get("file", "")),
            size_bytes=_size(payload),
            sha256=None,
            created_at=instant(str(content.get("at"))),
            reason=Reason(
                str(content.get("code")), "CHECK", str(content.get("text")), str(content.get("advice"))
            ),
        )


def _handed_over(settings: Settings, books: Books) -> Iterator[NewMessage]:
    mailbox = settings.mailbox
    seen: set[str] = set()
    for folder in (mailbox.out_folder, mailbox.sent_folder, mailbox.failed_folder):
        for name in sorted(_names(folder)):
            stem = name.removesuffix(".ctl")
            is_ours = stem != name and is_message_id(stem.removeprefix(mailbox.file_prefix))
            if not is_ours or stem in seen or not stem.startswith(mailbox.file_prefix):
                continue
            try:
                row = rebuilt_row(f"{folder}/{name}", f"{folder}/{stem}.dat", stem, books)
            except (ControlFileError, OSError):
                continue
            seen.add(stem)
            yield row


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
