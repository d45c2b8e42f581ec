"""Examine one file: open it safely, read it and its sidecar, and say what is to become of it.

That takes three steps, `look`, `read` and `judge`, so that a batch can take each of them with all its files
before the next: the processor's caches then hold the code for it, which saves a quarter of the time.

Nothing is moved here. Files are opened without following a symbolic link and without waiting for a FIFO's
writer. What was looked at is remembered by device, inode, size and time, so that the hand-off notices when
something else lies there afterwards.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from meshctl.errors import Refusal
from meshctl.files import change
from meshctl.files.safe_open import OPEN_SAFELY, BeingWrittenError, is_being_written, open_complete
from meshctl.ledger.database import LedgerError
from meshctl.ledger.keys import KEY_NAME, KeyMissingError, read_keys
from meshctl.ledger.reads import WrappedMessage, snapshot, wrapped_message
from meshctl.log.events import error_fields
from meshctl.log.masking import mask_file_name
from meshctl.mesh.control_file import ControlFileError, write_control_file
from meshctl.mesh.message_id import new_message_id
from meshctl.outbound.compose import AttachmentMissingError, Draft, IncompleteError, LedgerDetails, compose
from meshctl.outbound.names import SIDECAR_SUFFIX, check_name, is_beside, is_sidecar, words_to_mask
from meshctl.outbound.wrap import Attached, Caution, check_document_size, document_cautions
from meshctl.payload.facts import Content, Reading
from meshctl.payload.itk3_document import Envelope
from meshctl.payload.reader import load_content, read_content, read_payload
from meshctl.payload.sidecar import SIDECAR_BYTES, Sidecar, read_sidecar
from meshctl.settings.model import Settings

# Of larger files the content is not kept while others are looked at.
_KEPT_BYTES = 64 * 1024


class FileIdentity(NamedTuple):
    """Which file was looked at, and in which state."""

    device: int
    inode: int
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileIdentity":
        """Return the identity behind a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class AttachedFile(NamedTuple):
    """A file that goes with another one, as it was found."""

    name: str
    identity: FileIdentity
    content: Content


@dataclass(frozen=True, slots=True, repr=False)
class ExaminedFile:
    """A dropped file as it was found.

    `shown_name` is its name as log and ledger may have it; `words_to_mask` are the values masked in it.
    """

    name: str
    message_id: str
    identity: FileIdentity
    sidecar: FileIdentity | None
    sha256: str | None = None
    words_to_mask: tuple[str, ...] = ()
    shown_name: str = ""


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Sendable(ExaminedFile):
    """A file that can be sent, with the control file that goes after it.

    With an `envelope` the file is sent within it, and the `attachments` with it: further files that lie
    beside it.
    """

    details: LedgerDetails
    control: bytes
    cautions: tuple[Caution, ...] = ()
    envelope: Envelope | None = None
    attachments: tuple[AttachedFile, ...] = ()

    @property
    def wrapped_bytes(self) -> int | None:
        """Return the size of the message around the file; None when the file is sent as it is."""
        if self.envelope is None:
            return None
        identities = (self.identity, *(attached.identity for attached in self.attachments))
        return self.envelope.size_bytes(identity.size_bytes for identity in identities)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Refused(ExaminedFile):
    """A file that cannot be sent, and why."""

    refusal: Refusal

    @property
    def may_wait(self) -> bool:
        """True if a sidecar or an attachment that has not come yet could make the file sendable."""
        lacks_sidecar = self.sidecar is None and isinstance(self.refusal, IncompleteError)
        return lacks_sidecar or isinstance(self.refusal, AttachmentMissingError)


Examined = Sendable | Refused


@dataclass(slots=True, repr=False)
class Looked:
    """What is known so far of a file that is being examined; a `refusal` ends it.

    `content` is that of a small file, from `look` to `read`.
    """

    folder: str
    name: str
    message_id: str
    status: os.stat_result
    sidecar_status: os.stat_result | None
    sidecar: Sidecar | None
    content: bytes | None = None
    reading: Reading | None = None
    attachments: tuple[AttachedFile, ...] = ()
    refusal: Refusal | None = None

    @property
    def contents(self) -> list[Attached]:
        """Return what the document and its attachments are; nothing for a file that is a message itself."""
        if self.reading is None or self.reading.content is None:
            return []
        own = Attached(self.name, self.reading.content)
        return [own, *(Attached(each.name, each.content) for each in self.attachments)]


@dataclass(frozen=True, slots=True)
class Examiner:
    """Examines files for one mailbox. A refusal is an outcome, not an error."""

    settings: Settings

    def examine(
        self, folder: str, name: str, use_case: str | None, said: Sidecar | None = None
    ) -> Examined | None:
        """Take all steps with one file; None when it is no longer there.

        A sidecar is not looked for when what it says is `said`. Raises OSError as `look` does.
        """
        looked = self.look(folder, name, said)
        was_read = None if looked is None else self.read(looked)
        return None if was_read is None else self.judge(was_read, use_case)

    def look(
        self,
        folder: str,
        name: str,
        said: Sidecar | None = None,
        *,
        alone: bool = False,
        ask: Collection[str] = (),
    ) -> Looked | None:
        """Open a file and its sidecar; None when it is no longer there.

        A sidecar is not looked for when what it says is `said`, nor when the file is known to be `alone`.
        `ask` are the paths, the file's or its sidecar's, of which it is not known that they are complete.

        Raises BeingWrittenError for one of these that somebody is writing to; OSError when the disk fails,
        or on Windows when somebody keeps a file to himself.
        """
        path = f"{folder}/{name}"
        try:
            status = os.lstat(path)
            sidecar_status = None if said or alone else _status(path + SIDECAR_SUFFIX)
        except FileNotFoundError:
            return None
        looked = Looked(folder, name, self._new_id(), status, sidecar_status, said)
        is_there = _step(looked, lambda: self._open(looked, path, ask))
        if looked.content is None and looked.reading is None and any(map(is_being_written, ask)):
            # Refused for what it is called, say: it is not moved under its writer's hands.
            raise BeingWrittenError(errno.EAGAIN, "being written", path)
        return looked if is_there else None

    def read(self, looked: Looked) -> Looked | None:
        """Read what was opened, and look at the attachments; None when these are no longer there.

        Raises OSError as `look` does.
        """
        if looked.refusal is None and not _step(looked, lambda: self._read(looked)):
            return None
        return looked

    def judge(self, looked: Looked, use_case: str | None) -> Examined:
        """Return what is to become of a file that was read. Raises OSError."""
        outcome = looked.refusal or self._decide(looked, use_case)
        reading = looked.reading
        hidden = words_to_mask(reading.facts if reading else None, looked.sidecar)
        about = (
            looked.name,
            looked.message_id,
            FileIdentity.of(looked.status),
            _identity_of_sidecar(looked.sidecar_status),
            reading.sha256 if reading else None,
            hidden,
            mask_file_name(looked.name, hidden),
        )
        if isinstance(outcome, Refusal):
            return Refused(*about, refusal=outcome)
        draft, control, cautions = outcome
        return Sendable(
            *about,
            details=draft.details,
            control=control,
            cautions=cautions,
            envelope=draft.envelope,
            attachments=looked.attachments,
        )

    def refuse(self, folder: str, name: str, refusal: Refusal) -> Refused | None:
        """Return a file as refused, without looking into it; None when it is no longer there."""
        status = _status(f"{folder}/{name}")
        if status is None:
            return None
        return Refused(
            name,
            self._new_id(),
            FileIdentity.of(status),
            None,
            shown_name=mask_file_name(name),
            refusal=refusal,
        )

    def _new_id(self) -> str:
        return self.settings.mailbox.file_prefix + new_message_id(datetime.now(UTC))

    def _open(self, looked: Looked, path: str, ask: Collection[str]) -> None:
        check_name(looked.name)
        if is_sidecar(looked.name):
            looked.sidecar = _sidecar_alone(path, looked.status)
        _check_kind(looked.name)
        if looked.sidecar_status:
            looked.sidecar = _read_sidecar(path + SIDECAR_SUFFIX, looked.sidecar_status, ask)
        size_bytes = looked.status.st_size
        self._check_payload(looked.status)
        with _opened(path, looked.status, ask) as descriptor:
            if size_bytes <= _KEPT_BYTES:
                looked.content = load_content(descriptor, size_bytes)
            else:
                looked.reading = read_payload(descriptor, size_bytes)

    def _read(self, looked: Looked) -> None:
        if looked.content is not None:
            looked.reading = read_content(looked.content)
            looked.content = None
        looked.attachments = tuple(self._attached(looked.folder, looked.name, looked.sidecar))

    def _decide(
        self, looked: Looked, use_case: str | None
    ) -> tuple[Draft, bytes, tuple[Caution, ...]] | Refusal:
        try:
            draft = self._compose(looked, use_case)
            return draft, write_control_file(draft.control), self._document_cautions(draft, looked)
        except Refusal as error:
            return error
        except ControlFileError as error:
            return Refusal(
                "control_file_impossible", str(error), "Correct the value and drop the file again."
            )
        except (OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - as in `_step`
            return _fault(error)

    def _check_payload(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(status)
        most = self.settings.staging.max_payload_bytes
        if status.st_size > most:
            raise Refusal(
                "payload_too_large",
                f"The file has {status.st_size} bytes; at most {most} are sent.",
                "Send a smaller file, or raise max_payload_bytes.",
            )

    def _attached(self, folder: str, name: str, sidecar: Sidecar | None) -> Iterator[AttachedFile]:
        """Yield the further files that a sidecar names. Raises Refusal."""
        document = sidecar.document if sidecar else None
        named = (document.attachments if document else None) or ()
        if len({os.path.normcase(one) for one in (name, *named)}) <= len(named):
            raise _attachment("twice", "names an attachment twice, or the file itself as one")
        for other in named:
            if not is_beside(other) or is_sidecar(other) or other.startswith("."):
                raise _attachment("invalid", "names an attachment that is no file beside it")
            check_name(other)
            path = f"{folder}/{other}"
            status = _status(path)
            if status is None or self._is_fresh(path, status):
                raise AttachmentMissingError(
                    "document_attachment_missing",
                    "The sidecar names an attachment that did not come, or that is still written.",
                    "Drop the document with all its attachments and its sidecar.",
                )
            self._check_payload(status)
            with _opened(path, status) as descriptor:
                reading = read_payload(descriptor, status.st_size)
            content = Content(None) if reading.content is None else reading.content
            yield AttachedFile(other, FileIdentity.of(status), content)

    def _is_fresh(self, path: str, status: os.stat_result) -> bool:
        """True if a file may not be complete: it is open for writing, or was written to just now."""
        age_seconds = datetime.now(UTC).timestamp() - status.st_mtime
        return 0 <= age_seconds < self.settings.staging.quiet_seconds or is_being_written(path)

    def _compose(self, looked: Looked, use_case: str | None) -> Draft:
        # A baby born in the first hour of a summer's day was not born tomorrow: the local day counts.
        today = datetime.now(UTC).astimezone().date()
        return compose(
            looked.reading.facts if looked.reading else None,
            looked.sidecar,
            use_case,
            self.settings,
            looked.message_id,
            today,
            looked.contents,
            self._find_earlier,
        )

    def _document_cautions(self, draft: Draft, looked: Looked) -> tuple[Caution, ...]:
        if draft.envelope is None:
            return draft.cautions
        sizes = (looked.status.st_size, *(attached.identity.size_bytes for attached in looked.attachments))
        size_bytes = draft.envelope.size_bytes(sizes)
        check_document_size(size_bytes, self.settings)
        contents = [attached.content for attached in looked.contents]
        return (*draft.cautions, *document_cautions(contents, size_bytes))

    def _find_earlier(self, message_id: str, nhs_number: str) -> WrappedMessage | None:
        folder = self.settings.state.folder
        try:
            with snapshot(folder) as connection:
                patient_key = read_keys(folder / KEY_NAME).of(nhs_number)
                return wrapped_message(connection, message_id, patient_key)
        except (LedgerError, KeyMissingError):
            # Nothing was ever sent from here.
            return None


def _step(looked: Looked, take: Callable[[], None]) -> bool:
    """Take a step with a file, and keep a refusal with it; False when it is not what it was any more."""
    try:
        take()
    except FileNotFoundError:
        return False
    except Refusal as error:
        if error.code == "payload_changed":
            return False
        looked.refusal = error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - one file that nobody foresaw must not keep all the others
        looked.refusal = _fault(error)
    return True


def _attachment(code: str, what: str) -> Refusal:
    return Refusal(
        f"document_attachment_{code}",
        f"The sidecar {what}.",
        "Name each attachment once, by the name that it has in the outbox.",
    )


def sidecar_beside(path: str) -> Sidecar | None:
    """Return what the sidecar beside a file says, None when there is none. Raises Refusal, OSError."""
    status = _status(path + SIDECAR_SUFFIX)
    return None if status is None else _read_sidecar(path + SIDECAR_SUFFIX, status)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        # A name so long that no sidecar could stand beside it has none.
        if change.is_name_too_long(error):
            return None
        raise


def _identity_of_sidecar(status: os.stat_result | None) -> FileIdentity | None:
    # A folder that is named like a sidecar stays where it is, like every folder.
    return FileIdentity.of(status) if status and not stat.S_ISDIR(status.st_mode) else None


def _read_sidecar(path: str, status: os.stat_result, ask: Collection[str] = ()) -> Sidecar:
    if not stat.S_ISREG(status.st_mode):
        raise Refusal(
            "sidecar_not_a_file",
            "The sidecar is a link, a folder or a device.",
            "Drop the sidecar as an ordinary file.",
        )
    if status.st_size > SIDECAR_BYTES:
        raise Refusal(
            "sidecar_too_large",
            f"The sidecar has {status.st_size} bytes; at most {SIDECAR_BYTES} are read.",
            "Check that the payload and its sidecar were not mixed up.",
        )
    with _opened(path, status, ask) as descriptor:
        return read_sidecar(os.read(descriptor, SIDECAR_BYTES + 1))


@contextlib.contextmanager
def _opened(path: str, status: os.stat_result, ask: Collection[str] = ()) -> Iterator[int]:
    """Open the very file that was looked at; Refusal when it may not be read or another lies there now."""
    try:
        descriptor = open_complete(path) if path in ask else change.open_file(path, OPEN_SAFELY)
    except PermissionError as error:
        if change.is_held_open(error):
            raise
        raise Refusal(
            "file_unreadable",
            "The file may not be read by the user that meshctl runs as.",
            "Give that user the right to read it and drop it again.",
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_a_file(os.lstat(path)) from None
        raise
    try:
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode):
            raise _not_a_file(opened)
        if (opened.st_dev, opened.st_ino) != (status.st_dev, status.st_ino):
            raise FileNotFoundError(errno.ENOENT, "replaced while being looked at")
        yield descriptor
    finally:
        os.close(descriptor)


def _fault(error: Exception) -> Refusal:
    # Never the error's text, which may quote the file.
    fields = error_fields(error)
    return Refusal(
        "meshctl_fault",
        f"A fault in meshctl itself: {fields['error']} at {fields['where']}.",
        "Please report it with this line. The file was not sent; send it by another way.",
    )


def _sidecar_alone(path: str, status: os.stat_result) -> Sidecar | None:
    """Return what a sidecar without its file says, if it can be read: whom its name must not show."""
    with contextlib.suppress(Refusal):
        return _read_sidecar(path, status)
    return None


def _check_kind(name: str) -> None:
    if is_sidecar(name):
        raise Refusal(
            "sidecar_alone",
            "The file is a sidecar, and the file that it describes did not come.",
            "Drop the payload and its sidecar together; the sidecar's name is the payload's plus .meta.json.",
        )


def _not_a_file(status: os.stat_result) -> Refusal:
    kinds = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    )
    kind = next((text for test, text in kinds if test(status.st_mode)), "not an ordinary file")
    return Refusal("not_a_file", f"What was dropped is {kind}.", "Drop an ordinary file, by copy or rename.")
