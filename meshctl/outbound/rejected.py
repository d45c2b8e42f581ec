"""The folder `rejected/`: files that cannot be sent, untouched, with the reason beside them.

A rejected letter is in its own folder in the work folder. The steps, each durable before the next:

1. Its explanation is written there, under a hidden name that says which name is free in `rejected/`.
2. The ledger says `rejected`.
3. The file goes to `rejected/`, then its attachments, then its sidecar: nothing takes the place of anything.
4. The explanation follows, as NAME.error.json, and the letter's folder is removed.

A restart finds `rejected` in the ledger and goes on with step 3; the name of the explanation says where to.

The explanation also says what `meshctl redrop` must know: the use-case folder that the letter came from, the
number that its names got here, and, as keyed hashes, which attachments came along.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

from meshctl.clock import instant, iso
from meshctl.errors import Rejection
from meshctl.files import durable
from meshctl.files.reading import is_same_content, open_regular
from meshctl.journal.events import about_message
from meshctl.journal.masking import mask_file_name
from meshctl.ledger.keys import Keys
from meshctl.ledger.records import NewMessage, Reason
from meshctl.ledger.services import Services
from meshctl.mesh.message_id import stamp_of
from meshctl.outbound.earlier import origin_of, patient_key
from meshctl.outbound.letter import ROW_NAME, Letter, LetterFolder, read_row
from meshctl.outbound.names import (
    ERROR_SUFFIX,
    MESSAGE_ID,
    SIDECAR_SUFFIX,
    is_sidecar,
    numbered,
    with_number,
)
from meshctl.platform import host, system

_MOST_REMEMBERED = 1000
_MOST_EXPLAINED_BYTES = 16 << 20
_USE_CASE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_BESIDE = ("", SIDECAR_SUFFIX, ERROR_SUFFIX)
_MARK_SUFFIX = f"{ERROR_SUFFIX}.redrop"
_FOLDER_MODE, _FILE_MODE = 0o750, 0o640
# It has a dot before it while it is in the work folder.
_LONGEST_NAME_BYTES = 254 - len(SIDECAR_SUFFIX) - len(ERROR_SUFFIX)


class RejectedFolder:
    """The folder of rejected files."""

    def __init__(self, folder: Path, keys: Keys, mailbox_id: str) -> None:
        self.folder = str(folder)
        self._keys = keys
        self._mailbox_id = mailbox_id
        self._tried: dict[str, int] = {}
        # Names that letters will get here that were drafted and have not been moved yet.
        self._reserved: set[str] = set()

    def make(self) -> None:
        """Make the folder if it is missing. Raises OSError."""
        durable.make_folders(self.folder, _FOLDER_MODE)

    def draft(self, letter: Letter, rejection: Rejection, at: datetime) -> str:
        """Do step 1: write the explanation; return its path, for a barrier."""
        names = [each.name for each in letter.attachments]
        return self.draft_for(
            letter.folder,
            letter.name,
            Explained(letter.message_id, letter.shown_name, rejection, at),
            attachments=names,
            shown=[mask_file_name(name, letter.words_to_mask) for name in names],
        )

    def draft_for(
        self,
        place: LetterFolder,
        name: str,
        explained: "Explained",
        attachments: Sequence[str] = (),
        shown: Sequence[str] = (),
    ) -> str:
        """Write the explanation of a letter in its folder, whose file has this name; return its path."""
        number = self._free_number([name, *attachments])
        content = explained.content(
            attachments=list(shown),
            attachment_keys=[self._key(each) for each in attachments],
            folder=place.use_case,
            mailbox=self._mailbox_id,
            number=number if number > 1 else None,
        )
        path = place.explanation_path(with_number(fitting(name), number))
        system.unlink_if_there(path)
        durable.write_new(path, content, _FILE_MODE)
        return path

    def move_in(self, place: LetterFolder) -> None:
        """Do step 3: move all that was dropped here. Raises OSError; called again, it goes on."""
        name = place.explanation()
        names = place.names()
        if name is None or not names:
            return
        payload = place.payload()
        if payload is None and len(names) == 1 and not self._is_there(name):
            # A sidecar alone, or a file whose sidecar and attachments there never were.
            payload = names[0]
        if payload is not None:
            name = self._move_payload(place, payload, name)
        for other in names:
            if other != payload and not is_sidecar(other):
                self._move_attachment(place, other, name)
        for other in names:
            if other != payload and is_sidecar(other):
                self._move(place.path_of(other), numbered(name + SIDECAR_SUFFIX))
        self._move_row(place, name)

    def move_explanation(self, place: LetterFolder) -> None:
        """Do step 4, when the names in both folders are durable. Raises OSError."""
        name = place.explanation()
        if name is not None:
            self._reserved.clear()
            source = place.explanation_path(name)
            target = f"{self.folder}/{name}{ERROR_SUFFIX}"
            if is_same_content(source, target):
                # From another file system, by a run that was interrupted; no other has its message id.
                system.unlink(source)
                return
            self._move(source, (each + ERROR_SUFFIX for each in numbered(name)))

    def take_in(self, path: str, name: str, rejection: Rejection, at: datetime) -> None:
        """Move something here that belongs to no letter, with an explanation beside it. Raises OSError."""
        self.explain(name, Explained(None, mask_file_name(name), rejection, at).content())
        self._move(path, numbered(fitting(name)))

    def explain_folder(self, name: str, rejection: Rejection, at: datetime) -> bool:
        """Explain a folder that is left where it is; False if that was done before."""
        path = f"{self.folder}/{fitting(name)}{ERROR_SUFFIX}"
        if os.path.lexists(path):
            return False
        self.explain(name, Explained(None, mask_file_name(name), rejection, at).content())
        return True

    def explain(self, name: str, explanation: bytes) -> None:
        """Write an explanation here that belongs to no letter, beside those of the same name."""
        temporary = f"{self.folder}/{durable.HIDDEN_PREFIX}explanation"
        system.unlink_if_there(temporary)
        durable.write_new(temporary, explanation, _FILE_MODE)
        durable.sync_file(temporary)
        self._move(temporary, (each + ERROR_SUFFIX for each in numbered(fitting(name))))
        durable.sync_folder(self.folder)

    def rows(self, is_known: Callable[[str], bool], since: str) -> Iterator[NewMessage]:
        """Yield ledger rows for the rejected files here that are younger than a stamp and not known."""
        seen: set[str] = set()
        for path, content in explanations(self.folder):
            message_id = content.get("message_id")
            payload = path.removesuffix(ERROR_SUFFIX)
            if not isinstance(message_id, str) or message_id in seen or not MESSAGE_ID.fullmatch(message_id):
                continue
            if stamp_of(message_id) < since:
                continue
            if not is_known(message_id) and os.path.lexists(payload):
                seen.add(message_id)
                yield explained_row(content, os.lstat(payload).st_size)

    def remove_temporary(self) -> None:
        """Remove the temporary files that a crash has left."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(durable.HIDDEN_PREFIX):
                    system.unlink(entry.path)

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(f"{self.folder}/{name}")

    def _free_number(self, names: Sequence[str]) -> int:
        """Return the number with which all names of a letter are free, and would be taken for no other's."""
        short = [fitting(name) for name in names]
        # For a name that comes often, counting goes on where it stopped.
        first = self._tried.get(short[0], 1)
        number = next(
            n for n in count(first) if all(self._stands_alone(with_number(one, n)) for one in short)
        )
        if len(self._tried) >= _MOST_REMEMBERED:
            self._tried.clear()
        self._tried[short[0]] = number
        self._reserved.update(with_number(one, number) for one in short)
        return number

    def _stands_alone(self, name: str) -> bool:
        if name in self._reserved:
            return False
        pairs_with = [name.removesuffix(SIDECAR_SUFFIX)] if is_sidecar(name) else []
        names = [*(name + end for end in _BESIDE), *pairs_with, redrop_mark(name)]
        return not any(map(self._is_there, names))

    def _move_payload(self, place: LetterFolder, payload: str, name: str) -> str:
        """Move the file itself, and return the name that it got: the one chosen, or a new free one."""
        while not is_moved(place.path_of(payload), f"{self.folder}/{name}"):
            # Somebody has put a file here meanwhile.
            number = self._free_number([payload])
            self._change_explanation(place, name, number=number, attachment_keys=[])
            free = with_number(fitting(payload), number)
            system.rename(place.explanation_path(name), place.explanation_path(free))
            name = free
        return name

    def _move_attachment(self, place: LetterFolder, attachment: str, name: str) -> None:
        """Move an attachment, under the number of its letter whose file is here by this name."""
        content = self._explanation_in(place, name)
        number = content.get("number", 1)
        if is_moved(place.path_of(attachment), f"{self.folder}/{with_number(fitting(attachment), number)}"):
            return
        # It cannot be found again by its letter's number.
        keys = [key for key in content.get("attachment_keys", ()) if key != self._key(attachment)]
        self._change_explanation(place, name, attachment_keys=keys)
        self._move(place.path_of(attachment), numbered(fitting(attachment)))

    def _explanation_in(self, place: LetterFolder, name: str) -> dict[str, Any]:
        content = json.loads(Path(place.explanation_path(name)).read_bytes())
        return content if isinstance(content, dict) else {}

    def _change_explanation(self, place: LetterFolder, name: str, **changes: object) -> None:
        content = {**self._explanation_in(place, name), **changes}
        path = place.explanation_path(name)
        durable.replace_whole(
            path, _written(content), _FILE_MODE, place.path_of(f"{durable.HIDDEN_PREFIX}changed")
        )

    def came_with(self, content: Mapping[str, Any], attachment: str) -> bool:
        """True if an attachment came here with the letter that an explanation is about, under its number."""
        return self._key(attachment) in (content.get("attachment_keys") or ())

    def _key(self, attachment: str) -> str:
        return self._keys.of(attachment).hex()

    def _move(self, source: str, names: Iterator[str]) -> None:
        """Move a file here, under the first of the names that is free."""
        for name in names:
            if is_moved(source, f"{self.folder}/{name}"):
                return

    def _move_row(self, place: LetterFolder, name: str) -> None:
        """Write an index row beside its file, as the sidecar that it stood for."""
        row = place.path_of(ROW_NAME)
        if os.path.lexists(row):
            target = f"{self.folder}/{name}{SIDECAR_SUFFIX}"
            data = read_row(row).sidecar
            durable.replace_whole(target, data, _FILE_MODE, f"{self.folder}/{durable.HIDDEN_PREFIX}sidecar")
            system.unlink(row)


def explained_row(content: dict[str, Any], size_bytes: int) -> NewMessage:
    """Return the ledger's row of a rejected file, from its explanation."""
    texts = {key: str(content.get(key, "")) for key in ("message_id", "file", "at", "code", "text", "advice")}
    folder = str(content.get("folder", ""))
    return NewMessage(
        message_id=texts["message_id"],
        file_name=mask_file_name(texts["file"]),
        use_case=folder if _USE_CASE.fullmatch(folder) else None,
        size_bytes=size_bytes,
        sha256=None,
        created_at=instant(texts["at"]),
        reason=Reason(texts["code"], "CHECK", texts["text"], texts["advice"]),
    )


def letter_row(letter: Letter, at: datetime, rejection: Rejection, keys: Keys) -> NewMessage:
    """Return the ledger's row of a rejected letter."""
    return NewMessage(
        message_id=letter.message_id,
        file_name=letter.shown_name,
        use_case=letter.named_use_case or letter.use_case,
        size_bytes=letter.status.st_size,
        sha256=letter.content_hash,
        created_at=at,
        reason=Reason(rejection.code, "CHECK", rejection.text, rejection.advice),
        patient_key=patient_key(keys, letter.unsent.nhs_number) if letter.unsent else None,
        **origin_of(letter.unsent, keys),
    )


def log_rejected(services: Services, rows: Sequence[NewMessage]) -> None:
    """Log rejections, and alert."""
    for row in rows:
        reason = row.reason or Reason(None, None, None, None)
        services.journal.tell(
            "message.rejected",
            about_message(row.message_id, row.use_case, row.workflow_id, row.file_name, reason.code),
            message_id=row.message_id,
            use_case=row.use_case,
            file=row.file_name,
            code=reason.code,
            text=reason.text,
            advice=reason.advice,
        )


def is_copy(one: str, other: str) -> bool:
    """True if two files are the same one, or one a copy of the other that was made here."""
    try:
        first, second = os.lstat(one), os.lstat(other)
        if os.path.samestat(first, second):
            return True
        if stat.S_ISLNK(first.st_mode) and stat.S_ISLNK(second.st_mode):
            return os.readlink(one) == os.readlink(other)
        if first.st_dev == second.st_dev:
            # On one file system nothing is copied.
            return False
        # A copy keeps the time of its original: a file that was dropped twice is not taken for a copy.
        is_like = (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)
        both_files = stat.S_ISREG(first.st_mode) and stat.S_ISREG(second.st_mode)
        return is_like and both_files and is_same_content(one, other)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Explained:
    """What NAME.error.json says of a rejected file; `file_name` is masked."""

    message_id: str | None
    file_name: str
    rejection: Rejection
    at: datetime

    def content(self, **more: object) -> bytes:
        """Return the explanation as it is written, with `more` keys but the empty ones."""
        return _written(
            {
                "message_id": self.message_id,
                "file": self.file_name,
                "at": iso(self.at),
                "code": self.rejection.code,
                "text": self.rejection.text,
                "advice": self.rejection.advice,
                **more,
            }
        )


_ALWAYS = frozenset({"message_id", "file", "at", "code", "text", "advice"})


def _written(content: Mapping[str, object]) -> bytes:
    kept = {key: value for key, value in content.items() if value or key in _ALWAYS}
    return json.dumps(kept, ensure_ascii=False, indent=2).encode() + b"\n"


def explanations(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and content of each explanation in `rejected/`; what cannot be read is passed over."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.endswith(ERROR_SUFFIX) or entry.name.startswith("."):
                continue
            # An old explanation that was itself dropped, with all of `rejected/` say, is a rejected file.
            if os.path.lexists(entry.path + ERROR_SUFFIX):
                continue
            content = read_explanation(entry.path)
            if content is not None:
                yield entry.path, content


def read_explanation(path: str) -> dict[str, Any] | None:
    """Return what an explanation says; None for what is none of ours, which a sender may have written."""
    with suppress(OSError, ValueError, RecursionError), open_regular(path) as file:
        if host.is_trusted(os.fstat(file.fileno())):
            content = json.loads(file.read(_MOST_EXPLAINED_BYTES))
            return content if isinstance(content, dict) else None
    return None


def redrop_mark(name: str) -> str:
    """Return the name of the mark on a rejected file that is being put back (see `redrop.py`)."""
    return f".{name}{_MARK_SUFFIX}"


def marked_name(mark: str) -> str | None:
    """Return the name of the rejected file that a mark is on; None for another name."""
    is_mark = mark.startswith(".") and mark.endswith(_MARK_SUFFIX)
    return mark[1 : -len(_MARK_SUFFIX)] if is_mark else None


def fitting(name: str) -> str:
    """Return the name, shortened where an explanation could not stand beside it."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME_BYTES:
        return name
    mark = blake2b(encoded, digest_size=4).hexdigest()
    kept = encoded[: _LONGEST_NAME_BYTES - 20]
    start = system.name_of(kept)
    return f"{start}~{mark}"


def is_moved(source: str, target: str) -> bool:
    """Move a file, never over another one; False if the name is taken. Raises OSError."""
    try:
        _move_new(source, target)
    except FileExistsError:
        if not is_copy(source, target):
            return False
        # It was copied from another file system by a run that was interrupted.
        system.unlink(source)
    return True


def _move_new(source: str, target: str) -> None:
    """Move a file, to another file system as a copy, never over one. Raises FileExistsError, OSError."""
    try:
        system.rename_new(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        _copy(source, target)
        system.unlink(source)


def _copy(source: str, target: str) -> None:
    """Copy a file or a link, durably, to a name that it has only when it is complete."""
    mode = os.lstat(source).st_mode
    if stat.S_ISREG(mode):
        temporary = (
            f"{os.path.dirname(target)}/{durable.HIDDEN_PREFIX}{os.path.basename(os.path.dirname(source))}"
        )
        durable.copy_whole(source, target, temporary)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    # A FIFO, socket or device holds nothing that could be lost; a folder cannot come here.
