"""A letter: one dropped file with its sidecar and attachments, and their own folder once they are taken.

    .work/letters/<message id>[.<use case>]/
        NAME, NAME.meta.json, attachments    what was dropped, under its own names
        .row                                 the row of an index that stands for a sidecar (see index.py)
        .NAME.error.json                     why it cannot be sent, and its name in rejected/
    .work/indexes/                           indexes (see index.py)
    .work/redropped/                         rejected letters on their way back (see redrop.py)

The sidecar goes in first, then the attachments, the file itself last. So a crash in between leaves what can
be put back, and a folder with the file in it has all that belongs to it.

What was dropped is in its folder only for as long as no control file of it was shown.
"""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from meshctl.errors import ConfigError, Rejection
from meshctl.files import durable
from meshctl.files.folder import Folder
from meshctl.journal.masking import mask_file_name
from meshctl.outbound.compose import AttachmentMissingError, Draft
from meshctl.outbound.document import Attached, Caution, Origin
from meshctl.outbound.names import (
    ERROR_SUFFIX,
    LETTER_FOLDER,
    LETTERS_FOLDER,
    REDROPPED_FOLDER,
    SIDECAR_SUFFIX,
    is_sidecar,
    words_to_mask,
)
from meshctl.outbound.recipient import IncompleteError
from meshctl.payload.facts import Content
from meshctl.payload.hl7_document import Hl7Document
from meshctl.payload.reader import Reading
from meshctl.payload.sidecar import Sidecar
from meshctl.payload.sidecar_reader import SIDECAR_BYTES
from meshctl.platform import host, system

ROW_NAME = ".row"
_INDEXES, _CLOCK = "indexes", ".clock"
WORK_NAMES = frozenset({LETTERS_FOLDER, REDROPPED_FOLDER, _INDEXES})
"""The folders that belong in the work folder."""
OLD_WORK_NAMES = ("claims", "ready", "copies")
"""The folders of older versions."""
OLD_WORK = "holds what an older version of meshctl had in hand."
OLD_WORK_ADVICE = (
    "Run that version once more (meshctl run --once): it finishes what it began. Or move the files back to"
    " the outbox, if OUT, SENT and FAILED show that they were not sent."
)
_PRIVATE = 0o700
_ROW_BYTES = 2 * SIDECAR_BYTES


class OfEarlierError(Rejection):
    """What lies beside a file may belong to an earlier one; the file's own may still come in its place."""


class FileIdentity(NamedTuple):
    """Which file it is, and in which state; a rename changes none of it."""

    device: int
    inode: int
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileIdentity":
        """Return the identity behind a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Attachment(NamedTuple):
    """A file that goes with another one, as it was found."""

    name: str
    identity: FileIdentity
    reading: Reading

    @property
    def content(self) -> Content:
        """Return what kind of document it is."""
        return self.reading.content or Content(None)


@dataclass(frozen=True, slots=True, repr=False)
class KeptRow:
    """A row that waits for its file: where it is kept, and which file of which index it is.

    `is_repeated` if it was used before, in an index with the same rows, for another file.
    """

    path: str
    index: str
    number: int
    file: str
    inode: tuple[int, ...]
    mark: tuple[int, ...] | None
    sidecar: bytes
    is_repeated: bool = False

    def is_for(self, status: os.stat_result) -> bool:
        """True if a file is the one that lay beside the index, and as it was if it was complete then."""
        return inode_of(status) == self.inode and self.mark in (None, mark_of_file(status))


def inode_of(status: os.stat_result) -> tuple[int, ...]:
    """Return the inode and its owner. A new file may get the same inode, but not from another user."""
    return status.st_dev, status.st_ino, status.st_uid


def mark_of_file(status: os.stat_result) -> tuple[int, ...]:
    """Return what stays the same as long as a file does not change."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_row(path: str) -> KeptRow:
    """Return a kept row. Raises OSError."""
    with open(path, "rb", opener=system.open_file) as file:
        held: dict[str, Any] = json.loads(file.read(_ROW_BYTES))
    return KeptRow(
        path,
        held["index"],
        held["row"],
        held["file"],
        tuple(held["inode"]),
        None if held["mark"] is None else tuple(held["mark"]),
        json.dumps(held["sidecar"]).encode(),
        held["is_repeated"],
    )


@dataclass(slots=True, repr=False)
class Letter:
    """A dropped file: as it was found, then read, then judged.

    With a `draft` it can be sent, with a `rejection` not. `content` is that of a small file, `row` the
    index row that stands for its sidecar, `place` its own folder, once it was taken. Of HL7 v2, `document` is
    what is sent, and `numbers` are the sending system's for it and for one that it replaces; of CDA, its
    tracking id. `unsent` is the document that it takes back, or whose number it links with another, also if
    it is rejected. `use_case` is that of the folder it was dropped into, `named_use_case` that of its
    sidecar, if that is one. `came_first` are the names of those parts that came before it, once that was
    looked at.
    """

    message_id: str
    name: str
    use_case: str | None
    status: os.stat_result
    sidecar_status: os.stat_result | None = None
    row: KeptRow | None = None
    sidecar: Sidecar | None = None
    content: bytes | None = None
    reading: Reading | None = None
    attachments: tuple[Attachment, ...] = ()
    draft: Draft | None = None
    control: bytes = b""
    cautions: tuple[Caution, ...] = ()
    rejection: Rejection | None = None
    document: Hl7Document | None = None
    numbers: frozenset[str] = frozenset()
    unsent: Origin | None = None
    named_use_case: str | None = None
    place: "LetterFolder | None" = None
    came_first: frozenset[str] | None = None

    @property
    def identity(self) -> FileIdentity:
        """Return which file it is."""
        return FileIdentity.of(self.status)

    @property
    def owner_status(self) -> os.stat_result:
        """Return the status of the file whose owner says what belongs to the letter."""
        return self.sidecar_status or self.status

    @property
    def folder(self) -> "LetterFolder":
        """Return its own folder, once it was taken."""
        assert self.place is not None  # noqa: S101 - asked of taken letters alone
        return self.place

    @property
    def sha256(self) -> str | None:
        """Return the hash of the file in hex, None where it was not read whole."""
        return self.reading.sha256 if self.reading else None

    @property
    def content_hash(self) -> bytes | None:
        """Return the hash of the file as the ledger keeps it."""
        return bytes.fromhex(self.sha256) if self.sha256 else None

    @property
    def words_to_mask(self) -> tuple[str, ...]:
        """Return the values that must not be seen in its name."""
        reading = self.reading
        hl7 = reading.hl7.words if reading and reading.hl7 else ()
        return words_to_mask(reading.facts if reading else None, self.sidecar, hl7)

    @property
    def shown_name(self) -> str:
        """Return its name as log and ledger may have it."""
        return mask_file_name(self.name, self.words_to_mask)

    @property
    def may_get_sidecar(self) -> bool:
        """True if it has none, and lacks what one could say."""
        has_none = self.sidecar_status is None and self.row is None
        return has_none and isinstance(self.rejection, IncompleteError)

    @property
    def may_wait(self) -> bool:
        """True if a sidecar or an attachment that has not come yet could make it sendable."""
        return self.may_get_sidecar or isinstance(self.rejection, (AttachmentMissingError, OfEarlierError))

    @property
    def contents(self) -> list[Attached]:
        """Return what the document and its attachments are; nothing for a file that is a message itself."""
        if self.reading is None or self.reading.content is None:
            return []
        own = Attached(self.name, self.reading.content)
        if self.document is not None:
            # Its file is named like no document.
            own = Attached("", self.document.content)
        return [own, *(Attached(each.name, each.content) for each in self.attachments)]

    @property
    def wrapped_bytes(self) -> int | None:
        """Return the size of the message around the file; None when the file is sent as it is."""
        if self.draft is None or self.draft.envelope is None:
            return None
        own = self.status.st_size if self.document is None else self.document.size_bytes
        sizes = (own, *(each.identity.size_bytes for each in self.attachments))
        return self.draft.envelope.size_bytes(sizes)

    @property
    def sent_bytes(self) -> int:
        """Return the size of what is sent."""
        wrapped = self.wrapped_bytes
        return self.status.st_size if wrapped is None else wrapped

    @property
    def names(self) -> Iterator[tuple[str, FileIdentity]]:
        """Yield the files that belong together, in the order in which they are taken."""
        if self.sidecar_status is not None:
            yield self.name + SIDECAR_SUFFIX, FileIdentity.of(self.sidecar_status)
        for attachment in self.attachments:
            yield attachment.name, attachment.identity
        yield self.name, self.identity


def attachment_names(sidecar: Sidecar | None) -> Sequence[str]:
    """Return the names that a sidecar gives for attachments."""
    document = sidecar.document if sidecar else None
    return (document.attachments if document else None) or ()


def is_of_one_owner(one: os.stat_result, other: os.stat_result) -> bool:
    """True if two files may go together: one user owns both, or root or the daemon's user owns one of them.

    A sender could otherwise give another user's letter a sidecar, or have its pages sent with his own.
    Windows does not tell who owns a file.
    """
    return one.st_uid == other.st_uid or host.is_trusted(one) or host.is_trusted(other)


def has_own_sidecar(folder: Folder, name: str, status: os.stat_result) -> bool:
    """True if a sidecar lies beside a file that may speak for it. Raises OSError.

    One of another user's says nothing, not even that the file is a letter of its own.
    """
    beside = name + SIDECAR_SUFFIX
    # First: a name may be too long for any sidecar.
    if not folder.has(beside):
        return False
    try:
        return is_of_one_owner(status, folder.status(beside))
    except FileNotFoundError:
        return False


class ChangedError(Exception):
    """A file is not the one that was judged, or has changed since."""


@dataclass(frozen=True, slots=True)
class LetterFolder:
    """A letter's folder in the work folder. Only the daemon can write to it."""

    path: str
    message_id: str
    use_case: str | None

    def make(self) -> None:
        """Make the folder. Raises OSError."""
        system.make_folder(self.path, _PRIVATE)

    @property
    def is_there(self) -> bool:
        """True if the folder has not been removed."""
        return os.path.lexists(self.path)

    def path_of(self, name: str) -> str:
        """Return the path of a file of the letter."""
        return f"{self.path}/{name}"

    def names(self) -> list[str]:
        """Return the names of the dropped files in it."""
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self.path) if not name.startswith("."))
        return []

    def files(self) -> list[str]:
        """Return the paths of the ordinary files that were dropped."""
        paths = map(self.path_of, self.names())
        return [path for path in paths if stat.S_ISREG(os.lstat(path).st_mode)]

    def payload(self) -> str | None:
        """Return the name of the dropped file; None if it is not here.

        A sidecar alone was dropped alone, or its file was not taken yet.
        """
        names = self.names()
        for name in names:
            if is_sidecar(name) and (base := name[: -len(SIDECAR_SUFFIX)]) in names:
                return base
        others = [name for name in names if not is_sidecar(name)]
        return others[0] if len(others) == 1 == len(names) else None

    def explanation(self) -> str | None:
        """Return the name under which the letter goes to `rejected/`, if that was written down."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self.path):
                if name.startswith(".") and name.endswith(ERROR_SUFFIX):
                    return name[1 : -len(ERROR_SUFFIX)]
        return None

    def explanation_path(self, name: str) -> str:
        """Return the path of the explanation of a letter that goes to `rejected/` under a name."""
        return self.path_of(f".{name}{ERROR_SUFFIX}")

    def empty(self) -> None:
        """Remove all files in it. Raises OSError."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self.path):
                system.unlink(self.path_of(name))

    def close(self) -> None:
        """Remove the folder, which is empty. Raises OSError."""
        with suppress(FileNotFoundError):
            system.rmdir(self.path)


class WorkFolder:
    """The layout of `.work`."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder)
        self.letters = f"{folder}/{LETTERS_FOLDER}"
        self.indexes = f"{folder}/{_INDEXES}"
        self.redropped = f"{folder}/{REDROPPED_FOLDER}"

    def make(self) -> None:
        """Make the folders if they are missing. Raises OSError; ConfigError for those of an older meshctl."""
        for name in OLD_WORK_NAMES:
            try:
                system.rmdir(f"{self.path}/{name}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise ConfigError(f"{self.path}/{name} {OLD_WORK} {OLD_WORK_ADVICE}") from None
        for folder in (self.letters, self.indexes):
            durable.make_folders(folder, _PRIVATE)

    def letter_folder(self, message_id: str, use_case: str | None) -> LetterFolder:
        """Return the folder of a letter, whether it is there or not."""
        return _letter_folder(self.letters, message_id, use_case)

    def redropped_folder(self, message_id: str, use_case: str | None) -> LetterFolder:
        """Return the folder of a rejected letter on its way back, whether it is there or not."""
        return _letter_folder(self.redropped, message_id, use_case)

    def left(self) -> list[LetterFolder]:
        """Return the letters in the work folder, oldest first. Raises OSError."""
        return _letter_folders(self.letters)

    def left_redropped(self) -> list[LetterFolder]:
        """Return the rejected letters that are on their way back. Raises OSError."""
        with suppress(FileNotFoundError):
            return _letter_folders(self.redropped)
        return []

    def file_clock_ns(self) -> int:
        """Return the time of the file system, by the stamp of a new file; a share has its server's time."""
        probe = f"{self.path}/{_CLOCK}"
        # A crash may have left one.
        system.unlink_if_there(probe)
        descriptor = system.open_file(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
            system.unlink(probe)


def _letter_folder(parent: str, message_id: str, use_case: str | None) -> LetterFolder:
    name = f"{message_id}.{use_case}" if use_case else message_id
    return LetterFolder(f"{parent}/{name}", message_id, use_case)


def _letter_folders(parent: str) -> list[LetterFolder]:
    found = []
    for name in sorted(os.listdir(parent)):
        named = LETTER_FOLDER.fullmatch(name)
        if named and os.path.isdir(f"{parent}/{name}"):
            found.append(_letter_folder(parent, named[1], named[2]))
    return found


def check_same(path: str, identity: FileIdentity) -> None:
    """Raise ChangedError if a file that was moved is not the one that was judged."""
    if FileIdentity.of(os.lstat(path)) != identity:
        raise ChangedError


def take(letter: Letter, source: Folder, place: LetterFolder, note: Callable[[str], None]) -> None:
    """Move a letter from where it was dropped, and judged, into its folder, which was just made.

    Raises ChangedError when a file is no longer what was judged, FileNotFoundError when one has gone, OSError
    when one cannot be moved: all is then put back as far as possible, and `note` is called with every path.
    """
    try:
        if letter.row is not None:
            system.rename(letter.row.path, place.path_of(ROW_NAME))
        for name, identity in letter.names:
            source.take(name, place.path_of(name))
            check_same(place.path_of(name), identity)
    except BaseException:
        put_back(source, place, letter.row.path if letter.row else None, note)
        raise
    letter.place = place


def put_back(
    source: Folder,
    place: LetterFolder,
    row: str | None,
    note: Callable[[str], None],
) -> bool:
    """Put a letter back to where it was dropped, never over a file that has come since; False if it stays.

    The file itself goes first and its sidecar last: what a crash leaves here without its file is put back as
    well, and a file must not be left here without its sidecar. `note` is called with every path.
    """
    payload = place.payload()
    names = place.names()
    order = sorted(names, key=lambda name: (name != payload, is_sidecar(name)))
    if any(source.has(name) for name in names):
        return False
    if payload and has_own_sidecar(source, payload, os.lstat(place.path_of(payload))):
        return False
    done: list[str] = []
    try:
        for name in order:
            note(f"{source.path}/{name}")
            source.put(place.path_of(name), name)
            done.append(name)
    except FileExistsError:
        # A file of that name came in this instant; they belong together, so the others come back.
        for name in reversed(done):
            with suppress(FileNotFoundError):
                source.take(name, place.path_of(name))
        return False
    if row is not None and os.path.lexists(place.path_of(ROW_NAME)):
        system.rename(place.path_of(ROW_NAME), row)
    place.empty()
    place.close()
    return True
