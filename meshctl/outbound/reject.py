"""Moving what cannot be sent to `rejected/`, with the reason beside it.

Order: the explanation under a name of ours; a barrier that makes it and the refused file durable, since an
empty explanation would be none; `NAME.error.json` by a rename; a second link to the sidecar or a copy of it;
then the payload, whose move is the point of no return. The claim's own sidecar goes when the claim is closed:
a crash before that point leaves payload and sidecar together in the claim, to be refused again (a payload
without its sidecar might be sent), and what the first attempt left here is found by its message id and
removed.
"""

import errno
import filecmp
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from meshctl.clock import instant, iso
from meshctl.errors import Refusal
from meshctl.files import change, durable
from meshctl.ledger.opening import Books
from meshctl.ledger.records import NewMessage, Reason
from meshctl.log.alert import Alert, about_message
from meshctl.outbound.claim import Claim
from meshctl.outbound.names import ERROR_SUFFIX, SIDECAR_SUFFIX, numbered

_TEMPORARY_PREFIX = ".meshctl-"
_BESIDE = ("", SIDECAR_SUFFIX, ERROR_SUFFIX)
_FOLDER_MODE, _FILE_MODE = 0o750, 0o640
_LONGEST_NAME_BYTES = 255 - len(SIDECAR_SUFFIX) - len(ERROR_SUFFIX)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused file on its way to `rejected/`; `file_name` is masked, `name` is as dropped."""

    message_id: str | None
    name: str
    file_name: str
    refusal: Refusal
    at: datetime
    with_sidecar: bool

    def explanation(self) -> dict[str, Any]:
        """Return what `NAME.error.json` holds."""
        return {
            "message_id": self.message_id,
            "file": self.file_name,
            "at": iso(self.at),
            "code": self.refusal.code,
            "text": self.refusal.text,
            "advice": self.refusal.advice,
        }


class RejectedFolder:
    """The folder of refused files."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def make(self) -> None:
        """Make the folder if it is missing. Raises OSError."""
        durable.make_folders(self.folder, _FOLDER_MODE)

    def draft(self, claim: Claim, rejection: Rejection) -> list[str]:
        """Write the explanation; return the files that a barrier has to make durable before `put`."""
        payload = claim.path(rejection.name)
        return [
            self._write(rejection),
            *(path for path in (payload, payload + SIDECAR_SUFFIX) if _can_be_synced(path)),
        ]

    def put(self, claim: Claim, rejection: Rejection) -> None:
        """Move a refused file out of its claim, once its explanation is durable; a barrier has to follow."""
        payload = f"{self.folder}/{self._publish(rejection)}"
        if rejection.with_sidecar:
            _double(claim.path(rejection.name + SIDECAR_SUFFIX), payload + SIDECAR_SUFFIX)
        _move(claim.path(rejection.name), payload)

    def explain_only(self, rejection: Rejection) -> bool:
        """Explain something that is left where it lies; False when that has been done before."""
        if os.path.lexists(f"{self.folder}/{_fitting(rejection.name)}{ERROR_SUFFIX}"):
            return False
        durable.sync_file(self._write(rejection))
        self._publish(rejection)
        return True

    def explanations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each explanation's path and content; what cannot be read is passed over."""
        for entry in os.scandir(self.folder):
            if not entry.name.endswith(ERROR_SUFFIX) or not entry.is_file(follow_symlinks=False):
                continue
            # An old explanation that was itself dropped, with all of `rejected/` say, is a refused file.
            if os.path.lexists(entry.path + ERROR_SUFFIX):
                continue
            try:
                content = json.loads(Path(entry.path).read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(content, dict):
                yield entry.path, content

    def complete(
        self, is_known: Callable[[str], bool], since: datetime | None = None
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield message id, path of the payload and explanation of refused files that nobody knows yet.

        `since` leaves out those that were refused earlier.
        """
        for path, content in self.explanations():
            message_id = content.get("message_id")
            payload = path.removesuffix(ERROR_SUFFIX)
            if not isinstance(message_id, str):
                continue
            if since is not None and instant(str(content.get("at"))) < since:
                continue
            if not is_known(message_id) and os.path.lexists(payload):
                yield message_id, payload, content

    def remove_half_written(self) -> None:
        """Remove what a crash left under names of ours."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(_TEMPORARY_PREFIX):
                    change.unlink(entry.path)

    def remove_unfinished(self, is_known: Callable[[str], bool], claimed: Sequence[str]) -> None:
        """Remove the explanations that a crash left of payloads that never came here.

        A sidecar beside such an explanation goes only if it is in a claim, too: `claimed` are those paths.
        """
        for path, content in list(self.explanations()):
            message_id = content.get("message_id")
            payload = path.removesuffix(ERROR_SUFFIX)
            if isinstance(message_id, str) and not is_known(message_id) and not os.path.lexists(payload):
                beside = payload + SIDECAR_SUFFIX
                if any(is_double(beside, other) for other in claimed):
                    change.unlink(beside)
                change.unlink(path)

    def _write(self, rejection: Rejection) -> str:
        """Write the explanation under a name of ours, and return its path."""
        data = json.dumps(rejection.explanation(), ensure_ascii=False, indent=2).encode() + b"\n"
        temporary = self._temporary(rejection)
        # A crash may have left one of the same name.
        change.unlink_if_there(temporary)
        durable.write_new(temporary, data, _FILE_MODE)
        return temporary

    def _publish(self, rejection: Rejection) -> str:
        """Rename the explanation to beside a name that is free, and return that name."""
        for name in numbered(_fitting(rejection.name)):
            if not any(os.path.lexists(f"{self.folder}/{name}{suffix}") for suffix in _BESIDE):
                break
        change.rename(self._temporary(rejection), f"{self.folder}/{name}{ERROR_SUFFIX}")
        return name

    def _temporary(self, rejection: Rejection) -> str:
        return f"{self.folder}/{_TEMPORARY_PREFIX}{rejection.message_id or 'folder'}"


def _fitting(name: str) -> str:
    """Return the name, shortened where an explanation could not stand beside it."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME_BYTES:
        return name
    mark = blake2b(encoded, digest_size=4).hexdigest()
    kept = encoded[: _LONGEST_NAME_BYTES - 20]
    # Windows has no name for half a character.
    start = kept.decode(errors="ignore") if sys.platform == "win32" else os.fsdecode(kept)
    return f"{start}~{mark}"


def is_double(one: str, other: str) -> bool:
    """True if two files are the same one, or one a copy of the other that was made here."""
    try:
        first, second = os.lstat(one), os.lstat(other)
        if os.path.samestat(first, second):
            return True
        if stat.S_ISLNK(first.st_mode) and stat.S_ISLNK(second.st_mode):
            return os.readlink(one) == os.readlink(other)
        # A copy keeps the time of its original: a file that was dropped twice is not taken for a copy.
        is_like = (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)
        both_files = stat.S_ISREG(first.st_mode) and stat.S_ISREG(second.st_mode)
        return is_like and both_files and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _can_be_synced(path: str) -> bool:
    """True if a file can be opened without waiting and without being refused."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and os.access(path, os.R_OK)
    except OSError:
        # It is not there, or its name is longer than any could be.
        return False


def _double(source: str, target: str) -> None:
    """Let a file have a second name, or a copy where there cannot be a second name."""
    try:
        change.link(source, target)
    except (OSError, NotImplementedError):
        try:
            _copy(source, target)
        except PermissionError:
            # Not ours to link and not ours to read; nothing but its place can be kept.
            _move(source, target)


def _move(source: str, target: str) -> None:
    try:
        change.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        change.unlink(source)


def _copy(source: str, target: str) -> None:
    """Copy a file or a link, durably, to a name that it has only when it is complete."""
    mode = os.lstat(source).st_mode
    if stat.S_ISREG(mode):
        claim = os.path.basename(os.path.dirname(source))
        durable.copy_whole(source, target, f"{os.path.dirname(target)}/{_TEMPORARY_PREFIX}{claim}")
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    # A FIFO, socket or device holds nothing that could be lost; a folder cannot come here.


def log_rejected(books: Books, row: NewMessage) -> None:
    """Log a rejection, and alert."""
    reason = row.reason or Reason(None, None, None, None)
    books.journal.warning(
        "message.rejected",
        message_id=row.message_id,
        file=row.file_name,
        code=reason.code,
        text=reason.text,
        advice=reason.advice,
    )
    books.alert(
        Alert(
            event="message.rejected",
            at=row.created_at,
            text=reason.text,
            advice=reason.advice,
            about=about_message(row.message_id, row.use_case, row.workflow_id, row.file_name, reason.code),
        )
    )
