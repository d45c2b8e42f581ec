"""Judge a letter: open and read it where it was dropped, and decide whether and how it can be sent.

That takes three steps, `look`, `read` and `decide`, so that a batch can take each of them with all its
letters before the next: the processor's caches then hold the code for it, which saves a quarter of the
time.

Nothing is moved here. Every file is opened by its open folder, without following a link and without waiting
for a FIFO's writer. What was judged is remembered: the bytes of a small file, which are sent; the hash of a
larger one, which is compared with what is sent.
"""

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import starmap
from typing import Final

from meshctl.clock import Clock
from meshctl.errors import Rejection
from meshctl.files.folder import Folder
from meshctl.journal.events import error_fields
from meshctl.ledger.services import Services
from meshctl.mesh.control_file import ControlFileError, write_control_file
from meshctl.mesh.message_id import new_message_id
from meshctl.mesh.use_cases import PayloadForm
from meshctl.outbound.cda import again_cautions, is_cda, tracking_cautions, tracking_id_of
from meshctl.outbound.compose import AttachmentMissingError, choose_use_case, compose
from meshctl.outbound.document import (
    Caution,
    Dropped,
    Origin,
    check_document_size,
    document_cautions,
)
from meshctl.outbound.earlier import EarlierMessages
from meshctl.outbound.earlier_indexes import repeated_row
from meshctl.outbound.hl7 import Unpacked, link_of, unpacked
from meshctl.outbound.hl7_versions import named, with_earlier, with_standing
from meshctl.outbound.letter import (
    Attachment,
    FileIdentity,
    Letter,
    attachment_names,
    has_own_sidecar,
    is_of_one_owner,
)
from meshctl.outbound.names import (
    ERROR_SUFFIX,
    SIDECAR_SUFFIX,
    NameKind,
    NameRules,
    check_name,
    is_beside,
    is_index,
    is_sidecar,
)
from meshctl.payload.hl7_state import WithdrawnRejection
from meshctl.payload.reader import KEPT_BYTES, Reading, load_content, read_content, read_payload
from meshctl.payload.sidecar import Sidecar, check_content
from meshctl.payload.sidecar_reader import SIDECAR_BYTES, read_sidecar
from meshctl.platform import shell, system
from meshctl.platform.common import BeingWrittenError
from meshctl.settings.model import Settings
from meshctl.sizes import size_text

_rules = lru_cache(maxsize=1)(NameRules)
_NO_SIDECAR: Final = Sidecar()


class Neighbours:
    """The files beside a letter; those of a command or of a letter's own folder belong to no other letter."""

    def is_complete(self, name: str, status: os.stat_result) -> bool:
        """True if a file is complete, so no program writes to it any more."""
        del name, status
        return True

    def is_shared(self, letter: Letter, attachment: str) -> bool:
        """True if another letter names the same file as an attachment."""
        del letter, attachment
        return False

    def check_own(self, letter: Letter) -> None:
        """Raise Rejection if a sidecar or an attachment of a letter may be an earlier letter's."""
        del letter


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the letters of one mailbox. A rejection is an outcome, not an error.

    With `services` it asks the daemon's own ledger what was sent before, else that in the state folder.
    """

    settings: Settings
    clock: Clock = field(default_factory=Clock)
    services: Services | None = None

    @property
    def _earlier(self) -> EarlierMessages:
        return EarlierMessages(self.settings.state.folder, self.services)

    def new_id(self) -> str:
        """Return a message id."""
        return self.settings.mailbox.file_prefix + new_message_id(self.clock.now())

    def judge(
        self, folder: Folder, name: str, use_case: str | None, sidecar: Sidecar | None = None
    ) -> Letter | None:
        """Take all steps with one file; None if it is no longer there.

        Pass `sidecar` to skip reading one from disk. Raises OSError as `look` does.
        """
        beside_name = name + SIDECAR_SUFFIX
        try:
            status = folder.status(name)
            has_one = sidecar is None and folder.has(beside_name)
            sidecar_status = folder.status(beside_name) if has_one else None
        except FileNotFoundError:
            return None
        letter = Letter(self.new_id(), name, use_case, status, sidecar_status, sidecar=sidecar)
        return letter if self.judge_letter(folder, letter, Neighbours()) else None

    def judge_letter(self, folder: Folder, letter: Letter, beside: Neighbours) -> bool:
        """Take all steps with one letter; False if its files have changed meanwhile."""
        return self.look(folder, letter) and self.read(folder, letter, beside) and self.decide(letter)

    def look(self, folder: Folder, letter: Letter) -> bool:
        """Open a file and its sidecar; False if one of them has changed meanwhile.

        Raises BeingWrittenError if a program still writes to one, OSError if one cannot be read.
        """
        is_there = _step(letter, lambda: self._open(folder, letter))
        if letter.sidecar is not None and letter.sidecar.use_case in self.settings.use_cases:
            letter.named_use_case = letter.sidecar.use_case
        if letter.rejection is not None and letter.content is None and letter.reading is None:
            # Rejected for its name, say: it must not be moved while a program writes to it.
            _check_writer(folder, letter)
        return is_there

    def read(self, folder: Folder, letter: Letter, beside: Neighbours) -> bool:
        """Read what was opened, and the attachments; False if one of them has changed meanwhile.

        Raises OSError as `look` does.
        """
        if letter.rejection is not None:
            return True
        return _step(letter, lambda: self._read(folder, letter, beside))

    def decide(self, letter: Letter) -> bool:
        """Decide what becomes of a letter that was read; True. Raises OSError."""
        if letter.rejection is None:
            _step(letter, lambda: self._compose(letter))
        return True

    def find_attachments(self, folder: Folder, letter: Letter) -> None:
        """Note, unread, the files that a rejected letter's sidecar names: they must not stay behind.

        The next letter that names a file of that name would get another patient's page.
        """
        found = {each.name: each for each in letter.attachments}
        for name in attachment_names(letter.sidecar):
            if name == letter.name or not self._may_be_attached(name):
                continue
            with suppress(OSError):
                status = folder.status(name)
                is_mine = is_of_one_owner(letter.owner_status, status)
                is_page = not stat.S_ISDIR(status.st_mode) and not has_own_sidecar(folder, name, status)
                if is_mine and is_page:
                    found[name] = Attachment(name, FileIdentity.of(status), Reading(None, None, 0))
        letter.attachments = tuple(found.values())

    def read_whole(self, folder: Folder, name: str, status: os.stat_result, most_bytes: int) -> bytes:
        """Return the bytes of a file, one more than `most_bytes` at most.

        Raises Rejection when it may not be read or is no file, BeingWrittenError, FileNotFoundError, OSError.
        """
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(status)
        with _opened(folder, name, status) as descriptor, open(descriptor, "rb", closefd=False) as file:
            data = file.read(most_bytes + 1)
            _check_unchanged(descriptor, status)
        return data

    def _open(self, folder: Folder, letter: Letter) -> None:
        name = letter.name
        check_name(name)
        if is_sidecar(name):
            # Read for the words that must be masked in its name.
            _step(letter, lambda: _take_sidecar(folder, name, letter.status, letter))
            raise Rejection(
                "sidecar_alone",
                "The file is a sidecar, and the file that it describes did not come.",
                "Drop the payload and its sidecar together; the sidecar's name is the payload's plus"
                " .meta.json.",
            )
        if letter.row is not None:
            letter.sidecar = read_sidecar(letter.row.sidecar)
            if letter.row.is_repeated:
                raise repeated_row()
        elif letter.sidecar_status is not None:
            _take_sidecar(folder, name + SIDECAR_SUFFIX, letter.sidecar_status, letter)
        size_bytes = letter.status.st_size
        self._check_payload(letter.status)
        with _opened(folder, name, letter.status) as descriptor:
            if size_bytes <= KEPT_BYTES:
                letter.content = load_content(descriptor, size_bytes)
            else:
                letter.reading = read_payload(descriptor, size_bytes)
                _check_unchanged(descriptor, letter.status)

    def _read(self, folder: Folder, letter: Letter, beside: Neighbours) -> None:
        if letter.content is not None:
            letter.reading = read_content(letter.content)
        letter.attachments = tuple(self._attachments(folder, letter, beside))
        beside.check_own(letter)

    def _compose(self, letter: Letter) -> None:
        if letter.sidecar and letter.reading:
            # One that is too large to be read here is compared while it is copied.
            sha256 = letter.reading.sha256 or letter.sidecar.sha256
            check_content(letter.sidecar, sha256, letter.reading.size_bytes)
        found = self._unpacked(letter)
        dropped = Dropped(
            letter.message_id,
            letter.reading.facts if letter.reading else None,
            letter.sidecar or _NO_SIDECAR,
            letter.use_case,
            letter.contents,
            self._earlier.replaced_by(letter.sidecar),
            found.origin if found else None,
        )
        draft = compose(dropped, self.settings, self.clock.now())
        odd = letter.reading.oddities if letter.reading else ()
        letter.draft, letter.cautions = draft, (*draft.cautions, *starmap(Caution, odd))
        is_resent = draft.details.resend_of is not None
        if is_cda(dropped.facts):
            ids = (tracking_id_of(dropped.facts), dropped.facts.identity)
            letter.numbers = frozenset(filter(None, ids))
            letter.cautions += tracking_cautions(
                dropped.facts, self._earlier.with_reference, is_resent=is_resent
            )
            if not is_resent:
                letter.cautions += again_cautions(dropped.facts, self._earlier.with_number)
        if found is not None:
            letter.cautions = (*letter.cautions, *found.cautions)
            # What is sent from memory.
            letter.content = found.document.data
        letter.control = write_control_file(draft.control)
        if letter.wrapped_bytes is not None:
            check_document_size(letter.wrapped_bytes, self.settings)
            contents = [attached.content for attached in letter.contents]
            odd_documents = document_cautions(contents, letter.wrapped_bytes)
            letter.cautions = (*letter.cautions, *odd_documents)

    def _check_payload(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(status)
        most = self.settings.staging.max_payload_bytes
        if status.st_size > most:
            raise Rejection(
                "payload_too_large",
                f"The file has {size_text(status.st_size)}, more than the {size_text(most)} that are sent.",
                "Send a smaller file, or raise max_payload_bytes.",
            )

    def _attachments(self, folder: Folder, letter: Letter, beside: Neighbours) -> Iterator[Attachment]:
        """Yield the attachments that a sidecar names. Raises Rejection."""
        named = attachment_names(letter.sidecar)
        if len({os.path.normcase(one) for one in (letter.name, *named)}) <= len(named):
            raise _attachment("twice", "names an attachment twice, or the file itself as one")
        for other in named:
            if not self._may_be_attached(other):
                raise _attachment("invalid", "names an attachment that is no file beside it")
            if self._is_letter(folder, other):
                raise _attachment("letter", "names an attachment that has a sidecar, so is a letter itself")
            if not self._may_go_along(folder, letter, other):
                raise _attachment("foreign", "names an attachment that belongs to another user")
            if beside.is_shared(letter, other):
                raise _attachment(
                    "shared", "names an attachment that another sidecar names too: it is unclear whose it is"
                )
            if not folder.has(other) or not beside.is_complete(other, status := folder.status(other)):
                raise AttachmentMissingError(
                    "document_attachment_missing",
                    "The sidecar names an attachment that did not come, or that is still written.",
                    "Drop the document with all its attachments and its sidecar.",
                )
            self._check_payload(status)
            yield Attachment(other, FileIdentity.of(status), _read_attachment(folder, other, status))

    def _may_be_attached(self, name: str) -> bool:
        """True if a name in a sidecar can be that of an attachment beside it."""
        try:
            check_name(name)
        except Rejection:
            return False
        is_payload = _rules(self.settings.staging).kind_of(name) is NameKind.PAYLOAD
        return is_payload and is_beside(name) and not is_index(name) and not name.endswith(ERROR_SUFFIX)

    def _is_letter(self, folder: Folder, name: str) -> bool:
        """True if a file has a sidecar, which may be there before it."""
        if not folder.has(name):
            return folder.has(name + SIDECAR_SUFFIX)
        return has_own_sidecar(folder, name, folder.status(name))

    def _may_go_along(self, folder: Folder, letter: Letter, name: str) -> bool:
        """True if a file belongs to the same user as a letter, or is not there."""
        return not folder.has(name) or is_of_one_owner(letter.owner_status, folder.status(name))

    def _unpacked(self, letter: Letter) -> Unpacked | None:
        """Take the document out of a file of HL7 v2, if its use case sends documents; note it in the letter.

        Raises Rejection, sqlite3.Error.
        """
        file = letter.reading.hl7 if letter.reading else None
        if file is None:
            return None
        given = letter.sidecar or _NO_SIDECAR
        dropped = Dropped(letter.message_id, None, given, letter.use_case)
        use_case = self.settings.use_cases[choose_use_case(dropped, self.settings)]
        if use_case.payload is not PayloadForm.ITK3_DOCUMENT:
            return None
        earlier = self._earlier
        try:
            found = unpacked(file, given, self.settings, self.clock.now())
        except WithdrawnRejection as taken:
            letter.unsent = Origin(taken.number, None, None, taken.written_at, taken.nhs_number, taken.result)
            letter.numbers = earlier.related([*filter(None, (taken.number,))])
            raise named(taken, earlier) from None
        except Rejection as rejection:
            letter.unsent = link_of(file, self.settings)
            if letter.unsent is None:
                raise
            letter.numbers = earlier.related([*filter(None, letter.unsent[:2])])
            raise with_standing(rejection, letter.unsent, earlier) from None
        letter.unsent = found.link
        letter.numbers = earlier.related([*filter(None, (*found.origin[:2], found.other_number))])
        found = with_earlier(found, earlier)
        letter.document, letter.sidecar = found.document, found.sidecar
        return found


def _check_writer(folder: Folder, letter: Letter) -> None:
    """Raise BeingWrittenError if a program writes to a file that was not opened."""
    if stat.S_ISREG(letter.status.st_mode):
        with suppress(Rejection, FileNotFoundError), _opened(folder, letter.name, letter.status):
            pass


def sidecar_beside(folder: Folder, name: str) -> Sidecar | None:
    """Return the sidecar beside a file, None without one. Raises Rejection, OSError."""
    name += SIDECAR_SUFFIX
    return _read_sidecar(folder, name, folder.status(name))[0] if folder.has(name) else None


def _step(letter: Letter, take: Callable[[], None]) -> bool:
    """Take a step with a letter, and keep a rejection with it; False if its files have changed meanwhile."""
    try:
        take()
    except FileNotFoundError:
        return False
    except Rejection as error:
        if error.code == "payload_changed":
            return False
        letter.rejection = error
    except ControlFileError as error:
        letter.rejection = Rejection(
            "control_file_impossible", str(error), "Correct the value and drop the file again."
        )
    except (OSError, MemoryError, sqlite3.Error):
        raise
    except Exception as error:  # noqa: BLE001 - one unforeseen file must not stop all the others
        # The text of the error may quote the file.
        fields = error_fields(error)
        letter.rejection = Rejection(
            "meshctl_fault",
            f"A fault in meshctl itself: {fields['error']} at {fields['where']}.",
            "Please report it with this line. The file was not sent; send it in another way.",
        )
    return True


def _attachment(code: str, what: str) -> Rejection:
    return Rejection(
        f"document_attachment_{code}",
        f"The sidecar {what}.",
        "Give each letter attachments of its own, each named once, by the name that it has in the outbox.",
    )


def _read_attachment(folder: Folder, name: str, status: os.stat_result) -> Reading:
    with _opened(folder, name, status) as descriptor:
        reading = read_payload(descriptor, status.st_size)
        _check_unchanged(descriptor, status)
        return reading


def _take_sidecar(folder: Folder, name: str, status: os.stat_result, letter: Letter) -> None:
    if stat.S_ISDIR(status.st_mode):
        # A folder that is named like a sidecar stays where it is, like every folder.
        letter.sidecar_status = None
    letter.sidecar, identity = _read_sidecar(folder, name, status)
    if letter.sidecar_status is not None:
        letter.sidecar_status = identity


def _read_sidecar(folder: Folder, name: str, status: os.stat_result) -> tuple[Sidecar, os.stat_result]:
    if not stat.S_ISREG(status.st_mode):
        raise Rejection(
            "sidecar_not_a_file",
            "The sidecar is a link, a folder or a device.",
            "Drop the sidecar as an ordinary file.",
        )
    if status.st_size > SIDECAR_BYTES:
        raise Rejection(
            "sidecar_too_large",
            f"The sidecar has {size_text(status.st_size)}; at most {size_text(SIDECAR_BYTES)} are read.",
            "Check that the payload and its sidecar were not mixed up.",
        )
    with _opened(folder, name, status) as descriptor:
        data = os.read(descriptor, SIDECAR_BYTES + 1)
        _check_unchanged(descriptor, status)
    return read_sidecar(data), status


@contextmanager
def _opened(folder: Folder, name: str, status: os.stat_result) -> Iterator[int]:
    """Open the very file that `status` is of. Raises Rejection if it may not be read.

    Raises BeingWrittenError if a program writes to it, FileNotFoundError if it is another file.
    """
    try:
        descriptor = folder.open(name, system.READ)
    except BlockingIOError:
        # Somebody holds a lease on it.
        raise BeingWrittenError(errno.EAGAIN, "being written", f"{folder.path}/{name}") from None
    except PermissionError as error:
        if system.is_held_open(error):
            raise
        kind = "sidecar" if is_sidecar(name) else "file"
        raise Rejection(
            "file_unreadable",
            f"The {kind} may not be read by the user that meshctl runs as.",
            f"Drop it again, open to the outbox's group: meshctl send does that; {shell.DROP_READABLE}",
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP and stat.S_ISLNK(status.st_mode):
            raise _not_a_file(status) from None
        raise
    try:
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode):
            raise _not_a_file(opened)
        _check_same(opened, status)
        system.check_nobody_writes(descriptor, f"{folder.path}/{name}")
        yield descriptor
    except OSError as error:
        # An error of an open file does not name it.
        error.filename = error.filename or f"{folder.path}/{name}"
        raise
    finally:
        os.close(descriptor)


def _check_unchanged(descriptor: int, status: os.stat_result) -> None:
    """Raise FileNotFoundError if an open file is another one, or has changed."""
    _check_same(os.fstat(descriptor), status)


def _check_same(found: os.stat_result, status: os.stat_result) -> None:
    if FileIdentity.of(found) != FileIdentity.of(status):
        raise FileNotFoundError(errno.ENOENT, "changed while being read")


def _not_a_file(status: os.stat_result) -> Rejection:
    kinds = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    )
    kind = next((text for test, text in kinds if test(status.st_mode)), "not an ordinary file")
    return Rejection(
        "not_a_file", f"What was dropped is {kind}.", "Drop an ordinary file, by copy or rename."
    )
