"""The hand-off: from judged letters to pairs in OUT, never twice and never half.

The steps, for all letters of a batch, each durable before the next:

1. **take**: a letter that was judged moves into its own folder in `.work/letters/` (see `letter.py`).
2. **prepare**: its pair is written into OUT under hidden names, from the bytes that were judged.
3. **ledger**: `claimed` for what goes, `rejected` for what does not, one transaction for the batch.
4. **show the payload**: it gets its name in OUT, and what was dropped is removed from the letter's folder.
   The MESH Client does not react to a `.dat`.
5. **show the control file**, one rename a letter: **the point of no return**.
6. **tell**: the log says `message.queued`; then the ledger says `queued`. The log speaks first: a crash may
   make a line come twice, never not at all.
7. **close**: the letter's folder, empty by now, is removed.

So what was dropped lies in its folder only for as long as no control file was shown, and the ledger knows
every letter of which one was. What a restart finds, and does, is in `recover.py`. A refused letter goes
with the batch as far as step 3; the rest of its way is in `rejected.py`.

The pair in OUT is always our own two files, made there with the rights that OUT gives: one path for every
mount and every system, and nobody who dropped a file has a handle on what is sent.
"""

import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from io import BytesIO
from typing import BinaryIO, Final

from meshctl.errors import ConfigError
from meshctl.files import durable
from meshctl.files.folder import Folder
from meshctl.files.item_error import is_general
from meshctl.files.safe_open import open_regular
from meshctl.ledger.records import NewMessage, Reason
from meshctl.ledger.services import Services
from meshctl.outbound.cautions import log_cautions
from meshctl.outbound.letter import ROW_NAME, ChangedError, FileIdentity, Letter, LetterFolder
from meshctl.outbound.rejected import RejectedFolder, log_rejected
from meshctl.payload.itk3 import Readable
from meshctl.platform import system
from meshctl.settings.model import MailboxSettings
from meshctl.sizes import size_text

if sys.platform != "win32":
    import grp

_CHUNK_BYTES: Final = 1 << 20
_KERNEL_BYTES: Final = 16 << 20
# From one kind of file system to another, or where the system cannot.
_NOT_BY_KERNEL: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
# With pieces of 1 MiB and, by the kernel, of 16.
_PIECES_A_SYNC: Final = 8
_CONTROL, _DATA, _PART = ".ctl", ".dat", ".part"
RESERVE_BYTES: Final = 64 << 20
"""What a large message leaves free on the file system of OUT."""
ROOM_MATTERS_BYTES: Final = 1 << 20
"""For a smaller message nobody looks how much room there is."""


Stuck = tuple[LetterFolder, OSError]
"""A letter that cannot be finished now, and why."""


class HandOff:
    """Hands letters over to one OUT folder, which is open for as long as a turn takes."""

    def __init__(
        self,
        out: Folder,
        letters_folder: str,
        mailbox: MailboxSettings,
        rejected: RejectedFolder,
        services: Services,
    ) -> None:
        self._out = out
        self._letters_folder = letters_folder
        self._mode = mailbox.file_mode
        self._group_id = _group_id(mailbox.group)
        self._rejected = rejected
        self._services = services
        self._ledger = services.ledger

    def lacking_room(self, size_bytes: int, in_hand_bytes: int) -> str | None:
        """Return why a message of that size does not fit into OUT beside those in hand; None if it does."""
        if size_bytes < ROOM_MATTERS_BYTES or not hasattr(os, "statvfs"):
            return None
        left = os.statvfs(self._out.place)
        free_bytes = left.f_bavail * left.f_frsize - in_hand_bytes
        if free_bytes >= size_bytes + RESERVE_BYTES:
            return None
        return (
            f"There is no room: OUT has {size_text(max(free_bytes, 0))} free; the message needs"
            f" {size_text(size_bytes)}, and {size_text(RESERVE_BYTES)} stay in reserve."
        )

    def prepare(self, letter: Letter, should_stop: Callable[[], bool] | None = None) -> None:
        """Step 2 for one letter. Raises ChangedError when its files are not those that were judged; OSError.

        What was written is then removed at once. With `should_stop`, InterruptedError once that is so; what
        is written is then made durable on the way, so that no stop has to wait for all of it.
        """
        place, stem = placed(letter), letter.message_id
        try:
            with ExitStack() as opened:
                self._write(_hidden(stem, _DATA), _pieces(letter, place, opened), should_stop)
            self._write(_hidden(stem, _CONTROL), (letter.control,))
        except InterruptedError:
            # Whoever takes over from here removes it.
            raise
        except BaseException:
            for end in (_DATA, _CONTROL):
                with suppress(OSError):
                    self._out.unlink_if_there(_hidden(stem, end))
            raise
        letter.content = None

    def sync(self, letter: Letter) -> None:
        """Make a large message durable by itself, where nobody waits for it. Raises OSError."""
        durable.sync_file(_hidden(letter.message_id, _DATA), self._out)

    def hand_over(self, letters: Sequence[Letter], sources: Iterable[Folder]) -> list[Stuck]:
        """Steps 3 to 7 for letters that were taken, and prepared if they are to be sent.

        `sources` are the folders that they were taken from. Returns what could not be finished for the sake
        of one letter. Raises OSError or LedgerError for all other reasons. A restart, or the next turn,
        finishes or takes back what was begun.
        """
        started = self._services.clock.monotonic()
        sent = [letter for letter in letters if letter.rejection is None]
        refused = [letter for letter in letters if letter.rejection is not None]
        rows = self._rows(sent)
        explained = [self._explain(letter) for letter in refused]
        dropped = [path for letter in refused for path in placed(letter).files()]
        parts = [_hidden(letter.message_id, end) for letter in sent for end in (_DATA, _CONTROL)]
        places = [placed(letter).path for letter in letters]
        out = [self._out] if sent else []
        folders: list[str | Folder] = [*places, self._letters_folder, *sources, *out]
        durable.barrier(explained, folders, (self._out, parts), dropped)
        refused_rows = [self._refused_row(letter) for letter in refused]
        with self._services.journal.batch():
            log_rejected(self._services, refused_rows)
            for row, letter in zip(rows, sent, strict=True):
                # The ledger does not keep them, so they are told before a restart would not judge again.
                log_cautions(self._services, row, letter.cautions)
        self._ledger.enter(rows, refused_rows)
        stuck: list[Stuck] = []
        if sent:
            # What was dropped is removed only for what lies where the MESH Client looks.
            self._out.check_in_place()
            sent = self._show_payloads(sent, stuck)
            shown = {letter.message_id for letter in sent}
            rows = [row for row in rows if row.message_id in shown]
            self.show_controls([letter.message_id for letter in sent])
            took_ms = round((self._services.clock.monotonic() - started) * 1000)
            with self._services.journal.batch():
                for row in rows:
                    self._log_queued(row, took_ms)
            self.mark_queued([letter.message_id for letter in sent])
            for letter in sent:
                placed(letter).close()
        return stuck + self.finish_rejections([placed(letter) for letter in refused])

    def finish_rejections(self, places: Sequence[LetterFolder]) -> list[Stuck]:
        """Move refused letters to `rejected/`; return those that cannot be moved. Called again, it goes on.

        Raises OSError when it is the folder that takes no files.
        """
        stuck: list[Stuck] = []
        for step in (self._rejected.move_in, self._rejected.move_explanation, LetterFolder.close):
            places = [place for place in places if self._is_done(step, place, stuck)]
            if places:
                durable.barrier(
                    [], [self._rejected.folder, *(place.path for place in places if place.is_there)]
                )
        return stuck

    def _is_done(self, step: Callable[[LetterFolder], None], place: LetterFolder, stuck: list[Stuck]) -> bool:
        try:
            step(place)
        except OSError as error:
            if is_general(error) or not durable.takes_files(self._rejected.folder):
                raise
            stuck.append((place, error))
            return False
        return True

    def show_payload(self, message_id: str) -> None:
        """Step 4 for one message; its payload may have its name already. Raises OSError."""
        with suppress(FileNotFoundError):
            self._out.rename(_hidden(message_id, _DATA), message_id + _DATA)

    def show_controls(self, message_ids: Sequence[str]) -> None:
        """Step 5, once all payloads of the batch are durable under their names."""
        for message_id in message_ids:
            self._out.rename(_hidden(message_id, _CONTROL), message_id + _CONTROL)
        durable.sync_folder(self._out)

    def mark_queued(self, message_ids: Sequence[str]) -> None:
        """Step 6, once the log has it."""
        self._ledger.mark_queued(message_ids, self._services.clock.now(), self._services.clock.steady())

    def is_prepared(self, message_id: str) -> bool:
        """True if the control file of a message was not shown yet."""
        return self._out.has(_hidden(message_id, _CONTROL))

    def has_payload(self, message_id: str) -> bool:
        """True if the payload of a message lies in OUT, hidden or shown."""
        return self._out.has(_hidden(message_id, _DATA)) or self.has_shown_payload(message_id)

    def has_shown_payload(self, message_id: str) -> bool:
        """True if the payload of a message has its name in OUT."""
        return self._out.has(message_id + _DATA)

    def payload_size(self, message_id: str) -> int:
        """Return the size of a payload in OUT, hidden or shown; 0 without one. Raises OSError."""
        for name in (message_id + _DATA, _hidden(message_id, _DATA)):
            with suppress(FileNotFoundError):
                return self._out.status(name).st_size
        return 0

    @contextmanager
    def payload(self, message_id: str) -> Iterator[int]:
        """Open a payload that has its name in OUT, while the block lasts. Raises OSError."""
        descriptor = self._out.open(message_id + _DATA, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read_control(self, message_id: str, most_bytes: int) -> bytes:
        """Return a control file that was not shown yet. Raises OSError."""
        descriptor = self._out.open(_hidden(message_id, _CONTROL), os.O_RDONLY)
        try:
            return os.read(descriptor, most_bytes)
        finally:
            os.close(descriptor)

    def discard(self, message_id: str, *, payload_too: bool) -> None:
        """Remove what was prepared of a message; with `payload_too` also a payload that has its name."""
        names = [_hidden(message_id, _DATA), _hidden(message_id, _CONTROL)]
        if payload_too:
            names.insert(0, message_id + _DATA)
        for name in names:
            self._out.unlink_if_there(name)

    def prepared(self) -> set[str]:
        """Return the ids of the messages of which something lies hidden in OUT."""
        with self._out.entries() as entries:
            names = [entry.name for entry in entries if entry.name[0] == "."]
        ends = (_CONTROL + _PART, _DATA + _PART)
        return {name[1:].removesuffix(end) for name in names for end in ends if name.endswith(end)}

    def takes_files(self) -> bool:
        """True if a small file can be written to OUT."""
        return durable.takes_files(self._out.path)

    def sync_out(self) -> None:
        """Make the names in OUT durable."""
        durable.sync_folder(self._out)

    def _show_payloads(self, letters: Sequence[Letter], stuck: list[Stuck]) -> list[Letter]:
        """Step 4; return the letters of which it is done."""
        for letter in letters:
            self._out.rename(_hidden(letter.message_id, _DATA), letter.message_id + _DATA)
        done = []
        for letter in letters:
            place = placed(letter)
            try:
                for name, _ in letter.names:
                    system.unlink_if_there(place.path_of(name))
                if letter.row is not None:
                    system.unlink_if_there(place.path_of(ROW_NAME))
            except OSError as error:
                stuck.append((place, error))
            else:
                done.append(letter)
        durable.barrier([], [self._out, *(placed(letter).path for letter in letters)])
        return done

    def _write(
        self,
        name: str,
        pieces: "Iterable[bytes | KernelCopy]",
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        descriptor = self._out.open(name, system.CREATE, self._mode)
        try:
            if sys.platform != "win32":
                # The umask has had its say in open(); the configured mode is what the MESH Client needs.
                os.fchmod(descriptor, self._mode)
                # Asked for only where it changes something: the hardened service may not call chown at all,
                # and has the right group from folders with the setgid bit.
                if self._group_id is not None and os.fstat(descriptor).st_gid != self._group_id:
                    os.fchown(descriptor, -1, self._group_id)
            with durable.naming(f"{self._out.path}/{name}"):
                for number, piece in enumerate(pieces, 1):
                    if isinstance(piece, KernelCopy):
                        piece.to(descriptor)
                    else:
                        durable.write_all(descriptor, piece)
                    if should_stop is not None:
                        if number % _PIECES_A_SYNC == 0:
                            os.fsync(descriptor)
                        if should_stop():
                            raise InterruptedError
        finally:
            os.close(descriptor)

    def _explain(self, letter: Letter) -> str:
        assert letter.rejection is not None  # noqa: S101 - asked of refused letters alone
        return self._rejected.draft(letter, placed(letter), letter.rejection, self._services.clock.now())

    def _rows(self, letters: Sequence[Letter]) -> list[NewMessage]:
        contents = [bytes.fromhex(letter.sha256) if letter.sha256 else None for letter in letters]
        earlier = self._ledger.earlier_with_content([content for content in contents if content])
        created_at = self._services.clock.now()
        rows = []
        for letter, content in zip(letters, contents, strict=True):
            repeat_of = earlier.get(content) if content else None
            rows.append(self._row(letter, content, repeat_of, created_at))
            if content is not None:
                earlier[content] = letter.message_id
        return rows

    def _row(
        self, letter: Letter, sha256: bytes | None, repeat_of: str | None, created_at: datetime
    ) -> NewMessage:
        assert letter.draft is not None  # noqa: S101 - what is sent was composed
        known, keys = letter.draft.details, self._services.keys
        return NewMessage(
            message_id=letter.message_id,
            file_name=letter.shown_name,
            size_bytes=letter.status.st_size,
            sha256=sha256,
            created_at=created_at,
            use_case=known.use_case,
            workflow_id=known.workflow_id,
            asked=known.asked,
            local_id_key=keys.of(known.local_id) if known.local_id else None,
            patient_key=keys.of(known.nhs_number) if known.nhs_number else None,
            reference_keys=tuple(keys.of(reference) for reference in known.references),
            repeat_of=repeat_of,
            resend_of=known.resend_of,
            wrapped_bytes=letter.wrapped_bytes,
            document_id=known.document_id,
            document_version=known.document_version,
            to_mailbox=known.to_mailbox,
        )

    def _refused_row(self, letter: Letter) -> NewMessage:
        rejection = letter.rejection
        assert rejection is not None  # noqa: S101 - asked of refused letters alone
        return NewMessage(
            message_id=letter.message_id,
            file_name=letter.shown_name,
            size_bytes=letter.status.st_size,
            sha256=bytes.fromhex(letter.sha256) if letter.sha256 else None,
            created_at=self._services.clock.now(),
            reason=Reason(rejection.code, "CHECK", rejection.text, rejection.advice),
        )

    def _log_queued(self, row: NewMessage, took_ms: int) -> None:
        journal = self._services.journal
        journal.info(
            "message.queued",
            message_id=row.message_id,
            use_case=row.use_case,
            workflow_id=row.workflow_id,
            file=row.file_name,
            size=row.size_bytes,
            wrapped=row.wrapped_bytes is not None or None,
            wrapped_size=row.wrapped_bytes,
            took_ms=took_ms,
        )
        if row.repeat_of is not None:
            journal.warning(
                "message.repeat", message_id=row.message_id, repeat_of=row.repeat_of, file=row.file_name
            )
        if row.resend_of is not None:
            journal.info("message.resent", message_id=row.message_id, resend_of=row.resend_of)


def placed(letter: Letter) -> LetterFolder:
    """Return the folder of a letter that was taken."""
    assert letter.place is not None  # noqa: S101 - only taken letters come here
    return letter.place


class _JudgedFile:
    """A file that was judged, read once more to be sent: it must be the same, to the last byte."""

    def __init__(self, file: BinaryIO, path: str, identity: FileIdentity, sha256: str | None) -> None:
        self._file = file
        self._path = path
        self._identity = identity
        self._sha256 = sha256
        self._hash = hashlib.sha256()

    def read(self, most_bytes: int) -> bytes:
        """Return the next bytes. Raises ChangedError at the end, if it is not the file that was judged."""
        with durable.naming(self._path):
            data = self._file.read(most_bytes)
        if self._sha256 is not None:
            self._hash.update(data)
        if not data:
            is_same = FileIdentity.of(os.fstat(self._file.fileno())) == self._identity
            if not is_same or self._sha256 not in (None, self._hash.hexdigest()):
                raise ChangedError
        return data


class KernelCopy:
    """A part of a file that the kernel copies by itself, without any of it passing through here."""

    def __init__(self, source: int, most_bytes: int) -> None:
        self._source = source
        self._most_bytes = most_bytes
        self.is_over = False

    def to(self, target: int) -> None:
        """Copy the next bytes. Raises OSError."""
        try:
            copied = os.copy_file_range(self._source, target, self._most_bytes)
        except OSError as error:
            if error.errno not in _NOT_BY_KERNEL:
                raise
            data = os.read(self._source, _CHUNK_BYTES)
            durable.write_all(target, data)
            copied = len(data)
        self.is_over = copied == 0


def _kernel_copies(file: BinaryIO, identity: FileIdentity) -> Iterator[KernelCopy]:
    """Yield a large file that was not hashed; what tells that it changed is its size and time."""
    copy = KernelCopy(file.fileno(), _KERNEL_BYTES)
    while not copy.is_over:
        yield copy
    if FileIdentity.of(os.fstat(file.fileno())) != identity:
        raise ChangedError


def _pieces(letter: Letter, place: LetterFolder, opened: ExitStack) -> Iterator[bytes] | Iterator[KernelCopy]:
    """Return what is sent of a letter, piece by piece."""
    own, sha256 = place.path_of(letter.name), letter.sha256 or _told_sha256(letter)
    if sha256 is None and letter.wrapped_bytes is None and hasattr(os, "copy_file_range"):
        return _kernel_copies(opened.enter_context(open_regular(own)), letter.identity)
    files: list[Readable] = []
    judged = [(own, letter.identity, sha256)]
    if letter.content is not None:
        files.append(BytesIO(letter.content))
        judged.clear()
    judged += [
        (place.path_of(attachment.name), attachment.identity, attachment.reading.sha256)
        for attachment in letter.attachments
    ]
    for path, identity, sha256 in judged:
        files.append(_JudgedFile(opened.enter_context(open_regular(path)), path, identity, sha256))
    envelope = letter.draft.envelope if letter.draft else None
    if envelope is not None:
        return envelope.around(files)
    return iter(lambda: files[0].read(_CHUNK_BYTES), b"")


def _told_sha256(letter: Letter) -> str | None:
    """Return the hash that the sidecar has of a file, for one that was too large to be hashed before."""
    return letter.sidecar.sha256 if letter.sidecar and letter.sidecar.sha256 else None


def is_told_otherwise(letter: Letter) -> bool:
    """True if a file that is not what was expected was held against what its sidecar says alone."""
    return letter.sha256 is None and _told_sha256(letter) is not None


def _hidden(message_id: str, end: str) -> str:
    return f".{message_id}{end}{_PART}"


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    if sys.platform == "win32":
        raise ConfigError("mailbox.group cannot be used on Windows. Take it out of the settings.")
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"mailbox.group: there is no group {group!r} on this system.") from None
